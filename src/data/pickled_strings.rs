//! Object arrays of strings, as numpy pickles them.

use crate::core::pickle::{self, Limits, NUMPY, Value};

/// Strings longer than this are not clip keys.
const MAX_STRING: usize = 1024;
/// Two for a string.
const MAX_OPCODES: usize = 1 << 22;

/// Reads a pickled list or one-dimensional object array of plain strings.
/// The error is a reason without a path, such as `it names the global os.system`.
pub(super) fn read_strings(bytes: &[u8]) -> Result<Vec<String>, String> {
    let (value, _) = pickle::read(bytes, Limits { globals: &NUMPY, string: MAX_STRING, opcodes: MAX_OPCODES })?;
    let state = value.object("_reconstruct").and_then(|(_, state)| state?.tuple()).unwrap_or(&[]);
    let list = [&value].into_iter().chain(state).find_map(|value| match value {
        Value::List(items) => Some(items),
        _ => None,
    });
    let list = list.ok_or("it has no list of strings")?;
    let strings = list.iter().map(|item| item.str().map(str::to_owned));
    strings.collect::<Option<_>>().ok_or_else(|| "it has something other than plain strings".into())
}

/// Pickles a one-dimensional object array of strings, byte for byte as `np.save` of numpy 1 does (protocol 3),
/// which every numpy reads and which OpenMIC-2018 was published in. The strings must be distinct.
pub(super) fn write_strings(strings: &[String]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + 32 * strings.len());
    out.extend(
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02C\x01bq\x03\x87q\
          \x04Rq\x05(K\x01",
    );
    match strings.len() {
        n @ 0..=0xff => out.extend([b'K', n as u8]),
        n @ 0x100..=0xffff => out.extend([b'M', n as u8, (n >> 8) as u8]),
        n => {
            out.push(b'J');
            out.extend((n as u32).to_le_bytes());
        }
    }
    out.extend(
        b"\x85q\x06cnumpy\ndtype\nq\x07X\x02\0\0\0O8q\x08\x89\x88\x87q\x09Rq\x0a(K\x03X\x01\0\0\0|q\x0bNNNJ\
          \xff\xff\xff\xffJ\xff\xff\xff\xffK?tq\x0cb\x89]q\x0d",
    );
    let mut memo = 14u32;
    let mut memoise = |out: &mut Vec<u8>| {
        match u8::try_from(memo) {
            Ok(index) => out.extend([b'q', index]),
            Err(_) => {
                out.push(b'r');
                out.extend(memo.to_le_bytes());
            }
        }
        memo += 1;
    };
    for batch in strings.chunks(1000) {
        let (open, close): (&[u8], u8) = if batch.len() > 1 { (b"(", b'e') } else { (b"", b'a') };
        out.extend(open);
        for text in batch {
            out.push(b'X');
            out.extend((text.len() as u32).to_le_bytes());
            out.extend(text.as_bytes());
            memoise(&mut out);
        }
        out.push(close);
    }
    out.push(b't');
    memoise(&mut out);
    out.extend(b"b.");
    out
}
