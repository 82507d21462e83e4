//! What the scenarios of hostile plugins share: routes whose plugin misbehaves once, beside one whose digests must go on
//! all the while.

use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    control,
    daemon::{Daemon, Line, Log, Route, SOON, Settings},
    kafka::{Kafka, Load},
    ledger::Lines,
    scenario::{Isolation, Outcome},
    stage::{ROUTE, Stage},
};

/// A misdeed, and what must come of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name of its route.
    pub name: &'static str,
    /// The plugin's settings `deed`, `moment` and `with`: see crate `devour-test-misdeeds`.
    pub settings: Value,
    /// Further keys of the route.
    pub keys: Value,
    /// A warning or error of the log about this route holds this text; none is expected if it is empty.
    pub named: &'static str,
    /// Whether messages may be digested again: where nothing that the plugin said is believed any more.
    pub replays: bool,
}

/// A daemon with a route for each case and one that behaves.
#[derive(Debug)]
pub struct Scene<'k> {
    /// The daemon.
    pub daemon: Daemon,
    /// The route that behaves, whose home is the daemon's.
    pub other: Stage<'k>,
    /// The cases, each with its route.
    pub cases: Vec<(Case, Stage<'k>)>,
    load: Load,
}

/// Messages of each hostile route; the misdeed is done at the one in the middle.
pub const MESSAGES: u64 = 300;
/// So long at most the other route's digests may be apart. What hostile routes wait for is longer.
const GAP: Duration = Duration::from_secs(2);
/// Deadlines of the hostile routes.
pub const DEADLINE: &str = "4s";
const LOAD: u64 = 200;

// === impl Case ===

impl Case {
    /// A misdeed in the digest of the message in the middle.
    pub fn new(name: &'static str, deed: &str, named: &'static str) -> Self {
        Self {
            name,
            settings: json!({"deed": deed}),
            keys: json!({}),
            named,
            replays: false,
        }
    }

    /// At another moment.
    pub fn at(mut self, moment: &str) -> Self {
        self.settings["moment"] = json!(moment);
        self
    }

    /// With what the deed needs.
    pub fn with(mut self, with: &[&str]) -> Self {
        self.settings["with"] = json!(with);
        self
    }

    /// With another key of the route.
    pub fn key(mut self, key: &str, value: Value) -> Self {
        self.keys[key] = value;
        self
    }

    /// Messages may be digested again.
    pub fn replaying(mut self) -> Self {
        self.replays = true;
        self
    }

    /// Its route.
    pub fn route(&self, isolation: Isolation, stage: &Stage<'_>) -> Route {
        let mut route = Route::of(
            "Misbehaves",
            isolation,
            &stage.topic,
            &stage.group,
            stage.ledger.path(),
        )
        .with("path", json!("libdevour_test_misdeeds.so"))
        .with("lifecycle_timeout", json!(DEADLINE))
        .with("digest_timeout", json!(DEADLINE))
        .with("settings", json!({"n": MESSAGES / 2}))
        .with("settings", self.settings.clone())
        .quick_again();
        for (key, value) in self.keys.as_object().into_iter().flatten() {
            route = route.with(key, value.clone());
        }
        route
    }

    fn is_named(&self, line: &Line) -> bool {
        matches!(line.level(), "WARN" | "ERROR")
            && line.text("route") == Some(self.name)
            && line.raw.contains(self.named)
    }
}

// === impl Scene ===

impl<'k> Scene<'k> {
    /// Produces each route's messages, and starts the daemon and a load on the route that behaves.
    pub fn start(kafka: &'k Kafka, isolation: Isolation, cases: Vec<Case>) -> Result<Self, Failed> {
        Self::start_with(kafka, isolation, cases, |settings| settings)
    }

