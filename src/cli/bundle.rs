//! `wmic bundle`

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde_json::json;
use wmic::core::files::writable;
use wmic::data::{AudioSet, has_features};
use wmic::gpu::Gpu;
use wmic::metrics::thresholds::Threshold;
use wmic::predict::bundle::{as_saved, save_ensemble};
use wmic::predict::ensemble::{Ensemble, Member};
use wmic::predict::labelled::{Answered, answer, answer_clips};
use wmic::predict::models::{Models, is_file, name_of};
use wmic::report::tables::evaluation::summary;
use wmic::{Dataset, Error, Result};

use super::clips::{Bar, stop_on_interrupt};
use super::common::{Device, Status};
use super::output::{note, print, print_json};

/// Put trained runs into one file, whose answer is their mean
///
/// `wmic predict FILE song.mp3` uses it. The file needs nothing else but weights of VGGish or YAMNet that a run names.
/// Its probabilities are calibrated on recordings that no run was trained on, in the test split of a dataset. What the
/// runs' training clips are like is not in it: it judges every recording, as it is calibrated to.
#[derive(clap::Args)]
pub struct Args {
    /// Run directories of `wmic train`, of the same instruments
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// File to write; an existing one is replaced
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Dataset whose test split calibrates the mean: of audio files; or in OpenMIC-2018's layout with VGGish's
    /// embeddings, if all runs are on those
    #[arg(long, value_name = "DATASET")]
    calibrate: PathBuf,
    /// Fraction of recordings that have an instrument: clips that are labelled for it, as OpenMIC-2018's, were chosen,
    /// and more of them have it [default: the fraction of the labelled clips]
    #[arg(long, value_name = "P", value_parser = fraction)]
    prior: Option<f64>,
    /// Share of each run in the mean of the log-odds [default: the same for all]
    #[arg(long, value_name = "W,...", value_delimiter = ',', value_parser = weight)]
    weights: Vec<f64>,
    /// Name in results [default: the models' names]
    #[arg(long)]
    name: Option<String>,
    /// Decision threshold of predictions: a probability, tuned, or precision:P
    #[arg(long, value_name = "P|tuned|precision:P", default_value_t = Threshold::Precision(0.6))]
    threshold: Threshold,
    #[command(flatten)]
    device: Device,
    /// Print one JSON object: file, bytes, models and their scores on the test split, and those of the mean
    #[arg(long)]
    json: bool,
}

fn weight(text: &str) -> Result<f64, String> {
    let weight = text.parse().ok().filter(|w: &f64| w.is_finite() && *w > 0.0);
    weight.ok_or_else(|| "a number above 0 is expected".into())
}

fn fraction(text: &str) -> Result<f64, String> {
    let fraction = text.parse().ok().filter(|p: &f64| *p > 0.0 && *p < 1.0);
    fraction.ok_or_else(|| "a number between 0 and 1 is expected".into())
}

impl Args {
    pub fn run(self) -> anyhow::Result<Status> {
        if !is_file(&self.out) {
            return Err(Error::Usage(format!("the name {} must end with .safetensors", self.out.display())).into());
        }
        writable(&self.out)?;
        let mut members = self.runs.iter().map(|run| Models::member(run)).collect::<Result<Vec<_>>>()?;
        if !self.weights.is_empty() && self.weights.len() != members.len() {
            let (weights, runs) = (self.weights.len(), members.len());
            return Err(Error::Usage(format!("{weights} weights were given for {runs} runs")).into());
        }
        members.iter_mut().zip(&self.weights).for_each(|(member, weight)| member.weight = *weight);
        let name = self.name.clone().unwrap_or_else(|| name_of(&members));
        let is_published = |member: &Member| Ok(member.trained.config.kind()?.row().published);
        let are_published = members.iter().map(is_published).collect::<Result<Vec<_>>>()?;
        let has_features = has_features(&self.calibrate) && !are_published.contains(&false);
        let gpu = self.device.open()?;
        let mut ensemble = Ensemble::new(&name, members)?;
        ensemble.set_threshold(self.threshold)?;
        let rounded = as_saved(&self.out, &ensemble)?;
        let names: Vec<String> =
            ensemble.members().iter().map(|member| member.trained.about.model.clone()).chain([name]).collect();
        let answered = match has_features {
            true => {
                let data = Dataset::load(&self.calibrate)?;
                Some(answer_clips(&gpu, rounded, &data, &data.test)?)
            }
            false => answer_recordings(&gpu, rounded, &AudioSet::load(&self.calibrate)?)?,
        };
        let Some(answered) = answered else {
            note("wmic: interrupted; nothing was written");
            return Ok(Status::Interrupted);
        };
        if answered.targets.data().is_empty() {
            let reason = "has no recordings in its test split that can be used: nothing was written";
            return Err(Error::data(&self.calibrate, reason).into());
        }
        ensemble.fitted = Some(answered.fit(self.prior));
        save_ensemble(&self.out, &ensemble)?;
        let bytes = std::fs::metadata(&self.out).map_err(Error::io(&self.out))?.len();
        let (dataset, device) = (self.calibrate.display().to_string(), gpu.adapter().name.clone());
        let evaluations: Vec<_> =
            names.iter().enumerate().map(|(m, name)| answered.evaluation(m, name, &dataset, &device)).collect();
        if self.json {
            let (mean, models) = evaluations.split_last().expect("there is the ensemble's");
            print_json(
                &json!({ "file": self.out.display().to_string(), "bytes": bytes, "models": models, "mean": mean }),
            )?;
        } else {
            for evaluation in &evaluations {
                print(&format!("{}\n", summary(evaluation)))?;
            }
            note(&format!("{} models in {bytes} bytes written to {}", evaluations.len() - 1, self.out.display()));
        }
        Ok(Status::Done)
    }
}

/// The answers to the test split, with a progress bar; `None` if the user interrupted.
fn answer_recordings(gpu: &Gpu, ensemble: Ensemble, set: &AudioSet) -> Result<Option<Answered>> {
    let stop = stop_on_interrupt();
    let bar = Bar::new(set.test.len(), "recognising");
    let answered = answer(gpu, ensemble, set, &set.test, &mut |done, error| {
        error.iter().for_each(|error| bar.note(&format!("skipped: {error}")));
        bar.show(done);
        !stop.load(Ordering::Relaxed)
    });
    bar.finish();
    answered
}
