//! What librdkafka says to a client's properties before there is a client, and which topics they forbid.

use std::ffi::c_char;
use std::ptr::NonNull;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka_sys as sys;

use super::callbacks::ignore_log;
use super::errors::text_of;
use super::properties::{ClientProperties, PropertyFinding, SECRET};
use super::topics::{InternalTopics, TopicPattern, is_internal, is_pattern, may_match_internal};

/// librdkafka's own opinion: of each property, then of all together (a client is made and destroyed; it knows no
/// host, so nothing is contacted).
pub fn check(properties: &ClientProperties) -> Vec<PropertyFinding> {
    let mut findings = Vec::new();
    for (key, value) in &properties.map {
        let mut single = ClientConfig::new();
        single.set(key, value);
        if let Err(error) = single.create_native_config() {
            findings.push(PropertyFinding {
                key: properties.origin(key),
                message: reason(&error, key),
            });
        }
    }
    if findings.is_empty() {
        findings.extend(whole(properties, sys::rd_kafka_type_t::RD_KAFKA_CONSUMER));
    }
    findings
}

/// As [`check`], for the properties of a [`Sender`](super::Sender) to a cluster whose consumer passed.
pub fn check_sender(properties: &ClientProperties) -> Vec<PropertyFinding> {
    whole(properties, sys::rd_kafka_type_t::RD_KAFKA_PRODUCER)
        .into_iter()
        .collect()
}

/// What is wrong with all properties together.
fn whole(properties: &ClientProperties, kind: sys::rd_kafka_type_t) -> Option<PropertyFinding> {
    let message = properties.try_client(kind).err()?;
    // "Configuration property "x" ..." names what it is about; else the whole is meant.
    let key = properties
        .map
        .keys()
        .filter(|key| message.contains(key.as_str()))
        .max_by_key(|key| key.len());
    let key = key.map_or(String::new(), |key| properties.origin(key));
    Some(PropertyFinding { key, message })
}

/// Topics that these properties forbid, and patterns that are none.
pub fn check_topics(properties: &ClientProperties, topics: &[String]) -> Vec<PropertyFinding> {
    let mut findings = Vec::new();
    let mut refuse = |message: String| {
        findings.push(PropertyFinding {
            key: "topic".into(),
            message,
        })
    };
    let excluded = properties.internal_topics == InternalTopics::Exclude;
    for topic in topics {
        if is_pattern(topic) {
            if let Err(error) = TopicPattern::new(topic) {
                refuse(error.to_string());
            } else if excluded && properties.is_kip_848() && may_match_internal(topic) {
                refuse(format!(
                    "`{topic}` can match Kafka's own topics (`__*`), which group.protocol=consumer would assign; \
                     begin it with a letter, or set exclude_internal_topics: false"
                ));
            }
        } else if excluded && is_internal(topic) {
            refuse(format!(
                "`{topic}` is one of Kafka's own topics; to read it set exclude_internal_topics: false"
            ));
        }
    }
    findings
}

impl ClientProperties {
    /// Makes a client and destroys it, for what librdkafka checks only then (certificates, and what goes together).
    fn try_client(&self, kind: sys::rd_kafka_type_t) -> Result<(), String> {
        let mut config = self.client_config();
        // Without a host nothing is looked up and nobody is called.
        config.remove("bootstrap.servers");
        let config = config.create_native_config().map_err(|error| error.to_string())?;
        let mut buffer = [0 as c_char; 512];
        // SAFETY: `rd_kafka_new` owns the configuration on success; on failure it stays ours. The callback ignores
        // everything, so it needs no opaque. The client is destroyed before anything of it was taken.
        unsafe {
            sys::rd_kafka_conf_set_log_cb(config.ptr(), Some(ignore_log));
            match NonNull::new(sys::rd_kafka_new(
                kind,
                config.ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )) {
                Some(client) => {
                    std::mem::forget(config);
                    sys::rd_kafka_destroy_flags(client.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
                    Ok(())
                }
                None => Err(text_of(buffer.as_ptr())),
            }
        }
    }
}

/// librdkafka's text, without the name of the property where it only repeats it, and without a secret.
pub(super) fn reason(error: &KafkaError, key: &str) -> String {
    match error {
        KafkaError::ClientConfig(_, text, ..) if !SECRET.contains(&key) => text.clone(),
        KafkaError::ClientConfig(..) => format!("librdkafka refuses this value of {key}"),
        other => other.to_string(),
    }
}
