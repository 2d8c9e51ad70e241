//! Evaluates a network.
fn main() {}
