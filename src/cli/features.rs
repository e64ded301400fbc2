//! `wmic features`

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::clips::{Bar, stop_on_interrupt};
use super::output::note;
use super::settings::variant;
use super::{Device, Verdict};
use wmic::Error;
use wmic::audio::audio_files;
use wmic::core::files::absolute;
use wmic::data::AudioSet;
use wmic::features::audio_files::{AudioFiles, ExtractionJob};
use wmic::features::extraction::Recipe;
use wmic::features::front_end::{FrontEnd, Source};
use wmic::features::scaling::Scaling;
use wmic::nn::Kind;
use wmic::nn::front_ends::spectrum::Scale;
use wmic::nn::front_ends::vggish::Width;
use wmic::report::tables::table::printable;

/// Make features of sound: VGGish embeddings as OpenMIC-2018's, VGGish's last maps, log-mel spectrograms, or spectra of notes
///
/// A dataset is a folder in OpenMIC-2018's layout with audio/, or a folder per class; its labels go into the file. Other files and
/// folders are cut into excerpts of 10 s; for stft and cqt, all into seconds. An interrupted call goes on where it stopped. Files
/// that cannot be decoded are listed and
/// left out, and the exit status is 1.
#[derive(clap::Args)]
pub struct Args {
    /// A dataset; or sound files, folders and patterns
    #[arg(required = true, value_name = "DATASET|FILE")]
    sounds: Vec<PathBuf>,
    /// What to make
    #[arg(long, value_parser = variant::<Kind>(), default_value = "vggish")]
    frontend: Kind,
    /// VGGish's weights: a safetensors file in torchvggish's naming, or random (random:SEED)
    #[arg(long, value_name = "FILE|random", aliases = ["weights", "init"])]
    frontend_weights: Option<Source>,
    /// Share of VGGish's channels: 1, 1/2, 1/4 or 1/8
    #[arg(long, value_name = "W", default_value = "1")]
    width: Width,
    /// PCA of the embeddings, an npz with pca_eigen_vectors and pca_means [default: the one among the weights, else none]
    #[arg(long, value_name = "FILE.npz")]
    pca: Option<PathBuf>,
    /// How VGGish's embeddings are stored: pca8, their PCA in 8 bits as OpenMIC-2018's, or minmax, each dimension from its minimum to its
    /// maximum over the training split (over all files, if there are no splits) [default: pca8 where there is a PCA, else minmax]
    #[arg(long, value_name = "pca8|minmax", value_parser = variant::<Scaling>())]
    scaling: Option<Scaling>,
    /// Leave out the ReLU after the last layer, as VGGish's later releases do
    #[arg(long)]
    no_last_relu: bool,
    /// Of stft and cqt: magnitudes as they are, or their standardised logarithms
    #[arg(long, value_parser = variant::<Scale>(), default_value = "magnitude")]
    scale: Scale,
    /// File to write [default: in the dataset, openmic-2018.npz, maps.npz, logmel.npz, spectrogram.npz, stft.npz or cqt.npz; else features.npz]
    #[arg(long, value_name = "FILE.npz")]
    out: Option<PathBuf>,
    /// Replace the file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: Device,
}

