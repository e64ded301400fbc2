//! `wmic pretrain`

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;

use super::clips::with_progress;
use super::common::{Device, Status, kept_tuning};
use super::output::{note, print};
use super::plan;
use super::settings::{SeedArgs, help_of, of_run, variant};
use super::train::{Messages, carry_out};
use wmic::core::files::absolute;
use wmic::data::Dataset;
use wmic::gpu::Gpu;
use wmic::nn::front_ends::vggish::Width;
use wmic::nn::models::pretraining::{OBJECTIVES, PROTOCOL};
use wmic::run::config::{Config, Optimiser};
use wmic::run::patches::load_patches;
use wmic::run::pretraining::name;
use wmic::run::run_dir::{RunDir, front_end_file};
use wmic::run::setting::Group;
use wmic::run::settings;
use wmic::train::outline::Extent;
use wmic::train::session::{FrontEnds, Session};
use wmic::{Result, report};

const MODEL: &str = Group::Model.title();
const LOSS: &str = Group::Loss.title();
const OPTIMISATION: &str = Group::Optimisation.title();
const DATA: &str = Group::Data.title();

/// Pre-train VGGish on sounds, for `wmic train --frontend-weights`
///
/// Sounds are cut into log-mel patches of 0.96 s, without silence. A tenth of the files is for validation; the weights
/// of the epoch with the lowest validation loss are written to vggish.safetensors (with several seeds
/// vggish-SEED.safetensors).
#[derive(clap::Args)]
#[command(mut_args(of_run))]
pub struct Args {
    /// Audio files, folders and patterns
    #[arg(required_unless_present = "resume")]
    sounds: Vec<PathBuf>,
    /// textual: word vector of a sound's qualities; denoise-add, denoise-mul: log-mel restored from added noise, or
    /// from half of it; align: sounds against their tags; tags: predict the tags
    #[arg(long, value_parser = objectives(), required_unless_present = "resume", help_heading = MODEL)]
    objective: Option<String>,
    /// Table with the columns file, words and tags of the sounds, words and tags between spaces (textual, align, tags)
    #[arg(long, value_name = "FILE.csv", help_heading = DATA)]
    labels: Option<PathBuf>,
    /// Vectors of words, as GloVe's or word2vec's text files [default: ten qualities: bright, dark, decay, distortion,
    /// modulation, multiphonic, percussive, presence, reverb, rhythmic]
    #[arg(long, value_name = "FILE", help_heading = DATA)]
    words: Option<PathBuf>,
    /// Width of VGGish as a fraction of its channels: 1, 1/2, 1/4 or 1/8
    #[arg(long, value_name = "W", default_value = "1", help_heading = MODEL)]
    width: Width,
    /// Number of epochs
    #[arg(long, value_name = "N", default_value_t = PROTOCOL.epochs, help_heading = OPTIMISATION)]
    epochs: usize,
    /// Batch size in patches
    #[arg(long, value_name = "PATCHES", default_value_t = PROTOCOL.batch, help_heading = OPTIMISATION)]
    batch: usize,
    /// Learning rate
    #[arg(long, default_value_t = PROTOCOL.lr, help_heading = OPTIMISATION)]
    lr: f64,
    #[arg(long, value_name = "EPOCHS|none", value_parser = patience, default_value_t = Patience(PROTOCOL.patience))]
    #[arg(help = help_of("patience"), help_heading = OPTIMISATION)]
    patience: Patience,
    /// Optimiser; sgd is gradient descent without momentum
    #[arg(long, value_parser = variant::<Optimiser>(), default_value = "adam", help_heading = OPTIMISATION)]
    optimiser: Optimiser,
    /// textual: also train against the words of other sounds
    #[arg(long, help_heading = LOSS)]
    negatives: bool,
    /// denoise-add, denoise-mul: mean absolute error instead of squared
    #[arg(long, help_heading = LOSS)]
    absolute: bool,
    /// No ReLU after VGGish's last layer, where it can die
    #[arg(long, help_heading = MODEL)]
    no_last_relu: bool,
    #[command(flatten)]
    seeds: SeedArgs,
    /// Cache folder for log-mel patches [default: wmic in the user's cache directory]
    #[arg(long, value_name = "DIR", help_heading = DATA)]
    cache: Option<PathBuf>,
    /// Run directory to write [default: runs/OBJECTIVE-SOUNDS]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the run in --out
    #[arg(long)]
    force: bool,
    /// Show the dispatches, memory and work instead of training
    #[arg(long)]
    plan: bool,
    /// Resume the run in DIR, with its settings; the result is bit-identical to an uninterrupted run
    #[arg(long, value_name = "DIR", conflicts_with_all = OF_NEW_RUNS)]
    resume: Option<PathBuf>,
    #[command(flatten)]
    device: Device,
}

/// A run keeps its settings; only the cache may be elsewhere.
#[rustfmt::skip]
const OF_NEW_RUNS: [&str; 18] = [
    "sounds", "objective", "labels", "words", "width", "epochs", "batch", "lr", "patience", "optimiser", "negatives",
    "absolute", "no_last_relu", "seeds", "seed_list", "out", "force", "plan",
];

/// Epochs without improvement after which a seed stops.
#[derive(Clone, Copy)]
struct Patience(Option<usize>);

impl Display for Patience {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self.0 {
            Some(epochs) => epochs.fmt(f),
            None => f.write_str("none"),
        }
    }
}

