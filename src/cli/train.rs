//! `wmic train`

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::clips::{load_clips, stop_on_interrupt};
use super::common::{Device, Status, kept_tuning, print_evaluation};
use super::output::{note, print};
use super::settings::{SeedArgs, SettingArgs, models, of_run};
use wmic::core::numbers;
use wmic::data::Dataset;
use wmic::gpu::Gpu;
use wmic::metrics::scores::mean;
use wmic::predict::forest;
use wmic::report;
use wmic::run::clips::Labels;
use wmic::run::config::Config;
use wmic::run::run_dir::RunDir;
use wmic::run::state::EpochRow;
use wmic::train::session::{Outcome, Session};
use wmic::train::trainer::{End, Event};
use wmic::{Error, Result, nn};

/// Train a recogniser, several seeds side by side, and evaluate it on the test split
#[derive(clap::Args)]
#[command(mut_args(of_run))]
pub struct Args {
    /// Folder in OpenMIC-2018's layout with features or audio/ (see `wmic synth`), recordings with labels.csv or
    /// annotation files (JAMS, Audacity), or a folder of audio files per class; with --config or --resume the dataset
    /// recorded there
    #[arg(required_unless_present_any = ["config", "resume"])]
    dataset: Option<PathBuf>,
    /// Architecture [default: att]
    #[arg(long, value_parser = models(), help_heading = "Model")]
    model: Option<String>,
    #[command(flatten)]
    seeds: SeedArgs,
    #[command(flatten)]
    settings: SettingArgs,
    /// Settings from a TOML file with the keys of a run's run.toml; command-line options take precedence
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Run directory to write [default: runs/MODEL-DATASET]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the run in --out
    #[arg(long)]
    force: bool,
    /// Resume the run in DIR; the result is bit-identical to an uninterrupted run
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "seeds", "seed_list", "config", "out", "force"])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    device: Device,
    /// Print test.json to stdout instead of tables
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        match &self.resume {
            Some(dir) => self.resume(dir),
            None => {
                let given = (self.model.as_deref(), self.dataset.as_deref());
                let mut config = self.settings.given.new_run(given, self.config.as_deref(), self.seeds.given())?;
                let out = self.out.unwrap_or_else(|| RunDir::default_path(&config));
                RunDir::vacant(&out, self.force, &config)?;
                let gpu = self.device.open()?;
                config.tuning = kept_tuning(&gpu);
                match load_clips(&gpu, &mut config, Labels::Required)? {
                    Some(data) => train(&gpu, &config, &data, &out, self.force, self.json),
                    None => Ok(Status::Interrupted),
                }
            }
        }
    }

    /// --resume
    fn resume(&self, dir: &Path) -> anyhow::Result<Status> {
        let run = RunDir::reopen(dir)?;
        let mut config = run.recogniser_record()?.config;
        if let Some(dataset) = &self.dataset {
            config.dataset = dataset.clone();
        }
        config = self.settings.given.relocate(&config)?;
        let gpu = self.device.open()?;
        let Some(data) = load_clips(&gpu, &mut config, Labels::Required)? else { return Ok(Status::Interrupted) };
        let session = Session::resume(&gpu, &config, &data, run)?;
        conclude(conduct(session, &data, &Messages::single_run(dir))?, self.json)
    }
}

/// Begins a run in `out`, trains, evaluates on the test split, prints. Shared with `wmic demo --train`.
pub fn train(
    gpu: &Gpu,
    config: &Config,
    data: &Dataset,
    out: &Path,
    force: bool,
    json: bool,
) -> anyhow::Result<Status> {
    let session = Session::begin(gpu, config, data, out, force)?;
    conclude(conduct(session, data, &Messages::single_run(out))?, json)
}

/// Texts in the messages of a run.
pub struct Messages<'a> {
    /// The command that resumes it.
    pub resume: String,
    /// Overall progress after so many epochs of this run; empty if there is only this run.
    pub overall: &'a dyn Fn(usize) -> String,
}

impl Messages<'_> {
    /// For a run that is not part of a comparison.
    fn single_run(run: &Path) -> Messages<'static> {
        Messages { resume: format!("wmic train --resume {}", run.display()), overall: &|_| String::new() }
    }
}

fn conclude(outcome: Option<Outcome>, json: bool) -> anyhow::Result<Status> {
    let Some(Outcome { run, evaluation, .. }) = outcome else { return Ok(Status::Interrupted) };
    print_evaluation(&evaluation, json)?;
    if !json {
        print(&format!("saved in {}; report: {}\n", run.path().display(), run.report().display()))?;
    }
    Ok(Status::Done)
}

fn seeds(config: &Config) -> String {
    match config.seeds.len() {
        1 => format!("seed {}", config.seeds[0]),
        n => format!("{n} seeds"),
    }
}

/// Trains a run to the end, evaluates it and writes its report. `None` if the user interrupted.
pub fn conduct(mut session: Session, data: &Dataset, messages: &Messages) -> Result<Option<Outcome>> {
    if !carry_out(&mut session, data, messages)? {
        return Ok(None);
    }
    let outcome = session.finish()?;
    report::write(&outcome, data)?;
    Ok(Some(outcome))
}

