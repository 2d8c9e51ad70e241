//! What a pickle holds.

/// Most values a pickle may hold, and most entries of its stack and memo. A CIFAR-10 batch has about 30,000.
pub(super) const NODES: usize = 1 << 20;

/// A value's number in its [`Pickle`](super::Pickle).
pub type Id = u32;

/// A value of a pickle, borrowing bytes and text from the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Node<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// `bytes`, `bytearray`, or Python 2's `str`.
    Bytes(&'a [u8]),
    /// Text in UTF-8; Python's surrogates make it possible that it is not valid UTF-8.
    Text(&'a [u8]),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A list or a set.
    List(Vec<Id>),
    /// A dictionary, in the order of insertion.
    Dict(Vec<(Id, Id)>),
    /// A function or class, by module and name.
    Global(&'a [u8], &'a [u8]),
    /// What a call would return, and the state that would then be set on it.
    Call {
        /// The function.
        function: Id,
        /// Its arguments, a tuple.
        arguments: Id,
        /// The argument of `__setstate__`.
        state: Option<Id>,
    },
}
