//! Fixtures that the scenarios of devourd stand on: a real Kafka, the daemon under test, the ledger and its judge.

pub mod abi_variants;
pub mod chance;
pub mod command;
pub mod control;
pub mod daemon;
pub mod judge;
pub mod kafka;
pub mod ledger;
pub mod manager;
pub mod members;
pub mod memory;
pub mod misdeeds;
pub mod nspawn;
pub mod outputs;
pub mod postgres;
pub mod process;
pub mod scale;
pub mod scenario;
pub mod stage;
pub mod undertaker;
pub mod variant;
pub mod versions;
pub mod wait;
pub mod witness;
pub mod workspace;
