//! When a plugin's file counts as changed: it is whole, and its content was the same at two looks, half a second apart.
//! Who copies a file in pieces, or replaces it and then its neighbour, is thus waited for. Pure: it is told what was
//! seen and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// So long a file must stay as it is.
pub(super) const SETTLE: Duration = Duration::from_millis(500);

/// A file that cannot be used is named after this time: until then somebody may be writing it.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// What a file is at one look; one that is not there has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look<V> {
    /// A whole library, of this version.
    Whole(V),
    /// It cannot be used as it is, and why.
    Unusable(String),
}

/// What was seen at one time.
pub(super) type Seen<V> = BTreeMap<PathBuf, Look<V>>;

/// The versions that count, and what is waited for.
#[derive(Debug)]
pub(super) struct Settling<V> {
    counts: BTreeMap<PathBuf, V>,
    waits: BTreeMap<PathBuf, Waiting<V>>,
}

#[derive(Debug)]
struct Waiting<V> {
    /// `None` is gone.
    seen: Option<Look<V>>,
    since: Instant,
    /// It was named as one that cannot be used.
    named: bool,
}

/// What a look leads to.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub(super) struct Settled {
    /// Files that count as changed, added or gone from now on.
    pub changed: Vec<PathBuf>,
    /// Files that cannot be used and have stayed so for a while, each named once, with the reason.
    pub unusable: Vec<(PathBuf, String)>,
    /// When to look again although nothing happens.
    pub again: Option<Instant>,
}

// === impl Settling ===

impl<V: Clone + Eq> Settling<V> {
    /// What is there at first counts. What cannot be used is not named: who needs it finds out by itself.
    pub(super) fn new(now: Instant, seen: Seen<V>) -> Self {
        let (mut counts, mut waits) = (BTreeMap::new(), BTreeMap::new());
        for (file, look) in seen {
            match look {
                Look::Whole(version) => {
                    counts.insert(file, version);
                }
                Look::Unusable(_) => {
                    let (seen, since, named) = (Some(look), now, true);
                    waits.insert(file, Waiting { seen, since, named });
                }
            }
        }
        Self { counts, waits }
    }

    /// Takes in what is seen now.
    pub(super) fn look(&mut self, now: Instant, mut seen: Seen<V>) -> Settled {
        let known = self.counts.keys().chain(self.waits.keys()).chain(seen.keys());
        let files: BTreeSet<PathBuf> = known.cloned().collect();
        let mut settled = Settled::default();
        for file in files {
            let look = seen.remove(&file);
            self.file(now, file, look, &mut settled);
        }
        settled
    }

    fn file(&mut self, now: Instant, file: PathBuf, seen: Option<Look<V>>, settled: &mut Settled) {
        if self.is_as_it_counts(&file, seen.as_ref()) {
            self.waits.remove(&file);
            return;
        }
        let waiting = self.waits.entry(file.clone()).or_insert_with(|| Waiting {
            seen: seen.clone(),
            since: now,
            named: false,
        });
        if waiting.seen != seen {
            // Unusable for another reason is not news worth a second line.
            let still = matches!(
                (&waiting.seen, &seen),
                (Some(Look::Unusable(_)), Some(Look::Unusable(_)))
            );
            *waiting = Waiting {
                named: still && waiting.named,
                seen,
                since: now,
            };
        }
        let (wait, is_due) = match &waiting.seen {
            Some(Look::Unusable(_)) if waiting.named => return,
            Some(Look::Unusable(_)) => (PATIENCE, now >= waiting.since + PATIENCE),
            _ => (SETTLE, now >= waiting.since + SETTLE),
        };
        if !is_due {
            let at = waiting.since + wait;
            settled.again = Some(settled.again.map_or(at, |again| again.min(at)));
            return;
        }
        match &waiting.seen {
            Some(Look::Unusable(why)) => {
                settled.unusable.push((file, why.clone()));
                waiting.named = true;
            }
            Some(Look::Whole(version)) => {
                self.counts.insert(file.clone(), version.clone());
                self.waits.remove(&file);
                settled.changed.push(file);
            }
            None => {
                self.counts.remove(&file);
                self.waits.remove(&file);
                settled.changed.push(file);
            }
        }
    }

