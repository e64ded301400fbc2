//! Features as an npz with the arrays of `openmic-2018.npz`, and a note on their front end.

use super::dataset::{FeatureValues, Features, WIDTH};
use super::features::{FeatureBuilder, FeatureScale, MAX_VALUES, unused};
use super::labels::distinct;
use super::mapped::Mapped;
use super::npz::{Member, Npz, NpzWriter};
use crate::core::error::{Error, Result};
use crate::core::files::write_path_atomic;
use half::f16;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::RangeInclusive;
use std::path::Path;

/// Moments of the sound's spectrum, see [`Features::spectrum`]: an additional array.
const SPECTRUM: &str = "spectrum";
/// Instances of each clip (N): an additional array, for clips shorter than the others. Without it all are of full
/// length.
const LENGTHS: &str = "lengths";
/// The front end of the features, as text: another additional array.
const NOTE: &str = "frontend.json";
const MAX_NOTE: usize = 1 << 20;
/// Maximum length of a key in characters.
const MAX_KEY: usize = 1024;

/// Keys and features, and a remark on their scale.
pub(super) fn read(
    npz: &mut Npz,
    path: &Path,
    scale: &mut Option<FeatureScale>,
) -> Result<(Vec<String>, Features, Option<String>)> {
    let keys = match npz.contains("sample_key") {
        true => Some(distinct(path, npz.member("sample_key")?.strings()?)?),
        false => None,
    };
    let (features, remark) = read_x(npz, path, keys.as_deref(), scale)?;
    let keys = keys.unwrap_or_else(|| (0..features.lengths.len()).map(|row| row.to_string()).collect());
    Ok((keys, features, remark))
}

/// Streams `X` (N, T, 128); of f16, (N, T, ...), with a note it is mapped instead. `keys`, when known, fix N and name
/// the clips in messages. `scale`: see [`FeatureBuilder::scale`].
pub(super) fn read_x(
    npz: &mut Npz,
    path: &Path,
    keys: Option<&[String]>,
    scale: &mut Option<FeatureScale>,
) -> Result<(Features, Option<String>)> {
    // `write_npz` stores codes as integers, and model inputs as floats. Others' floats do not tell which they are.
    let noted = npz.contains(NOTE).then_some(FeatureScale::Unit);
    let member = npz.member("X")?;
    let mapped = member.is_half() && noted.is_some();
    let embedded = member.shape().len() == 3 && member.shape()[2] == WIDTH;
    let (clips, instances, width) = match *member.shape() {
        [clips, instances, WIDTH] => (clips, instances, WIDTH),
        [clips, instances, ref rest @ ..] if mapped && !rest.is_empty() => (clips, instances, rest.iter().product()),
        _ => {
            let reason = format!("has shape {:?}; (clips, instances, {WIDTH}) is expected", member.shape());
            return Err(member.error(reason));
        }
    };
    if let Some(keys) = keys.filter(|keys| keys.len() != clips) {
        return Err(member.error(format!("has {clips} clips, but there are {} keys", keys.len())));
    }
    let count = clips * instances * width;
    if count == 0 || count > MAX_VALUES && !mapped {
        return Err(
            member.error(format!("has {clips} clips of {instances} instances; 1 to {MAX_VALUES} values are supported"))
        );
    }
    let is_float = member.is_float();
    drop(member);
    let lengths = match npz.contains(LENGTHS) {
        true => read_lengths(npz.member(LENGTHS)?, clips, instances)?,
        false => vec![instances as u32; clips],
    };
    let spectrum = match npz.contains(SPECTRUM) {
        true => Some(read_spectrum(npz.member(SPECTRUM)?, &lengths, instances, keys)?),
        false => None,
    };
    if mapped {
        let remark = unused(FeatureScale::Unit, *scale).map(|what| format!("X of {} has {what}", path.display()));
        *scale = scale.map(|_| FeatureScale::Unit);
        // Embeddings, whose instances have this shape, are scaled to at most 1; feature maps and spectra are not.
        let bounds = if embedded { 0.0..=1.0 } else { f32::MIN..=f32::MAX };
        let values = FeatureValues::F16(halves(npz.member("X")?, keys, &lengths, instances, bounds)?);
        return Ok((Features { values, instances, width, lengths, spectrum }, remark));
    }
    let mut builder = FeatureBuilder::with_capacity(count);
    npz.member("X")?.numbers(|index, value| {
        let (row, instance, band) = (index / WIDTH / instances, index / WIDTH % instances, index % WIDTH);
        if instance >= lengths[row] as usize {
            return Ok(());
        }
        builder.push(value).map_err(|reason| {
            let clip = clip_name(keys, row);
            Error::data(path, format!("X.npy of {clip}, instance {instance}, value {band}: {reason}"))
        })
    })?;
    let (scale, remark) = builder.scale(is_float, noted, scale).map_err(|reason| npz.error("X", reason))?;
    let remark = remark.map(|what| format!("X of {} has {what}", path.display()));
    Ok((Features { spectrum, ..builder.finish(lengths, instances, scale) }, remark))
}

