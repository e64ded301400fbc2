//! `wmic bench`: how fast kernels run here, and adapters side by side.

use std::path::PathBuf;

use wmic::bench::{Timer, kernels, peak, report};
use wmic::check::Case;
use wmic::files::writable;
use wmic::ops::select;
use wmic::report::Look;
use wmic::report::bench::{BenchReport, KernelResult, Peak};
use wmic::report::compare::compare;
use wmic::report::numbers::{duration, percent, si, three_digits};
use wmic::report::table::bar;

use super::output::{self, Progress, fit};
use super::{Device, Verdict};

/// Time every kernel on this adapter, or compare the results of several adapters
///
/// The peak is measured here too: chains of fused multiply-adds, and a copy of 64 MiB. A kernel's share of it is the larger of
/// its shares of arithmetic and of bandwidth; data that stays in a cache can pass 100 %.
#[derive(clap::Args)]
pub struct Args {
    /// Time only this op [default: all]
    #[arg(long, value_name = "NAME")]
    op: Option<String>,

    #[command(flatten)]
    device: Device,

    /// Also write the results into a file, for --compare
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Time each kernel for about 15 ms instead of 0.4 s
    #[arg(long)]
    quick: bool,

    /// Measure nothing, but put result files side by side; the first is what the others are compared with
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["op", "device", "json", "quick"])]
    compare: Option<Vec<PathBuf>>,

    /// Write the comparison as CSV, one line per measurement
    #[arg(long, value_name = "FILE", requires = "compare")]
    csv: Option<PathBuf>,

    /// Draw the comparison, as PNG or SVG by the file's ending
    #[arg(long, value_name = "FILE", requires = "compare")]
    plot: Option<PathBuf>,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Verdict> {
        match &self.compare {
            Some(files) => self.compare(files)?,
            None => self.measure()?,
        }
        Ok(Verdict::Done)
    }

    fn compare(&self, files: &[PathBuf]) -> anyhow::Result<()> {
        let reports = files.iter().map(|file| BenchReport::load(file)).collect::<wmic::Result<Vec<_>>>()?;
        let comparison = compare(&reports)?;
        if let Some(file) = &self.csv {
            comparison.save_csv(file)?;
        }
        if let Some(file) = &self.plot {
            comparison.plot(file)?;
        }
        output::print(&comparison.text(Look::of_stdout()))
    }

    fn measure(&self) -> anyhow::Result<()> {
        let cases: Vec<Case> =
            select(self.op.as_deref())?.iter().flat_map(|r| (r.cases)()).filter(|c| c.bench).collect();
        if let Some(file) = &self.json {
            writable(file)?;
        }
        let gpu = self.device.open()?;
        let timer = if self.quick { Timer::quick(&gpu) } else { Timer::new(&gpu) };
        let progress = Progress::new(cases.len() + 1);
        progress.next("peak of this adapter");
        let peak = peak(&timer)?;
        let mut report = report(&gpu, peak);
        progress.print(&header(&report))?;
        for case in &cases {
            progress.next(&format!("{}: {}", case.op.name(), case.name));
            let results = kernels(&timer, case, peak)?;
            let lines: Vec<String> = results.iter().map(line).collect();
            progress.print(&format!("{}: {}\n{}", case.op.name(), case.name, lines.concat()))?;
            report.kernels.extend(results);
        }
        drop(progress);
        if let Some(file) = &self.json {
            report.save(file)?;
        }
        Ok(())
    }
}

/// What is measured, and the columns of `line`.
fn header(report: &BenchReport) -> String {
    let Peak { f32_gflops, bandwidth_gbs } = report.peak;
    let (adapter, host) = (&report.adapter, &report.host);
    let named = format!("{}, {}\ndriver {}\n", adapter.name, adapter.backend, adapter.driver);
    let around = format!("{}, {} cores, {}\n", host.cpu, host.cores, host.os);
    let best = format!("measured peak {}, {}\n", si(f32_gflops * 1e9, "FLOP/s"), si(bandwidth_gbs * 1e9, "B/s"));
    let columns = format!("{:<36}{:>9}{:>9}{:>8}{:>8}\n", "", "time", "GFLOP/s", "GB/s", "peak");
    format!("{named}{around}{best}\n{columns}")
}

fn line(k: &KernelResult) -> String {
    let gflops = if k.gflops > 0.0 { three_digits(k.gflops) } else { "-".into() };
    let cells = format!(
        "  {:<34}{:>9}{:>9}{:>8}{:>8}  {}",
        fit(&k.kernel, 34),
        duration(k.time_us / 1e6),
        gflops,
        three_digits(k.gbs),
        percent(k.share_of_peak),
        bar(k.share_of_peak, 8),
    );
    cells.trim_end().to_owned() + "\n"
}
