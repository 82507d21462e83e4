//! devourd: a daemon that turns compiled plugins into supervised Kafka consumers.
//!
//! One folder per idea; ARCHITECTURE.md at the root of the repository is the map. This crate is a library so that the
//! tests can run the very same program; nothing of it is a public interface.

pub mod admin;
pub mod cli;
pub mod kafka;
pub mod lane;
pub mod os;
pub mod plugin;
pub mod schema;
pub mod settings;
pub mod signals;
pub mod supervisor;
pub mod systemd;
pub mod telemetry;
mod time;
pub mod worker;

pub use cli::main;

/// librdkafka allocates every message on one thread and frees it on another; with the `override` feature this allocator
/// serves its C code too (DESIGN: 0.53 to 0.20 CPU seconds per million messages).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
