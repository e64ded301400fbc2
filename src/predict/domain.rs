//! Clips as their distance from the training clips is measured, and its fit to the clips of a run.

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::numbers::clock;
use crate::data::{Dataset, Features};
use crate::features::spectrum;
use crate::metrics::domain::{Domain, FEWEST_OTHERS};
use crate::predict::options::Options;
use crate::predict::recognition::Recognition;
use crate::predict::trained::Trained;
use crate::run::config::Config;
use crate::run::splits::splits;

/// Clips that are fitted, evenly spaced over the split.
const MAX_CLIPS: usize = 1000;
/// Instances of a clip that count, its first ones.
pub(crate) const MAX_INSTANCES: usize = 32;
/// (instances, D) of a clip: of a patch, and of the 96 frames of one in a spectrogram, the mean and the standard
/// deviation of each band over the frames; of embeddings and feature maps the same of the sound's log-mel spectrum, or
/// without `of_spectrum` an embedding itself, and the moments of each channel over the positions. `None` for single
/// notes, and without a spectrum.
fn describe(config: &Config, features: &Features, clip: usize, of_spectrum: bool) -> Result<Option<Array<f32>>> {
    if of_spectrum {
        return Ok(features.spectrum_of(clip).map(first_instances));
    }
    let kind = config.kind()?;
    let Some(part) = kind.row().part else { return Ok(None) };
    let instance = kind.instance(config.settings(1).width);
    let rows = part * instance.iter().rev().skip(1).product::<usize>();
    let values = features.clip(clip);
    let instance = part * features.width;
    let bands = instance / rows;
    if rows == 1 {
        return Ok(Some(first_instances(values)));
    }
    let instances = values.data().chunks_exact(instance).take(MAX_INSTANCES);
    let described: Vec<f32> = instances.flat_map(|instance| spectrum::moments(instance, bands)).collect();
    let width = spectrum::width(bands);
    Ok(Some(Array::new([described.len() / width, width], described)))
}

fn first_instances(clip: Array<f32>) -> Array<f32> {
    let [instances, width] = [clip.dims()[0].min(MAX_INSTANCES), clip.dims()[1]];
    Array::new([instances, width], clip.data()[..instances * width].to_vec())
}

impl Trained {
    /// Fits the domain to the clips of the first seed: the training clips, and for the limit the validation clips, or
    /// with fewer than ten of these the training clips again.
    ///
    /// # Errors
    /// As [`splits`].
    pub fn fit_domain(&mut self, data: &Dataset) -> Result<()> {
        let of_spectrum = data.features.spectrum.is_some();
        let (train, validation) = splits(&self.config, data)?.swap_remove(0);
        let described = |clips: &[u32]| -> Result<Vec<Array<f32>>> {
            let spaced = clips.iter().step_by(clips.len().div_ceil(MAX_CLIPS).max(1));
            let all = spaced.map(|clip| describe(&self.config, &data.features, *clip as usize, of_spectrum));
            Ok(all.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
        };
        let fitted = described(&train)?;
        let others = if validation.len() < FEWEST_OTHERS { None } else { Some(described(&validation)?) };
        self.domain = Domain::fit(&fitted, others.as_ref().unwrap_or(&fitted));
        self.domain.iter_mut().for_each(|domain| domain.of_spectrum = of_spectrum);
        Ok(())
    }

    /// The distance of a clip from the training clips, above 1 out of their domain; `None` if it is not known.
    pub(super) fn distance(&self, features: &Features, clip: usize) -> Result<Option<f64>> {
        let Some(domain) = &self.domain else { return Ok(None) };
        let described = describe(&self.config, features, clip, domain.of_spectrum)?;
        described.map_or(Ok(None), |of| checked_distance(domain, &of))
    }

    /// As [`Trained::distance`], of the moments of a spectrum, (instances, D), computed if they are needed.
    pub(super) fn distance_of_spectrum(&self, moments: impl FnOnce() -> Option<Array<f32>>) -> Result<Option<f64>> {
        let Some(domain) = self.domain.as_ref().filter(|domain| domain.of_spectrum) else { return Ok(None) };
        moments().map_or(Ok(None), |moments| checked_distance(domain, &first_instances(moments)))
    }
}

/// Most parts that a warning lists.
const LISTED: usize = 3;

/// The warning for a recording that is unlike the training clips, or has such parts, from and to seconds.
pub(super) fn unreliable(recognition: &Recognition, outlying: &[(f64, f64)], options: &Options) -> Option<String> {
    if let Some(distance) = recognition.distance.filter(|_| recognition.is_unreliable()) {
        let rest = if options.keep_unreliable { "" } else { "; no instrument counts as present" };
        return Some(format!(
            "is unreliable: unlike the training clips (distance {distance:.1}, the limit is 1){rest}"
        ));
    }
    let listed = listed(outlying, recognition.duration);
    (!outlying.is_empty())
        .then(|| format!("has parts unlike the training clips, in which nothing counts as present: {listed}"))
}

/// Parts of a recording, from and to seconds.
pub(super) fn listed(parts: &[(f64, f64)], duration: f64) -> String {
    let at = |seconds: f64| clock(seconds.min(duration), duration, 1.0);
    let first: Vec<String> =
        parts.iter().take(LISTED).map(|&(start, end)| format!("{} to {}", at(start), at(end))).collect();
    let more = if parts.len() > LISTED { format!(" and {} more", parts.len() - LISTED) } else { String::new() };
    first.join(", ") + &more
}

/// The distance of a clip, (instances, D).
fn checked_distance(domain: &Domain, described: &Array<f32>) -> Result<Option<f64>> {
    let (width, known) = (described.dims()[1], domain.width());
    if width != known {
        let reason =
            format!("is of {known} values per instance, but these features have {width}; train again, or delete it");
        return Err(Error::data("domain.json", reason));
    }
    Ok(domain.distance(described))
}
