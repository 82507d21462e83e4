//! What a new settings file means for the routes that run: which stay as they are, which are started, stopped or
//! restarted. Pure: it compares, and changes nothing.

use std::collections::BTreeMap;

use super::plan::Plan;
use crate::settings::RouteName;

/// What happens to one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Kept,
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Something of it is different: settings, or the plugin's code.
    Restarted,
}

/// What tells one version of a route from another.
pub trait Version {
    /// Whether a route that runs as `self` has to be restarted to run as `other`.
    fn differs(&self, other: &Self) -> bool;
}

impl Version for Plan {
    fn differs(&self, other: &Self) -> bool {
        self.route != other.route
            || self.library.hash != other.library.hash
            || self.worker.properties != other.worker.properties
            || self.worker.home.environment != other.worker.home.environment
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
            Some(old) if old.differs(new) => Change::Restarted,
            Some(_) => Change::Kept,
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

    impl Version for u8 {
        fn differs(&self, other: &Self) -> bool {
            self != other
        }
    }

    fn routes() -> impl Strategy<Value = BTreeMap<RouteName, u8>> {
        proptest::collection::btree_map(0_u8..8, 0_u8..3, 0..8).prop_map(|routes| {
            routes
                .into_iter()
                .map(|(name, version)| (format!("r{name}").parse().unwrap(), version))
                .collect()
        })
    }

    proptest! {
        /// apply(diff(a, b), a) = b, and what is kept is the same in both.
        #[test]
        fn applying_the_difference_gives_the_new_routes(a in routes(), b in routes()) {
            let mut applied = a.clone();
            for (name, change) in diff(&a, &b) {
                match change {
                    Change::Kept => prop_assert_eq!(a.get(&name), b.get(&name)),
                    Change::Removed => { applied.remove(&name); }
                    Change::Added | Change::Restarted => { applied.insert(name.clone(), b[&name]); }
                }
            }
            prop_assert_eq!(applied, b);
        }
    }
}
