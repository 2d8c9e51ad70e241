//! What is read from files and written to them: data sets, checkpoints and chains; and what workers send each
//! other.

#[path = "../support/mod.rs"]
mod support;

mod chain;
mod chain_damage;
mod chain_kill;
mod chain_workers;
mod checkpoint;
mod data_augment;
mod data_download;
mod data_load;
mod data_places;
mod data_proxy;
mod data_race;
mod data_readers;
mod data_real;
mod data_synthetic;
mod distributed;
mod formats;
mod readers;
mod scores;
mod weights;
