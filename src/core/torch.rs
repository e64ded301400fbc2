//! Tensors of `torch.save`: state dicts in the zip archives of PyTorch 1.6 and newer, and in the files of older ones.
//!
//! Hostile until parsed: nothing of the pickle is called (see `core::pickle`), sizes are checked against the file
//! before anything is allocated for them.

use std::collections::{HashMap, HashSet};
use std::io::{Cursor, Read};
use std::path::Path;

use zip::ZipArchive;

use super::error::{Error, Result};
use super::files::read_limited;
use super::pickle::{self, Limits, Value};

/// Largest file; VGGish has 288 MB.
const MAX_FILE: u64 = 2 << 30;
/// Largest pickle: names and shapes, and arrays of numpy.
const MAX_PICKLE: u64 = 16 << 20;
/// How files of PyTorch before 1.6 begin: a pickle of a number.
pub(crate) const LEGACY: [u8; 15] = *b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

const GLOBALS: [(&str, &str); 9] = [
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "FloatStorage"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
];
const LIMITS: Limits = Limits { globals: &GLOBALS, string: MAX_PICKLE as usize, opcodes: 1 << 18 };
/// Longest name of a tensor, in bytes.
const MAX_NAME: usize = 1024;
const MAX_RANK: usize = 8;

/// A tensor in row-major order.
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Reads a dict of names and f32 tensors (or arrays of numpy), in its order.
///
/// # Errors
/// `Checkpoint` for a file that is damaged, or has anything else.
pub fn read(path: &Path) -> Result<Vec<Tensor>> {
    let bytes = read_limited(path, MAX_FILE)?;
    let read = match bytes.starts_with(&LEGACY) {
        true => read_legacy(&bytes),
        false => read_zip(&bytes),
    };
    read.map_err(|reason| Error::checkpoint(path, format!("is not a PyTorch file of tensors: {reason}")))
}

/// Whether a file begins as `torch.save` does: as a zip archive, or as an older one.
pub(crate) fn is_torch(start: &[u8]) -> bool {
    start.starts_with(&LEGACY) || start.starts_with(b"PK\x03\x04")
}

/// Values of storages, by their keys.
type Storages<'a> = HashMap<String, Vec<u8>>;

fn read_zip(bytes: &[u8]) -> Result<Vec<Tensor>, String> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    let mut names = zip.file_names().filter_map(|name| name.ok()?.strip_suffix("data.pkl").map(str::to_owned));
    let folder = names.next().ok_or("it has no data.pkl")?;
    drop(names);
    let mut member = |name: &str, limit: u64| -> Result<Vec<u8>, String> {
        let file = zip.by_name(name).map_err(|_| format!("it has no {name:?}"))?;
        let mut bytes = vec![];
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| format!("{name:?} cannot be read ({e})"))?;
        if bytes.len() as u64 > limit { Err(format!("{name:?} is too large")) } else { Ok(bytes) }
    };
    if member(&format!("{folder}byteorder"), 16).is_ok_and(|order| order != b"little") {
        return Err("its numbers are big-endian".into());
    }
    let (root, _) = pickle::read(&member(&format!("{folder}data.pkl"), MAX_PICKLE)?, LIMITS)?;
    let views = views(&root, bytes.len())?;
    let mut storages = Storages::new();
    // The file has at least as many bytes as all storages, which `torch.save` does not compress.
    let mut left = bytes.len() as u64;
    for view in &views {
        if let Data::Storage { key, length, .. } = &view.data
            && !storages.contains_key(key)
        {
            let storage = member(&format!("{folder}data/{key}"), left.min((*length as u64).saturating_mul(4)))?;
            left -= storage.len() as u64;
            storages.insert(key.clone(), storage);
        }
    }
    views.into_iter().map(|view| view.tensor(&storages)).collect()
}

/// Pickles of a magic number, the version, the machine, the object, and the keys of its storages; then these, each with
/// its length in front.
fn read_legacy(bytes: &[u8]) -> Result<Vec<Tensor>, String> {
    let mut rest = bytes;
    let mut next = || -> Result<Value, String> {
        let (value, length) = pickle::read(&rest[..rest.len().min(MAX_PICKLE as usize)], LIMITS)?;
        rest = &rest[length..];
        Ok(value)
    };
    let [_magic, _version, _machine, root, keys] = [next()?, next()?, next()?, next()?, next()?];
    let views = views(&root, bytes.len())?;
    let Value::List(keys) = keys else { return Err("it has no list of storages".into()) };
    let mut storages = Storages::new();
    for key in keys.iter() {
        let key = key.str().ok_or("the key of a storage is not a string")?;
        let (length, data) = rest.split_at_checked(8).ok_or("it ends too early")?;
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        let length =
            usize::try_from(length).ok().and_then(|length| length.checked_mul(4)).ok_or("it ends too early")?;
        let (values, after) = data.split_at_checked(length).ok_or("it ends too early")?;
        storages.insert(key.to_owned(), values.to_vec());
        rest = after;
    }
    views.into_iter().map(|view| view.tensor(&storages)).collect()
}

/// A tensor as its pickle describes it.
struct View {
    name: String,
    shape: Vec<usize>,
    data: Data,
}

