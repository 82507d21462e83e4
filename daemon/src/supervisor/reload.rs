//! What new settings or a new plugin file mean for the routes that run: which stay as they are, which get new code or
//! plugin settings, which are started, stopped or restarted. Pure: it compares, and changes nothing.

use std::collections::BTreeMap;

use super::plan::Plan;
use crate::settings::{Route, RouteName};

/// What happens to one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Kept,
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its plugin is replaced: new code, or settings that concern the plugin alone. Its client and assignment stay.
    Swapped,
    /// It gets a new client: something differs that a client is made of, or that its life depends on.
    Restarted,
}

/// How far one version of a route is from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// They run alike.
    None,
    /// The plugin is another, the client the same.
    Plugin,
    /// The client is another.
    Client,
}

/// What tells one version of a route from another.
pub trait Version {
    /// What has to be replaced so that a route that runs as `self` runs as `other`.
    fn distance(&self, other: &Self) -> Distance;
}

impl Version for Plan {
    fn distance(&self, other: &Self) -> Distance {
        let (old, new) = (&self.worker, &other.worker);
        let same = self.route == other.route
            && self.library.hash == other.library.hash
            && old.properties == new.properties
            && old.home.environment == new.home.environment;
        if same {
            Distance::None
        } else if self.has_the_client_of(other) {
            Distance::Plugin
        } else {
            Distance::Client
        }
    }
}

impl Plan {
    /// Whether a client that was made for `self` serves `other` too, with the messages that it has in hand. Every key of
    /// a route counts but those that are named here: a new one asks for a restart until somebody thought of it.
    fn has_the_client_of(&self, other: &Self) -> bool {
        let plugins_own = Route {
            path: self.route.path.clone(),
            symbol: self.route.symbol.clone(),
            settings: self.route.settings.clone(),
            digest_name: self.route.digest_name.clone(),
            dump: self.route.dump,
            schema_class: self.route.schema_class.clone(),
            tombstones: self.route.tombstones,
            batch: self.route.batch,
            flush: self.route.flush,
            rate_limit: self.route.rate_limit,
            on_error: self.route.on_error.clone(),
            restart: self.route.restart,
            lifecycle_timeout: self.route.lifecycle_timeout,
            drain_timeout: self.route.drain_timeout,
            digest_timeout: self.route.digest_timeout,
            release_after: self.route.release_after,
            poison_after: self.route.poison_after,
            ..other.route.clone()
        };
        let attributes = |plan: &Self| {
            let descriptor = &plan.descriptor;
            (
                descriptor.topic.clone(),
                descriptor.consumer_type,
                descriptor.config.clone(),
            )
        };
        plugins_own == self.route
            && attributes(self) == attributes(other)
            && self.worker.has_the_shape_of(&other.worker)
    }
}

/// Compares what runs with what shall run.
#[must_use]
pub fn diff<V: Version>(
    runs: &BTreeMap<RouteName, V>,
    shall: &BTreeMap<RouteName, V>,
) -> BTreeMap<RouteName, Change> {
    let mut changes: BTreeMap<RouteName, Change> = runs
        .keys()
        .filter(|name| !shall.contains_key(*name))
        .map(|name| (name.clone(), Change::Removed))
        .collect();
    for (name, new) in shall {
        let change = match runs.get(name) {
            None => Change::Added,
            Some(old) => match old.distance(new) {
                Distance::None => Change::Kept,
                Distance::Plugin => Change::Swapped,
                Distance::Client => Change::Restarted,
            },
        };
        changes.insert(name.clone(), change);
    }
    changes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The client's version, and the plugin's.
    type Both = (u8, u8);

    impl Version for Both {
        fn distance(&self, other: &Self) -> Distance {
            match self {
                same if same == other => Distance::None,
                (client, _) if *client == other.0 => Distance::Plugin,
                _ => Distance::Client,
            }
        }
    }

    fn routes() -> impl Strategy<Value = BTreeMap<RouteName, Both>> {
        proptest::collection::btree_map(0_u8..8, (0_u8..3, 0_u8..3), 0..8).prop_map(|routes| {
            routes
                .into_iter()
                .map(|(name, version)| (format!("r{name}").parse().unwrap(), version))
                .collect()
        })
    }

    proptest! {
        /// apply(diff(a, b), a) = b, what is kept is the same in both, and a swap touches no client.
        #[test]
        fn applying_the_difference_gives_the_new_routes(a in routes(), b in routes()) {
            let mut applied = a.clone();
            for (name, change) in diff(&a, &b) {
                match change {
                    Change::Kept => prop_assert_eq!(a.get(&name), b.get(&name)),
                    Change::Swapped => {
                        prop_assert_eq!(a[&name].0, b[&name].0);
                        applied.entry(name.clone()).and_modify(|(_, plugin)| *plugin = b[&name].1);
                    }
                    Change::Removed => { applied.remove(&name); }
                    Change::Added | Change::Restarted => { applied.insert(name.clone(), b[&name]); }
                }
            }
            prop_assert_eq!(applied, b);
        }
    }
}
