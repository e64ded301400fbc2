//! Collects feature values in the narrowest form that keeps them.

use super::{FeatureValues, Features, WIDTH};

/// Most values a dataset may hold: 40 times OpenMIC-2018, 1 GiB as bytes.
pub(super) const MAX_VALUES: usize = 1 << 30;

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
    pub fn with_capacity(values: usize) -> Self {
        FeatureBuilder { values: Values::U8(Vec::with_capacity(values)), max: 0.0 }
    }

    /// Adds a value. The error says what is wrong with it.
    pub fn push(&mut self, value: f64) -> Result<(), String> {
        if !(0.0..=255.0).contains(&value) {
            return Err(format!("{value} is outside the feature range 0..255"));
        }
        self.max = self.max.max(value);
        match &mut self.values {
            Values::U8(bytes) if value.fract() == 0.0 => bytes.push(value as u8),
            Values::U8(bytes) => {
                // The first fraction: everything from here on is kept as floats.
                let mut floats = Vec::with_capacity(bytes.capacity());
                floats.extend(bytes.iter().map(|&b| f32::from(b)));
                floats.push(value as f32);
                self.values = Values::F32(floats);
            }
            Values::F32(floats) => floats.push(value as f32),
        }
        Ok(())
    }

    /// Ends the collection. `lengths` holds the instances of each clip, at most `instances`; shorter clips are padded
    /// with zeros.
    /// Floats that never exceed 1 are taken to be scaled already (`scaled_if_small`), all else is on the scale 0..255.
    pub fn finish(self, lengths: Vec<u32>, instances: usize, scaled_if_small: bool) -> Features {
        let scaled = scaled_if_small && self.max <= 1.0;
        let values = match self.values {
            Values::U8(bytes) if scaled => {
                FeatureValues::F32(pad(bytes.into_iter().map(f32::from).collect(), &lengths, instances))
            }
            Values::U8(bytes) => FeatureValues::U8(pad(bytes, &lengths, instances)),
            Values::F32(mut floats) => {
                if !scaled {
                    floats.iter_mut().for_each(|v| *v /= 255.0);
                }
                FeatureValues::F32(pad(floats, &lengths, instances))
            }
        };
        Features { values, instances, width: WIDTH, lengths }
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
