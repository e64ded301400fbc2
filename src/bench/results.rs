//! Benchmark files: what `wmic bench --out` writes and `--compare` reads.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::core::files::{read_limited, write_atomic};
use crate::{Error, Result};

/// A benchmark file larger than this is not one.
const MAX_BYTES: u64 = 16 << 20;
/// Kernel and step results in one file.
const MAX_RESULTS: usize = 10_000;

/// One benchmark of one adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    pub wmic_version: String,
    /// ISO 8601, UTC.
    pub date: String,
    pub adapter: AdapterInfo,
    pub host: Host,
    pub peak: Peak,
    pub kernels: Vec<KernelResult>,
    pub steps: Vec<StepResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterInfo {
    pub name: String,
    pub vendor: String,
    /// "Vulkan", "Metal" or "Dx12".
    pub backend: String,
    pub driver: String,
    /// "discrete", "integrated", "virtual", "cpu" or "other".
    pub kind: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub os: String,
    pub cpu: String,
    pub cores: usize,
}

/// Measured peak of the adapter, in 10^9 per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    pub f32_gflops: f64,
    pub bandwidth_gbs: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelResult {
    pub op: String,
    /// WGSL entry point; with a running number where a case calls it several times.
    pub kernel: String,
    /// Shapes and options, the same on every adapter.
    pub case: String,
    /// Median time of one dispatch, in microseconds.
    pub time_us: f64,
    pub gflops: f64,
    /// 10^9 bytes per second.
    pub gbs: f64,
    /// The larger fraction of the measured arithmetic and bandwidth peaks; about 0 to 1.
    pub share_of_peak: f64,
}

/// Work of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Forward, backward and update of all replicas.
    #[default]
    Training,
    /// Forward only: a part of an audio front end.
    Forward,
}

/// A whole step on a batch of clips.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    #[serde(default)]
    pub work: Work,
    /// The model, or the part of a front end.
    pub model: String,
    pub batch: usize,
    pub replicas: usize,
    pub ms_per_step: f64,
    /// Clips of all replicas together, per second.
    pub clips_per_s: f64,
    /// Another program doing the same step on the same machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerResult {
    pub name: String,
    pub ms_per_step: f64,
}

/// One object as printed by the scripts in `benches/peers`; other keys are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct PeerStep {
    peer: String,
    model: String,
    batch: usize,
    ms_per_step: f64,
}

impl PeerStep {
    /// The objects of a file, one after the other.
    ///
    /// # Errors
    /// `Data` for any other file, and for an empty one.
    pub fn load(path: &Path) -> Result<Vec<PeerStep>> {
        let bytes = read_limited(path, MAX_BYTES)?;
        let bad = |e: &str| Error::data(path, format!("is not a result of a script in benches/peers: {e}"));
        let peers = serde_json::Deserializer::from_slice(&bytes).into_iter().collect::<Result<Vec<PeerStep>, _>>();
        let peers = peers.map_err(|e| bad(&one_line(&e.to_string())))?;
        if peers.is_empty() {
            return Err(bad("it is empty"));
        }
        match peers.iter().find(|p| !(p.ms_per_step.is_finite() && p.ms_per_step > 0.0)) {
            Some(p) => Err(Error::data(path, format!("ms_per_step must be above 0, got {}", p.ms_per_step))),
            None => Ok(peers),
        }
    }

    /// Whether it is of the same step.
    pub fn is_of(&self, step: &StepResult) -> bool {
        self.is(&step.model, step.batch)
    }

    /// Whether it is of `model`, with a batch of that size.
    pub fn is(&self, model: &str, batch: usize) -> bool {
        self.model == model && self.batch == batch
    }

    pub fn result(&self) -> PeerResult {
        PeerResult { name: self.peer.clone(), ms_per_step: self.ms_per_step }
    }
}

impl KernelResult {
    /// Key by which results of adapters are matched.
    pub fn key(&self) -> (&str, &str, &str) {
        (&self.op, &self.kernel, &self.case)
    }
}

impl StepResult {
    /// Key by which results of adapters are matched.
    pub fn key(&self) -> (&str, usize, usize) {
        (&self.model, self.batch, self.replicas)
    }
}

impl BenchReport {
    /// Reads and validates a benchmark file.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_limited(path, MAX_BYTES)?;
        let report: BenchReport = serde_json::from_slice(&bytes).map_err(|e| {
            Error::data_at(path, e.line() as u64, format!("not a benchmark file of wmic: {}", one_line(&e.to_string())))
        })?;
        report.validate().map_err(|reason| Error::data(path, one_line(&reason)))?;
        Ok(report)
    }

    /// Writes the file atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).expect("a report is plain data");
        text.push('\n');
        write_atomic(path, |out| out.write_all(text.as_bytes()))
    }

    /// Validates: names are printable, measurements are positive, no result is listed twice.
    fn validate(&self) -> Result<(), String> {
        if let Some(text) = self.texts().find(|t| t.len() > 200 || t.contains(char::is_control)) {
            return Err(format!("{text:?} is not a name of at most 200 printable bytes"));
        }
        let positive = |value: f64, what: &str| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(format!("{what} is {value}, expected a positive number"))
            }
        };
        let not_negative = |value: f64, what: &str| {
            if value >= 0.0 { Ok(()) } else { Err(format!("{what} is {value}, expected 0 or more")) }
        };
        if self.kernels.len() + self.steps.len() > MAX_RESULTS {
            return Err(format!("lists more than {MAX_RESULTS} results"));
        }
        positive(self.peak.f32_gflops, "peak.f32_gflops")?;
        positive(self.peak.bandwidth_gbs, "peak.bandwidth_gbs")?;
        let (mut kernels, mut steps) = (HashSet::new(), HashSet::new());
        for k in &self.kernels {
            let name = format!("kernel {} ({})", k.kernel, k.case);
            positive(k.time_us, &format!("time_us of {name}"))?;
            not_negative(k.gflops, &format!("gflops of {name}"))?;
            not_negative(k.gbs, &format!("gbs of {name}"))?;
            not_negative(k.share_of_peak, &format!("share_of_peak of {name}"))?;
            if !kernels.insert(k.key()) {
                return Err(format!("{name} is listed twice"));
            }
        }
        for s in &self.steps {
            let name = format!("step {} (batch {}, {} replicas)", s.model, s.batch, s.replicas);
            positive(s.ms_per_step, &format!("ms_per_step of {name}"))?;
            positive(s.clips_per_s, &format!("clips_per_s of {name}"))?;
            if let Some(peer) = &s.peer {
                positive(peer.ms_per_step, &format!("ms_per_step of the peer of {name}"))?;
            }
            if !steps.insert(s.key()) {
                return Err(format!("{name} is listed twice"));
            }
        }
        Ok(())
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let (a, h) = (&self.adapter, &self.host);
        let about = [&self.wmic_version, &self.date, &a.name, &a.vendor, &a.backend, &a.driver, &a.kind, &h.os, &h.cpu];
        let kernels = self.kernels.iter().flat_map(|k| [&k.op, &k.kernel, &k.case]);
        let steps = self.steps.iter().flat_map(|s| [Some(&s.model), s.peer.as_ref().map(|p| &p.name)]).flatten();
        about.into_iter().chain(kernels).chain(steps).map(String::as_str)
    }
}

/// A message built from an untrusted file as one short, printable line.
fn one_line(message: &str) -> String {
    let mut line: String = crate::report::tables::table::printable(message).chars().take(200).collect();
    if line.len() < message.len() {
        line.push('…');
    }
    line
}
