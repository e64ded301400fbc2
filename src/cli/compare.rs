//! `wmic compare`

use std::path::{Path, PathBuf};

use super::clips::load_clips;
use super::common::{Device, Status, kept_tuning};
use super::output::{note, one_line, print, print_json};
use super::pretrain;
use super::settings::{SeedArgs, SettingArgs, of_experiment, of_run};
use super::train::{self, Messages};
use wmic::compare::comparison::Comparison;
use wmic::compare::entry::Sounds;
use wmic::compare::experiment::{BUILT_IN, Experiment};
use wmic::compare::runs::{Progress, Runs};
use wmic::report::tables;
use wmic::report::tables::evaluation::summary;
use wmic::report::tables::table::{Style, printable};
use wmic::run::clips::Labels;
use wmic::run::config::Config;
use wmic::{Dataset, Session, report};

/// Train every model of an experiment with its own protocol, and compare them
///
/// Each model is trained in its own run directory below --out, as by `wmic train`. Called again with the same arguments
/// after an interruption, it reuses finished runs and resumes the others, with bit-identical results. A report then
/// shows scores, spreads and which differences are significant. A model that cannot be trained (it diverges, or needs
/// more memory than available) is skipped and listed, and the exit status is 1. Settings given as options replace those
/// of the entries.
#[derive(clap::Args)]
#[command(mut_args(|arg| of_run(of_experiment(arg))))]
pub struct Args {
    /// Dataset, as for `wmic train`
    dataset: PathBuf,
    #[arg(long, value_name = "NAME|FILE.toml", help = experiments())]
    experiment: String,
    #[command(flatten)]
    seeds: SeedArgs,
    /// Audio file, folder or pattern to pre-train front ends on, for the entries that do; may be repeated
    #[arg(long, value_name = "PATH")]
    pretrain_sounds: Vec<PathBuf>,
    /// Table of the words and tags of these sounds, as for `wmic pretrain`
    #[arg(long, value_name = "FILE.csv", requires = "pretrain_sounds")]
    pretrain_labels: Option<PathBuf>,
    /// Pre-trained front ends of each such entry, each of which becomes an entry of its own
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=100))]
    pretrain_seeds: u64,
    #[command(flatten)]
    settings: SettingArgs,
    /// Directory to write [default: runs/compare-EXPERIMENT-DATASET]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Train again, replacing the runs in --out
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: Device,
    /// Print compare.json to stdout instead of tables
    #[arg(long)]
    json: bool,
}

fn experiments() -> String {
    let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    format!("{}, or a file like those in assets/experiments", names.join(", "))
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let (sounds, labels, front_ends) =
            (self.pretrain_sounds.clone(), self.pretrain_labels.clone(), self.pretrain_seeds as usize);
        let experiment = Experiment::find(&self.experiment)?.with_front_ends(front_ends);
        let configs = experiment.configs(&self.dataset, self.seeds.given().as_deref(), &self.settings.given)?;
        let pretrainings = experiment.pretrainings(&configs, &Sounds { sounds, labels, front_ends })?;
        if pretrainings.iter().all(Option::is_none) && !self.pretrain_sounds.is_empty() {
            return Err(wmic::Error::Usage("no entry pre-trains its front end: remove `pretrain_sounds`".into()).into());
        }
        let out = self.out.clone().map_or_else(|| experiment.default_path(&self.dataset), Ok)?;
        let gpu = self.device.open()?;
        let tuning = kept_tuning(&gpu);
        let configs = configs.into_iter().map(|config| Config { tuning: tuning.clone(), ..config });
        let configs = configs.zip(pretrainings).collect();
        let mut load = |gpu: &_, config: &mut _| load_clips(gpu, config, Labels::Required);
        let Some(runs) =
            Runs::prepare(&gpu, experiment, configs, &out, self.force, &mut pretrain::front_ends, &mut load)?
        else {
            return Ok(Status::Interrupted);
        };
        let open = || self.device.open();
        let titles = Titles::of(&runs);
        let mut train = |entry: usize, session: Session, data: &Dataset| {
            let overall = |epochs: usize| titles.with_progress(entry, epochs);
            train::conduct(session, data, &Messages { resume: "the same command".into(), overall: &overall })
        };
        let Some(entries) = runs.train(&gpu, &open, &mut train, &mut |event| titles.show(event))? else {
            return Ok(Status::Interrupted);
        };
        let left_out = entries.left_out.clone();
        // The first device may have run out of memory.
        let gpu = if left_out.is_empty() { gpu } else { open()? };
        if let Some(comparison) = runs.compare(&gpu, entries)? {
            report::comparison::write(&out, &comparison)?;
            self.print(&comparison, &out)?;
        }
        left_out.iter().for_each(|reason| note(&format!("wmic: skipped: {}", one_line(reason))));
        Ok(if left_out.is_empty() { Status::Done } else { Status::Failed })
    }

    fn print(&self, comparison: &Comparison, out: &Path) -> anyhow::Result<()> {
        if self.json {
            return print_json(comparison);
        }
        let page = out.join(report::comparison::REPORT);
        let text = tables::comparison::text(comparison, Style::of_stdout());
        print(&format!("{text}\nsaved in {}; report: {}\n", out.display(), page.display()))
    }
}

/// "2/3 LABEL" for each entry, and how much of all epochs is done.
struct Titles {
    titles: Vec<String>,
    epochs: Vec<usize>,
}

impl Titles {
    fn of(runs: &Runs) -> Titles {
        let labels = runs.labels();
        let title = |(i, label): (usize, &&str)| format!("{}/{} {}", i + 1, labels.len(), printable(label));
        Titles { titles: labels.iter().enumerate().map(title).collect(), epochs: runs.epochs() }
    }

    /// After so many epochs of an entry.
    fn with_progress(&self, entry: usize, epochs: usize) -> String {
        let done = self.epochs[..entry].iter().sum::<usize>() + epochs;
        let share = done as f64 / self.epochs.iter().sum::<usize>() as f64;
        format!("{}, {:.0} % of all", self.titles[entry], share * 100.0)
    }

    fn show(&self, event: Progress) {
        let (entry, text) = match event {
            Progress::Starts { entry } => (entry, "starting".to_owned()),
            Progress::Resumes { entry } => (entry, "resuming".to_owned()),
            Progress::Ended { entry, evaluation } => (entry, summary(evaluation)),
        };
        note(&format!("{}: {text}", self.titles[entry]));
    }
}
