//! What the plans of a page share: WGSL, pipelines, and contents of buffers.

use std::collections::HashMap;
use std::path::Path;

use half::f16;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::array::Array;
use crate::core::error::{Error, Result};
use crate::core::files::write_atomic;
use crate::core::hash::Fingerprint;
use crate::gpu::Shader;
use crate::graph::{Content, Place, PlanData, StepData};

/// Name of the file with the contents of buffers.
pub(super) const CONTENTS: &str = "weights.bin";

/// Contents start at multiples of so many bytes, as typed arrays need.
const ALIGN: usize = 4;
/// Values in 8 bits that share a scale. With one for each output probabilities moved twice as much.
const BLOCK: usize = 32;
/// Fewer values are not worth it.
const LARGE: usize = 1024;
/// The largest code of 8 bits.
const MAX_CODE: f32 = 127.0;

/// How a page stores the matrices and convolutions of front ends: of VGGish, nearly all that is downloaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stored {
    /// In 16 bits.
    #[default]
    #[serde(rename = "f16")]
    Half,
    /// In 8 bits, and a scale for every 32 of them.
    #[serde(rename = "8bit")]
    Bytes,
}

/// What plans share.
#[derive(Default)]
pub(super) struct Pack {
    stored: Stored,
    shaders: Vec<Shader>,
    pipelines: Vec<Value>,
    contents: Vec<Value>,
    bytes: Vec<u8>,
    /// Contents by the fingerprint of what they encode.
    known: HashMap<u64, usize>,
    /// Elements of the largest binding and of the largest buffer.
    largest: [usize; 2],
}

/// How floats are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// In 16 bits if they are the same in them, else in 32.
    Exact,
    /// Rounded to 16 bits, if they are in range.
    Half,
    /// Rounded to 8 bits, relative to the largest value of a block.
    Bytes,
}

/// The contents of buffers that a plan refers to by name.
pub(super) type Bound = HashMap<String, usize>;

impl Pack {
    /// With the weights of front ends stored so.
    pub fn storing(stored: Stored) -> Pack {
        Pack { stored, ..Pack::default() }
    }

    /// Adds the content of a buffer, as words of 32 bits; returns its index.
    pub fn content(&mut self, words: &[u32], precision: Precision) -> usize {
        let mut fingerprint = Fingerprint::default();
        fingerprint.mix_bytes(bytemuck::cast_slice(words));
        fingerprint.mix(precision as u64);
        let index = self.contents.len();
        let known = *self.known.entry(fingerprint.finish()).or_insert(index);
        if known < index {
            return known;
        }
        let halves: Vec<f16> = words.iter().map(|w| f16::from_f32(f32::from_bits(*w))).collect();
        let fits = |(half, word): (&f16, &u32)| match precision {
            Precision::Exact => half.to_f32().to_bits() == *word,
            Precision::Half | Precision::Bytes => half.is_finite(),
        };
        let mut record = json!({ "at": self.bytes.len(), "len": words.len() });
        record["dtype"] = match (halves.iter().zip(words).all(fits), precision) {
            (true, Precision::Bytes) => {
                record["block"] = BLOCK.into();
                self.bytes.extend(in_bytes(bytemuck::cast_slice(words)));
                "i8"
            }
            (true, _) => {
                self.bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
                "f16"
            }
            (false, _) => {
                self.bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
                "u32"
            }
        }
        .into();
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        self.contents.push(record);
        index
    }

    /// Adds weights of a front end.
    pub fn weights(&mut self, array: &Array<f32>) -> usize {
        let precision = match self.stored {
            Stored::Bytes if array.dims().len() > 1 && array.data().len() >= LARGE => Precision::Bytes,
            _ => Precision::Half,
        };
        self.content(bytemuck::cast_slice(array.data()), precision)
    }

    /// A plan that reads these places. Buffers that it refers to by a name that is not `bound` are inputs.
    pub fn plan(&mut self, plan: &PlanData, read: &[Place], bound: &Bound) -> Value {
        let mut buffers = vec![];
        for buffer in &plan.buffers {
            let mut record = json!({ "len": buffer.len });
            match &buffer.content {
                // Buffers are zeroed at first.
                Content::Own => {}
                Content::Constant(words) if words.iter().all(|word| *word == 0) => {}
                Content::Constant(words) => record["content"] = self.content(words, Precision::Exact).into(),
                Content::External(name) => match bound.get(name) {
                    Some(content) => record["content"] = (*content).into(),
                    None => record["input"] = name.as_str().into(),
                },
            }
            self.largest[1] = self.largest[1].max(buffer.len);
            buffers.push(record);
        }
        let steps: Vec<Value> = plan.steps.iter().map(|step| self.step(step)).collect();
        let place = |place: &Place| json!([place.buffer, place.offset, place.len]);
        let read: Vec<Value> = read.iter().map(place).collect();
        json!({ "buffers": buffers, "steps": steps, "read": read })
    }