impl Args {
    pub fn run(self) -> anyhow::Result<Verdict> {
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
            return Err(Error::Usage(format!("{path} is a folder; name a file as --out")).into());
        }
        if out.exists() && !self.force {
            return Err(Error::Usage(format!("{path} exists; name another --out, or replace it with --force")).into());
        }
        if let Some(set) = &set {
            let (classes, folder) = (set.classes.len(), set.path.display());
            let what = if self.frontend.is_single_note() { "every whole second" } else { "the first 10 s" };
            note(&format!("{folder} is a dataset of {classes} classes: {what} of each file, with its labels"));
            set.warnings.iter().for_each(|warning| note(&printable(&format!("warning: {warning}"))));
        }
        let mut recipe = self.recipe()?;
        let weights = recipe.load()?;
        let gpu = self.device.open()?;
        let stop = stop_on_interrupt();
        let bar = Bar::new(sounds.files.len(), "features of");
        let mut making = ExtractionJob {
            gpu: &gpu,
            recipe: &recipe,
            weights: weights.as_ref(),
            stop: &|| stop.load(Ordering::Relaxed),
            progress: &mut |done| bar.show(done),
        };
        let labels = set.as_ref().map(|set| (set.targets.as_slice(), set.observed.as_slice()));
        let made = making.npz(&sounds, labels, &out)?;
        bar.finish();
        let Some(made) = made else {
            note("wmic: interrupted; what was made is kept, the same command goes on");
            return Ok(Verdict::Interrupted);
        };
        for (_, reason) in &made.failures {
            note(&printable(&format!("left out: {reason}")));
        }
        for line in made.warnings(&sounds) {
            note(&printable(&line));
        }
        let (rows, files, failed) = (made.rows.len(), sounds.files.len(), made.failures.len());
        let mut left_out = if failed > 0 { format!("; {failed} could not be decoded") } else { String::new() };
        if made.short > 0 {
            left_out += &format!("; {} are shorter than {} s", made.short, self.frontend.window());
        }
        let used = files - failed - made.short;
        if let Some(front_end) = made.recipe.front_end.as_ref().filter(|_| made.recipe.is_scaled()) {
            let over = if sounds.train.is_empty() { "all files" } else { "the training split" };
            let of = if front_end.range == recipe.range().cloned() { "the weights" } else { over };
            note(&format!("embeddings are scaled by the minimum and maximum of {of} to 0 to 1"));
        }
        note(&format!("{rows} excerpts of {used} files written to {}{left_out}", out.display()));
        Ok(if failed > 0 || made.damaged() { Verdict::Failed } else { Verdict::Done })
    }

    fn recipe(&self) -> wmic::Result<Recipe> {
        let weights = match &self.frontend_weights {
            Some(Source::File(path)) => Some(Source::File(absolute(path)?)),
            other => other.clone(),
        };
        let front_end = match (self.frontend.row().weights, weights) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Error::Usage("spectra need no weights: leave out --frontend-weights".into()));
            }
            (_, Some(weights)) => {
                let pca = self.pca.as_deref().map(absolute).transpose()?;
                let scaling = self.scaling.filter(|_| self.frontend.row().embedding);
                Some(FrontEnd { last_relu: !self.no_last_relu, pca, scaling, ..FrontEnd::new(weights, self.width) })
            }
            (_, None) => {
                return Err(Error::Usage(
                    "VGGish needs weights: --frontend-weights FILE (see docs/models.md for where they come from) or random"
                        .into(),
                ));
            }
        };
        if self.scaling.is_some() && !self.frontend.row().embedding {
            return Err(Error::Usage("--scaling is for VGGish's embeddings: leave it out".into()));
        }
        if !self.scale.is_magnitude() && !self.frontend.is_single_note() {
            return Err(Error::Usage("--scale is for stft and cqt: others have a scale of their own".into()));
        }
        Ok(Recipe { kind: self.frontend, front_end, scale: self.scale })
    }

    fn out(&self, set: Option<&AudioSet>) -> PathBuf {
        let name = || self.frontend.row().file;
        let default = || set.map_or_else(|| "features.npz".into(), |set| set.path.join(name()));
        // Without a slash at its end, which would ask for a folder.
        self.out.as_ref().map(|out| out.components().collect()).unwrap_or_else(default)
    }
}

/// A folder that is a dataset; `None` for one that just holds sound files.
fn dataset(folder: &Path) -> wmic::Result<Option<AudioSet>> {
    match AudioSet::load(folder) {
        Ok(set) => Ok(Some(set)),
        Err(error) if wmic::data::has_class_map(folder) => Err(error),
        Err(_) => Ok(None),
    }
}
