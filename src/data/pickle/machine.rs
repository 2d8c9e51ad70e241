//! The stack machine that a pickle is a program for.

use std::collections::HashMap;

use super::node::{Id, NODES, Node};

/// Runs a pickle's operations, and collects the values they make.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    /// The next byte.
    pub at: usize,
    pub nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Stack heights at the open MARKs.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Machine {
            bytes,
            at: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    pub fn run(&mut self) -> Result<Id, String> {
        loop {
            let opcode = self.byte()?;
            match opcode {
                // PROTO, FRAME: nothing depends on them.
                0x80 => _ = self.byte()?,
                0x95 => _ = self.take(8)?,
                b'.' => return self.pop(),
                b'(' => self.mark()?,
                b'0' => _ = self.pop()?,
                b'1' => _ = self.pop_to_mark()?,
                b'2' => {
                    let top = self.top()?;
                    self.push_id(top)?;
                }
                b'N' => self.push(Node::None)?,
                0x88 => self.push(Node::Bool(true))?,
                0x89 => self.push(Node::Bool(false))?,
                // BININT, BININT1, BININT2, LONG1, BINFLOAT.
                b'J' => {
                    let value = self.unsigned(4)? as u32 as i32;
                    self.push(Node::Int(value.into()))?;
                }
                b'K' => self.push_unsigned(1)?,
                b'M' => self.push_unsigned(2)?,
                0x8a => {
                    let size = self.byte()?.into();
                    let value = self.long(size)?;
                    self.push(Node::Int(value))?;
                }
                b'G' => {
                    let bits = self.unsigned(8)?.swap_bytes();
                    self.push(Node::Float(f64::from_bits(bits)))?;
                }
                // Bytes: SHORT_BINSTRING, SHORT_BINBYTES, BINSTRING, BINBYTES, BINBYTES8, BYTEARRAY8.
                b'U' | b'C' => self.push_bytes(1)?,
                b'T' | b'B' => self.push_bytes(4)?,
                0x8e | 0x96 => self.push_bytes(8)?,
                // Text: SHORT_BINUNICODE, BINUNICODE, BINUNICODE8.
                0x8c => self.push_text(1)?,
                b'X' => self.push_text(4)?,
                0x8d => self.push_text(8)?,
                // Tuples: MARK ... TUPLE, and those of fixed length.
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Node::Tuple(items))?;
                }
                b')' => self.push(Node::Tuple(Vec::new()))?,
                0x85..=0x87 => {
                    let items = self.pop_many(usize::from(opcode - 0x84))?;
                    self.push(Node::Tuple(items))?;
                }
                // Lists and sets: EMPTY_LIST, EMPTY_SET, LIST, APPEND, APPENDS, ADDITEMS.
                b']' | 0x8f => self.push(Node::List(Vec::new()))?,
                b'l' => {
                    let items = self.pop_to_mark()?;
                    self.push(Node::List(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend_list(&[item])?;
                }
                b'e' | 0x90 => {
                    let items = self.pop_to_mark()?;
                    self.extend_list(&items)?;
                }
                // Dictionaries: EMPTY_DICT, DICT, SETITEM, SETITEMS.
                b'}' => self.push(Node::Dict(Vec::new()))?,
                b'd' => {
                    let items = self.pop_to_mark()?;
                    self.push(Node::Dict(Vec::new()))?;
                    self.extend_dict(&items)?;
                }
                b's' => {
                    let items = self.pop_many(2)?;
                    self.extend_dict(&items)?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.extend_dict(&items)?;
                }
                // Memo: BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET.
                b'q' => self.put(1)?,
                b'r' => self.put(4)?,
                0x94 => {
                    let (key, top) = (self.memo.len() as u32, self.top()?);
                    self.remember(key, top)?;
                }
                b'h' => self.fetch(1)?,
                b'j' => self.fetch(4)?,
                // GLOBAL, STACK_GLOBAL, REDUCE, NEWOBJ, BUILD.
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(Node::Global(module, name))?;
                }
                0x93 => {
                    let parts = self.pop_many(2)?;
                    let (Some(&Node::Text(module)), Some(&Node::Text(name))) =
                        (self.nodes.get(parts[0] as usize), self.nodes.get(parts[1] as usize))
                    else {
                        return Err("a global that is not named by text".into());
                    };
                    self.push(Node::Global(module, name))?;
                }
                b'R' | 0x81 => {
                    let parts = self.pop_many(2)?;
                    self.push(Node::Call { function: parts[0], arguments: parts[1], state: None })?;
                }
                b'b' => {
                    let new = self.pop()?;
                    let top = self.top()?;
                    match self.nodes.get_mut(top as usize) {
                        Some(Node::Call { state, .. }) => *state = Some(new),
                        _ => return Err("a state for something that was not built".into()),
                    }
                }
                other => return Err(format!("opcode 0x{other:02x}, which CIFAR-10 has no use for,")),
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let bytes = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes
            .ok_or_else(|| format!("{count} more bytes needed, {} left,", self.bytes.len() - self.at))?;
        self.at += count;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of up to 8 bytes.
    fn unsigned(&mut self, size: usize) -> Result<u64, String> {
        Ok(self.take(size)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// A little-endian number of up to 8 bytes in two's complement.
    fn long(&mut self, size: usize) -> Result<i64, String> {
        match size {
            0 => Ok(0),
            1..=8 => {
                let unused = 64 - 8 * size as u32;
                Ok((self.unsigned(size)? << unused) as i64 >> unused)
            }
            _ => Err(format!("an integer of {size} bytes")),
        }
    }

    fn length(&mut self, size: usize) -> Result<usize, String> {
        let length = self.unsigned(size)?;
        usize::try_from(length).map_err(|_| format!("a length of {length}"))
    }

    fn line(&mut self) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or("a line without an end")?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), String> {
        if self.nodes.len() == NODES {
            return Err(format!("more than {NODES} values"));
        }
        self.push_id(self.nodes.len() as Id)?;
        self.nodes.push(node);
        Ok(())
    }

    fn push_id(&mut self, id: Id) -> Result<(), String> {
        if self.stack.len() == NODES {
            return Err(format!("more than {NODES} values on the stack"));
        }
        self.stack.push(id);
        Ok(())
    }

    fn push_unsigned(&mut self, size: usize) -> Result<(), String> {
        let value = self.unsigned(size)? as i64;
        self.push(Node::Int(value))
    }

    fn push_bytes(&mut self, size: usize) -> Result<(), String> {
        let length = self.length(size)?;
        let bytes = self.take(length)?;
        self.push(Node::Bytes(bytes))
    }

    fn push_text(&mut self, size: usize) -> Result<(), String> {
        let length = self.length(size)?;
        let bytes = self.take(length)?;
        self.push(Node::Text(bytes))
    }

    /// The lowest stack height that may be popped to: what lies below an open MARK is out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn mark(&mut self) -> Result<(), String> {
        if self.marks.len() == NODES {
            return Err(format!("more than {NODES} open marks"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn top(&self) -> Result<Id, String> {
        if self.stack.len() <= self.floor() {
            return Err("an empty stack".into());
        }
        self.stack.last().copied().ok_or_else(|| "an empty stack".into())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, String> {
        if self.stack.len() - self.floor() < count {
            return Err("an empty stack".into());
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("no open mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn extend_list(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        match self.nodes.get_mut(top as usize) {
            Some(Node::List(list)) => list.extend_from_slice(items),
            _ => return Err("an item for something that is not a list".into()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        match self.nodes.get_mut(top as usize) {
            Some(Node::Dict(_)) if items.len() % 2 == 1 => return Err("a key without a value".into()),
            Some(Node::Dict(dict)) => dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err("an entry for something that is not a dictionary".into()),
        }
        Ok(())
    }

    fn put(&mut self, size: usize) -> Result<(), String> {
        let key = self.unsigned(size)? as u32;
        let top = self.top()?;
        self.remember(key, top)
    }

    fn remember(&mut self, key: u32, id: Id) -> Result<(), String> {
        if self.memo.len() == NODES {
            return Err(format!("more than {NODES} values in the memo"));
        }
        self.memo.insert(key, id);
        Ok(())
    }

    fn fetch(&mut self, size: usize) -> Result<(), String> {
        let key = self.unsigned(size)? as u32;
        let id = *self.memo.get(&key).ok_or_else(|| format!("memo {key}, which was never set,"))?;
        self.push_id(id)
    }
}
