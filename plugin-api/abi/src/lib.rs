//! The only types that cross between devourd and a plugin.
//!
//! A library exports one [`abi_stable::library::LibHeader`] per consumer, under a name the author chose
//! ([`export_consumer!`]). Behind it stands a [`ConsumerModule`]: what the consumer is ([`Descriptor`]), whether
//! its settings are right, and how an [`Instance`] of it is made. An instance is given batches of messages
//! ([`Call`]) and told about its life ([`LifecycleCall`]).
//!
//! Two kinds of types cross, each grown in its own way, so that version 1 need never be broken:
//!
//! - what is said rarely (descriptor, construction, lifecycle) crosses as JSON text of the serde structs in
//!   [`descriptor`] and [`lifecycle`]: a field that one side does not know is passed over, one that is missing
//!   takes its default;
//! - what is said for every batch ([`Call`], [`MessageView`]) crosses as `repr(C)` structs of a frozen shape, and
//!   every table of functions is an abi_stable prefix type: changed only by appending, a missing function is `None`.
// The erased pointers of `Instance`, `CallHost`, `OwnedMessage`, `Delivery` and `Host` are made, read and shared here, and nowhere
// else.
#![allow(unsafe_code)]

pub mod call;
pub mod delivery;
pub mod descriptor;
pub mod failure;
pub mod host;
pub mod instance;
mod layout;
pub mod lifecycle;
pub mod message;
pub mod module;

#[doc(hidden)]
pub use abi_stable;
pub use call::{Call, CallCell, CallHost, CallReturn, CutNumber, HostedCall, LentCallHost, Progress};
pub use delivery::{Delivered, Delivery, HostErrorKind, HostFailure};
pub use descriptor::{
    AttributeInfo, ConstructRequest, ConsumerType, DescribeRequest, Descriptor, DigestInfo, DumpMode,
    IsolationDemand, SchemaInfo, SwapMode, Topics,
};
pub use failure::{Failure, FailureKind};
pub use host::{Host, HostServices, LogLevel, ProduceRecord};
pub use instance::{Instance, PluginInstance};
pub use lifecycle::{AssignedPartition, LifecycleAnswer, LifecycleCall, StartOffset};
pub use message::{HeaderView, MessageId, MessageView, OwnedCompletion, OwnedMessage, TimestampType};
pub use module::{ConsumerModule, ConsumerModuleRef, OpenError, PluginConsumer, open_header};

/// The version of this crate, the version of the boundary. `major.minor.patch`.
pub const ABI_VERSION: &str = env!("CARGO_PKG_VERSION");
