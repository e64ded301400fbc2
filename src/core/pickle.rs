//! Pickles without Python: the arrays and lists of strings that numpy writes, and the tensors of PyTorch.
//!
//! A pickle is a program. A general reader would build whatever it describes: eight bytes can double a list, a megabyte
//! of marks can request gigabytes, and globals name code to call. This reader knows only the opcodes that numpy and
//! PyTorch emit (protocols 2 to 5) and the globals that its caller allows; it calls nothing, and its memory is
//! proportional to the bytes read.

use std::collections::HashMap;
use std::rc::Rc;

/// Objects within objects.
const MAX_DEPTH: u8 = 16;
/// Globals that an array of numpy needs.
pub(crate) const NUMPY: [(&str, &str); 5] = [
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"), // how protocol 2 spells bytes, of Latin-1
];
/// Longest name of a global.
const MAX_NAME: usize = 1024;

/// What a pickle may contain.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Modules and names.
    pub globals: &'static [(&'static str, &'static str)],
    /// Most bytes of a string.
    pub string: usize,
    /// Most opcodes, and so values, of up to about 100 bytes each.
    pub opcodes: usize,
}

#[derive(Clone)]
pub(crate) enum Value {
    Mark,
    Int(i64),
    Bool(bool),
    Str(Rc<str>),
    Bytes(Rc<[u8]>),
    /// The name without the module.
    Global(&'static str),
    List(Items),
    /// Keys and values in turn.
    Dict(Items),
    Tuple(Rc<Items>),
    /// A callable, its arguments and the state that the object is given.
    Object(Rc<Items>),
    /// The reference of something stored outside of the pickle.
    Reference(Rc<Items>),
    /// None, floating-point and large numbers.
    Other,
}

/// Values of a value that are themselves nested so deep.
#[derive(Clone, Default)]
pub(crate) struct Items {
    values: Vec<Value>,
    depth: u8,
}

impl std::ops::Deref for Items {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.values
    }
}

impl Items {
    fn new(values: Vec<Value>) -> Result<Items, String> {
        let mut items = Items::default();
        items.extend(values)?;
        Ok(items)
    }

    fn extend(&mut self, values: Vec<Value>) -> Result<(), String> {
        let deepest = values.iter().map(|value| value.depth() + 1).max().unwrap_or(0);
        self.depth = self.depth.max(deepest);
        self.values.extend(values);
        if self.depth > MAX_DEPTH { Err("its objects are nested too deep".into()) } else { Ok(()) }
    }
}

impl Value {
    fn depth(&self) -> u8 {
        match self {
            Value::List(items) | Value::Dict(items) => items.depth,
            Value::Tuple(items) | Value::Object(items) | Value::Reference(items) => items.depth,
            _ => 0,
        }
    }

    pub fn int(&self) -> Option<i64> {
        if let Value::Int(value) = self { Some(*value) } else { None }
    }

    pub fn str(&self) -> Option<&str> {
        if let Value::Str(text) = self { Some(text) } else { None }
    }

    pub fn tuple(&self) -> Option<&[Value]> {
        if let Value::Tuple(items) = self { Some(items) } else { None }
    }

    /// The arguments of an object that this callable makes, and its state.
    pub fn object(&self, callable: &str) -> Option<(&[Value], Option<&Value>)> {
        let Value::Object(items) = self else { return None };
        match (&items[0], items[1].tuple()) {
            (Value::Global(name), Some(arguments)) if *name == callable => Some((arguments, items.get(2))),
            _ => None,
        }
    }
}

/// Reads a pickle at the start of `bytes`; also returns its length.
/// The error is a reason without a path, such as `it names the global os.system`.
pub(crate) fn read(bytes: &[u8], limits: Limits) -> Result<(Value, usize), String> {
    let mut machine = Machine { rest: bytes, limits, stack: Vec::new(), memo: HashMap::new() };
    let value = machine.run()?;
    Ok((value, bytes.len() - machine.rest.len()))
}

