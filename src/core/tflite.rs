//! Models of TensorFlow Lite: the operators of a graph and its constant tensors, of floats or in 8 bits.
//!
//! A file is a FlatBuffer, tables that point to each other. Hostile until parsed: every offset and length is checked
//! against the file where it is followed, numbers of tables are limited, and nothing is allocated for a tensor before
//! its size is known to be the one that is wanted.

use half::f16;

/// How a file is marked, from its fifth byte on.
const IDENTIFIER: &[u8] = b"TFL3";
/// Bytes that show it.
pub(crate) const START: usize = 8;
/// Most tensors, buffers and operators.
const MAX_TABLES: usize = 1 << 14;
/// Most inputs or outputs of an operator, and axes of a tensor.
const MAX_ITEMS: usize = 64;

type Result<T> = std::result::Result<T, String>;

/// Operators, by their numbers in the format.
pub mod code {
    pub const CONV_2D: i32 = 3;
    pub const DEPTHWISE_CONV_2D: i32 = 4;
    pub const DEQUANTIZE: i32 = 6;
    pub const FULLY_CONNECTED: i32 = 9;
    pub const MEAN: i32 = 40;
}

/// Types of elements, by their numbers in the format.
mod element {
    pub const FLOAT32: u8 = 0;
    pub const FLOAT16: u8 = 1;
    pub const INT8: u8 = 9;
}

/// Whether a file begins as a model does.
pub(crate) fn is_tflite(start: &[u8]) -> bool {
    start.get(4..START) == Some(IDENTIFIER)
}

/// A table: fields are numbers in it, or offsets to what is elsewhere.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The table of the fields' places: 16 bits each, 0 for one that is missing.
    fields: &'a [u8],
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let found = at.checked_add(N).and_then(|end| bytes.get(at..end)).and_then(|found| found.try_into().ok());
    found.ok_or_else(|| "an offset leads out of the file".to_owned())
}

/// Where the offset at `at` leads.
fn follow(bytes: &[u8], at: usize) -> Result<usize> {
    let offset = u32::from_le_bytes(array(bytes, at)?) as usize;
    at.checked_add(offset).filter(|to| *to < bytes.len()).ok_or_else(|| "an offset leads out of the file".to_owned())
}

impl<'a> Table<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Result<Table<'a>> {
        let back = i32::from_le_bytes(array(bytes, at)?);
        let fields = at.checked_add_signed(-(back as isize)).ok_or("an offset leads out of the file")?;
        let length = usize::from(u16::from_le_bytes(array(bytes, fields)?));
        let fields = fields.checked_add(length).and_then(|end| bytes.get(fields..end));
        let fields = fields.and_then(|fields| fields.get(4..)).ok_or("a table is larger than the file")?;
        Ok(Table { bytes, at, fields })
    }

    /// Where a field is, if the table has it.
    fn place(&self, field: usize) -> Option<usize> {
        let offset = u16::from_le_bytes(array(self.fields, 2 * field).ok()?);
        (offset > 0).then(|| self.at.saturating_add(offset.into()))
    }

    fn number<const N: usize>(&self, field: usize) -> Result<Option<[u8; N]>> {
        self.place(field).map(|at| array(self.bytes, at)).transpose()
    }

    /// A field of 8 bits, 0 if it is missing.
    ///
    /// # Errors
    /// A line if it is not in the file.
    pub fn byte(&self, field: usize) -> Result<u8> {
        Ok(self.number::<1>(field)?.map_or(0, |[byte]| byte))
    }

    /// A field of 32 bits, `default` if it is missing.
    ///
    /// # Errors
    /// A line if it is not in the file.
    pub fn int(&self, field: usize, default: i32) -> Result<i32> {
        Ok(self.number(field)?.map_or(default, i32::from_le_bytes))
    }

    fn table(&self, field: usize) -> Result<Option<Table<'a>>> {
        self.place(field).map(|at| Table::new(self.bytes, follow(self.bytes, at)?)).transpose()
    }

    /// The elements of a vector, of `N` bytes each; none if it is missing.
    fn vector<const N: usize>(&self, field: usize) -> Result<&'a [[u8; N]]> {
        let Some(at) = self.place(field) else { return Ok(&[]) };
        let at = follow(self.bytes, at)?;
        let length = u32::from_le_bytes(array(self.bytes, at)?) as usize;
        let end = length.checked_mul(N).and_then(|size| size.checked_add(at)?.checked_add(4));
        let found = end.and_then(|end| self.bytes.get(at + 4..end));
        Ok(found.ok_or("a vector is longer than the file")?.as_chunks().0)
    }

    fn ints(&self, field: usize) -> Result<Vec<i32>> {
        let values = self.vector::<4>(field)?;
        match values.len() <= MAX_ITEMS {
            true => Ok(values.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()),
            false => Err(format!("it has a list of {} items", values.len())),
        }
    }

    fn tables(&self, field: usize) -> Result<Vec<Table<'a>>> {
        let Some(at) = self.place(field) else { return Ok(vec![]) };
        let first = follow(self.bytes, at)?.saturating_add(4);
        let count = self.vector::<4>(field)?.len();
        match count <= MAX_TABLES {
            true => (0..count).map(|i| Table::new(self.bytes, follow(self.bytes, first + 4 * i)?)).collect(),
            false => Err(format!("it has a list of {count} tables")),
        }
    }
}