    fn is_as_it_counts(&self, file: &Path, seen: Option<&Look<V>>) -> bool {
        match (seen, self.counts.get(file)) {
            (None, None) => true,
            (Some(Look::Whole(seen)), Some(counts)) => seen == counts,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn seen(files: &[(&str, Look<u8>)]) -> Seen<u8> {
        files
            .iter()
            .map(|(file, look)| (PathBuf::from(file), look.clone()))
            .collect()
    }

    fn unusable() -> Look<u8> {
        Look::Unusable("it ends too soon".to_owned())
    }

    #[test]
    fn a_new_file_counts_when_it_stayed_the_same_for_half_a_second() {
        let t = Instant::now();
        let mut settling = Settling::new(t, Seen::new());
        let dropped = seen(&[("a.so", Look::Whole(1))]);
        let first = settling.look(t, dropped.clone());
        assert_eq!((first.changed.len(), first.again), (0, Some(t + SETTLE)));
        assert!(settling.look(t + 499 * MS, dropped.clone()).changed.is_empty());
        let then = settling.look(t + 500 * MS, dropped.clone());
        assert_eq!(then.changed, [Path::new("a.so")]);
        assert_eq!(
            settling.look(t + 900 * MS, dropped),
            Settled::default(),
            "and once"
        );
    }

    #[test]
    fn one_that_changes_again_begins_anew_and_one_that_is_put_back_never_changed() {
        let t = Instant::now();
        let mut settling = Settling::new(t, seen(&[("a.so", Look::Whole(1))]));
        let _ = settling.look(t, seen(&[("a.so", Look::Whole(2))]));
        let other = settling.look(t + 600 * MS, seen(&[("a.so", Look::Whole(3))]));
        assert_eq!(
            (other.changed.len(), other.again),
            (0, Some(t + 600 * MS + SETTLE))
        );
        let back = settling.look(t + 700 * MS, seen(&[("a.so", Look::Whole(1))]));
        assert_eq!(back, Settled::default());
    }

    #[test]
    fn a_gap_between_removal_and_replacement_is_no_removal() {
        let t = Instant::now();
        let mut settling = Settling::new(t, seen(&[("a.so", Look::Whole(1))]));
        assert!(settling.look(t, Seen::new()).changed.is_empty());
        assert!(
            settling
                .look(t + 400 * MS, seen(&[("a.so", unusable())]))
                .changed
                .is_empty()
        );
        let _ = settling.look(t + 600 * MS, seen(&[("a.so", Look::Whole(2))]));
        let whole = settling.look(t + 1100 * MS, seen(&[("a.so", Look::Whole(2))]));
        assert_eq!(whole.changed, [Path::new("a.so")]);
        let _ = settling.look(t + 2000 * MS, Seen::new());
        assert_eq!(
            settling.look(t + 2500 * MS, Seen::new()).changed,
            [Path::new("a.so")]
        );
    }

    #[test]
    fn what_cannot_be_used_is_named_once_and_only_after_a_while() {
        let t = Instant::now();
        let mut settling = Settling::new(t, Seen::new());
        let half = seen(&[("a.so", unusable())]);
        assert_eq!(settling.look(t, half.clone()).again, Some(t + PATIENCE));
        let named = settling.look(t + PATIENCE, half.clone());
        assert_eq!((named.unusable.len(), named.changed.len()), (1, 0));
        assert_eq!(settling.look(t + 2 * PATIENCE, half), Settled::default());
    }

    /// What may be seen of a file: gone, unusable, or one of three versions.
    fn looks() -> impl Strategy<Value = Option<Look<u8>>> {
        prop_oneof![
            1 => Just(None),
            1 => Just(Some(unusable())),
            3 => (0_u8..3).prop_map(|version| Some(Look::Whole(version))),
        ]
    }

    fn files() -> impl Strategy<Value = Seen<u8>> {
        proptest::collection::vec(looks(), 3).prop_map(|looks| {
            let named = looks
                .into_iter()
                .zip(["a.so", "b.so", "c.so"])
                .filter_map(|(look, file)| Some((PathBuf::from(file), look?)));
            named.collect()
        })
    }

    proptest! {
        /// Every change that is told was seen at two looks at least half a second apart, and at every look between.
        #[test]
        fn nothing_counts_that_did_not_stay(
            first in files(),
            steps in proptest::collection::vec((files(), 1_u32..900), 1..12),
        ) {
            let begin = Instant::now();
            let mut settling = Settling::new(begin, first);
            let (mut now, mut past) = (begin, Vec::<(Instant, Seen<u8>)>::new());
            for (seen, wait) in steps {
                now += wait * MS;
                past.push((now, seen.clone()));
                for file in settling.look(now, seen.clone()).changed {
                    let look = seen.get(&file);
                    prop_assert!(!matches!(look, Some(Look::Unusable(_))));
                    let stayed = past.iter().rev().take_while(|(_, then)| then.get(&file) == look);
                    let since = stayed.last().map(|(at, _)| *at);
                    prop_assert!(since.is_some_and(|since| now - since >= SETTLE), "{file:?}");
                }
            }
        }

        /// Whatever happened before: once the files stay as they are, looking when it asks for it makes what counts
        /// equal to what is there, each change is told once, and then it asks for nothing more.
        #[test]
        fn in_the_end_what_is_there_counts(
            first in files(),
            steps in proptest::collection::vec((files(), 1_u32..900), 0..12),
            last in files(),
        ) {
            let begin = Instant::now();
            let mut settling = Settling::new(begin, first.clone());
            let mut told: BTreeMap<PathBuf, Option<u8>> = BTreeMap::new();
            let whole = |seen: &Seen<u8>, file: &Path| match seen.get(file) {
                Some(Look::Whole(version)) => Some(*version),
                _ => None,
            };
            let mut now = begin;
            for (seen, wait) in steps {
                now += wait * MS;
                for file in settling.look(now, seen.clone()).changed {
                    let version = whole(&seen, &file);
                    told.insert(file, version);
                }
            }
            let mut looks = 0;
            loop {
                looks += 1;
                prop_assert!(looks < 20, "it never comes to rest");
                let settled = settling.look(now, last.clone());
                for file in settled.changed {
                    let version = whole(&last, &file);
                    told.insert(file, version);
                }
                match settled.again {
                    Some(again) => now = now.max(again),
                    None => break,
                }
            }
            for file in ["a.so", "b.so", "c.so"].map(Path::new) {
                if matches!(last.get(file), Some(Look::Unusable(_))) {
                    continue;
                }
                let known = told.get(file).copied().unwrap_or_else(|| whole(&first, file));
                prop_assert_eq!(known, whole(&last, file));
            }
        }
    }
}
