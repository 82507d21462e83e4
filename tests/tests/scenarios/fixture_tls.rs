//! The TLS listener takes a client with a certificate of its authority, and neither one without nor a stranger.

use std::{path::Path, time::Duration};

use devour_tests::{
    kafka::{BrokerOptions, Kafka},
    scenario::{Outcome, Run},
};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};

pub const RUNS: &[Run] = &[Run::OwnBroker("", run)];

fn run() -> Outcome {
    let kafka = Kafka::start(BrokerOptions::default())?;
    let broker = kafka.broker().expect("it is our own");
    let tls = broker.tls();
    let brokers_seen = |certificate: Option<(&Path, &Path)>| -> Result<usize, rdkafka::error::KafkaError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", broker.tls_bootstrap())
            .set("security.protocol", "ssl")
            .set("ssl.ca.location", tls.ca.to_string_lossy());
        if let Some((cert, key)) = certificate {
            config.set("ssl.certificate.location", cert.to_string_lossy());
            config.set("ssl.key.location", key.to_string_lossy());
        }
        let client: BaseConsumer = config.create()?;
        Ok(client
            .fetch_metadata(None, Duration::from_secs(5))?
            .brokers()
            .len())
    };
    assert_eq!(brokers_seen(Some((&tls.client_cert, &tls.client_key)))?, 1);
    assert!(
        brokers_seen(None).is_err(),
        "a client without a certificate is turned away"
    );
    assert!(
        brokers_seen(Some((&tls.stranger_cert, &tls.stranger_key))).is_err(),
        "a stranger is turned away"
    );
    Ok(())
}
