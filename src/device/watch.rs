//! Where a value that is not finite first appeared: what every device watches for.

/// The first appearance of a value that is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The optimiser's step, counted from the epoch's first, 0.
    pub step: u32,
    /// What it appeared in.
    pub place: Place,
}

/// What a value that is not finite appeared in. The order is that in which a step comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The forward pass, at the input of the batch norm whose statistics begin here.
    Forward(usize),
    /// The logits.
    Logits,
    /// The backward pass, at the gradient of the batch norm whose statistics begin here.
    Backward(usize),
}

impl Place {
    /// A number that grows in the order in which a step comes by.
    pub(crate) fn number(self) -> u32 {
        match self {
            Place::Forward(at) => at as u32,
            Place::Logits => 1 << 30,
            // Later statistics come first in the backward pass.
            Place::Backward(at) => (1 << 31) - at as u32,
        }
    }

    /// The place that has this [`Place::number`].
    pub(crate) fn of_number(number: u32) -> Place {
        match number.cmp(&(1 << 30)) {
            std::cmp::Ordering::Less => Place::Forward(number as usize),
            std::cmp::Ordering::Equal => Place::Logits,
            std::cmp::Ordering::Greater => Place::Backward(((1 << 31) - number) as usize),
        }
    }
}
