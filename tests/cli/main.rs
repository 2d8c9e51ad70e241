//! The programs as a user runs them, and the settings that their flags come to.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod checkpoint;
mod config;
mod kill;
mod mask;
#[cfg(feature = "mpi")]
mod mpi_train;
mod programs;
