//! The settings that are one of a few words, as enums.

/// Declares an enum whose variants are words in YAML.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            /// The words that settings use.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word that settings use.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value of a word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(super) use words;

words! {
    /// How a route consumes.
    ConsumerType {
        /// Shares the partitions with the other members of its group.
        Balanced = "balanced_consumer",
        /// Reads every partition itself.
        Simple = "simple_consumer",
    }
}
words! {
    /// Where a route's lane lives.
    Isolation {
        /// In a plugin process of its own.
        Process = "process",
        /// In the daemon.
        Thread = "thread",
    }
}
words! {
    /// What comes after a message's last attempt.
    Then {
        /// Its partition parks; nothing is lost.
        Stop = "stop",
        /// It is passed over and counted, as the seed did.
        Skip = "skip",
        /// It goes to a topic of its own, and is finished once that has it.
        DeadLetter = "dead_letter",
    }
}
words! {
    /// Which messages are digested in offset order.
    Order {
        /// Those of one partition.
        Partition = "partition",
        /// Those of one partition with the same key; without a key, those of one partition.
        Key = "key",
        /// None.
        None = "none",
    }
}
words! {
    /// Under which names a dead letter's headers say what happened.
    HeaderStyle {
        /// Kafka Connect's `__connect.errors.*`.
        Connect = "connect",
        /// Spring Kafka's `kafka_dlt-*`.
        Spring = "spring",
    }
}
words! {
    /// What a tombstone is to a digest with JSON parameters.
    Tombstones {
        /// Passed over and counted.
        Skip = "skip",
        /// A message that cannot be digested.
        Reject = "reject",
    }
}
words! {
    /// How a route is a member of its group.
    Membership {
        /// A restart within the session timeout makes no rebalance.
        Static = "static",
        /// A new member at every start.
        Dynamic = "dynamic",
    }
}
words! {
    /// How offsets and what digests produce are committed.
    Delivery {
        /// Offsets after what was produced; after a crash some is done again.
        AtLeastOnce = "at_least_once",
        /// Both in one Kafka transaction.
        ExactlyOnce = "exactly_once",
    }
}
words! {
    /// How a digest takes a message.
    DumpMode {
        /// Offset and the value's bytes.
        Raw = "dump_raw",
        /// Offset and the whole message.
        Object = "dump_obj",
        /// Offset and the fields of the JSON object in the value.
        Json = "dump_json",
    }
}
words! {
    /// What messages are written in by the schemas of a registry.
    Deserializer {
        /// Apache Avro.
        Avro = "avro",
        /// Protocol Buffers.
        Protobuf = "protobuf",
        /// JSON, checked against a JSON Schema.
        JsonSchema = "json_schema",
    }
}
words! {
    /// Whether owner and mode of plugin files are checked.
    FileChecks {
        /// A file that others may write is refused.
        Enforce = "enforce",
        /// Any file is taken.
        Off = "off",
    }
}
words! {
    /// How lines are logged.
    LogFormat {
        /// Text on a terminal, JSON otherwise.
        Auto = "auto",
        /// Text.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}
words! {
    /// The least important level that is logged.
    LogLevel {
        /// Only what failed.
        Error = "error",
        /// And what the operator should look at.
        Warn = "warn",
        /// And what happens.
        Info = "info",
        /// And how.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}
