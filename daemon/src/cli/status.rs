//! `devourd status`: how a running daemon's routes stand. A table for a person, at most 100 columns wide; a route that is
//! named is shown whole; `--json` prints the document of [`crate::admin::Status`].

use std::{
    fmt::Write,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    FAILED,
    control::{Socket, exchange},
    table::{Align, Column, Table},
};
use crate::{
    admin::{Answer, Request, RouteStatus, Status, ThreadStatus},
    time::{from_utc, short_span},
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of a route, to see all of it; else all routes.
    route: Option<String>,
    #[command(flatten)]
    socket: Socket,
}

/// How wide a table is at most.
const WIDTH: usize = 100;
/// Parked messages that a table names for each route.
const SHOWN: usize = 3;

const COLUMNS: &[Column] = &[
    Column::shrinking("ROUTE", Align::Left, 16),
    Column::new("STATE", Align::Left),
    Column::new("FOR", Align::Right),
    Column::new("PROCESS", Align::Right),
    Column::shrinking("PLUGIN", Align::Left, 12),
    Column::new("GEN", Align::Right),
    Column::new("PARTS", Align::Right),
    Column::new("LAG", Align::Right),
    Column::new("RATE/S", Align::Right),
    Column::new("RESTARTS", Align::Right),
];

const OF_PARTITIONS: &[Column] = &[
    Column::shrinking("PARTITION", Align::Left, 16),
    Column::new("OFFSET", Align::Right),
    Column::new("COMMITTED", Align::Right),
    Column::new("END", Align::Right),
    Column::new("LAG", Align::Right),
];

