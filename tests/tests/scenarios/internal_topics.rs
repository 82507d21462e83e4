//! A pattern that fits a topic whose name begins with `__` does not get it, balanced or simple, unless
//! `exclude_internal_topics: false` says so: nothing of it is digested or committed.

use devour_tests::{
    kafka::Kafka,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("balanced", |kafka| run(kafka, "balanced_consumer", Internal::Excluded)),
    Run::Shared("simple", |kafka| run(kafka, "simple_consumer", Internal::Excluded)),
    Run::Shared("balanced_included", |kafka| {
        run(kafka, "balanced_consumer", Internal::Included)
    }),
    Run::Shared("simple_included", |kafka| {
        run(kafka, "simple_consumer", Internal::Included)
    }),
];

const MESSAGES: u64 = 200;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Internal {
    Excluded,
    Included,
}

fn run(kafka: &Kafka, consumer_type: &str, internal: Internal) -> Outcome {
    let mut stage = Stage::new(kafka, "visible", 2)?;
    let hidden = format!("__{}", stage.topic);
    stage.admin.create_topic(&hidden, 2)?;
    let of_hidden = kafka.producer()?.numbered(&hidden, 2, 0..MESSAGES, 100)?;
    if internal == Internal::Included {
        stage.expected.extend(of_hidden);
    }
    stage.produce(0..MESSAGES)?;

    let pattern = format!("^_*{}$", stage.topic);
    let route = stage
        .route(Isolation::Process)
        .with("consumer_type", json!(consumer_type))
        .with("topic", json!(pattern));
    let settings = stage
        .settings(route)
        .with("exclude_internal_topics", json!(internal == Internal::Excluded));
    let daemon = stage.home.start(&settings)?;
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    let committed = stage.admin.committed(&stage.group, &hidden, 2)?;
    assert_eq!(
        committed.is_empty(),
        internal == Internal::Excluded,
        "{committed:?}"
    );
    stage.verdict()?.once_in_order()?;
    Ok(())
}