enum Data {
    /// `length`: f32 values of the storage.
    Storage { key: String, length: usize, offset: usize, strides: Vec<usize> },
    /// An array of numpy.
    Array(Vec<f32>),
}

/// The tensors of a dict, which have at most as many values as a file of `size` bytes.
fn views(root: &Value, size: usize) -> Result<Vec<View>, String> {
    let Value::Dict(items) = root else { return Err("it has no dict of tensors".into()) };
    let mut left = size / 4;
    let mut views: Vec<View> = vec![];
    let mut names = HashSet::new();
    for item in items.chunks(2) {
        let name = item[0].str().ok_or("a name is not a string")?;
        if name.len() > MAX_NAME || !names.insert(name) {
            return Err(format!(
                "the name {:?} occurs twice, or is too long",
                name.chars().take(100).collect::<String>()
            ));
        }
        let view = tensor_view(&item[1]).or_else(|| array_view(&item[1]));
        let (shape, data) = view.ok_or_else(|| format!("{name:?} is not a tensor of 32-bit floats"))?;
        let rest = shape.iter().try_fold(1, |n: usize, &size| n.checked_mul(size)).and_then(|n| left.checked_sub(n));
        left = rest.ok_or_else(|| format!("{name:?} has more values than the file"))?;
        views.push(View { name: name.to_owned(), shape, data });
    }
    Ok(views)
}

fn sizes(value: &Value) -> Option<Vec<usize>> {
    let sizes = value.tuple().filter(|sizes| sizes.len() <= MAX_RANK)?;
    sizes.iter().map(|size| usize::try_from(size.int()?).ok()).collect()
}

/// (storage, offset, shape, strides, ...), the storage ("storage", type, key, place, length).
fn tensor_view(value: &Value) -> Option<(Vec<usize>, Data)> {
    if let Some((arguments, _)) = value.object("_rebuild_parameter") {
        return tensor_view(arguments.first().filter(|inner| inner.object("_rebuild_parameter").is_none())?);
    }
    let (arguments, _) = value.object("_rebuild_tensor_v2")?;
    let [Value::Reference(storage), offset, shape, strides, ..] = arguments else { return None };
    let [_, Value::Global("FloatStorage"), Value::Str(key), _, length, ..] = storage[0].tuple()? else { return None };
    let (shape, strides) = (sizes(shape)?, sizes(strides)?);
    let [length, offset] = [length, offset].map(|value| usize::try_from(value.int()?).ok());
    let data = Data::Storage { key: key.to_string(), length: length?, offset: offset?, strides };
    Some((shape, data))
}

/// The state of an array of numpy: (version, shape, dtype, column-major, bytes), the dtype one of ("f4", ...).
fn array_view(value: &Value) -> Option<(Vec<usize>, Data)> {
    let (_, state) = value.object("_reconstruct")?;
    let [_, shape, dtype, Value::Bool(false), bytes] = state?.tuple()? else { return None };
    let (dtype, order) = dtype.object("dtype")?;
    let is_little = order.and_then(Value::tuple).and_then(|state| state.get(1)?.str()).is_none_or(|order| order != ">");
    let bytes: Vec<u8> = match bytes {
        Value::Bytes(bytes) => bytes.to_vec(),
        // Protocol 2 has no bytes: they are Latin-1.
        encoded => {
            let text = encoded.object("encode")?.0.first()?.str()?;
            text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<_>>()?
        }
    };
    let values: Vec<f32> = match dtype.first()?.str().filter(|_| is_little)? {
        "f4" => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        "f8" => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        _ => return None,
    };
    let shape = sizes(shape)?;
    let count = shape.iter().try_fold(1, |count: usize, &size| count.checked_mul(size));
    (count == Some(values.len())).then_some((shape, Data::Array(values)))
}

impl View {
    fn tensor(self, storages: &Storages) -> Result<Tensor, String> {
        let View { name, shape, data } = self;
        let values = match data {
            Data::Array(values) => values,
            Data::Storage { key, offset, strides, .. } => {
                let storage = storages.get(&key).ok_or_else(|| format!("the storage of {name:?} is missing"))?;
                strided(storage.as_chunks().0, offset, &shape, &strides)
                    .ok_or_else(|| format!("{name:?} reaches beyond its storage"))?
            }
        };
        Ok(Tensor { name, shape, values })
    }
}

/// `None` if it reaches beyond the storage, or repeats values of it.
fn strided(storage: &[[u8; 4]], offset: usize, shape: &[usize], strides: &[usize]) -> Option<Vec<f32>> {
    let count = shape.iter().try_fold(1, |count: usize, &size| count.checked_mul(size))?;
    if strides.len() != shape.len() || count > storage.len() {
        return None;
    }
    let mut index = vec![0; shape.len()];
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let at = index
            .iter()
            .zip(strides)
            .try_fold(offset, |at, (i, stride): (&usize, _)| at.checked_add(i.checked_mul(*stride)?));
        values.push(f32::from_le_bytes(*storage.get(at?)?));
        for (i, size) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *size {
                break;
            }
            *i = 0;
        }
    }
    Some(values)
}
