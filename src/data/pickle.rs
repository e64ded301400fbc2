//! The only pickle in datasets: an object array (or list) of strings, as numpy writes it.
//!
//! A pickle is a program. A general reader would build whatever it describes: eight bytes can double a list, a megabyte
//! of marks can request gigabytes, and globals name code to call. This reader knows only the opcodes that numpy emits
//! (protocols 2 to 5) and the three globals that an object array needs; it calls nothing, and its memory is
//! proportional to the bytes read.

use std::collections::HashMap;
use std::rc::Rc;

/// Strings longer than this are not clip keys.
const MAX_STRING: usize = 1024;

const ALLOWED: [(&str, &str); 5] = [
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"), // how protocol 2 spells the bytes b'b', the type code of an empty array
];

/// Items on the stack. `Other` is everything whose value does not matter: numbers, dtypes, shapes.
#[derive(Clone)]
enum Item {
    Mark,
    Str(Rc<str>),
    List(Vec<Rc<str>>),
    Other,
}

/// Reads a pickled list or one-dimensional object array of plain strings.
/// The error is a reason without a path, such as `it names the global os.system`.
pub(super) fn read_strings(bytes: &[u8]) -> Result<Vec<String>, String> {
    let strings = Machine { rest: bytes, stack: Vec::new(), memo: HashMap::new() }.run()?;
    Ok(strings.iter().map(|s| s.to_string()).collect())
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Item>,
    memo: HashMap<usize, Item>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Vec<Rc<str>>, String> {
        loop {
            match self.take(1)?[0] {
                b'.' => match self.pop()? {
                    Item::List(strings) => return Ok(strings),
                    _ => return Err("it has no list of strings".into()),
                },
                0x80 => drop(self.take(1)?), // PROTO
                0x95 => drop(self.take(8)?), // FRAME
                b'(' => self.stack.push(Item::Mark),
                b'N' | 0x88 | 0x89 | b')' => self.other(0)?, // NONE, NEWTRUE, NEWFALSE, EMPTY_TUPLE
                b'K' => self.other(1)?,                      // BININT1
                b'M' => self.other(2)?,                      // BININT2
                b'J' => self.other(4)?,                      // BININT
                b'C' => {
                    let length = self.length(1)?; // SHORT_BINBYTES
                    self.other(length)?
                }
                0x8c => self.string(1)?, // SHORT_BINUNICODE
                b'X' => self.string(4)?, // BINUNICODE
                0x8d => self.string(8)?, // BINUNICODE8
                b']' => self.stack.push(Item::List(Vec::new())),
                b'a' => {
                    let item = self.pop()?; // APPEND
                    self.extend(vec![item])?
                }
                b'e' => {
                    let items = self.pop_to_mark()?; // APPENDS
                    self.extend(items)?
                }
                0x85 => self.combine(1)?, // TUPLE1
                0x86 => self.combine(2)?, // TUPLE2
                0x87 => self.combine(3)?, // TUPLE3
                b't' => {
                    let items = self.pop_to_mark()?; // TUPLE
                    self.stack.push(list_among(items)?)
                }
                // REDUCE: callable, arguments. BUILD: object, state. Nothing is called.
                b'R' | b'b' => self.combine(2)?,
                b'q' => self.memoise(1)?, // BINPUT
                b'r' => self.memoise(4)?, // LONG_BINPUT
                0x94 => self.memoise(0)?, // MEMOIZE
                b'h' => self.recall(1)?,  // BINGET
                b'j' => self.recall(4)?,  // LONG_BINGET
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?); // GLOBAL
                    self.global(&module, &name)?
                }
                0x93 => match (self.pop()?, self.pop()?) {
                    (Item::Str(name), Item::Str(module)) => self.global(&module, &name)?, // STACK_GLOBAL
                    _ => return Err("it names a global by something that is not a string".into()),
                },
                opcode => {
                    return Err(format!(
                        "it uses pickle opcode 0x{opcode:02x}, which an array of strings does not use"
                    ));
                }
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or("it ends too early")?;
        self.rest = rest;
        Ok(head)
    }

    /// A little-endian unsigned number of `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize, String> {
        let value = self.take(width)?.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        usize::try_from(value).map_err(|_| "it ends too early".into())
    }

    fn line(&mut self) -> Result<String, String> {
        let end = self.rest.iter().position(|&b| b == b'\n').ok_or("it ends too early")?;
        let line = self.take(end + 1)?;
        Ok(String::from_utf8_lossy(&line[..end.min(MAX_STRING)]).into_owned())
    }

    fn other(&mut self, operand: usize) -> Result<(), String> {
        self.take(operand)?;
        self.stack.push(Item::Other);
        Ok(())
    }

    fn string(&mut self, width: usize) -> Result<(), String> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        if length > MAX_STRING {
            return Err(format!("it has a string of {length} bytes"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "it has a string that is not UTF-8")?;
        self.stack.push(Item::Str(text.into()));
        Ok(())
    }

    fn pop(&mut self) -> Result<Item, String> {
        self.stack.pop().ok_or_else(|| "it pops from an empty stack".into())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Item>, String> {
        let mark = self.stack.iter().rposition(|item| matches!(item, Item::Mark)).ok_or("it has no mark")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn extend(&mut self, items: Vec<Item>) -> Result<(), String> {
        let Some(Item::List(list)) = self.stack.last_mut() else {
            return Err("it appends to something that is not a list".into());
        };
        for item in items {
            match item {
                Item::Str(text) => list.push(text),
                _ => return Err("it has something other than plain strings".into()),
            }
        }
        Ok(())
    }

    /// Replaces the top `count` items by what matters in them: the list of strings, if it is there.
    fn combine(&mut self, count: usize) -> Result<(), String> {
        let items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        self.stack.push(list_among(items)?);
        Ok(())
    }

    /// Memoises the top of the stack under an index of `width` bytes (0: the next one). A list is memoised while it is
    /// empty.
    fn memoise(&mut self, width: usize) -> Result<(), String> {
        let index = if width == 0 { self.memo.len() } else { self.length(width)? };
        let item = match self.stack.last() {
            Some(Item::Str(text)) => Item::Str(text.clone()),
            Some(_) => Item::Other,
            None => return Err("it memoises nothing".into()),
        };
        self.memo.insert(index, item);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<(), String> {
        let index = self.length(width)?;
        let item = self.memo.get(&index).cloned().ok_or("it recalls something that was not memoised")?;
        self.stack.push(item);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        if !ALLOWED.contains(&(module, name)) {
            return Err(format!("it names the global {}.{}", module.escape_debug(), name.escape_debug()));
        }
        self.other(0)
    }
}

fn list_among(items: Vec<Item>) -> Result<Item, String> {
    let mut lists = items.into_iter().filter(|item| matches!(item, Item::List(_)));
    match (lists.next(), lists.next()) {
        (list, None) => Ok(list.unwrap_or(Item::Other)),
        _ => Err("it has more than one list".into()),
    }
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
