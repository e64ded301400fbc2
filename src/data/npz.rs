//! Reads and writes `.npz` archives (zips of `.npy` arrays) as streams, without trusting their declarations.

use super::mapped::Mapped;
use super::pickled_strings;
use crate::core::error::{Error, Result};
use crate::core::files::open_file;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar, TypeStr, WriterBuilder};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use zip::read::ZipFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// Deflate reaches 1032:1 on zeros; features and labels stay below about 20:1.
const MAX_RATIO: u64 = 100;
/// Members up to this many bytes may have any compression ratio.
const RATIO_FREE: u64 = 64 << 20;
const MAX_HEADER: usize = 4096;
const CHUNK: usize = 1 << 16;

/// An open archive.
pub(super) struct Npz {
    path: PathBuf,
    zip: ZipArchive<BufReader<File>>,
    length: u64,
}

/// One array of an archive, read up to the end of its header, which has been checked against the size in the zip.
pub(super) struct Member<'a> {
    path: &'a Path,
    name: String,
    shape: Vec<usize>,
    dtype: TypeStr,
    count: usize,
    /// Bytes after the header.
    payload: u64,
    reader: ZipFile<'a, BufReader<File>>,
}

impl Npz {
    /// Opens an archive. Fails on anything that is not a zip with a complete directory at its end.
    pub fn open(path: &Path) -> Result<Npz> {
        let file = open_file(path)?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        let zip = ZipArchive::new(BufReader::new(file))
            .map_err(|e| Error::data(path, format!("is not a valid npz archive ({e}); download or write it again")))?;
        Ok(Npz { path: path.into(), zip, length })
    }

    /// Whether the archive holds an array of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.zip.index_for_name(&npyz::npz::file_name_from_array_name(name)).is_some()
    }

    /// An error about the array `name`.
    pub fn error(&self, name: &str, reason: String) -> Error {
        Error::data(&self.path, format!("{name}.npy {reason}"))
    }

    /// Opens the array `name`.
    pub fn member(&mut self, name: &str) -> Result<Member<'_>> {
        let Npz { path, zip, length } = self;
        let fail = |reason: String| Error::data(&*path, format!("{name}.npy {reason}"));
        if zip.index_for_name(&npyz::npz::file_name_from_array_name(name)).is_none() {
            let names: Vec<_> =
                zip.file_names().take(8).filter_map(|n| Some(n.ok()?.escape_debug().to_string())).collect();
            return Err(Error::data(&*path, format!("has no array {name} (it has {})", names.join(", "))));
        }
        let mut reader = zip
            .by_name(&npyz::npz::file_name_from_array_name(name))
            .map_err(|e| fail(format!("cannot be read ({e}); write the archive again with np.savez")))?;
        let (size, packed) = (reader.size(), reader.compressed_size());
        if packed > *length || size > RATIO_FREE && size / MAX_RATIO > packed {
            return Err(fail(format!("claims to unpack from {packed} to {size} bytes: this looks like a zip bomb")));
        }
        let (header, header_size) = read_header(&mut reader).map_err(fail)?;
        let DType::Plain(dtype) = header.dtype() else {
            return Err(fail("is a structured array; a plain one is expected".into()));
        };
        if header.order() == Order::Fortran {
            return Err(fail("is in Fortran order; save it again through np.ascontiguousarray".into()));
        }
        let invalid = || fail(format!("has an impossible shape {:?}", header.shape()));
        let shape: Vec<usize> =
            header.shape().iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>().map_err(|_| invalid())?;
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(invalid)?;
        let payload = size.checked_sub(header_size).ok_or_else(|| fail("is truncated".into()))?;
        if let Some(width) = dtype.num_bytes() {
            let expected = (count as u64).checked_mul(width as u64).ok_or_else(invalid)?;
            if expected != payload {
                return Err(fail(format!(
                    "has a header for {expected} bytes of shape {:?}, but {payload} bytes of data: it is damaged",
                    shape
                )));
            }
        }
        Ok(Member { path, name: name.into(), shape, dtype, count, payload, reader })
    }
}

