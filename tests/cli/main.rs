//! The programs as a user runs them, and the settings that their flags come to.

#[path = "../support/mod.rs"]
mod support;

mod again;
mod bad_input;
mod checkpoint;
mod config;
mod data;
mod evaluate;
mod kill;
#[cfg(unix)]
mod machines;
mod mask;
#[cfg(feature = "mpi")]
mod mpi_train;
#[cfg(unix)]
mod outputs;
mod programs;
mod start;
#[cfg(unix)]
mod stops;
mod weights;
