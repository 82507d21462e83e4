//! How many descriptors the routes of the settings will need, so that a limit is named before it is met.

use crate::settings::{Isolation, Route};

/// The daemon itself: its log, runtime, signals, control socket, and what is open for a moment.
const DAEMON: u64 = 64;
/// A client of librdkafka: pipes and eventfds of its own, and connections for a few brokers more than are named.
const CLIENT: u64 = 24;
/// What a route sleeps on and keeps its messages in.
const ROUTE: u64 = 12;
/// A plugin's process: talk socket, pipes, library, death, page of cells, and the same again while it is replaced.
const PROCESS: u64 = 16;

/// As much as these routes will need together.
#[must_use]
pub fn needed(routes: &[Route]) -> u64 {
    routes.iter().map(of).sum::<u64>() + DAEMON
}

fn of(route: &Route) -> u64 {
    let lanes = route.concurrency.lanes as u64;
    // Two connections for each broker.
    let brokers = route.cluster.hosts.len() as u64 * 2;
    let clients = if route.on_error.dead_letter.is_some() {
        2
    } else {
        1
    };
    let plugin = match route.isolation {
        Isolation::Process => PROCESS + 2 * lanes,
        Isolation::Thread => lanes,
    };
    ROUTE + clients * (CLIENT + brokers) + plugin
}

/// What to say of a limit that is too low; `None` if it is not.
#[must_use]
pub fn warning(routes: &[Route], limit: Option<u64>) -> Option<String> {
    let needed = needed(routes);
    let limit = limit.filter(|limit| *limit < needed)?;
    Some(format!(
        "the {} routes will need about {needed} descriptors, and this process may have {limit}: raise its hard limit \
         (`LimitNOFILE=` in a unit, `ulimit -Hn` in a shell)",
        routes.len()
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::settings;

    fn routes(text: &str) -> Vec<Route> {
        let text = format!("hosts: a:1\nconsumer_routes:\n{text}");
        settings::parse(
            "settings.yaml".as_ref(),
            text.as_bytes(),
            &settings::ProcessEnvironment,
        )
        .unwrap()
        .routes
    }

    #[test]
    fn a_limit_that_the_routes_will_meet_is_named() {
        let hundred: String = (0..100).map(|n| format!("  r{n}: a.so::B\n")).collect();
        let hundred = routes(&hundred);
        assert_eq!(warning(&hundred, None), None);
        assert_eq!(warning(&hundred, Some(65_536)), None);
        let warning = warning(&hundred, Some(1024)).unwrap();
        assert!(
            warning.starts_with("the 100 routes will need about "),
            "{warning}"
        );
    }

    #[test]
    fn lanes_and_dead_letters_need_more() {
        let plain = needed(&routes("  r: a.so::B\n"));
        let lanes = needed(&routes("  r: {path: a.so, symbol: B, concurrency: {lanes: 8}}\n"));
        let letters =
            "  r: {path: a.so, symbol: B, on_error: {then: dead_letter, dead_letter: {topic: d}}}\n";
        assert_eq!(lanes - plain, 14);
        assert!(needed(&routes(letters)) > plain);
    }
}
