//! What clients asked a broker for, from the broker's own request log: the proof that nothing was fetched again.

use std::{fs::File, io, io::BufRead as _, io::BufReader, path::Path};

use serde_json::Value;

/// One partition of one fetch request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The client's `client.id`.
    pub client_id: String,
    /// The topic's name, or its id where the request names topics by id.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset asked for.
    pub offset: i64,
}

/// Every fetch by clients whose id begins with `client_id`, in the order of the log.
pub(super) fn fetches(log: &Path, client_id: &str) -> io::Result<Vec<Fetch>> {
    let mut fetches = Vec::new();
    for line in BufReader::new(File::open(log)?).lines() {
        let line = line?;
        // The log holds every kind of request; parsing only what can match keeps a long log readable in seconds.
        if let Some((_, text)) = line
            .split_once("Completed request:")
            .filter(|_| line.contains("\"FETCH\""))
        {
            fetches.extend(
                serde_json::from_str(text)
                    .map(|request| read(&request, client_id))
                    .unwrap_or_default(),
            );
        }
    }
    Ok(fetches)
}

fn read(request: &Value, client_id: &str) -> Vec<Fetch> {
    let name = request["requestHeader"]["clientId"].as_str().unwrap_or_default();
    if !name.starts_with(client_id) {
        return Vec::new();
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let fetch = |topic: &Value, one: &Value| {
        let text = |key: &str| topic[key].as_str().filter(|text| !text.is_empty());
        Some(Fetch {
            client_id: name.to_owned(),
            topic: text("topic")
                .or_else(|| text("topicId"))
                .unwrap_or_default()
                .to_owned(),
            partition: i32::try_from(one["partition"].as_i64()?).ok()?,
            offset: one["fetchOffset"].as_i64()?,
        })
    };
    let topics = list(&request["request"]["topics"]);
    topics
        .iter()
        .flat_map(|topic| {
            list(&topic["partitions"])
                .into_iter()
                .filter_map(move |one| fetch(topic, &one))
        })
        .collect()
}
