//! Plans and networks, and training through the library: what runs compute, and that threads, stops and
//! workers leave no trace in it.

#[path = "../support/mod.rs"]
mod support;

mod examples;
mod given;
mod kinds;
mod listeners;
mod network;
mod plan;
mod scoring;
mod threads;
mod train;
mod workers;
