//! A reader of pickles that runs nothing: it builds a tree of what the pickle describes, calls included, and
//! leaves it to the caller to recognise the few calls it knows.
//!
//! It knows the binary protocols, 2 to 5, as Python 2 and 3 write dictionaries of lists and numpy arrays.
//! Values live in one arena and refer to each other by number, so hostile nesting and cycles cost no stack;
//! values, stack, marks and memo are bounded whatever the file says.

mod machine;
mod node;

use std::borrow::Cow;

use machine::Machine;
pub use node::{Id, Node};

/// A pickle, read.
#[derive(Debug)]
pub struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle.
    ///
    /// # Errors
    /// In words: what is wrong, and at which byte.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine::new(bytes);
        let outcome = machine.run();
        let at = machine.at;
        match outcome {
            Ok(root) => Ok(Pickle { nodes: machine.nodes, root }),
            Err(problem) => Err(format!("{problem} at byte {at}")),
        }
    }

    /// The value the pickle stands for.
    pub fn root(&self) -> &Node<'a> {
        self.get(self.root)
    }

    /// A value by its number.
    pub fn get(&self, id: Id) -> &Node<'a> {
        // Ids come only from this arena, so the default is never taken.
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }

    /// The value of a text or bytes key in the dictionary that is the root.
    pub fn entry(&self, key: &str) -> Option<&Node<'a>> {
        let Node::Dict(pairs) = self.root() else { return None };
        let matches = |id: Id| match self.get(id) {
            Node::Text(text) => *text == key.as_bytes(),
            _ => self.encoded(id).is_some_and(|text| text == key.as_bytes()),
        };
        // The last one wins, as in Python.
        pairs.iter().rev().find(|&&(k, _)| matches(k)).map(|&(_, value)| self.get(value))
    }

    /// The module and name of a global.
    pub fn global(&self, id: Id) -> Option<(&'a [u8], &'a [u8])> {
        match self.get(id) {
            Node::Global(module, name) => Some((module, name)),
            _ => None,
        }
    }

    /// A `bytes` value, as it is or as Python 3 writes it below protocol 3: the call
    /// `_codecs.encode(text, 'latin1')`, where each character is a byte.
    pub fn bytes(&self, id: Id) -> Option<Cow<'a, [u8]>> {
        let bytes = self.encoded(id)?;
        if matches!(self.get(id), Node::Bytes(_)) {
            return Some(Cow::Borrowed(bytes));
        }
        let text = std::str::from_utf8(bytes).ok()?;
        text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>().map(Cow::Owned)
    }

    /// The bytes that a `bytes` value is written in: its own, or the UTF-8 of the text to encode. For ASCII
    /// the two are the same.
    fn encoded(&self, id: Id) -> Option<&'a [u8]> {
        match self.get(id) {
            Node::Bytes(bytes) => Some(bytes),
            Node::Call { function, arguments, .. } => {
                if self.global(*function) != Some((b"_codecs", b"encode")) {
                    return None;
                }
                let Node::Tuple(arguments) = self.get(*arguments) else { return None };
                let Node::Text(text) = self.get(*arguments.first()?) else { return None };
                Some(text)
            }
            _ => None,
        }
    }
}
