//! Adds to JSON messages what a table knows of them, and produces them to another topic: what is consumed, made of it and
//! produced. Under `delivery: exactly_once` each message has exactly one result.
//!
//! With the settings `{to: orders.full, by: customer, table: {c7: {country: AT}}}` the message
//! `{"customer": "c7", "id": 1}` goes on to `orders.full` as `{"country":"AT","customer":"c7","id":1}`, with its key and
//! headers, and with where it came from in three more headers. Of whom the table knows nothing, goes on as it is; what is no
//! JSON object is rejected.

use std::collections::BTreeMap;

use devour::{
    prelude::*,
    serde_json::{self, Map, Value},
};

/// Settings of `Enrich`.
#[settings]
#[derive(Debug)]
pub struct EnrichSettings {
    /// The topic that results go to.
    pub to: String,
    /// The field that a message is looked up by.
    #[serde(default = "id")]
    pub by: String,
    /// What is added to a message, by the text or number in that field. A message's own fields win.
    #[serde(default)]
    pub table: BTreeMap<String, Map<String, Value>>,
}

/// The consumer.
pub struct Enrich {
    settings: EnrichSettings,
    context: ConsumerContext,
}

#[consumer(
    topic = "enrich",
    consumer_type = "balanced_consumer",
    config(consumer_group = "enrich_consumers"),
    dump_obj,
    settings = EnrichSettings
)]
impl Enrich {
    fn construct(settings: EnrichSettings, context: ConsumerContext) -> Result<Self, DigestError> {
        Ok(Self { settings, context })
    }

    fn digest(&mut self, offset: i64, message: Message<'_>) -> Result<(), DigestError> {
        let payload = message.payload().unwrap_or_default();
        let mut fields: Map<String, Value> = serde_json::from_slice(payload).or_reject()?;
        let found = fields.get(&self.settings.by).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        for (name, value) in found
            .and_then(|key| self.settings.table.get(&key))
            .into_iter()
            .flatten()
        {
            fields.entry(name.as_str()).or_insert_with(|| value.clone());
        }
        let mut result = Record::to(self.settings.to.as_str())
            .payload(serde_json::to_vec(&fields).or_reject()?)
            .header("source_topic", message.topic())
            .header("source_partition", message.partition().to_string())
            .header("source_offset", offset.to_string());
        if let Some(key) = message.key() {
            result = result.key(key);
        }
        self.context.produce(&result)?;
        self.context.count("enriched", 1);
        Ok(())
    }
}

fn id() -> String {
    "id".to_owned()
}
