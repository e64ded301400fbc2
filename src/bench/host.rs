//! The machine around the adapter, and the time.

use std::process::Command;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::bench::results::Host;

pub(super) fn host() -> Host {
    Host {
        os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cpu: cpu().unwrap_or_else(|| "unknown".into()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// The processor's name, from the operating system.
fn cpu() -> Option<String> {
    let name = match std::env::consts::OS {
        "linux" => {
            let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
            let line = info.lines().find(|line| line.starts_with("model name"))?;
            line.split_once(':')?.1.to_owned()
        }
        "macos" => {
            let asked = Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
            String::from_utf8(asked.stdout).ok()?
        }
        "windows" => std::env::var("PROCESSOR_IDENTIFIER").ok()?,
        _ => return None,
    };
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Now, as ISO 8601 in UTC, to the second.
pub(super) fn date() -> String {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).expect("0 is a nanosecond");
    now.format(&Rfc3339).expect("today has a four-digit year")
}
