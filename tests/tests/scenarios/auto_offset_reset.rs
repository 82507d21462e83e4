//! `auto_offset_reset` decides where nothing is committed, and where what is committed is gone: above the end of the log,
//! or below its beginning. `earliest` begins with the first message there is, `latest` with the next one to come.

use devour_tests::{
    kafka::Kafka,
    scenario::{Isolation, Outcome, Run},
    stage::Stage,
};
use serde_json::json;

pub const RUNS: &[Run] = &[
    Run::Shared("earliest", |kafka| run(kafka, "earliest", Committed::Nothing)),
    Run::Shared("earliest_above", |kafka| run(kafka, "earliest", Committed::Above)),
    Run::Shared("earliest_below", |kafka| run(kafka, "earliest", Committed::Below)),
    Run::Shared("latest", |kafka| run(kafka, "latest", Committed::Nothing)),
    Run::Shared("latest_above", |kafka| run(kafka, "latest", Committed::Above)),
    Run::Shared("latest_below", |kafka| run(kafka, "latest", Committed::Below)),
];

#[derive(Clone, Copy)]
enum Committed {
    Nothing,
    Above,
    Below,
}

const COUNT: i64 = 100;

fn run(kafka: &Kafka, reset: &str, committed: Committed) -> Outcome {
    let mut stage = Stage::new(kafka, "position", 1)?;
    stage.produce(0..COUNT as u64)?;
    let mut begins_at = 0;
    match committed {
        Committed::Nothing => {}
        Committed::Above => stage
            .admin
            .set_committed(&stage.group, &stage.topic, &[(0, 10 * COUNT)])?,
        Committed::Below => {
            begins_at = COUNT / 2;
            stage.admin.delete_records(&stage.topic, 0, begins_at)?;
            stage.admin.set_committed(&stage.group, &stage.topic, &[(0, 10)])?;
        }
    }
    let route = stage
        .route(Isolation::Process)
        .with("config", json!({"auto_offset_reset": reset}));
    let daemon = stage.home.start(&stage.settings(route))?;
    let first = match reset {
        "latest" => stage.first_from_the_end(COUNT as u64)?,
        _ => {
            stage.produce(COUNT as u64..COUNT as u64 + 20)?;
            begins_at
        }
    };
    stage.expected.retain(|place| place.offset >= first);
    stage.await_all()?;
    daemon.stop()?;
    stage.all_is_committed()?;
    stage.verdict()?.once_in_order()?;
    Ok(())
}
