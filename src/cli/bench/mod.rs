//! `wmic bench`: kernel times on this adapter, and comparisons of adapters.

mod lines;

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use wmic::bench::checks::{self, Results};
use wmic::bench::comparison::compare;
use wmic::bench::results::{BenchReport, PeerStep, StepResult};
use wmic::bench::{FRONT_ENDS, Load, Step, Timer, front_end, kernels, peak, report, step, warnings};
use wmic::check::Case;
use wmic::core::error::excess;
use wmic::core::files::{writable, write_atomic};
use wmic::gpu::Precision;
use wmic::nn::front_ends::vggish::Width;
use wmic::nn::models::pretraining::OBJECTIVES;
use wmic::nn::{MODELS, find};
use wmic::ops::select;
use wmic::report::tables::table::Style;
use wmic::{Error, Result};

use super::common::{Device, Status, kept_tuning};
use super::output::{self, Progress};
use super::settings::variant;

/// Time every kernel on this adapter, or compare the results of several adapters
///
/// A time is the median of several submissions of many repetitions, its spread their interquartile range. The adapter's
/// peak is measured as well (chains of fused multiply-adds; copies of 64 MiB; a chain of dispatches that do nothing). A
/// kernel's share is the larger of its fractions of peak arithmetic and bandwidth; data in a cache can exceed 100 %.
/// Warnings say when other processes, a wide spread or more than the peak make figures doubtful.
#[derive(clap::Args)]
pub struct Args {
    /// Time only this op's kernels [default: all ops, training steps of all models, and the audio front ends]
    #[arg(long, value_name = "NAME")]
    op: Option<String>,

    /// Time only the audio front ends and training steps of the audio models
    #[arg(long, conflicts_with_all = ["op", "model", "compare"])]
    audio: bool,

    /// Show where the training step of a model, or of an objective of pre-training, spends its time, kernel by kernel
    #[arg(long, value_name = "NAME", conflicts_with_all = ["op", "compare"])]
    #[arg(value_parser = PossibleValuesParser::new(networks()))]
    model: Option<String>,

    /// Width of VGGish and of single-note models in training steps: 1, 1/2, 1/4 or 1/8 [default: 1/4 and 1/8]
    #[arg(long, value_name = "W", conflicts_with_all = ["op", "compare"])]
    width: Option<Width>,

