//! YAML to typed settings, each value with its position. Pure: no Kafka, no plugin, no clock.
//!
//! One declarative schema (`schema`, `keys`) gives validation and defaults ([`load`]), the JSON Schema
//! ([`json_schema`]), the annotated sample ([`sample`]) and the reference page ([`reference`]).

mod assemble;
mod attributes;
mod bounds;
mod check;
mod config_types;
mod consumer_config;
mod convert;
mod document;
mod environment;
mod findings;
mod forms;
mod fragments;
mod guard;
mod json_schema;
mod keys;
mod load;
mod positions;
mod reference;
mod route;
mod sample;
mod schema;
mod sources;
mod substitute;
mod text;
mod types;
mod units;
mod values;
mod words;
mod yaml;

#[cfg(test)]
mod tests;

pub use attributes::{Attribute, Attributes};
pub use bounds::{Limits, RouteBounds, RouteSandbox};
pub use config_types::{ConsumerConfig, MembershipProtocol, OffsetReset};
pub use environment::{Environment, ProcessEnvironment, SettingsFile, locate};
pub use findings::{Finding, Findings, Severity};
pub use forms::parse_rate;
pub use json_schema::json_schema;
pub use load::{control_socket, load, parse};
pub use positions::{KeyPath, Position, Segment};
pub use reference::reference;
pub use route::{
    Backoff, Batch, Concurrency, DeadLetter, Flush, OnError, RateLimit, Restart, RestartBudget, Route,
    RouteName, RouteNameError, SchemaRegistry, Topics,
};
pub use sample::sample;
pub use text::is_secret_key;
pub use types::{Cluster, Log, Secret, Settings, SslConfig};
pub use units::{format_duration, format_size, parse_duration, parse_size};
pub use words::{
    ConsumerType, Delivery, Deserializer, DumpMode, FileChecks, HeaderStyle, Isolation, LogFormat, LogLevel,
    Membership, Order, Then, Tombstones,
};