/// An operator: what it does, the numbers of its tensors, and its options.
pub struct Operator<'a> {
    pub code: i32,
    pub inputs: Vec<i32>,
    pub outputs: Vec<i32>,
    pub options: Option<Table<'a>>,
}

/// A model's first graph.
pub struct Model<'a> {
    tensors: Vec<Table<'a>>,
    buffers: Vec<Table<'a>>,
    /// In the order in which they run.
    pub operators: Vec<Operator<'a>>,
}

impl<'a> Model<'a> {
    /// # Errors
    /// A line for what is damaged, or not a model.
    pub fn parse(bytes: &'a [u8]) -> Result<Model<'a>> {
        if !is_tflite(bytes) {
            return Err(format!("it is not marked {:?}", String::from_utf8_lossy(IDENTIFIER)));
        }
        let root = Table::new(bytes, follow(bytes, 0)?)?;
        let codes = root.tables(1)?;
        let graph = root.tables(2)?.into_iter().next().ok_or("it has no graph")?;
        let operator = |table: Table<'a>| {
            let index = usize::try_from(table.int(0, 0)?).ok();
            let code = index.and_then(|index| codes.get(index)).ok_or("an operator has no code")?;
            // Small numbers are in the older field.
            let code = code.int(3, 0)?.max(code.byte(0)?.into());
            Ok(Operator { code, inputs: table.ints(1)?, outputs: table.ints(2)?, options: table.table(4)? })
        };
        Ok(Model {
            tensors: graph.tables(0)?,
            buffers: root.tables(4)?,
            operators: graph.tables(3)?.into_iter().map(operator).collect::<Result<_>>()?,
        })
    }

    fn tensor(&self, index: i32) -> Result<Table<'a>> {
        let found = usize::try_from(index).ok().and_then(|index| self.tensors.get(index));
        found.copied().ok_or_else(|| format!("it has no tensor {index}"))
    }

    /// The values of a constant tensor, which must have `shape`: floats, or 8 bits with a scale for all or for each
    /// index of an axis.
    ///
    /// # Errors
    /// A line for another shape or type, missing or superfluous data, scales that do not fit, and values that are not
    /// finite.
    pub fn floats(&self, index: i32, shape: &[usize]) -> Result<Vec<f32>> {
        let made_by = self.operators.iter().find(|op| op.outputs == [index]);
        let index = match made_by {
            Some(Operator { code: code::DEQUANTIZE, inputs, .. }) if inputs.len() == 1 => inputs[0],
            Some(_) => return Err(format!("tensor {index} is not a constant")),
            None => index,
        };
        let tensor = self.tensor(index)?;
        let found = tensor.ints(0)?;
        if !found.iter().map(|size| usize::try_from(*size).ok()).eq(shape.iter().map(|size| Some(*size))) {
            return Err(format!("tensor {index} is {found:?}, expected {shape:?}"));
        }
        let buffer = usize::try_from(tensor.int(2, 0)?).ok().and_then(|buffer| self.buffers.get(buffer));
        let data = buffer.ok_or_else(|| format!("tensor {index} has no buffer"))?.vector::<1>(0)?.as_flattened();
        let (kind, count) = (tensor.byte(1)?, shape.iter().product::<usize>());
        let size = match kind {
            element::FLOAT32 => 4,
            element::FLOAT16 => 2,
            element::INT8 => 1,
            _ => return Err(format!("tensor {index} is of type {kind}: neither floats nor 8 bits")),
        };
        if data.len() != count * size {
            return Err(format!("tensor {index} has {} bytes of data, expected {}", data.len(), count * size));
        }
        let values: Vec<f32> = match kind {
            element::FLOAT32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            element::FLOAT16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            _ => dequantised(&tensor, data, shape).map_err(|reason| format!("tensor {index} {reason}"))?,
        };
        match values.iter().find(|v| !v.is_finite()) {
            Some(v) => Err(format!("tensor {index} holds {v}")),
            None => Ok(values),
        }
    }
}

/// (value - zero point) x scale.
fn dequantised(tensor: &Table, data: &[u8], shape: &[usize]) -> Result<Vec<f32>> {
    let about = tensor.table(4)?.ok_or("has no scale")?;
    let scales: Vec<f32> = about.vector(2)?.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let zeros: Vec<i64> = about.vector(3)?.iter().map(|b| i64::from_le_bytes(*b)).collect();
    let axis = usize::try_from(about.int(6, 0)?).ok().filter(|axis| *axis < shape.len()).ok_or("has a wrong axis")?;
    let fits = (scales.len() == 1 || scales.len() == shape[axis]) && (zeros.is_empty() || zeros.len() == scales.len());
    if !fits {
        return Err(format!("has {} scales and {} zero points", scales.len(), zeros.len()));
    }
    let each: usize = shape[axis + 1..].iter().product();
    let value = |(i, byte): (usize, &u8)| {
        let channel = if scales.len() == 1 { 0 } else { i / each % shape[axis] };
        let zero = zeros.get(channel).copied().unwrap_or(0) as f32;
        (f32::from(*byte as i8) - zero) * scales[channel]
    };
    Ok(data.iter().enumerate().map(value).collect())
}
