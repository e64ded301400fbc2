//! `wmic features`

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::clips::{Bar, stop_on_interrupt};
use super::common::{Device, Status};
use super::output::note;
use super::settings::{Limited, WEIGHTS, check_options, help_of, of_run, variant};
use wmic::Error;
use wmic::audio::audio_files;
use wmic::core::files::absolute;
use wmic::core::numbers;
use wmic::data::AudioSet;
use wmic::features::audio_files::{AudioFiles, ExtractionJob};
use wmic::features::feature_config::FeatureConfig;
use wmic::features::front_end::{FrontEnd, Source};
use wmic::features::scaling::Scaling;
use wmic::nn::FeatureKind;
use wmic::nn::front_ends::kind::ROWS;
use wmic::nn::front_ends::network::Network;
use wmic::nn::front_ends::spectrum::Scale;
use wmic::nn::front_ends::vggish::Width;
use wmic::report::tables::table::printable;
use wmic::run::setting::Group;

const FRONT_END: &str = Group::FrontEnd.title();

/// Extract features from audio: VGGish embeddings as in OpenMIC-2018, VGGish feature maps, log-mel spectrograms, or
/// spectra of notes
///
/// A dataset is a folder in OpenMIC-2018's layout with audio/, or a folder per class; its labels are written to the
/// file. Other files and folders are cut into excerpts of 10 s; for spectra of single notes, all into seconds. An
/// interrupted extraction resumes where it stopped. Files that cannot be decoded are listed and skipped; the exit
/// status is then 1.
#[derive(clap::Args)]
#[command(mut_args(of_run))]
pub struct Args {
    /// A dataset; or audio files, folders and patterns
    #[arg(required = true, value_name = "DATASET|FILE")]
    sounds: Vec<PathBuf>,
    /// Features to extract
    #[arg(long, value_parser = variant::<FeatureKind>(), default_value = "vggish", help_heading = FRONT_END)]
    frontend: FeatureKind,
    #[arg(long, value_name = WEIGHTS, help = help_of("front_end.weights"), help_heading = FRONT_END)]
    frontend_weights: Option<Source>,
    #[arg(long, value_name = "W", help = help_of("width"), help_heading = FRONT_END)]
    width: Option<Width>,
    #[arg(long, value_name = "FILE.npz", help = help_of("front_end.pca"), help_heading = FRONT_END)]
    pca: Option<PathBuf>,
    #[arg(long, value_parser = variant::<Scaling>(), help = help_of("front_end.scaling"), help_heading = FRONT_END)]
    scaling: Option<Scaling>,
    /// No ReLU after the last layer, as in VGGish's later releases
    #[arg(long, help_heading = FRONT_END)]
    no_last_relu: bool,
    #[arg(long, value_parser = variant::<Scale>(), help = help_of("notes.scale"), help_heading = Group::Notes.title())]
    scale: Option<Scale>,
    #[arg(long, value_name = "FILE.npz", help = out_help())]
    out: Option<PathBuf>,
    /// Replace the file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: Device,
}

fn out_help() -> String {
    let [files @ .., last] = &ROWS.each_ref().map(|row| row.file);
    format!("File to write [default: in the dataset, {} or {last}; else features.npz]", files.join(", "))
}

fn of_networks(kind: &FeatureKind) -> Option<&'static str> {
    kind.row().weights.is_none().then_some("applies to features by VGGish and YAMNet only")
}

fn of_vggish(kind: &FeatureKind) -> Option<&'static str> {
    (kind.network() != Some(Network::Vggish)).then_some("applies to features by VGGish only")
}

fn of_embeddings(kind: &FeatureKind) -> Option<&'static str> {
    (!kind.row().embedding).then_some("applies to VGGish embeddings only")
}

fn of_notes(kind: &FeatureKind) -> Option<&'static str> {
    (!kind.is_single_note()).then_some("applies to spectra of single notes only")
}