fn read_spectrum(member: Member, lengths: &[u32], instances: usize, keys: Option<&[String]>) -> Result<FeatureValues> {
    let clips = lengths.len();
    match *member.shape() {
        [n, t, s] if n == clips && t == instances && s > 0 && member.is_half() => {
            Ok(FeatureValues::F16(halves(member, keys, lengths, instances, f32::MIN..=f32::MAX)?))
        }
        _ => {
            let reason =
                format!("has shape {:?}; ({clips}, {instances}, values) of float16 is expected", member.shape());
            Err(member.error(reason))
        }
    }
}

/// Maps an array of f16, (clips, `instances`, ...), whose values must be within `bounds` where clips have instances.
fn halves(
    member: Member,
    keys: Option<&[String]>,
    lengths: &[u32],
    instances: usize,
    bounds: RangeInclusive<f32>,
) -> Result<Mapped> {
    let (path, name) = (member.path().to_path_buf(), member.name().to_owned());
    let values = member.shape()[2..].iter().product::<usize>();
    let mapped = member.mapped()?;
    let chunks = mapped.pieces().flat_map(|piece| piece.as_chunks().0).map(|bytes| f16::from_le_bytes(*bytes));
    let place = |index: usize| (index / values / instances, index / values % instances);
    let is_padding = |(row, instance): (usize, usize)| instance >= lengths[row] as usize;
    let mut unfit = chunks.enumerate().filter(|(_, value)| !bounds.contains(&value.to_f32()));
    let first = unfit.find(|(index, _)| !is_padding(place(*index)));
    drop(unfit);
    match first {
        None => Ok(mapped),
        Some((index, value)) => {
            let (row, instance) = place(index);
            let clip = clip_name(keys, row);
            let reason = match value.is_finite() {
                true => {
                    "features with a record of their front end are 0 to 1 if they are floats; store 8-bit codes \
                         as integers"
                }
                false => "only numbers are allowed",
            };
            Err(Error::data(path, format!("{name}.npy of {clip}, instance {instance}, has {value}: {reason}")))
        }
    }
}

fn clip_name(keys: Option<&[String]>, row: usize) -> String {
    keys.map_or(format!("row {row}"), |keys| format!("clip {:?} (row {row})", keys[row]))
}

fn read_lengths(member: Member, clips: usize, instances: usize) -> Result<Vec<u32>> {
    if member.shape() != [clips] {
        return Err(member.error(format!("has shape {:?}, but X has {clips} clips", member.shape())));
    }
    let (path, mut lengths) = (member.path().to_path_buf(), vec![]);
    member.numbers(|row, value| {
        if value.fract() != 0.0 || !(1.0..=instances as f64).contains(&value) {
            let reason = format!("{LENGTHS}.npy of row {row}: {value} is not a length of 1 to {instances} instances");
            return Err(Error::data(&path, reason));
        }
        lengths.push(value as u32);
        Ok(())
    })?;
    Ok(lengths)
}