    /// Show times of another program, as printed by the scripts in `benches/peers` on this machine
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "compare")]
    peer: Vec<PathBuf>,

    /// Precision of the operands of matrix products and convolutions; with f16 without the audio front ends
    #[arg(long, value_parser = variant::<Precision>(), default_value = "f32", conflicts_with = "compare")]
    precision: Precision,

    #[command(flatten)]
    device: Device,

    /// Also write the results into a file, for --compare
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Add to the results in the file of --out, which are of the same adapter; what is there is measured anew
    #[arg(long, requires = "out")]
    append: bool,

    /// Also write a page of Markdown: the machine, the peak, steps beside other programs, and kernels
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Print the results as one JSON object instead of lines
    #[arg(long)]
    json: bool,

    /// Time each kernel for about 20 ms instead of 0.4 s
    #[arg(long)]
    quick: bool,

    /// Compare result files instead of measuring, the first is the baseline; files of `wmic check` (--json, or saved by
    /// the page of --web) are compared among themselves
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
        match &self.compare {
            Some(files) => self.compare(files)?,
            None => self.measure()?,
        }
        Ok(Status::Done)
    }

    fn compare(&self, files: &[PathBuf]) -> anyhow::Result<()> {
        let (mut reports, mut checked) = (vec![], vec![]);
        for file in files {
            match Results::load(file)? {
                Results::Times(report) => reports.push(*report),
                Results::Checks(report) => checked.push(report),
            }
        }
        let checked = checks::compare(&checked, Style::of_stdout());
        if reports.is_empty() {
            return match [&self.csv, &self.plot, &self.markdown].into_iter().flatten().next() {
                None => output::print(&checked),
                Some(file) => {
                    Err(Error::data(file, "would have times, and the files to compare have checks alone").into())
                }
            };
        }
        let comparison = compare(&reports)?;
        if let Some(file) = &self.csv {
            comparison.save_csv(file)?;
        }
        if let Some(file) = &self.plot {
            comparison.plot(file)?;
        }
        self.write_markdown(&comparison.markdown())?;
        let gap = if checked.is_empty() { "" } else { "\n" };
        output::print(&(comparison.text(Style::of_stdout()) + gap + &checked))
    }

    fn measure(&self) -> anyhow::Result<()> {
        let cases: Vec<Case> = match self.audio || self.model.is_some() {
            true => vec![],
            false => select(self.op.as_deref())?.iter().flat_map(|r| (r.cases)()).filter(|c| c.bench).collect(),
        };
        let (steps, parts) = match (&self.op, &self.model) {
            (Some(_), _) => (vec![], &FRONT_ENDS[..0]),
            (None, Some(model)) => (Step::of(find(model)?, self.width), &FRONT_ENDS[..0]),
            (None, None) if self.precision == Precision::F16 => (Step::all(self.audio, self.width), &FRONT_ENDS[..0]),
            (None, None) => (Step::all(self.audio, self.width), &FRONT_ENDS[..]),
        };
        let steps: Vec<Step> = steps.into_iter().map(|step| Step { precision: self.precision, ..step }).collect();
        [&self.out, &self.markdown].into_iter().flatten().try_for_each(writable)?;
        let earlier = match &self.out {
            Some(file) if self.append && file.exists() => Some(BenchReport::load(file)?),
            _ => None,
        };
        let peers = self.peer.iter().map(|file| PeerStep::load(file)).collect::<Result<Vec<_>>>()?.concat();
        let gpu = self.device.open()?;
        gpu.adapter().target_of(self.precision)?;
        let tuning = kept_tuning(&gpu);
        let timer = if self.quick { Timer::quick(&gpu) } else { Timer::new(&gpu) };
        let load = Load::now();
        let progress = Progress::new(cases.len() + steps.len() + parts.len() + 1);
        let show = |text: &str| if self.json { Ok(()) } else { progress.print(text) };
        progress.next("peak of this adapter");
        let mut report = report(&gpu, peak(&timer, self.precision)?, self.precision);
        show(&lines::header(&report))?;
        if self.model.is_none() {
            show(&lines::columns(if cases.is_empty() { "" } else { lines::RATES }))?;
        }
        for case in &cases {
            progress.next(&format!("{}: {}", case.op.name(), case.name));
            let results = kernels(&timer, case, report.peak, self.precision)?;
            let each: Vec<String> = results.iter().map(lines::kernel).collect();
            let passes = lines::passes(case, &results, &peers);
            show(&format!("{}: {}\n{}{passes}", case.op.name(), case.name, each.concat()))?;
            report.kernels.extend(results);
        }
        let mut add = |name: String, result: Result<StepResult>| -> anyhow::Result<()> {
            let mut result = match result {
                // Buffers may be too large for the adapter.
                Err(Error::Limit { what, unit, need, have, .. }) if self.model.is_none() => {
                    return show(&format!("{name}: skipped ({})\n", excess(&what, unit, need, have)));
                }
                result => result?,
            };
            // The peers train one seed at a time.
            let of_step = peers.iter().filter(|p| result.replicas == 1 && p.is_of(&result));
            result.peers = of_step.map(PeerStep::result).collect();
            if let Some(profile) = &result.profile {
                let table = profile.table(result.ms_per_step).render(Style::of_stdout());
                show(&format!("{}\n\n{table}\n{}", profile.launches(report.peak), lines::columns("")))?;
            }
            show(&lines::step(&result))?;
            report.steps.push(result);
            Ok(())
        };
        for which in steps {
            progress.next(&format!("training step of {}, {} seeds", which.name(), which.replicas));
            add(which.name(), step(&timer, which, tuning.as_ref(), self.model.is_some() && which.replicas == 1))?;
        }
        for part in parts {
            progress.next(&part.name());
            add(part.name(), front_end(&timer, *part))?;
        }
        drop(progress);
        report.load = load.zip(Load::now()).map(|(start, now)| start.of_others(now));
        if let Some(earlier) = earlier {
            report = report.after(earlier)?;
        }
        report.warnings = warnings(&report);
        report.warnings.iter().for_each(|line| output::note(&format!("warning: {line}")));
        if let Some(file) = &self.out {
            report.save(file)?;
        }
        self.write_markdown(&report.markdown())?;
        if self.json {
            output::print_json(&report)?;
        }
        Ok(())
    }

    fn write_markdown(&self, page: &str) -> Result<()> {
        self.markdown.as_ref().map_or(Ok(()), |file| write_atomic(file, |out| out.write_all(page.as_bytes())))
    }
}