/// Trains a run to the end. False if the user interrupted.
pub fn carry_out(session: &mut Session, data: &Dataset, messages: &Messages) -> Result<bool> {
    if let Some(adapter) = session.begun_elsewhere() {
        note(&format!("warning: the run was started on {adapter}; on another adapter results are not bit-identical"));
    }
    let (config, resume) = (session.config().clone(), &messages.resume);
    let is_forest = config.model()?.is_forest();
    let (model, seeds) = (&config.model, seeds(&config));
    note(&match is_forest {
        true => {
            let (classes, trees, threads) = (data.classes.len(), forest::TREES, forest::threads());
            let forests = numbers::of(classes, "forest", "forests");
            format!("{model}: {forests} of {trees} trees, {seeds}, on {threads} CPU threads")
        }
        false => {
            let parameters = numbers::count(session.parameters() as u64);
            format!("{model} with {parameters} parameters, {seeds}, on {}", session.gpu().adapter().name)
        }
    });
    let (stop, start) = (stop_on_interrupt(), Instant::now());
    let mut display = match is_forest {
        true => Display::of_forests(config.seeds.len() * data.classes.len(), messages),
        false => Display {
            unit: if nn::is_objective(config.model()?) { "patches" } else { "clips" },
            ..Display::new(config.epochs, session.steps_per_epoch(), session.epochs_done(), messages)
        },
    };
    let end = session.train(&|| stop.load(Ordering::Relaxed), &mut |event| display.show(event));
    display.finish();
    let end = end.map_err(|e| match e {
        Error::Io { .. } | Error::Gpu(_) if !e.is_out_of_memory() => {
            Error::Usage(format!("{e}; the state saved before is intact; fix the problem, then resume with {resume}"))
        }
        other => other,
    })?;
    match (end, is_forest) {
        (End::Interrupted, true) => {
            note(&format!("wmic: interrupted; trees are not saved midway; start again with: {resume}"));
            Ok(false)
        }
        (End::Interrupted, false) => {
            note(&format!("wmic: interrupted; the state is saved, resume with: {resume}"));
            Ok(false)
        }
        (End::Finished, true) => {
            note(&format!("trained in {:.1} s", start.elapsed().as_secs_f64()));
            Ok(true)
        }
        (End::Finished, false) => Ok(true),
    }
}

/// Progress on stderr: a bar on a terminal, occasional lines otherwise.
struct Display<'a> {
    messages: &'a Messages<'a>,
    bar: Option<ProgressBar>,
    epochs: usize,
    epoch: usize,
    /// What an epoch consists of.
    unit: &'static str,
    steps: usize,
    /// Without a terminal, every so many epochs are printed; 0 for forests, which have none.
    every: usize,
}

impl<'a> Display<'a> {
    fn new(epochs: usize, steps: usize, done: usize, messages: &'a Messages<'a>) -> Display<'a> {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new((epochs * steps) as u64).with_position((done * steps) as u64);
            let place = (messages.overall)(done);
            let style = match place.is_empty() {
                true => "{wide_bar:.cyan/238} {msg}  {eta} left",
                false => "{prefix}\n{wide_bar:.cyan/238} {msg}  {eta} left",
            };
            bar.set_style(ProgressStyle::with_template(style).expect("a valid template").progress_chars("━━━"));
            bar.set_prefix(place);
            bar.reset_eta();
            bar
        });
        Display { messages, bar, epochs, epoch: done, unit: "clips", steps, every: epochs.div_ceil(20) }
    }

    /// For forests, which train in seconds.
    fn of_forests(all: usize, messages: &'a Messages<'a>) -> Display<'a> {
        let style = ProgressStyle::with_template("forest {pos}/{len} {wide_bar:.cyan/238} {eta} left");
        let style = style.expect("a valid template").progress_chars("━━━");
        let bar = Some(ProgressBar::new(all as u64).with_style(style));
        Display { messages, bar, epochs: 1, epoch: 0, unit: "clips", steps: all, every: 0 }
    }

    fn show(&mut self, event: Event) {
        match (event, &self.bar) {
            (Event::Grown { done, .. }, bar) => bar.iter().for_each(|bar| bar.set_position(done as u64)),
            (Event::Mixtures { done, of }, Some(bar)) => bar.set_message(format!("mixture {done}/{of}")),
            (Event::Step { done, .. }, Some(bar)) => bar.set_position((self.epoch * self.steps + done) as u64),
            (Event::Step { .. }, None) => {}
            (Event::Epoch { rows, clips_per_s }, bar) => {
                self.epoch = rows[0].epoch + 1;
                let speed = numbers::rate(clips_per_s, self.unit);
                let text = epoch_line(rows, self.epoch, self.epochs, &speed);
                match bar {
                    Some(bar) => {
                        bar.set_position((self.epoch * self.steps) as u64);
                        bar.set_prefix((self.messages.overall)(self.epoch));
                        bar.set_message(text);
                    }
                    None if self.epoch.is_multiple_of(self.every) || self.epoch == self.epochs => {
                        let place = (self.messages.overall)(self.epoch);
                        note(format!("{place}  {text}").trim_start());
                    }
                    None => {}
                }
            }
            _ => {}
        }
    }

    fn finish(&self) {
        match &self.bar {
            Some(bar) if self.every == 0 => bar.finish_and_clear(),
            bar => bar.iter().for_each(ProgressBar::abandon),
        }
    }
}

/// Means over the seeds.
fn epoch_line(rows: &[EpochRow], epoch: usize, epochs: usize, speed: &str) -> String {
    let over = |value: &dyn Fn(&EpochRow) -> f64| rows.iter().map(value).sum::<f64>() / rows.len() as f64;
    let train = over(&|r| f64::from(r.train_loss));
    let val = over(&|r| f64::from(r.val_loss));
    let score = match mean(rows.iter().map(|r| r.val_accuracy)) {
        Some(accuracy) => format!("acc {accuracy:.3}"),
        None if rows.iter().all(|row| row.val_f1_pn.is_none()) => String::new(),
        None => format!("f1 {:.3}", over(&|r| r.val_f1_pn.unwrap_or(0.0))),
    };
    format!("epoch {epoch}/{epochs}  loss {train:.3} val {val:.3} {score}  {speed}")
}