impl Member<'_> {
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The archive.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// Name in the archive, without `.npy`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the elements are floating-point numbers.
    pub(crate) fn is_float(&self) -> bool {
        self.dtype.type_char() == TypeChar::Float
    }

    /// Whether the elements are 16-bit floating-point numbers as this machine's files have them, little-endian.
    pub(crate) fn is_half(&self) -> bool {
        self.is_float() && self.dtype.num_bytes() == Some(2) && self.dtype.endianness() == Endianness::Little
    }

    /// Maps the elements, as stored in the archive.
    pub fn mapped(self) -> Result<Mapped> {
        let at = self.reader.data_start().filter(|_| self.reader.compression() == CompressionMethod::Stored);
        let Some(at) = at else {
            return Err(self.error("is compressed; write the archive again with np.savez".into()));
        };
        Mapped::open(self.path, at + self.reader.size() - self.payload, self.payload)
    }

    /// Streams an array of numbers in row-major order through `each(index, value)`.
    /// Integers beyond 2^53 arrive rounded. Fails on other dtypes and on damaged data.
    pub fn numbers(mut self, mut each: impl FnMut(usize, f64) -> Result<()>) -> Result<()> {
        let (width, decode) = decoder(&self.dtype)
            .ok_or_else(|| self.error(format!("has dtype {}; bool, integers or floats are expected", self.dtype)))?;
        let mut chunk = vec![0; CHUNK];
        let mut index = 0;
        while index < self.count {
            let bytes = &mut chunk[..width * (self.count - index).min(CHUNK / width)];
            self.fill(bytes)?;
            for value in bytes.chunks_exact_mut(width) {
                if self.dtype.endianness() == Endianness::Big {
                    value.reverse();
                }
                each(index, decode(value))?;
                index += 1;
            }
        }
        self.finish()
    }

    /// Reads a one-dimensional array of strings: fixed-width unicode or bytes, or pickled objects (see
    /// [`pickled_strings`]).
    pub fn strings(mut self) -> Result<Vec<String>> {
        const MAX_WIDTH: usize = 4096;
        if self.shape.len() != 1 {
            return Err(self.error(format!("has shape {:?}; one string per clip is expected", self.shape)));
        }
        let unit = match self.dtype.type_char() {
            TypeChar::Object => return self.objects(),
            TypeChar::UnicodeStr => 4,
            TypeChar::ByteStr => 1,
            _ => return Err(self.error(format!("has dtype {}; strings are expected", self.dtype))),
        };
        let width = self.dtype.num_bytes().filter(|&w| w <= MAX_WIDTH);
        let width = width.ok_or_else(|| self.error(format!("has dtype {}, too wide for clip keys", self.dtype)))?;
        if width == 0 {
            return Err(self.error("has empty strings only".into()));
        }
        let mut strings = Vec::new();
        let mut bytes = vec![0; width];
        for row in 0..self.count {
            self.fill(&mut bytes)?;
            let text = match (unit, self.dtype.endianness()) {
                (1, _) => std::str::from_utf8(&bytes).ok().map(String::from),
                (_, Endianness::Big) => bytes
                    .chunks_exact(4)
                    .map(|c| char::from_u32(u32::from_be_bytes([c[0], c[1], c[2], c[3]])))
                    .collect(),
                _ => bytes
                    .chunks_exact(4)
                    .map(|c| char::from_u32(u32::from_le_bytes([c[0], c[1], c[2], c[3]])))
                    .collect(),
            };
            let text = text.ok_or_else(|| self.error(format!("row {row} is not a valid string")))?;
            strings.push(text.trim_end_matches('\0').to_string());
        }
        self.finish()?;
        Ok(strings)
    }

    fn objects(mut self) -> Result<Vec<String>> {
        const MAX_BYTES_PER_STRING: u64 = 1100;
        if self.payload / MAX_BYTES_PER_STRING > self.count as u64 + 16 {
            return Err(self.error(format!("has {} bytes for {} strings: too many", self.payload, self.count)));
        }
        let mut bytes = Vec::new();
        self.reader.by_ref().take(self.payload).read_to_end(&mut bytes).map_err(|e| self.damaged(e))?;
        let strings = pickled_strings::read_strings(&bytes).map_err(|reason| {
            self.error(format!("is a pickle that is not accepted: {reason}; only plain strings are"))
        })?;
        if strings.len() != self.count {
            return Err(self.error(format!("has {} strings, but its header says {}", strings.len(), self.count)));
        }
        self.finish()?;
        Ok(strings)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.reader.read_exact(bytes).map_err(|e| self.damaged(e))
    }

    /// Reads to the end, where the zip's checksum is verified.
    fn finish(mut self) -> Result<()> {
        match self.reader.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.error("has extra data after its last element: it is damaged".into())),
            Err(e) => Err(self.damaged(e)),
        }
    }

    /// An error about this array.
    pub fn error(&self, reason: String) -> Error {
        Error::data(self.path, format!("{}.npy {reason}", self.name))
    }

    fn damaged(&self, source: io::Error) -> Error {
        self.error(format!("is damaged or truncated ({source}); download or write the archive again"))
    }
}