struct Machine<'a> {
    rest: &'a [u8],
    limits: Limits,
    stack: Vec<Value>,
    memo: HashMap<usize, Value>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Value, String> {
        for _ in 0..self.limits.opcodes {
            match self.take(1)?[0] {
                b'.' => return self.pop(),
                0x80 => drop(self.take(1)?), // PROTO
                0x95 => drop(self.take(8)?), // FRAME
                b'(' => self.stack.push(Value::Mark),
                b'N' => self.stack.push(Value::Other),
                0x88 => self.stack.push(Value::Bool(true)),
                0x89 => self.stack.push(Value::Bool(false)),
                b'K' => self.int(1)?, // BININT1
                b'M' => self.int(2)?, // BININT2
                b'J' => {
                    let value = self.take(4)?; // BININT
                    self.stack.push(Value::Int(i32::from_le_bytes(value.try_into().expect("four bytes")).into()))
                }
                0x8a => {
                    let length = self.length(1)?; // LONG1
                    let value = self.take(length)?;
                    self.stack.push(long(value))
                }
                b'G' => {
                    self.take(8)?; // BINFLOAT
                    self.stack.push(Value::Other)
                }
                b'C' => self.bytes(1)?,  // SHORT_BINBYTES
                b'B' => self.bytes(4)?,  // BINBYTES
                0x8e => self.bytes(8)?,  // BINBYTES8
                0x8c => self.string(1)?, // SHORT_BINUNICODE
                b'X' => self.string(4)?, // BINUNICODE
                0x8d => self.string(8)?, // BINUNICODE8
                b']' => self.stack.push(Value::List(Items::default())),
                b'}' => self.stack.push(Value::Dict(Items::default())),
                b')' => self.tuple(vec![])?,
                b'a' => {
                    let item = self.pop()?; // APPEND
                    self.append(vec![item])?
                }
                b'e' => {
                    let items = self.pop_to_mark()?; // APPENDS
                    self.append(items)?
                }
                b's' => {
                    let items = self.pop_many(2)?; // SETITEM
                    self.set(items)?
                }
                b'u' => {
                    let items = self.pop_to_mark()?; // SETITEMS
                    self.set(items)?
                }
                code @ 0x85..=0x87 => {
                    let items = self.pop_many(usize::from(code - 0x84))?; // TUPLE1, TUPLE2, TUPLE3
                    self.tuple(items)?
                }
                b't' => {
                    let items = self.pop_to_mark()?; // TUPLE
                    self.tuple(items)?
                }
                b'R' => {
                    let call = self.pop_many(2)?; // REDUCE
                    // Nothing is called.
                    self.stack.push(match call[..] {
                        [Value::Global("OrderedDict"), Value::Tuple(_)] => Value::Dict(Items::default()),
                        // Lists and dicts are not shared: an object of one would be copied with it.
                        [Value::Global(_), Value::Tuple(_)] => Value::Object(Rc::new(Items::new(call)?)),
                        _ => return Err("it calls something that is not a function".into()),
                    })
                }
                b'b' => self.build()?,
                b'Q' => {
                    let id = self.pop()?; // BINPERSID
                    self.stack.push(Value::Reference(Rc::new(Items::new(vec![id])?)))
                }
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
                    (Value::Str(name), Value::Str(module)) => self.global(&module, &name)?, // STACK_GLOBAL
                    _ => return Err("it names a global by something that is not a string".into()),
                },
                opcode => {
                    return Err(format!("it uses pickle opcode 0x{opcode:02x}, which neither numpy nor PyTorch needs"));
                }
            }
        }
        Err(format!("it has more than {} opcodes", self.limits.opcodes))
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
        Ok(String::from_utf8_lossy(&line[..end.min(MAX_NAME)]).into_owned())
    }

    fn int(&mut self, width: usize) -> Result<(), String> {
        let value = self.length(width)?;
        self.stack.push(Value::Int(value as i64));
        Ok(())
    }

    fn bytes(&mut self, width: usize) -> Result<(), String> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        self.stack.push(Value::Bytes(bytes.into()));
        Ok(())
    }

    fn string(&mut self, width: usize) -> Result<(), String> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        if length > self.limits.string {
            return Err(format!("it has a string of {length} bytes"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "it has a string that is not UTF-8")?;
        self.stack.push(Value::Str(text.into()));
        Ok(())
    }

    fn tuple(&mut self, items: Vec<Value>) -> Result<(), String> {
        self.stack.push(Value::Tuple(Rc::new(Items::new(items)?)));
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(|| "it pops from an empty stack".into())
    }

    /// The top `count` values, the last of them on top.
    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, String> {
        let first = self.stack.len().checked_sub(count).ok_or("it pops from an empty stack")?;
        Ok(self.stack.split_off(first))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.stack.iter().rposition(|item| matches!(item, Value::Mark)).ok_or("it has no mark")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), String> {
        match self.stack.last_mut() {
            Some(Value::List(list)) => list.extend(items),
            _ => Err("it appends to something that is not a list".into()),
        }
    }

    fn set(&mut self, items: Vec<Value>) -> Result<(), String> {
        match self.stack.last_mut() {
            Some(Value::Dict(dict)) if items.len().is_multiple_of(2) => dict.extend(items),
            _ => Err("it sets items of something that is not a dict".into()),
        }
    }

    /// Gives the object below the top its state. The attributes of a dict do not matter.
    fn build(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        let object = match self.pop()? {
            Value::Object(object) => {
                let mut items = vec![object[0].clone(), object[1].clone()];
                items.push(state);
                Value::Object(Rc::new(Items::new(items)?))
            }
            dict @ Value::Dict(_) => dict,
            _ => return Err("it gives a state to something that is not an object".into()),
        };
        self.stack.push(object);
        Ok(())
    }

    /// Memoises the top of the stack under an index of `width` bytes (0: the next one). Lists and dicts are memoised
    /// while they are empty, and never recalled.
    fn memoise(&mut self, width: usize) -> Result<(), String> {
        let index = if width == 0 { self.memo.len() } else { self.length(width)? };
        let item = match self.stack.last() {
            Some(Value::List(_) | Value::Dict(_) | Value::Mark) => Value::Other,
            Some(item) => item.clone(),
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
        let known = self.limits.globals.iter().find(|global| **global == (module, name));
        let (_, name) = known.ok_or_else(|| {
            let shorten = |text: &str| text.chars().take(100).collect::<String>().escape_debug().to_string();
            format!("it names the global {}.{}", shorten(module), shorten(name))
        })?;
        self.stack.push(Value::Global(name));
        Ok(())
    }
}

/// A little-endian signed number, if it fits 64 bits.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Other;
    }
    let sign = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut all = [if sign { 0xff } else { 0 }; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(all))
}
