//! Fuzzers of the readers. [`targets`] are what is run, by cargo-fuzz or by this crate's own program, which
//! needs no nightly compiler; [`seeds`] makes good files, and [`mutate`] bad ones of them.

pub mod forge;
pub mod input;
pub mod mutate;
pub mod seeds;
pub mod targets;

#[allow(dead_code)]
#[path = "../../tests/support/chain/mod.rs"]
mod chain;
#[allow(dead_code)]
#[path = "../../tests/support/data.rs"]
mod data;