/// Reads the header of an `.npy` and returns it with its size in bytes. Its text is checked before parsing: its length,
/// nesting (the parser recurses) and number of digits (sizes are multiplied).
fn read_header(reader: &mut impl Read) -> Result<(NpyHeader, u64), String> {
    let damaged = |e: io::Error| format!("is not a valid npy array ({e})");
    let mut bytes = vec![0; 8];
    reader.read_exact(&mut bytes).map_err(damaged)?;
    let width = if bytes[6] == 1 { 2 } else { 4 };
    bytes.resize(8 + width, 0);
    reader.read_exact(&mut bytes[8..]).map_err(damaged)?;
    let length = bytes[8..].iter().rev().fold(0usize, |n, &b| n << 8 | usize::from(b));
    if !bytes.starts_with(b"\x93NUMPY") || length > MAX_HEADER {
        return Err("does not start with the npy magic string".into());
    }
    let start = bytes.len();
    bytes.resize(start + length, 0);
    reader.read_exact(&mut bytes[start..]).map_err(damaged)?;

    let text = &bytes[start..];
    let shown =
        || String::from_utf8_lossy(text).trim().chars().take(120).collect::<String>().escape_debug().to_string();
    let count = |wanted: fn(u8) -> bool| text.iter().filter(|&&b| wanted(b)).count();
    // Decimal sizes of at most 19 digits in all have a product below 10^19 < 2^64.
    if count(|b| b.is_ascii_digit()) > 19 || text.windows(2).any(|w| w[0] == b'0' && w[1].is_ascii_alphabetic()) {
        return Err(format!("has an impossible shape: {}", shown()));
    }
    if count(|b| matches!(b, b'(' | b'[' | b'{')) > 4 {
        return Err("is a structured array; a plain one is expected".into());
    }
    let header = NpyHeader::from_reader(&bytes[..]).map_err(|_| format!("has an unreadable header: {}", shown()))?;
    Ok((header, bytes.len() as u64))
}

type Decode = fn(&[u8]) -> f64;