/// Writes features, in one piece, as an npz with the arrays and dtypes of OpenMIC-2018: `X` (N, T, 128), int64 (float32
/// or float16 if they are that); `instance`, the shape of an instance, takes the place of the 128; `sample_key` (N),
/// unicode; with labels also `Y_true` (N, K), float64, 0.5 where unknown, and `Y_mask` (N, K), bool. Where clips differ
/// in length, `lengths` (N), int64, is added; where their spectrum is known, `spectrum` (N, T, S), float16; with a
/// `note` on the front end, `frontend.json`, its UTF-8 as uint8. All opens with numpy's `allow_pickle=False`, and the
/// same input gives the same bytes.
///
/// `labels`: targets and observed, (N, K) row-major as in [`super::Dataset`].
///
/// # Errors
/// `Usage` if the sizes disagree, or a key is empty or longer than 1024 characters; `Io` if the file cannot be written.
pub fn write_npz(
    path: impl AsRef<Path>,
    keys: &[String],
    features: &Features,
    instance: &[usize],
    labels: Option<(&[f32], &[bool])>,
    note: Option<&str>,
) -> Result<()> {
    let (path, n, Features { values, instances, width, lengths, spectrum }) = (path.as_ref(), keys.len(), features);
    let k = labels.map_or(0, |(targets, _)| targets.len() / n.max(1));
    let labels_fit = labels.is_none_or(|(targets, observed)| targets.len() == n * k && observed.len() == n * k);
    if lengths.len() != n
        || values.len() != n * instances * width
        || instance.iter().product::<usize>() != *width
        || !labels_fit
    {
        return Err(Error::Usage(format!("{n} keys do not fit the features and labels")));
    }
    let longest = keys.iter().map(|key| key.chars().count()).max().unwrap_or(1);
    if let Some(key) = keys.iter().find(|key| key.is_empty() || longest > MAX_KEY && key.chars().count() == longest) {
        let shown: String = key.chars().take(60).collect();
        return Err(Error::Usage(format!("{shown:?} is not a valid clip key: 1 to {MAX_KEY} characters are allowed")));
    }
    let rows = n as u64;
    let write = |part: &Path| -> io::Result<()> {
        let mut npz = NpzWriter::new(BufWriter::new(File::create(part)?));
        let shape: Vec<u64> = [n, *instances].iter().chain(instance).map(|&d| d as u64).collect();
        match values {
            FeatureValues::U8(bytes) => npz.array("X", "<i8", &shape, int64(bytes.iter().map(|&v| v.into())))?,
            FeatureValues::F16(map) => npz.array("X", "<f2", &shape, map.pieces().flatten().copied())?,
            FeatureValues::F32(floats) => npz.array("X", "<f4", &shape, floats.iter().flat_map(|v| v.to_le_bytes()))?,
        }
        if let Some(FeatureValues::F16(map)) = spectrum {
            let shape = [rows, *instances as u64, (map.bytes().len() / 2 / (n * instances)) as u64];
            npz.array(SPECTRUM, "<f2", &shape, map.pieces().flatten().copied())?;
        }
        if let Some((targets, observed)) = labels {
            let shape = [rows, k as u64];
            let relevance = targets.iter().zip(observed).map(|(&t, &o)| if o { f64::from(t) } else { 0.5 });
            npz.array("Y_true", "<f8", &shape, relevance.flat_map(f64::to_le_bytes))?;
            npz.array("Y_mask", "|b1", &shape, observed.iter().map(|&o| o.into()))?;
        }
        let units = keys.iter().flat_map(|key| key.chars().chain(std::iter::repeat('\0')).take(longest));
        let units = units.flat_map(|c| u32::from(c).to_le_bytes());
        npz.array("sample_key", &format!("<U{longest}"), &[rows], units)?;
        if lengths.iter().any(|&length| length as usize != *instances) {
            npz.array(LENGTHS, "<i8", &[rows], int64(lengths.iter().map(|&v| v.into())))?;
        }
        if let Some(note) = note {
            npz.array(NOTE, "|u1", &[note.len() as u64], note.bytes())?;
        }
        npz.finish()?.into_inner()?.flush()
    };
    write_path_atomic(path, |part| write(part).map_err(Error::io(path)))
}

fn int64(values: impl Iterator<Item = i64>) -> impl Iterator<Item = u8> {
    values.flat_map(i64::to_le_bytes)
}

/// The note of [`write_npz`] in a file; `None` without one.
///
/// # Errors
/// `Io` and `Data` if the file is not a valid npz, or its note is not text of at most a megabyte.
pub fn npz_note(path: impl AsRef<Path>) -> Result<Option<String>> {
    read_note(&mut Npz::open(path.as_ref())?)
}

fn read_note(npz: &mut Npz) -> Result<Option<String>> {
    if !npz.contains(NOTE) {
        return Ok(None);
    }
    let member = npz.member(NOTE)?;
    let unfit = member.error(format!("is not text of at most {MAX_NOTE} bytes"));
    if member.shape().len() != 1 || member.shape()[0] > MAX_NOTE || member.is_float() {
        return Err(unfit);
    }
    let mut bytes = vec![];
    member.numbers(|_, value| {
        // Values outside u8 become a byte that is invalid in UTF-8.
        bytes.push(if (0.0..256.0).contains(&value) { value as u8 } else { 0xff });
        Ok(())
    })?;
    String::from_utf8(bytes).map(Some).map_err(|_| unfit)
}