#[rustfmt::skip]
const LIMITED: &[Limited<Args, FeatureKind>] = &[
    Limited { option: "frontend-weights", is_given: |args| args.frontend_weights.is_some(), unsupported: of_networks },
    Limited { option: "width", is_given: |args| args.width.is_some(), unsupported: of_vggish },
    Limited { option: "pca", is_given: |args| args.pca.is_some(), unsupported: of_embeddings },
    Limited { option: "scaling", is_given: |args| args.scaling.is_some(), unsupported: of_embeddings },
    Limited { option: "no-last-relu", is_given: |args| args.no_last_relu, unsupported: of_embeddings },
    Limited { option: "scale", is_given: |args| args.scale.is_some(), unsupported: of_notes },
];

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        let set = match self.sounds.as_slice() {
            [folder] if folder.is_dir() => dataset(folder)?,
            _ => None,
        };
        let sounds = match &set {
            Some(set) => AudioFiles::of_set(set, self.frontend),
            None => {
                let found = audio_files(&self.sounds)?;
                found.note().iter().for_each(|line| note(line));
                AudioFiles::of_files(found.files)
            }
        };
        let out = self.out(set.as_ref());
        let path = out.display();
        if out.is_dir() {
            return Err(Error::Usage(format!("{path} is a folder; --out takes a file")).into());
        }
        if out.exists() && !self.force {
            return Err(Error::Usage(format!("{path} exists; choose another --out, or --force to replace it")).into());
        }
        if let Some(set) = &set {
            let (classes, folder) = (set.classes.len(), set.path.display());
            let what = match (self.frontend.is_single_note(), &set.own) {
                (true, _) => "every whole second",
                (false, Some(_)) => "every 10 s",
                (false, None) => "the first 10 s",
            };
            note(&format!("{folder} is a dataset of {classes} classes: {what} of each file, with its labels"));
            set.warnings.iter().for_each(|warning| note(&printable(&format!("warning: {warning}"))));
        }
        let mut feature_config = self.feature_config()?;
        let weights = feature_config.load()?;
        let gpu = self.device.open()?;
        let stop = stop_on_interrupt();
        let bar = Bar::new(sounds.files.len(), "features of");
        let mut job = ExtractionJob {
            gpu: &gpu,
            feature_config: &feature_config,
            weights: weights.as_ref(),
            stop: &|| stop.load(Ordering::Relaxed),
            progress: &mut |done| bar.show(done),
        };
        let labels = set.as_ref().map(|set| (set.targets.as_slice(), set.observed.as_slice()));
        let extracted = job.npz(&sounds, labels, &out)?;
        bar.finish();
        let Some(extracted) = extracted else {
            note("wmic: interrupted; the features extracted so far are saved, run the same command to continue");
            return Ok(Status::Interrupted);
        };
        for (_, reason) in &extracted.failures {
            note(&printable(&format!("skipped: {reason}")));
        }
        for line in extracted.warnings(&sounds) {
            note(&printable(&line));
        }
        let (rows, files, failed) = (extracted.rows.len(), sounds.files.len(), extracted.failures.len());
        let mut skipped = if failed > 0 { format!("; {failed} could not be decoded") } else { String::new() };
        if extracted.short > 0 {
            let short = numbers::of(extracted.short, "is", "are");
            skipped += &format!("; {short} shorter than {} s", self.frontend.window());
        }
        let used = files - failed - extracted.short;
        if let Some(front_end) =
            extracted.feature_config.front_end.as_ref().filter(|_| extracted.feature_config.is_scaled())
        {
            let over = if sounds.train.is_empty() { "all files" } else { "the training split" };
            let of = if front_end.range == feature_config.range().cloned() { "the weights" } else { over };
            note(&format!("embeddings are scaled to 0 to 1 by the minimum and maximum of {of}"));
        }
        let (rows, used) = (numbers::of(rows, "excerpt", "excerpts"), numbers::of(used, "file", "files"));
        note(&format!("{rows} of {used} written to {}{skipped}", out.display()));
        Ok(if failed > 0 || extracted.damaged() { Status::Failed } else { Status::Done })
    }

    fn feature_config(&self) -> wmic::Result<FeatureConfig> {
        let weights = match &self.frontend_weights {
            Some(Source::File(path)) => Some(Source::File(absolute(path)?)),
            other => other.clone(),
        };
        check_options(LIMITED, self, &self.frontend)?;
        let front_end = match weights {
            Some(weights) => {
                let pca = self.pca.as_deref().map(absolute).transpose()?;
                let last_relu = self.no_last_relu.then_some(false);
                Some(FrontEnd { last_relu, pca, scaling: self.scaling, ..FrontEnd::new(weights, self.width) })
            }
            None if self.frontend.network() == Some(Network::Vggish) => {
                return Err(Error::Usage(
                    "VGGish needs weights: --frontend-weights FILE (see docs/models.md for where to get them), vggish \
                     after wmic weights add, or random"
                        .into(),
                ));
            }
            None => FrontEnd::of_stored(self.frontend),
        };
        Ok(FeatureConfig { kind: self.frontend, front_end, scale: self.scale.unwrap_or_default() })
    }

    fn out(&self, set: Option<&AudioSet>) -> PathBuf {
        let name = || self.frontend.row().file;
        let default = || set.map_or_else(|| "features.npz".into(), |set| set.path.join(name()));
        // Without a trailing slash, which would mean a folder.
        self.out.as_ref().map(|out| out.components().collect()).unwrap_or_else(default)
    }
}

/// A folder that is a dataset; `None` for a folder of audio files without labels.
fn dataset(folder: &Path) -> wmic::Result<Option<AudioSet>> {
    match AudioSet::load(folder) {
        Ok(set) => Ok(Some(set)),
        Err(error) if wmic::data::has_class_map(folder) || wmic::data::has_own_labels(folder) => Err(error),
        Err(_) => Ok(None),
    }
}
