//! Async consumers: a digest is a future on a runtime of the instance's own, and ends its message when it ends. The
//! host sees to the order, so what it hands out here all runs at once.

pub(crate) mod consumer;
pub mod plugin;
mod run;
mod runtime;
pub mod shim;