    /// The same; `change` has a last word about each case, with the stage that it gets.
    pub fn start_changed(
        kafka: &'k Kafka,
        isolation: Isolation,
        cases: Vec<Case>,
        change: impl Fn(Case, &Stage<'_>) -> Case,
    ) -> Result<Self, Failed> {
        Self::begin(kafka, isolation, cases, change, |settings| settings)
    }

    /// The same, with more settings.
    pub fn start_with(
        kafka: &'k Kafka,
        isolation: Isolation,
        cases: Vec<Case>,
        more: impl FnOnce(Settings) -> Settings,
    ) -> Result<Self, Failed> {
        Self::begin(kafka, isolation, cases, |case, _| case, more)
    }

    fn begin(
        kafka: &'k Kafka,
        isolation: Isolation,
        cases: Vec<Case>,
        change: impl Fn(Case, &Stage<'_>) -> Case,
        more: impl FnOnce(Settings) -> Settings,
    ) -> Result<Self, Failed> {
        let mut other = Stage::new(kafka, "beside", 2)?;
        other.produce(0..10)?;
        let mut settings = other.settings(other.route(isolation));
        let mut staged = Vec::new();
        for case in cases {
            let mut stage = Stage::new(kafka, case.name, 1)?;
            stage.produce(0..MESSAGES)?;
            let case = change(case, &stage);
            settings = settings.route(case.name, case.route(isolation, &stage));
            staged.push((case, stage));
        }
        let daemon = other.home.start(&more(settings))?;
        daemon.await_state(ROUTE, "running")?;
        other.await_digested(10)?;
        let load = other.load(LOAD)?;
        Ok(Self {
            daemon,
            other,
            cases: staged,
            load,
        })
    }

    /// Waits until the log names what each of these routes did, and until all of their messages are digested.
    pub fn see_through(&mut self) -> Outcome {
        for (case, _) in self.cases.iter().filter(|(case, _)| !case.named.is_empty()) {
            let what = format!("word of {} ({:?})", case.name, case.named);
            self.daemon.wait_for(&what, SOON, |line| case.is_named(line))?;
        }
        for (case, stage) in &mut self.cases {
            stage
                .await_all()
                .map_err(|error| format!("{}: {}", case.name, error.message().unwrap_or_default()))?;
        }
        self.status_names_them()
    }

    /// What the log said last of a plugin's end is what `devourd status` shows.
    fn status_names_them(&self) -> Outcome {
        for (case, _) in &self.cases {
            let is_down = |line: &Line| line.says("plugin down") && line.text("route") == Some(case.name);
            let down = self.daemon.log().all(is_down);
            let Some(cause) = down.last().and_then(|line| line.text("cause")) else {
                continue;
            };
            let shown = control::status_of(&self.other.home, case.name)?;
            if shown["last_error"] != cause {
                return Err(format!("{}: {cause:?} is not what status shows: {shown}", case.name).into());
            }
        }
        Ok(())
    }

    /// Stops the daemon, and judges every route: the one that behaves went on, once and in order; nothing is lost.
    pub fn end(mut self) -> Result<Log, Failed> {
        self.other.take_load(self.load)?;
        self.other.await_all()?;
        let log = self.daemon.stop()?;
        judge(self.other, self.cases)?;
        Ok(log)
    }

    /// The same, for a daemon that cannot stop cleanly: it is given `stop`, which ends it, and started again to digest
    /// what it left.
    pub fn end_by(mut self, stop: impl FnOnce(Daemon) -> Outcome) -> Outcome {
        self.other.take_load(self.load)?;
        self.other.await_all()?;
        stop(self.daemon)?;
        let daemon = self.other.home.start_again()?;
        for (_, stage) in &mut self.cases {
            stage.await_all()?;
        }
        daemon.stop()?;
        judge(self.other, self.cases)
    }
}

fn judge(mut other: Stage<'_>, cases: Vec<(Case, Stage<'_>)>) -> Outcome {
    let gap = longest_gap(other.ledger.lines()?);
    if gap > GAP {
        return Err(format!("the other route digested nothing for {gap:?}").into());
    }
    other.all_is_committed()?;
    other.verdict()?.once_in_order()?;
    for (case, stage) in cases {
        let named = |error: String| format!("{}: {error}", case.name);
        stage
            .all_is_committed()
            .map_err(|error| named(error.message().unwrap_or_default().to_owned()))?;
        let verdict = stage.verdict()?;
        let kept = if case.replays {
            verdict.in_order()
        } else {
            verdict.once_in_order()
        };
        kept.map_err(|error| named(error.to_string()))?;
    }
    Ok(())
}

/// The longest time between two digests that follow each other.
fn longest_gap(lines: &Lines) -> Duration {
    let mut moments: Vec<u64> = lines.records.iter().map(|record| record.at).collect();
    moments.sort_unstable();
    let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]);
    Duration::from_nanos(gaps.max().unwrap_or(0))
}
