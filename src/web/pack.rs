//! What the plans of a page share: WGSL, pipelines, and contents of buffers.

use std::collections::HashMap;
use std::path::Path;

use half::f16;
use serde_json::{Value, json};

use crate::core::error::{Error, Result};
use crate::core::files::write_atomic;
use crate::core::hash::Fingerprint;
use crate::gpu::Shader;
use crate::graph::{Content, Place, PlanData, StepData};

/// Name of the file with the contents of buffers.
pub(super) const CONTENTS: &str = "weights.bin";

/// Contents start at multiples of so many bytes, as typed arrays need.
const ALIGN: usize = 4;

/// What plans share.
#[derive(Default)]
pub(super) struct Pack {
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
}

/// The contents of buffers that a plan refers to by name.
pub(super) type Bound = HashMap<String, usize>;

impl Pack {
    /// Adds the content of a buffer, as words of 32 bits; returns its index.
    pub fn content(&mut self, words: &[u32], precision: Precision) -> usize {
        let mut fingerprint = Fingerprint::default();
        fingerprint.mix_bytes(bytemuck::cast_slice(words));
        fingerprint.mix(u64::from(precision == Precision::Half));
        let index = self.contents.len();
        let known = *self.known.entry(fingerprint.finish()).or_insert(index);
        if known < index {
            return known;
        }
        let halves: Vec<f16> = words.iter().map(|w| f16::from_f32(f32::from_bits(*w))).collect();
        let fits = |(half, word): (&f16, &u32)| match precision {
            Precision::Exact => half.to_f32().to_bits() == *word,
            Precision::Half => half.is_finite(),
        };
        let at = self.bytes.len();
        let dtype = match halves.iter().zip(words).all(fits) {
            true => {
                self.bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
                "f16"
            }
            false => {
                self.bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
                "u32"
            }
        };
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        self.contents.push(json!({ "at": at, "len": words.len(), "dtype": dtype }));
        index
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

/// The error for what a page cannot do.
pub(super) fn unsupported(what: &str) -> Error {
    Error::Usage(format!("{what}: that cannot be exported as a web page"))
}
