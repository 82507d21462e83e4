//! When a position is moved without a message, and when a partition is called stalled.

#![allow(clippy::unwrap_used)]

use super::*;

const SLOT: Slot = Slot(1);
const EVERY: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(60);

/// One partition of a route, from report to report.
struct Route {
    progress: Progress,
    now: Instant,
    position: Option<i64>,
    at_rest: bool,
    paused: bool,
    drained: bool,
    changes: u64,
    report: PartitionStatistics,
}

impl Route {
    /// At offset 10 of 12, all of it fetched.
    fn new() -> Self {
        Self {
            progress: Progress::new(Some(TIMEOUT)),
            now: Instant::now(),
            position: Some(10),
            at_rest: true,
            paused: false,
            drained: true,
            changes: 3,
            report: PartitionStatistics {
                partition: TopicPartition::new("orders".into(), 7),
                next_offset: Some(12),
                app_offset: Some(10),
                ls_offset: Some(12),
                hi_offset: Some(12),
                lo_offset: Some(0),
                fetchq_cnt: 0,
                consumer_lag: Some(2),
                active: true,
                reachable: true,
                broker: 1,
                fetches: 100,
            },
        }
    }

    /// At offset 10 of 50, and nothing more is fetched.
    fn stuck() -> Self {
        let mut route = Self::new();
        route.report.next_offset = Some(10);
        route.report.ls_offset = Some(50);
        route
    }

    /// Five seconds later.
    fn report(&mut self) -> Option<Finding> {
        self.now += EVERY;
        self.report.fetches += 50;
        self.progress.read(self.drained);
        let standing = Standing {
            position: self.position,
            frontier: self.position,
            at_rest: self.at_rest,
            paused: self.paused,
            changes: self.changes,
            drained: self.drained,
            report: &self.report,
        };
        let finding = self.progress.look(SLOT, standing, self.now);
        self.progress.drained = false;
        finding
    }

    /// What is found within the time, and after how long each.
    fn found_within(&mut self, time: Duration) -> Vec<(Duration, Finding)> {
        let begin = self.now;
        let mut found = Vec::new();
        while self.now < begin + time {
            if let Some(finding) = self.report() {
                found.push((self.now - begin, finding));
            }
        }
        found
    }
}

#[test]
fn what_holds_no_message_is_passed_at_the_second_report() {
    let mut route = Route::new();
    assert_eq!(route.report(), None);
    assert_eq!(route.report(), Some(Finding::Passed(12)));
    route.position = Some(12);
    assert_eq!(route.found_within(10 * TIMEOUT), [], "it is at the end");
    // A partition that never had a message.
    let mut empty = Route::new();
    empty.position = None;
    assert_eq!(empty.report(), None);
    assert_eq!(empty.report(), Some(Finding::Passed(12)));
}

/// Each of these may hide a message that was fetched and not given to us.
#[test]
fn nothing_is_passed_that_may_be_a_message() {
    type Spoil = fn(&mut Route);
    let spoils: [(&str, Spoil); 9] = [
        ("the queue holds something", |route| route.drained = false),
        ("something is in hand or waits", |route| route.at_rest = false),
        ("it is paused", |route| route.paused = true),
        ("what is fetched was changed", |route| route.changes += 1),
        ("it is not being fetched", |route| route.report.active = false),
        ("it is fetched from another broker", |route| {
            route.report.broker += 1
        }),
        ("it has no broker", |route| route.report.broker = -1),
        ("the broker's thread did not come by", |route| {
            route.report.fetches -= 49
        }),
        ("a message came", |route| route.position = Some(11)),
    ];
    for (why, spoil) in spoils {
        let mut route = Route::new();
        assert_eq!(route.report(), None, "{why}");
        spoil(&mut route);
        assert_eq!(route.report(), None, "{why}");
    }
    let mut route = Route::new();
    route.report();
    route.report.next_offset = Some(13);
    assert_eq!(route.report(), None, "it goes on fetching");
    route.report.next_offset = Some(9);
    assert_eq!(
        route.found_within(Duration::from_secs(10)),
        [],
        "the log is shorter now"
    );
}

#[test]
fn a_queue_that_is_seldom_empty_only_delays() {
    let mut route = Route::new();
    route.report();
    route.drained = false;
    assert_eq!(route.found_within(Duration::from_secs(60)), []);
    route.drained = true;
    assert_eq!(route.report(), Some(Finding::Passed(12)));
}

#[test]
fn a_stalled_partition_is_sought_then_its_client_is_made_anew() {
    let mut route = Route::stuck();
    let found = route.found_within(Duration::from_secs(130));
    let stalled = |remedy, seconds| Finding::Stalled(remedy, Duration::from_secs(seconds));
    assert_eq!(
        found,
        [
            (Duration::from_secs(65), stalled(Remedy::Seek, 60)),
            (Duration::from_secs(125), stalled(Remedy::NewClient, 120)),
        ],
        "counted from the first report that shows it"
    );
    let moved = route.progress.last_progress(SLOT).unwrap();
    assert_eq!(route.now - moved, Duration::from_secs(125));
    // After a message it begins with a seek again.
    route.position = Some(11);
    let found = route.found_within(Duration::from_secs(70));
    assert_eq!(found, [(Duration::from_secs(70), stalled(Remedy::Seek, 60))]);
}

#[test]
fn without_a_fetch_position_it_is_stalled_too() {
    let mut route = Route::stuck();
    (route.report.active, route.report.next_offset) = (false, None);
    assert_eq!(route.found_within(Duration::from_secs(65)).len(), 1);
    // Fetched to its end before, says an old report of a partition that is not being fetched now.
    let mut route = Route::stuck();
    (route.report.active, route.report.next_offset) = (false, Some(50));
    assert_eq!(route.found_within(Duration::from_secs(65)).len(), 1);
}

#[test]
fn what_has_a_reason_to_stand_still_is_not_stalled() {
    type Excuse = fn(&mut Route);
    let excuses: [(&str, Excuse); 8] = [
        ("something is in hand or waits", |route| route.at_rest = false),
        ("it is paused", |route| route.paused = true),
        ("its broker is away", |route| route.report.reachable = false),
        ("its messages wait for their turn", |route| route.drained = false),
        ("its end is not known", |route| route.report.ls_offset = None),
        ("its end is reached", |route| route.position = Some(50)),
        ("its first offset is not known", |route| {
            (route.position, route.report.next_offset) = (None, None)
        }),
        ("nobody wants to know", |route| {
            route.progress.stall_timeout = None
        }),
    ];
    for (why, excuse) in excuses {
        let mut route = Route::stuck();
        excuse(&mut route);
        assert_eq!(route.found_within(3 * TIMEOUT), [], "{why}");
    }
    // The end is fetched, and whether it holds a message is not certain yet.
    let mut route = Route::new();
    route.report.broker = -1;
    assert_eq!(route.found_within(3 * TIMEOUT), []);
    // Aborted messages are fetched, and none of them comes.
    let mut route = Route::stuck();
    route.report.ls_offset = Some(1_000_000);
    for _ in 0..100 {
        route.report.next_offset = route.report.next_offset.map(|next| next + 500);
        assert_eq!(route.report(), None);
    }
}

#[test]
fn an_excuse_in_between_begins_the_count_again() {
    let mut route = Route::stuck();
    assert_eq!(route.found_within(Duration::from_secs(55)), []);
    route.report.reachable = false;
    assert_eq!(route.report(), None);
    route.report.reachable = true;
    let found = route.found_within(Duration::from_secs(70));
    assert_eq!(found[0].0, Duration::from_secs(65));
}