pub(super) fn status(settings: Option<&Path>, args: &Args) -> u8 {
    let request = Request::Status {
        route: args.route.clone(),
    };
    let answer = exchange(settings, &args.socket, &request);
    if args.socket.json {
        return match answer {
            Answer::Done(status) => super::control::print_json(&status),
            failed @ Answer::Failed { .. } => super::control::print_failed("status", &args.socket, &failed),
        };
    }
    let status = match answer {
        Answer::Done(value) => serde_json::from_value::<Status>(value),
        failed @ Answer::Failed { .. } => {
            return super::control::print_failed("status", &args.socket, &failed);
        }
    };
    match status {
        Ok(status) => {
            let now = now_ms();
            let text = match (&args.route, status.routes.as_slice()) {
                (Some(_), [route]) => whole(route, now),
                _ => table(&status, now),
            };
            super::control::print(text.trim_end())
        }
        Err(error) => {
            eprintln!(
                "devourd status: the daemon's answer cannot be read, is it of another version? {error}"
            );
            FAILED
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

// === all routes ===

fn table(status: &Status, now: i64) -> String {
    let mut text = format!(
        "devourd {}, pid {}: {}\n",
        status.version,
        status.pid,
        count(&status.routes)
    );
    if status.routes.is_empty() {
        return text;
    }
    let mut table = Table::new(COLUMNS);
    for route in &status.routes {
        table.row(row(route, now));
        for note in notes(route) {
            table.note(note);
        }
    }
    text.push_str(&table.draw(WIDTH));
    text
}

/// `3 routes: 2 running, 1 backoff`.
fn count(routes: &[RouteStatus]) -> String {
    let mut states: Vec<(&str, usize)> = Vec::new();
    for route in routes {
        match states.iter_mut().find(|(state, _)| *state == route.state) {
            Some((_, count)) => *count += 1,
            None => states.push((&route.state, 1)),
        }
    }
    let states: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    match routes.len() {
        0 => "no routes".to_owned(),
        1 => format!("1 route: {}", states.join(", ")),
        many => format!("{many} routes: {}", states.join(", ")),
    }
}

fn row(route: &RouteStatus, now: i64) -> Vec<String> {
    let dash = || "-".to_owned();
    let process = match (&*route.isolation, route.pid) {
        (_, Some(pid)) => pid.to_string(),
        ("thread", None) => "thread".to_owned(),
        _ => dash(),
    };
    vec![
        route.name.clone(),
        route.state.clone(),
        span(&route.since, now),
        process,
        plugin(route),
        route.generation.map_or_else(dash, |number| number.to_string()),
        route
            .assignment
            .as_ref()
            .map_or_else(dash, |partitions| partitions.len().to_string()),
        route.lag.map_or_else(dash, |lag| amount(lag as f64)),
        amount(route.rate),
        format!("{}/{}", route.restarts.plugin, route.restarts.client),
    ]
}

/// File and version.
fn plugin(route: &RouteStatus) -> String {
    let file = route.plugin.rsplit('/').next().unwrap_or(&route.plugin);
    match &route.version {
        Some(version) => format!("{file} {version}"),
        None => file.to_owned(),
    }
}

/// What stands below a route in the table.
fn notes(route: &RouteStatus) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(order) = &route.by_hand {
        notes.push(format!("{} by hand since {}", order.state, order.since));
    }
    if route.thread == ThreadStatus::Silent {
        let as_of = route.as_of.as_deref().unwrap_or("never");
        notes.push(format!(
            "its thread does not answer now; what it said of itself is of {as_of}"
        ));
    }
    for parked in route.parked.iter().take(SHOWN) {
        notes.push(format!(
            "parked: {}/{}@{}: {}",
            parked.topic, parked.partition, parked.offset, parked.error
        ));
    }
    let more = route
        .parked_count
        .saturating_sub(route.parked.len().min(SHOWN) as u64);
    if more > 0 {
        notes.push(format!(
            "parked: {more} more, see `devourd status {}`",
            route.name
        ));
    }
    if route.released {
        notes.push("it left its group, and joins again when its plugin runs".to_owned());
    }
    if let Some(error) = &route.last_error {
        let what = route
            .ails
            .as_ref()
            .map_or_else(|| "last error".to_owned(), |ails| format!("its {ails} failed"));
        notes.push(format!("{what}: {error}"));
    }
    notes
}

// === one route ===

fn whole(route: &RouteStatus, now: i64) -> String {
    let mut text = format!(
        "{}: {} for {}, since {}\n",
        route.name,
        route.state,
        span(&route.since, now),
        route.since
    );
    let none = || "-".to_owned();
    let mut line = |what: &str, value: String| {
        // What has several lines goes on below its first. Writing to a String cannot fail.
        let value = value.trim_end().replace('\n', &format!("\n{:15}", ""));
        let _ = writeln!(text, "  {what:<12} {value}");
    };
    if let Some(order) = &route.by_hand {
        line("by hand", format!("{} since {}", order.state, order.since));
    }
    line("plugin", route.plugin.clone());
    let version = match (&route.package, &route.version) {
        (Some(package), Some(version)) => format!(", {package} {version}"),
        _ => String::new(),
    };
    let generation = route
        .generation
        .map_or_else(String::new, |number| format!(", generation {number}"));
    line("consumer", format!("{}{version}{generation}", route.symbol));
    let process = match (&*route.isolation, route.pid) {
        (_, Some(pid)) => format!("process, pid {pid}"),
        ("process", None) => "process, none now".to_owned(),
        (isolation, None) => isolation.to_owned(),
    };
    line("isolation", process);
    line("topics", route.topics.join(", "));
    line("group", route.group.clone().unwrap_or_else(none));
    line("rate", format!("{} messages a second", route.rate));
    line("lag", route.lag.map_or_else(none, |lag| lag.to_string()));
    let in_hand = match (route.in_hand, route.queued) {
        (Some(in_hand), Some(queued)) => format!("{in_hand} messages, {queued} more are read and wait"),
        _ => none(),
    };
    line("in hand", in_hand);
    if let Some(at_work) = &route.at_work {
        line("at work", at_work.clone());
    }
    let counts = &route.counts;
    line(
        "messages",
        format!(
            "{} digested, {} skipped, {} dead-lettered; {} attempts failed",
            counts.digested, counts.skipped, counts.dead_lettered, counts.failed
        ),
    );
    let outputs = &route.outputs;
    if outputs.produced > 0 {
        line(
            "outputs",
            format!(
                "{} produced, {} acknowledged, {} failed; {} bytes wait for the brokers",
                outputs.produced, outputs.acknowledged, outputs.failed, outputs.waiting_bytes
            ),
        );
    }
    if let Some(transactions) = &route.transactions {
        line(
            "transactions",
            format!(
                "{} committed, {} aborted",
                transactions.committed, transactions.aborted
            ),
        );
    }
    line(
        "restarts",
        format!(
            "{} of the plugin, {} of the client",
            route.restarts.plugin, route.restarts.client
        ),
    );
    line("last error", route.last_error.clone().unwrap_or_else(none));
    match (route.thread, &route.as_of) {
        (ThreadStatus::Answered | ThreadStatus::None, _) => {}
        (_, Some(as_of)) => line("as of", format!("{as_of}: its thread does not answer now")),
        (_, None) => line("as of", "its thread does not answer now".to_owned()),
    }
    if let Some(partitions) = route
        .assignment
        .as_ref()
        .filter(|partitions| !partitions.is_empty())
    {
        let mut table = Table::new(OF_PARTITIONS);
        let offset = |offset: Option<i64>| offset.map_or_else(none, |offset| offset.to_string());
        for of in partitions {
            table.row(vec![
                format!("{}/{}", of.topic, of.partition),
                offset(of.offset),
                offset(of.committed),
                offset(of.end),
                offset(of.lag),
            ]);
        }
        text.push('\n');
        text.push_str(&table.draw(WIDTH));
    }
    if route.parked_count > 0 {
        let _ = writeln!(
            text,
            "\nPARKED, {} in all: `devourd resume {}` tries again",
            route.parked_count, route.name
        );
        for parked in &route.parked {
            let _ = writeln!(
                text,
                "{}/{}@{}: {}",
                parked.topic, parked.partition, parked.offset, parked.error
            );
        }
    }
    text
}

/// How long ago that was.
fn span(since: &str, now: i64) -> String {
    from_utc(since).map_or_else(|| "?".to_owned(), |since| short_span(now - since))
}

/// A number in few characters: `17`, `5.1k`, `1.2M`.
fn amount(number: f64) -> String {
    let (number, unit) = match number {
        small if small < 10.0 && small.fract() != 0.0 => return format!("{small:.1}"),
        small if small < 100_000.0 => return format!("{small:.0}"),
        some if some < 1e6 => (some / 1e3, "k"),
        many if many < 1e9 => (many / 1e6, "M"),
        huge => (huge / 1e9, "G"),
    };
    if number < 100.0 {
        format!("{number:.1}{unit}")
    } else {
        format!("{number:.0}{unit}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::admin::{ByHandStatus, ParkedStatus, PartitionStatus, RestartStatus};

    fn route(name: &str) -> RouteStatus {
        RouteStatus {
            name: name.to_owned(),
            state: "running".to_owned(),
            since: "2026-11-28T21:00:00.000Z".to_owned(),
            isolation: "process".to_owned(),
            pid: Some(471_100),
            plugin: "/usr/lib/devour/plugins/liborders.so".to_owned(),
            package: Some("orders".to_owned()),
            version: Some("1.2.0".to_owned()),
            generation: Some(1),
            assignment: Some(vec![PartitionStatus::default(); 12]),
            lag: Some(1203),
            rate: 5120.3,
            ..RouteStatus::default()
        }
    }

    fn draw(routes: Vec<RouteStatus>) -> String {
        let status = Status {
            pid: 17,
            version: "0.1.0".to_owned(),
            routes,
            last_reload: None,
        };
        table(&status, from_utc("2026-11-28T23:13:00.000Z").unwrap())
    }

    #[test]
    fn the_table_is_aligned() {
        let mut second = route("billing");
        second.state = "paused".to_owned();
        second.isolation = "thread".to_owned();
        second.pid = None;
        second.lag = None;
        second.rate = 0.0;
        second.by_hand = Some(ByHandStatus {
            state: "paused".to_owned(),
            since: "2026-11-28T21:00:00.000Z".to_owned(),
        });
        second.parked = vec![ParkedStatus {
            topic: "b".to_owned(),
            partition: 3,
            offset: 1708,
            error: "no such currency".to_owned(),
        }];
        second.parked_count = 7;
        second.restarts = RestartStatus { plugin: 3, client: 1 };
        let expected = "\
devourd 0.1.0, pid 17: 2 routes: 1 running, 1 paused
ROUTE    STATE     FOR  PROCESS  PLUGIN              GEN  PARTS   LAG  RATE/S  RESTARTS
orders   running  2h13m   471100  liborders.so 1.2.0    1     12  1203    5120       0/0
";
        let drawn = draw(vec![route("orders"), second]);
        let words = |text: &str| -> Vec<String> {
            text.lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect()
        };
        assert_eq!(words(&drawn)[..3], words(expected)[..], "{drawn}");
        let lines: Vec<&str> = drawn.lines().collect();
        for line in &lines[2..4] {
            // Numbers end where their headings do.
            for heading in ["FOR", "PROCESS", "GEN", "PARTS", "LAG", "RATE/S", "RESTARTS"] {
                let end = lines[1].find(heading).unwrap() + heading.len();
                let (before, after) = line.split_at(end);
                assert!(
                    !before.ends_with(' ') && (after.is_empty() || after.starts_with(' ')),
                    "{drawn}"
                );
            }
        }
        assert_eq!(
            lines[4..].iter().map(|line| line.trim()).collect::<Vec<_>>(),
            [
                "paused by hand since 2026-11-28T21:00:00.000Z",
                "parked: b/3@1708: no such currency",
                "parked: 6 more, see `devourd status billing`",
            ]
        );
    }

    #[test]
    fn no_line_is_wider_than_a_hundred_columns() {
        let mut long = route(&"n".repeat(64));
        long.plugin = format!("/x/lib{}.so", "p".repeat(200));
        long.lag = Some(i64::MAX);
        long.rate = 123_456_789.0;
        long.last_error = Some("e".repeat(500));
        long.generation = Some(200);
        long.restarts = RestartStatus {
            plugin: 1234,
            client: 12,
        };
        let drawn = draw(vec![long, route("short")]);
        for line in drawn.lines() {
            assert!(
                line.chars().count() <= WIDTH,
                "{} in {drawn}",
                line.chars().count()
            );
        }
        assert!(drawn.contains('…'), "{drawn}");
    }

    #[test]
    fn a_route_is_shown_whole_with_its_partitions() {
        let mut route = route("orders");
        route.assignment = Some(vec![PartitionStatus {
            topic: "o".to_owned(),
            partition: 3,
            offset: Some(17),
            committed: None,
            end: Some(20),
            lag: Some(3),
        }]);
        route.thread = ThreadStatus::Silent;
        route.as_of = Some("2026-11-28T23:12:00.000Z".to_owned());
        let text = whole(&route, from_utc("2026-11-28T23:13:00.000Z").unwrap());
        for part in [
            "running for 2h13m",
            "generation 1",
            "pid 471100",
            "does not answer",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let last: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(last, ["o/3", "17", "-", "20", "3"]);
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.3, "0.3"),
            (12.7, "13"),
            (99_999.0, "99999"),
            (123_456.0, "123k"),
            (1_234_567.0, "1.2M"),
            (5e10, "50.0G"),
        ] {
            assert_eq!(amount(number), text);
        }
    }
}