    fn step(&mut self, step: &StepData) -> Value {
        let shader = match self.shaders.iter().position(|known| known == step.shader) {
            Some(known) => known,
            None => {
                self.shaders.push(*step.shader);
                self.shaders.len() - 1
            }
        };
        let constants: HashMap<&str, f64> = step.constants.iter().copied().collect();
        let pipeline =
            json!({ "shader": shader, "entry": step.entry, "constants": constants, "uniform": step.uniform });
        let pipeline = match self.pipelines.iter().position(|known| *known == pipeline) {
            Some(known) => known,
            None => {
                self.pipelines.push(pipeline);
                self.pipelines.len() - 1
            }
        };
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let params: Vec<u32> = step.params.chunks_exact(4).map(word).collect();
        let most = step.bindings.iter().map(|(_, place)| place.len).max().unwrap_or(0);
        self.largest[0] = self.largest[0].max(most);
        let bindings: Vec<Value> =
            step.bindings.iter().map(|(index, at)| json!([index, at.buffer, at.offset, at.len])).collect();
        json!({ "pipeline": pipeline, "groups": step.groups, "params": params, "bindings": bindings })
    }

    /// Writes WGSL and contents into `folder`; returns their description, and the names of the files.
    pub fn write(&self, folder: &Path) -> Result<(Value, Vec<String>)> {
        let mut files = vec![];
        for (i, shader) in self.shaders.iter().enumerate() {
            let file = format!("{i:02}-{}", shader.file.replace('/', "-"));
            let text = shader.text()?;
            write_atomic(folder.join(&file), |out| out.write_all(text.as_bytes()))?;
            files.push(file);
        }
        write_atomic(folder.join(CONTENTS), |out| out.write_all(&self.bytes))?;
        let [binding, buffer] = self.largest.map(|len| len.next_multiple_of(4) as u64 * 4);
        let described = json!({
            "shaders": files,
            "pipelines": self.pipelines,
            "contents": self.contents,
            "bytes": self.bytes.len(),
            "needs": { "maxStorageBufferBindingSize": binding, "maxBufferSize": buffer },
        });
        files.push(CONTENTS.into());
        Ok((described, files))
    }

    /// Fingerprint of WGSL, contents and `rest`, in names of versions.
    pub fn fingerprint(&self, rest: &str) -> Result<String> {
        let mut fingerprint = Fingerprint::default();
        fingerprint.mix_bytes(&self.bytes);
        for shader in &self.shaders {
            fingerprint.mix_bytes(shader.text()?.as_bytes());
        }
        fingerprint.mix_bytes(rest.as_bytes());
        Ok(format!("{:016x}", fingerprint.finish()))
    }
}

/// The scales of the blocks in f32, and then a code from -127 to 127 for each value.
fn in_bytes(values: &[f32]) -> Vec<u8> {
    let scale = |values: &[f32]| values.iter().fold(0.0f32, |most, v| most.max(v.abs())) / MAX_CODE;
    let code = |value: &f32, scale: f32| if scale > 0.0 { (value / scale).round() as i8 } else { 0 };
    let scales = values.chunks(BLOCK).flat_map(|values| scale(values).to_le_bytes());
    let codes = values.chunks(BLOCK).flat_map(|values| {
        let scale = scale(values);
        values.iter().map(move |value| code(value, scale) as u8)
    });
    scales.chain(codes).collect()
}

/// The error for what a page cannot do.
pub(super) fn unsupported(what: &str) -> Error {
    Error::Usage(format!("{what}: that cannot be exported as a web page"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_within_half_a_step() {
        let values: Vec<f32> = (0..80).map(|i| if i < 32 { 0.0 } else { (i as f32 - 50.0) * 1e-3 }).collect();
        let bytes = in_bytes(&values);
        let (scales, codes) = bytes.split_at(4 * 3);
        assert_eq!(codes.len(), values.len());
        for (i, (value, code)) in values.iter().zip(codes).enumerate() {
            let scale = f32::from_le_bytes(scales[i / BLOCK * 4..][..4].try_into().unwrap());
            let error = (f32::from(*code as i8) * scale - value).abs();
            assert!(error <= 0.5001 * scale, "{value} as {code}, {scale}");
        }
    }
}
