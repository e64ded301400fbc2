//! `wmic bench`: kernel times on this adapter, and comparisons of adapters.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use wmic::bench::comparison::compare;
use wmic::bench::results::{BenchReport, KernelResult, Peak, PeerStep, StepResult, Work};
use wmic::bench::{FRONT_ENDS, SECONDS, Step, Timer, front_end, kernels, peak, profile, report, step};
use wmic::check::Case;
use wmic::core::files::writable;
use wmic::core::numbers::{duration, percent, rate, si, three_digits};
use wmic::nn::models::pretraining::OBJECTIVES;
use wmic::nn::{MODELS, find, is_objective};
use wmic::ops::select;
use wmic::report::tables::table::{Align, Style, Table, bar};
use wmic::{Error, Result};

use super::common::{Device, Status};
use super::output::{self, Progress, fit};

/// Time every kernel on this adapter, or compare the results of several adapters
///
/// The adapter's peak is measured as well (chains of fused multiply-adds; a copy of 64 MiB). A kernel's share is the
/// larger of its fractions of peak arithmetic and bandwidth; data in a cache can exceed 100 %.
#[derive(clap::Args)]
pub struct Args {
    /// Time only this op's kernels [default: all ops, training steps of all models, and the audio front ends]
    #[arg(long, value_name = "NAME")]
    op: Option<String>,

    /// Time only the audio front ends and training steps of the audio models
    #[arg(long, conflicts_with_all = ["op", "model", "compare"])]
    audio: bool,

    /// Show where the training step of a model, or of an objective of pre-training, spends its time, kernel by kernel
    #[arg(long, value_name = "NAME", conflicts_with_all = ["op", "json", "out", "compare"])]
    #[arg(value_parser = PossibleValuesParser::new(networks()))]
    model: Option<String>,

    /// Show times of another program, as printed by the scripts in `benches/peers` on this machine
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["model", "compare"])]
    peer: Vec<PathBuf>,

    #[command(flatten)]
    device: Device,

    /// Also write the results into a file, for --compare
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Print the results as one JSON object instead of lines
    #[arg(long)]
    json: bool,

    /// Time each kernel for about 15 ms instead of 0.4 s
    #[arg(long)]
    quick: bool,

    /// Compare result files instead of measuring; the first is the baseline
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["op", "device", "json", "out", "quick"])]
    compare: Option<Vec<PathBuf>>,

    /// Write the comparison as CSV, one line per measurement
    #[arg(long, value_name = "FILE", requires = "compare")]
    csv: Option<PathBuf>,

    /// Plot the comparison as PNG or SVG, by the file's extension
    #[arg(long, value_name = "FILE", requires = "compare")]
    plot: Option<PathBuf>,
}

