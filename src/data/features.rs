//! Collects feature values in the smallest lossless type, and determines their scale.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::dataset::{FeatureValues, Features, WIDTH};

/// Maximum number of values of a dataset: 40 times OpenMIC-2018, 1 GiB as bytes.
pub(super) const MAX_VALUES: usize = 1 << 30;

/// Scale of feature values stored as floats. Integers are always codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeatureScale {
    /// Model inputs, 0 to 1.
    Unit,
    /// 8-bit codes, 0 to 255: the model input is code / 255.
    Byte,
}

impl FeatureScale {
    fn values(self) -> &'static str {
        match self {
            FeatureScale::Unit => "inputs of 0 to 1",
            FeatureScale::Byte => "8-bit codes of 0 to 255",
        }
    }
}

/// A remark if the scale that is `given` is not the one that is known.
pub(super) fn unused(known: FeatureScale, given: Option<FeatureScale>) -> Option<String> {
    let given = given.filter(|given| *given != known)?;
    Some(format!("{}, by their type or their record: they are not taken as {}", known.values(), given.values()))
}

enum Values {
    U8(Vec<u8>),
    F32(Vec<f32>),
}

/// Features under construction. Values arrive in the order of clips, instances, width.
pub(super) struct FeatureBuilder {
    values: Values,
    max: f64,
}

impl FeatureBuilder {
    pub(crate) fn with_capacity(values: usize) -> Self {
        FeatureBuilder { values: Values::U8(Vec::with_capacity(values)), max: 0.0 }
    }

    /// Adds a value. The error is the reason why it is invalid.
    pub fn push(&mut self, value: f64) -> Result<(), String> {
        if !(0.0..=255.0).contains(&value) {
            return Err(format!("{value} is outside the feature range 0..255"));
        }
        self.max = self.max.max(value);
        match &mut self.values {
            Values::U8(bytes) if value.fract() == 0.0 => bytes.push(value as u8),
            Values::U8(bytes) => {
                // The first fraction: from here on everything is stored as floats.
                let mut floats = Vec::with_capacity(bytes.capacity());
                floats.extend(bytes.iter().map(|&b| f32::from(b)));
                floats.push(value as f32);
                self.values = Values::F32(floats);
            }
            Values::F32(floats) => floats.push(value as f32),
        }
        Ok(())
    }

    /// The scale of the values, and a remark on it if it is `given` or does not apply. A clip's features must not
    /// depend on other clips, so it is never guessed from the values: integers are codes, floats have the scale `noted`
    /// with them, else the `given` one. This becomes what is to be recorded: the scale of the floats, nothing for
    /// integers.
    pub fn scale(
        &self,
        is_float: bool,
        noted: Option<FeatureScale>,
        given: &mut Option<FeatureScale>,
    ) -> Result<(FeatureScale, Option<String>), String> {
        // Inputs that are recorded as such are at most 1. Others were changed after their record was made.
        let noted = noted.filter(|_| *given != Some(FeatureScale::Byte) || self.max <= 1.0);
        let known = if is_float { noted } else { Some(FeatureScale::Byte) };
        let Some(scale) = known.or(*given) else {
            let reason = "has floats, which may be inputs of 0 to 1 or 8-bit codes of 0 to 255: \
                          give `feature_scale` unit or byte";
            return Err(reason.into());
        };
        if scale == FeatureScale::Unit && self.max > 1.0 {
            let advice =
                if noted.is_some() { ", as their record says they are; if they are 8-bit codes, " } else { "; " };
            return Err(format!(
                "has {}, but inputs are at most 1{advice}give `feature_scale` byte for codes of 0 to 255",
                self.max
            ));
        }
        let remark = match known {
            Some(known) => unused(known, *given),
            None => Some(format!("floats, taken as {}", scale.values())),
        };
        *given = given.filter(|_| is_float).map(|_| scale);
        Ok((scale, remark))
    }

    /// Returns the features. `lengths` holds the instances of each clip, at most `instances`; shorter clips are padded
    /// with zeros.
    pub fn finish(self, lengths: Vec<u32>, instances: usize, scale: FeatureScale) -> Features {
        let values = match (self.values, scale) {
            (Values::U8(bytes), FeatureScale::Byte) => FeatureValues::U8(Arc::new(pad(bytes, &lengths, instances))),
            (Values::U8(bytes), FeatureScale::Unit) => {
                let floats = bytes.into_iter().map(f32::from).collect();
                FeatureValues::F32(Arc::new(pad(floats, &lengths, instances)))
            }
            (Values::F32(mut floats), scale) => {
                if scale == FeatureScale::Byte {
                    floats.iter_mut().for_each(|v| *v /= 255.0);
                }
                FeatureValues::F32(Arc::new(pad(floats, &lengths, instances)))
            }
        };
        Features { values, instances, width: WIDTH, lengths, spectrum: None }
    }
}

fn pad<T: Copy + Default>(values: Vec<T>, lengths: &[u32], instances: usize) -> Vec<T> {
    if lengths.iter().all(|&length| length as usize == instances) {
        return values;
    }
    let mut padded = vec![T::default(); lengths.len() * instances * WIDTH];
    let mut start = 0;
    for (clip, &length) in padded.chunks_exact_mut(instances * WIDTH).zip(lengths) {
        let count = length as usize * WIDTH;
        clip[..count].copy_from_slice(&values[start..start + count]);
        start += count;
    }
    padded
}
