//! What a consumer says of itself. Crosses as JSON text, so that either side may know more than the other.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a descriptor may depend on: the route's own plugin settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DescribeRequest {
    /// The plugin's settings of the route, an object (empty without a route).
    pub settings: Value,
}

/// A consumer, as the host needs to know it before it makes one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Descriptor {
    /// Version of `devour-abi` that the plugin was built with.
    pub abi: String,
    /// Name of the plugin's crate.
    pub package: String,
    /// Version of the plugin's crate.
    pub version: String,
    /// The exported symbol.
    pub symbol: String,
    /// Topics the consumer reads, unless the route says otherwise.
    pub topic: Option<Topics>,
    /// How it reads them, unless the route says otherwise.
    pub consumer_type: Option<ConsumerType>,
    /// The seed's consumer keys (`consumer_group`, `auto_commit_interval_ms`, ...); the route's win, key by key.
    pub config: Map<String, Value>,
    /// The digests it has, at least one; the first is used unless the route names another.
    pub digests: Vec<DigestInfo>,
    /// Name of the schema class of its messages, for people and tools.
    pub schema_class: Option<String>,
    /// That schema's attributes, where it is more than a name.
    pub schema: Option<SchemaInfo>,
    /// JSON Schema of its settings; absent means that any settings pass.
    pub settings_schema: Option<Value>,
    /// It takes messages beyond a call and completes them later. No message of an order tag is handed out while another
    /// of that tag is not completed, so it keeps no order itself.
    pub asynchronous: bool,
    /// It declares `flush`: a message whose digest returned `Ok` is taken, and done when the next `flush` returned `Ok`.
    pub buffering: bool,
    /// A buffering consumer's `flush` is called so many milliseconds after the first message that it took, unless the
    /// route says otherwise; absent leaves it to the host.
    pub flush_max_wait_ms: Option<u64>,
    /// A buffering consumer's `flush` is called when it took so many messages, unless the route says otherwise; absent
    /// leaves it to the host.
    pub flush_max_messages: Option<u64>,
    /// It keeps its offsets itself and answers `assigned` with start offsets.
    pub keeps_offsets: bool,
    /// How new code takes over.
    pub swap: SwapMode,
    /// Where its lanes may live.
    pub isolation: IsolationDemand,
}

/// A schema: what a payload is cut down to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchemaInfo {
    /// Its name.
    pub name: String,
    /// The attributes that it takes; absent means all.
    pub attributes: Option<Vec<AttributeInfo>>,
    /// It stands within itself, and its attributes further out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeats: bool,
}

/// One attribute of a schema.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttributeInfo {
    /// Its name in the payload.
    pub name: String,
    /// Its type, as the plugin's code has it.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What cuts the objects in it; absent where it is taken whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaInfo>,
}

/// One digest of a consumer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DigestInfo {
    /// Name of the method (`digest_name` picks it).
    pub name: String,
    /// How it takes a message by default.
    pub dump: DumpMode,
    /// Dump modes that it can take.
    pub accepts: Vec<DumpMode>,
    /// Whether it can see headers: only then they cross into a plugin process.
    pub reads_headers: bool,
    /// Whether it takes the whole batch at once (all of it is in hand until it returns).
    pub takes_batches: bool,
}

/// How a digest takes a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DumpMode {
    /// Offset and the value's bytes.
    Raw,
    /// Offset and the whole message.
    Object,
    /// Offset and the fields of the JSON object in the value.
    #[default]
    Json,
}

/// A topic, a list of them, or patterns (`^...`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Topics {
    /// One name or pattern.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// How a consumer reads its topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsumerType {
    /// Shares the partitions with the other members of its group.
    BalancedConsumer,
    /// Reads every partition.
    SimpleConsumer,
}

/// How new code takes over from old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwapMode {
    /// The new is built while the old lives.
    #[default]
    Beside,
    /// The old is stopped before the new is built, for what may exist only once.
    After,
}

/// Where a consumer's lanes may live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationDemand {
    /// In a process or in a thread, as the route says.
    #[default]
    Any,
    /// In a plugin process only.
    Process,
}

/// What an instance is made for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConstructRequest {
    /// Name of the route.
    pub route: String,
    /// Which of the route's lanes, from 0.
    pub lane: u32,
    /// How many lanes the route has.
    pub lanes: u32,
    /// Generation of the plugin's code in this route, from 1.
    pub generation: u64,
    /// The plugin's settings of the route, an object.
    pub settings: Value,
    /// The digest to call; `None` is the first.
    pub digest_name: Option<String>,
    /// The dump mode; `None` is the digest's own.
    pub dump: Option<DumpMode>,
    /// What a tombstone is to a digest with JSON parameters: rejected, or passed over (false).
    pub reject_tombstones: bool,
}

// === impl SchemaInfo ===

/// The attributes between braces, such as `{ id: u64, customer: Customer { name: String } }`.
impl fmt::Display for SchemaInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(attributes) = &self.attributes else {
            return f.write_str(if self.repeats { "{ .. }" } else { "{ all }" });
        };
        f.write_str("{")?;
        for (place, attribute) in attributes.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma} {}: {}", attribute.name, attribute.type_name)?;
            if let Some(schema) = &attribute.schema {
                write!(f, " {schema}")?;
            }
        }
        f.write_str(" }")
    }
}

// === impl Topics ===

impl Topics {
    /// All the names and patterns, in order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

// === impl DumpMode ===

impl DumpMode {
    /// The seed's name of the attribute.
    #[must_use]
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Raw => "dump_raw",
            Self::Object => "dump_obj",
            Self::Json => "dump_json",
        }
    }
}
