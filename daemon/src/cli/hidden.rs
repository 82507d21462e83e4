//! What devourd starts of itself: plugin processes, probes, the embedded broker.

use clap::Args;

use super::{DONE, INTERNAL, USAGE};

/// A topic and how many partitions it gets: `NAME:PARTITIONS`.
#[derive(Clone, Debug)]
pub(super) struct Topic(String, i32);

#[derive(Args)]
pub(super) struct EmbeddedBroker {
    /// Topics to make, each as NAME:PARTITIONS.
    topics: Vec<Topic>,
}

pub(super) fn host() -> u8 {
    status(crate::lane::host_main())
}

pub(super) fn probe() -> u8 {
    status(crate::plugin::probe_child_main())
}

/// Serves until its standard input ends, so it ends with whoever started it.
pub(super) fn embedded_broker(args: &EmbeddedBroker) -> u8 {
    let topics: Vec<(String, i32)> = args
        .topics
        .iter()
        .map(|Topic(name, count)| (name.clone(), *count))
        .collect();
    match crate::kafka::serve_embedded(&topics, &mut std::io::stdout(), &mut std::io::stdin()) {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("devourd embedded-broker: {error}");
            INTERNAL
        }
    }
}

fn status(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(USAGE)
}

impl std::str::FromStr for Topic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once(':')
            .and_then(|(name, count)| Some((name, count.parse().ok()?)));
        let (name, count) = parts.ok_or_else(|| format!("`{text}` is not NAME:PARTITIONS"))?;
        Ok(Self(name.to_owned(), count))
    }
}