/// The width in bytes of a numeric dtype and how to read one little-endian element of it.
fn decoder(dtype: &TypeStr) -> Option<(usize, Decode)> {
    /// The first `N` bytes. The caller hands over exactly one element.
    fn take<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().expect("one element")
    }
    let decode: Decode = match (dtype.type_char(), dtype.size_field()) {
        (TypeChar::Bool | TypeChar::Uint, 1) => |b| b[0].into(),
        (TypeChar::Uint, 2) => |b| u16::from_le_bytes(take(b)).into(),
        (TypeChar::Uint, 4) => |b| u32::from_le_bytes(take(b)).into(),
        (TypeChar::Uint, 8) => |b| u64::from_le_bytes(take(b)) as f64,
        (TypeChar::Int, 1) => |b| i8::from_le_bytes(take(b)).into(),
        (TypeChar::Int, 2) => |b| i16::from_le_bytes(take(b)).into(),
        (TypeChar::Int, 4) => |b| i32::from_le_bytes(take(b)).into(),
        (TypeChar::Int, 8) => |b| i64::from_le_bytes(take(b)) as f64,
        (TypeChar::Float, 2) => |b| half::f16::from_le_bytes(take(b)).to_f64(),
        (TypeChar::Float, 4) => |b| f32::from_le_bytes(take(b)).into(),
        (TypeChar::Float, 8) => |b| f64::from_le_bytes(take(b)),
        _ => return None,
    };
    Some((dtype.size_field() as usize, decode))
}

/// Writes an uncompressed archive, as `np.savez` does, with a fixed time stamp: the same arrays give the same bytes.
pub(super) struct NpzWriter<W: Write + Seek>(ZipWriter<Guarded<W>>);

/// After an error it accepts everything: a `ZipWriter` that is dropped tries to finish the archive, and prints on
/// stderr that it cannot.
struct Guarded<W> {
    inner: W,
    failed: bool,
}

impl<W> Guarded<W> {
    fn guard<T>(&mut self, otherwise: T, work: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.failed {
            return Ok(otherwise);
        }
        let done = work(&mut self.inner);
        self.failed = done.is_err();
        done
    }
}

impl<W: Write> Write for Guarded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.guard(bytes.len(), |inner| inner.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.guard((), Write::flush)
    }
}

impl<W: Seek> Seek for Guarded<W> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.guard(0, |inner| inner.seek(to))
    }
}

impl<W: Write + Seek> NpzWriter<W> {
    pub fn new(writer: W) -> Self {
        NpzWriter(ZipWriter::new(Guarded { inner: writer, failed: false }))
    }

    /// Appends an array: `dtype` as numpy spells it (`<i8`), then the bytes of its elements in row-major order.
    pub fn array(&mut self, name: &str, dtype: &str, shape: &[u64], bytes: impl Iterator<Item = u8>) -> io::Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .large_file(true);
        self.0.start_file(npyz::npz::file_name_from_array_name(name), options)?;
        let dtype = DType::Plain(dtype.parse().expect("a dtype written in this crate"));
        npyz::WriteOptions::new_header_only().dtype(dtype).shape(shape).writer(&mut self.0).write_header_only()?;
        let mut buffered = io::BufWriter::with_capacity(CHUNK, &mut self.0);
        for byte in bytes {
            buffered.write_all(&[byte])?;
        }
        buffered.flush()
    }

    pub fn finish(self) -> io::Result<W> {
        Ok(self.0.finish()?.inner)
    }
}

/// Whether `path` is an npz with an array `name`.
pub(crate) fn has_array(path: &Path, name: &str) -> bool {
    Npz::open(path).is_ok_and(|npz| npz.contains(name))
}

/// Reads the array `name` of an npz, which must have `len` elements, in any shape.
///
/// # Errors
/// `Data` if there is none, or of another size.
pub(crate) fn read_array(path: &Path, name: &str, len: usize) -> Result<Vec<f64>> {
    let mut npz = Npz::open(path)?;
    let member = npz.member(name)?;
    if member.shape().iter().product::<usize>() != len {
        return Err(member.error(format!("has shape {:?}; {len} elements are expected", member.shape())));
    }
    let mut values = Vec::with_capacity(len);
    member.numbers(|_, value| {
        values.push(value);
        Ok(())
    })?;
    Ok(values)
}
