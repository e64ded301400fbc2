//! Named tensors on disk: safetensors, with one JSON object of metadata under the key `wmic`.

use std::collections::HashMap;
use std::path::Path;

use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Error, Result};
use super::files::{read_limited, write_atomic};

/// Larger files are rejected.
const SIZE_LIMIT: u64 = 16 << 30;
const METADATA: &str = "wmic";

/// Name, type, shape and raw elements.
pub(crate) type Tensor = (String, Dtype, Vec<usize>, Vec<u8>);

/// Writes named tensors, with metadata.
pub(crate) fn save<M: Serialize>(path: &Path, tensors: &[Tensor], about: &M) -> Result<()> {
    let bytes = to_bytes(path, tensors, Some(about))?;
    write_atomic(path, |out| out.write_all(&bytes))
}

/// The file of named tensors; `path` for messages.
pub(crate) fn to_bytes<M: Serialize>(path: &Path, tensors: &[Tensor], about: Option<&M>) -> Result<Vec<u8>> {
    let bad = |e: &dyn std::fmt::Display| Error::checkpoint(path, format!("cannot be written: {e}"));
    let text = about.map(serde_json::to_string).transpose().map_err(|e| bad(&e))?;
    let views: Vec<(&str, TensorView)> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<_, safetensors::SafeTensorError>>()
        .map_err(|e| bad(&e))?;
    let metadata = text.map(|text| HashMap::from([(METADATA.to_owned(), text)]));
    serialize(views, metadata).map_err(|e| bad(&e))
}

/// A file of tensors in memory, with its metadata.
pub(crate) struct File {
    pub bytes: Vec<u8>,
    about: Option<String>,
}

impl File {
    pub fn read(path: &Path) -> Result<File> {
        File::parse(path, read_limited(path, SIZE_LIMIT)?)
    }

    /// `path` for messages.
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<File> {
        let bad = |e| Error::checkpoint(path, format!("is not a valid safetensors file ({e}); it may be truncated"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(bad)?;
        SafeTensors::deserialize(&bytes).map_err(bad)?;
        let about = header.metadata().as_ref().and_then(|m| m.get(METADATA)).cloned();
        Ok(File { bytes, about })
    }

    pub fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("deserialised when it was read")
    }

    /// Whether it was written by wmic.
    pub(crate) fn has_about(&self) -> bool {
        self.about.is_some()
    }

    pub fn about<M: DeserializeOwned>(&self, path: &Path) -> Result<M> {
        let text = self
            .about
            .as_ref()
            .ok_or_else(|| Error::checkpoint(path, "has no record of a run: it is not its model"))?;
        serde_json::from_str(text).map_err(|e| Error::checkpoint(path, format!("has unreadable metadata: {e}")))
    }
}

/// A tensor that must have one of these types and this shape.
fn view<'a>(
    path: &Path,
    tensors: &SafeTensors<'a>,
    name: &str,
    dtypes: &[Dtype],
    shape: &[usize],
) -> Result<TensorView<'a>> {
    let view = tensors
        .tensor(name)
        .map_err(|_| Error::checkpoint(path, format!("has no tensor {name}: weights of another model?")))?;
    if !dtypes.contains(&view.dtype()) || view.shape() != shape {
        let (got, expected) = (format!("{:?} {:?}", view.dtype(), view.shape()), dtypes[0]);
        return Err(Error::checkpoint(
            path,
            format!("{name} is {got}, expected {expected:?} {shape:?}: weights of another model?"),
        ));
    }
    Ok(view)
}

/// The u32 values of a tensor that must have `shape`.
pub(crate) fn integers(path: &Path, tensors: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<u32>> {
    let words = view(path, tensors, name, &[Dtype::U32], shape)?;
    Ok(words.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// The values of a tensor of f32 or f16 that must have `shape`.
pub(crate) fn floats(path: &Path, tensors: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let view = view(path, tensors, name, &[Dtype::F32, Dtype::F16], shape)?;
    let values: Vec<f32> = match view.dtype() {
        Dtype::F16 => halves(&view),
        _ => view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    };
    match values.iter().find(|v| !v.is_finite()) {
        Some(v) => Err(Error::checkpoint(path, format!("{name} holds {v}"))),
        None => Ok(values),
    }
}

/// PyTorch's step counter of batch norm, which is not needed.
fn is_ignored(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

pub(crate) fn reject_extra(path: &Path, tensors: &SafeTensors, is_known: &dyn Fn(&str) -> bool) -> Result<()> {
    match tensors.names().iter().find(|n| !is_ignored(n) && !is_known(n)) {
        Some(extra) => {
            Err(Error::checkpoint(path, format!("has an unexpected tensor {extra}: weights of another model?")))
        }
        None => Ok(()),
    }
}

/// The tensors of a file that is part of the binary.
pub(crate) fn bundled(bytes: &[u8]) -> SafeTensors<'_> {
    SafeTensors::deserialize(bytes).expect("a bundled file is valid")
}

/// The values of a tensor of f16.
pub(crate) fn halves(view: &TensorView) -> Vec<f32> {
    assert_eq!(view.dtype(), Dtype::F16, "the tensor is f16");
    view.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
}
