//! Clips as their distance from the training clips is measured, and its fit to the clips of a run.

use crate::core::array::Array;
use crate::core::error::Result;
use crate::data::{Dataset, Features};
use crate::metrics::domain::{Domain, FEWEST_OTHERS};
use crate::metrics::scores::{mean, std_dev};
use crate::nn::FeatureKind;
use crate::nn::front_ends::log_mel::PATCH_FRAMES;
use crate::predict::trained::Trained;
use crate::run::config::Config;
use crate::run::splits::splits;

/// Clips that are fitted, evenly spaced over the split.
const MAX_CLIPS: usize = 1000;
/// Instances of a clip that count, its first ones.
const MAX_INSTANCES: usize = 32;
/// Values of a row; of more, neighbours are averaged.
const BANDS: usize = 64;

/// (instances, D) of a clip: an embedding itself; of a patch, and of the 96 frames of one in a spectrogram, the mean and the
/// standard deviation of each band over the frames; of feature maps, of each channel over the positions. `None` for single notes.
pub(super) fn describe(config: &Config, features: &Features, clip: usize) -> Result<Option<Array<f32>>> {
    let kind = config.kind()?;
    let rows = match kind {
        FeatureKind::Spectrogram => PATCH_FRAMES,
        kind if kind.is_single_note() => return Ok(None),
        kind => kind.instance(config.settings(1).width).iter().rev().skip(1).product(),
    };
    let values = features.clip(clip);
    let instance = if kind == FeatureKind::Spectrogram { rows * features.width } else { features.width };
    let bands = instance / rows;
    let described: Vec<f32> = values
        .data()
        .chunks_exact(instance)
        .take(MAX_INSTANCES)
        .flat_map(|instance| if rows == 1 { instance.to_vec() } else { moments(instance, bands) })
        .collect();
    let width = if rows == 1 { bands } else { 2 * bands.div_ceil(bands.div_ceil(BANDS)) };
    Ok(Some(Array::new([described.len() / width, width], described)))
}

/// Means, then standard deviations, over rows of `bands` values.
fn moments(instance: &[f32], bands: usize) -> Vec<f32> {
    let group = bands.div_ceil(BANDS);
    let of = |of_row: fn(Vec<Option<f64>>) -> Option<f64>| {
        (0..bands).step_by(group).map(move |first| {
            let row = |row: &[f32]| mean(row[first..(first + group).min(bands)].iter().map(|v| Some(f64::from(*v))));
            of_row(instance.chunks_exact(bands).map(row).collect()).unwrap_or(0.0) as f32
        })
    };
    of(mean).chain(of(std_dev)).collect()
}

impl Trained {
    /// Fits the domain to the clips of the first seed: the training clips, and for the limit the validation clips, or with fewer than
    /// ten of these the training clips again.
    ///
    /// # Errors
    /// As [`splits`].
    pub fn fit_domain(&mut self, data: &Dataset) -> Result<()> {
        let (train, validation) = splits(&self.config, data)?.swap_remove(0);
        let described = |clips: &[u32]| -> Result<Vec<Array<f32>>> {
            let spaced = clips.iter().step_by(clips.len().div_ceil(MAX_CLIPS).max(1));
            let all = spaced.map(|clip| describe(&self.config, &data.features, *clip as usize));
            Ok(all.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
        };
        let fitted = described(&train)?;
        let others = if validation.len() < FEWEST_OTHERS { None } else { Some(described(&validation)?) };
        self.domain = Domain::fit(&fitted, others.as_ref().unwrap_or(&fitted));
        Ok(())
    }

    /// The distance of a clip from the training clips, above 1 out of their domain; `None` if it is not known.
    pub(super) fn distance(&self, features: &Features, clip: usize) -> Result<Option<f64>> {
        let Some(domain) = &self.domain else { return Ok(None) };
        let described = describe(&self.config, features, clip)?;
        Ok(described.filter(|of| of.dims()[1] == domain.width()).and_then(|of| domain.distance(&of)))
    }
}