fn patience(text: &str) -> Result<Patience, String> {
    let setting = settings::find("patience").expect("a setting");
    Ok(Patience(setting.parse(text)?.as_integer().map(|epochs| epochs as usize)))
}

fn objectives() -> PossibleValuesParser {
    PossibleValuesParser::new(OBJECTIVES.iter().map(|objective| objective.name))
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        match &self.resume {
            Some(dir) => {
                let run = RunDir::reopen(dir)?;
                let mut config = run.record()?.config;
                config.cache = self.cache()?.or(config.cache);
                let gpu = self.device.open()?;
                let Some(data) = load(&gpu, &mut config)? else { return Ok(Status::Interrupted) };
                conclude(Session::resume(&gpu, &config, &data, run)?, &data, dir)
            }
            None => {
                let mut config = self.config()?;
                config.validate()?;
                let sounds = config.dataset.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                let default = || PathBuf::from("runs").join(format!("{}-{sounds}", config.model));
                let out = self.out.clone().unwrap_or_else(default);
                if !self.plan {
                    RunDir::vacant(&out, self.force, &config)?;
                }
                let gpu = self.device.open()?;
                let Some(data) = load(&gpu, &mut config)? else { return Ok(Status::Interrupted) };
                if self.plan {
                    plan::show(
                        &gpu,
                        gpu.adapter().target().into(),
                        &config,
                        &Extent::of_clips(&gpu, &config, &data)?,
                        false,
                    )?;
                    return Ok(Status::Done);
                }
                config.tuning = kept_tuning(&gpu);
                conclude(Session::begin(&gpu, &config, &data, &out, self.force)?, &data, &out)
            }
        }
    }

    fn cache(&self) -> Result<Option<PathBuf>> {
        self.cache.as_deref().map(absolute).transpose()
    }

    fn config(&self) -> Result<Config> {
        let objective = self.objective.as_deref().expect("clap requires it");
        let sounds = self.sounds.iter().map(|path| absolute(path)).collect::<Result<Vec<PathBuf>>>()?;
        let mut config = Config::of(objective, &sounds[0])?;
        let Args { epochs, batch, lr, patience: Patience(patience), optimiser, .. } = *self;
        (config.epochs, config.batch, config.lr, config.optimiser) = (epochs, batch, lr, optimiser);
        config.patience = patience;
        config.cache = self.cache()?;
        self.seeds.overlay(&mut config);
        if let Some(pretrain) = &mut config.pretrain {
            pretrain.sounds = sounds;
            pretrain.labels = self.labels.as_deref().map(absolute).transpose()?;
            pretrain.words = self.words.as_deref().map(absolute).transpose()?;
            pretrain.width = self.width;
            let head = &mut pretrain.head;
            (head.negatives, head.absolute, head.last_relu) = (self.negatives, self.absolute, !self.no_last_relu);
        }
        Ok(config)
    }
}

/// As [`load_patches`], with progress and warnings on stderr. `None` if the user interrupted.
fn load(gpu: &Gpu, config: &mut Config) -> Result<Option<Dataset>> {
    with_progress("log-mel patches of", "patches", |stop, progress| load_patches(gpu, config, stop, progress))
}

/// The front ends of `config`, of a run in a folder of `within` that is named after what determines them: trained,
/// unless they are there. `None` if the user interrupted.
pub fn front_ends(gpu: &Gpu, config: &Config, within: &Path) -> Result<Option<Vec<PathBuf>>> {
    let mut config = Config { tuning: kept_tuning(gpu), ..config.clone() };
    let Some(data) = load(gpu, &mut config)? else { return Ok(None) };
    let out = within.join(name(&config, &data)?);
    let files: Vec<PathBuf> = config.seeds.iter().map(|&seed| out.join(front_end_file(&config.seeds, seed))).collect();
    let session = match RunDir::open(&out) {
        // The report is written last.
        Ok(run) if run.report().is_file() && files.iter().all(|file| file.is_file()) => return Ok(Some(files)),
        Ok(_) => Session::resume(gpu, &config, &data, RunDir::reopen(&out)?)?,
        Err(_) => Session::begin(gpu, &config, &data, &out, false)?,
    };
    Ok(finish(session, &data, "the same command".into())?.map(|_| files))
}

/// Trains to the end, and writes the front ends and the report. `None` if the user interrupted.
fn finish(mut session: Session, data: &Dataset, resume: String) -> Result<Option<FrontEnds>> {
    let (train, validation) = (data.train.len(), data.validation.as_ref().map_or(0, Vec::len));
    note(&format!("{train} patches to train on, {validation} for validation"));
    if !carry_out(&mut session, data, &Messages { resume, overall: &|_| String::new() })? {
        return Ok(None);
    }
    let done = session.finish_front_ends()?;
    report::pages::pretraining::write(&done)?;
    Ok(Some(done))
}

/// Trains to the end and says where the front ends are.
fn conclude(session: Session, data: &Dataset, out: &Path) -> anyhow::Result<Status> {
    let resume = format!("wmic pretrain --resume {}", out.display());
    let Some(done) = finish(session, data, resume)? else { return Ok(Status::Interrupted) };
    let FrontEnds { run, best, constant, .. } = done;
    for (row, file) in best {
        let (seed, epoch, loss) = (row.seed, row.epoch + 1, row.val_loss);
        let file = file.display();
        print(&format!(
            "seed {seed}: validation loss {loss:.4} (epoch {epoch}; best constant {constant:.4}): {file}\n"
        ))?;
    }
    print(&format!("report: {}\n", run.report().display()))?;
    Ok(Status::Done)
}
