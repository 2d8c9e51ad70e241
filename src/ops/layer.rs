//! What a graph needs to know of an operation before any device is there: shapes, parameters, and the step it
//! makes.

use std::any::Any;
use std::fmt::{self, Debug, Display};

use super::backend::Backend;
use super::step::Step;

/// Rows, columns and channels of the activations of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The sentence above.
pub struct Shape {
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

impl Shape {
    /// Returns the number of activations of one image.
    pub fn elements(&self) -> usize {
        self.h * self.w * self.c
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}x{}", self.h, self.w, self.c)
    }
}

/// The distribution a parameter's first values are drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The same value everywhere.
    Constant(f32),
    /// Uniform in (-bound, bound).
    Uniform(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
}

impl Init {
    /// Returns U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for a layer whose outputs have `fan_in`
    /// inputs.
    pub fn fan_in(fan_in: usize) -> Init {
        Init::Uniform(1.0 / (fan_in as f32).sqrt())
    }
}

/// A parameter that a layer asks for. The graph puts the node's name before the suffix and gives it a range
/// of the flat vector.
#[derive(Clone, Debug, PartialEq)]
pub struct NewParameter {
    /// PyTorch's name within the layer: `weight` or `bias`.
    pub suffix: &'static str,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// How its values begin.
    pub init: Init,
}

/// What a node of a graph computes. A value of such a type holds what the author of a network chooses
/// (channels, stride); what follows from the node's inputs it is told when asked.
pub trait Layer: Any + Debug {
    /// Returns the shape of the output.
    ///
    /// # Errors
    /// A phrase that says why inputs of these shapes do not fit.
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String>;

    /// Returns the parameters it trains, in the order of the flat vector. `inputs` are shapes that fit.
    fn parameters(&self, inputs: &[Shape]) -> Vec<NewParameter> {
        let _ = inputs;
        vec![]
    }

    /// Returns for how many channels it keeps a running mean and variance; none for most layers.
    fn statistics(&self, inputs: &[Shape]) -> Option<usize> {
        let _ = inputs;
        None
    }

    /// Returns the step that computes it for up to `batch` images whose first input has shape `x`; none for a
    /// layer that only joins the step before it (see [`Step::absorb`]).
    fn step<B: Backend>(&self, batch: usize, x: Shape) -> Option<Box<dyn Step<B>>>
    where
        Self: Sized,
    {
        let _ = (batch, x);
        None
    }
}

/// Returns the shape of an operation's only input.
///
/// # Errors
/// A phrase that says how many inputs there are.
pub fn single(inputs: &[Shape]) -> Result<Shape, String> {
    match inputs {
        [x] => Ok(*x),
        _ => Err(format!("needs one input, not {}", inputs.len())),
    }
}

/// The images: the first node of every graph, and no other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input(pub Shape);

impl Layer for Input {
    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match inputs {
            [] => Ok(self.0),
            _ => Err("the images have no input".into()),
        }
    }
}