/// The names of what is trained by steps.
fn networks() -> impl Iterator<Item = &'static str> {
    MODELS.iter().chain(OBJECTIVES).filter(|m| !m.is_forest()).map(|m| m.name)
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        match (&self.compare, &self.model) {
            (Some(files), _) => self.compare(files)?,
            (None, Some(model)) => self.profile(model)?,
            (None, None) => self.measure()?,
        }
        Ok(Status::Done)
    }

    fn compare(&self, files: &[PathBuf]) -> anyhow::Result<()> {
        let reports = files.iter().map(|file| BenchReport::load(file)).collect::<Result<Vec<_>>>()?;
        let comparison = compare(&reports)?;
        if let Some(file) = &self.csv {
            comparison.save_csv(file)?;
        }
        if let Some(file) = &self.plot {
            comparison.plot(file)?;
        }
        output::print(&comparison.text(Style::of_stdout()))
    }

    fn measure(&self) -> anyhow::Result<()> {
        let cases: Vec<Case> = match self.audio {
            true => vec![],
            false => select(self.op.as_deref())?.iter().flat_map(|r| (r.cases)()).filter(|c| c.bench).collect(),
        };
        if let Some(file) = &self.out {
            writable(file)?;
        }
        let peers = self.peer.iter().map(|file| PeerStep::load(file)).collect::<Result<Vec<_>>>()?.concat();
        let gpu = self.device.open()?;
        let timer = if self.quick { Timer::quick(&gpu) } else { Timer::new(&gpu) };
        let (steps, parts) = match self.op {
            Some(_) => (vec![], &FRONT_ENDS[..0]),
            None => (Step::all(self.audio), &FRONT_ENDS[..]),
        };
        let progress = Progress::new(cases.len() + steps.len() + parts.len() + 1);
        let show = |text: &str| if self.json { Ok(()) } else { progress.print(text) };
        progress.next("peak of this adapter");
        let peak = peak(&timer)?;
        let mut report = report(&gpu, peak);
        show(&header(&report))?;
        for case in &cases {
            progress.next(&format!("{}: {}", case.op.name(), case.name));
            let results = kernels(&timer, case, peak)?;
            let lines: Vec<String> = results.iter().map(line).collect();
            let passes = passes(case, &results, &peers);
            show(&format!("{}: {}\n{}{passes}", case.op.name(), case.name, lines.concat()))?;
            report.kernels.extend(results);
        }
        let mut add = |name: String, result: Result<StepResult>| -> anyhow::Result<()> {
            let mut result = match result {
                // Buffers may be too large for the adapter.
                Err(Error::Limit { what, unit, need, have }) => {
                    let why = format!("{what} needs {need} {unit}, this adapter allows {have}");
                    return show(&format!("{name}: skipped ({why})\n"));
                }
                result => result?,
            };
            // The peers train one seed at a time.
            result.peer =
                peers.iter().filter(|p| result.replicas == 1 && p.is_of(&result)).map(PeerStep::result).next();
            show(&step_line(&result))?;
            report.steps.push(result);
            Ok(())
        };
        for which in steps {
            progress.next(&format!("training step of {}, {} seeds", which.name(), which.replicas));
            add(which.name(), step(&timer, which))?;
        }
        for part in parts {
            progress.next(&part.name());
            add(part.name(), front_end(&timer, *part))?;
        }
        drop(progress);
        if let Some(file) = &self.out {
            report.save(file)?;
        }
        if self.json {
            output::print_json(&report)?;
        }
        Ok(())
    }

    fn profile(&self, model: &str) -> anyhow::Result<()> {
        let gpu = self.device.open()?;
        let timer = if self.quick { Timer::quick(&gpu) } else { Timer::new(&gpu) };
        let which = Step::of(find(model)?, 1);
        let whole = step(&timer, which)?.ms_per_step / 1e3;
        let parts = profile(&timer, which)?;
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
        let unit = if is_objective(which.model) { "patches" } else { "clips" };
        let (name, batch) = (which.name(), which.batch);
        let step = format!("a whole step of {name}, one seed, {batch} {unit}: {}", duration(whole));
        output::print(&format!("{}\n{step}\n", table.render(Style::of_stdout())))
    }
}

/// All of a case's kernels forward, and all backward, with the times of matching peers.
fn passes(case: &Case, results: &[KernelResult], peers: &[PeerStep]) -> String {
    let batch = case.inputs[0].spec.shape.dims().first().copied().unwrap_or(1);
    let mut lines = String::new();
    for (pass, backward) in [("forward", false), ("backward", true)] {
        let of_pass = results.iter().filter(|r| r.kernel.contains("_backward_") == backward);
        let ms = of_pass.map(|r| r.time_us).sum::<f64>() / 1e3;
        let model = format!("{}: {}, {pass}", case.op.name(), case.name);
        for peer in peers.iter().filter(|p| p.is(&model, batch)).map(PeerStep::result) {
            let ratio = three_digits(ms / peer.ms_per_step);
            lines += &format!("  {pass:<10}{:>9}  {ratio} of {}\n", duration(ms / 1e3), peer.name);
        }
    }
    lines
}

fn step_line(s: &StepResult) -> String {
    let what = match s.work {
        Work::Training => {
            format!("training {}, {} seed{}", s.model, s.replicas, if s.replicas == 1 { "" } else { "s" })
        }
        Work::Forward => format!("{}, {} clips", s.model, s.batch),
    };
    let real_time = match s.work {
        Work::Training => String::new(),
        Work::Forward => format!("  {} x real time", three_digits(s.clips_per_s * SECONDS as f64)),
    };
    let peer = s
        .peer
        .as_ref()
        .map_or_else(String::new, |p| format!("  {} of {}", three_digits(s.ms_per_step / p.ms_per_step), p.name));
    let time = duration(s.ms_per_step / 1e3);
    format!("{what:<36}{time:>9}  {}{real_time}{peer}\n", rate(s.clips_per_s, "clips"))
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
