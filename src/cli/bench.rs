//! `wmic bench`: how fast kernels run here, and adapters side by side.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use wmic::bench::{Timer, kernels, peak, profile, report, step};
use wmic::check::Case;
use wmic::files::writable;
use wmic::nn::MODELS;
use wmic::ops::select;
use wmic::report::Look;
use wmic::report::bench::{BenchReport, KernelResult, Peak, PeerStep, StepResult};
use wmic::report::compare::compare;
use wmic::report::numbers::{duration, percent, si, three_digits};
use wmic::report::table::{Align, Table, bar};

use super::output::{self, Progress, fit};
use super::{Device, Verdict};

/// Time every kernel on this adapter, or compare the results of several adapters
///
/// The peak is measured here too: chains of fused multiply-adds, and a copy of 64 MiB. A kernel's share of it is the larger of
/// its shares of arithmetic and of bandwidth; data that stays in a cache can pass 100 %.
#[derive(clap::Args)]
pub struct Args {
    /// Time only this op's kernels [default: all ops, and whole training steps of all models]
    #[arg(long, value_name = "NAME")]
    op: Option<String>,

    /// Show where this model's training step spends its time, kernel by kernel
    #[arg(long, value_name = "NAME", conflicts_with_all = ["op", "json", "compare"])]
    #[arg(value_parser = PossibleValuesParser::new(MODELS.iter().map(|m| m.name)))]
    model: Option<String>,

    /// Put another program's step times beside ours: what `benches/peers/torch_att.py --bench` printed on this machine
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["op", "model", "compare"])]
    peer: Vec<PathBuf>,

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
        match (&self.compare, &self.model) {
            (Some(files), _) => self.compare(files)?,
            (None, Some(model)) => self.profile(model)?,
            (None, None) => self.measure()?,
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
        let peers = self.peer.iter().map(|file| PeerStep::load(file)).collect::<wmic::Result<Vec<_>>>()?;
        let gpu = self.device.open()?;
        let timer = if self.quick { Timer::quick(&gpu) } else { Timer::new(&gpu) };
        let steps: Vec<(&str, usize)> = match self.op {
            Some(_) => vec![],
            None => MODELS.iter().flat_map(|m| REPLICAS.map(|r| (m.name, r))).collect(),
        };
        let progress = Progress::new(cases.len() + steps.len() + 1);
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
        for (model, replicas) in steps {
            progress.next(&format!("training step of {model}, {replicas} seeds"));
            let mut result = step(&timer, model, BATCH, replicas)?;
            // A peer trains one seed at a time.
            result.peer = peers.iter().filter(|p| replicas == 1 && p.is_of(&result)).map(PeerStep::result).next();
            progress.print(&step_line(&result))?;
            report.steps.push(result);
        }
        drop(progress);
        if let Some(file) = &self.json {
            report.save(file)?;
        }
        Ok(())
    }

    fn profile(&self, model: &str) -> anyhow::Result<()> {
        let gpu = self.device.open()?;
        let timer = if self.quick { Timer::quick(&gpu) } else { Timer::new(&gpu) };
        let whole = step(&timer, model, BATCH, 1)?.ms_per_step / 1e3;
        let parts = profile(&timer, model, BATCH, 1)?;
        let sum: f64 = parts.iter().map(|p| p.seconds).sum();
        let columns =
            [("kernel", Align::Left), ("calls", Align::Right), ("time", Align::Right), ("share", Align::Right)];
        let mut table = Table::new(columns.into_iter().chain([("", Align::Left)]));
        for p in &parts {
            let share = p.seconds / sum;
            let cells = [p.calls.to_string(), duration(p.seconds), percent(share), bar(share, 12)];
            table.row([p.kernel.to_owned()].into_iter().chain(cells));
        }
        let calls: usize = parts.iter().map(|p| p.calls).sum();
        table.total(["sum".into(), calls.to_string(), duration(sum), String::new(), String::new()]);
        let step = format!("a whole step of {model}, one seed, {BATCH} clips: {}", duration(whole));
        output::print(&format!("{}\n{step}\n", table.render(Look::of_stdout())))
    }
}

/// Clips per training step, as in the papers.
const BATCH: usize = 128;
/// Numbers of seeds side by side.
const REPLICAS: [usize; 2] = [1, 10];

fn step_line(s: &StepResult) -> String {
    let what = format!("training step {}, {} seed{}", s.model, s.replicas, if s.replicas == 1 { "" } else { "s" });
    let peer = s
        .peer
        .as_ref()
        .map_or_else(String::new, |p| format!("  {} of {}", three_digits(s.ms_per_step / p.ms_per_step), p.name));
    let time = duration(s.ms_per_step / 1e3);
    format!("{what:<36}{time:>9}  {}{peer}\n", si(s.clips_per_s, "clips/s"))
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
