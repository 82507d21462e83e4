//! Messages that may have killed the plugin. What was in hand at a death that the plugin caused is suspect: it is
//! digested alone, one message at a time, until it is done or has shown that it kills. Only a message that was *alone* in
//! hand at so many deaths is poison. Pure: who is in hand, and who is ready, comes as an argument.
//!
//! Who has been alone at the fewest deaths goes first, so that what is only suspected is done soon, and the one that kills
//! costs its restarts last; then the lowest offset of a partition, for no suspect overtakes another of its order.

use std::collections::{BTreeSet, HashMap};

mod hooks;

use crate::lane::{CallNumber, DownCause, Slot};

/// The suspects of a route.
#[derive(Debug, Default)]
pub struct Suspects {
    known: HashMap<(Slot, i64), Suspect>,
    /// By the deaths at which each was alone.
    order: BTreeSet<(u32, Slot, i64)>,
    /// The call of the one that is alone in hand.
    alone: Option<CallNumber>,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    tag: u64,
    deaths: u32,
}

/// A message that was in hand at a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its partition.
    pub slot: Slot,
    /// Its offset.
    pub offset: i64,
    /// Its order tag.
    pub tag: u64,
}

/// What a death says of the messages that were in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing was in hand.
    Nobody,
    /// All of them are suspects.
    Suspects,
    /// The only one has been alone at so many deaths, and is tried again.
    Alone(u32),
    /// The only one has been alone at so many deaths: it is poison.
    Poison(u32),
}

/// Whether a plugin's end says something of the messages that it had in hand: only where it ended by itself. An end by
/// SIGKILL came from outside; one by panic, error or deadline is a failed attempt of a message that is known.
#[must_use]
pub fn counts(cause: &DownCause) -> bool {
    /// What a process gets for what it does. (`abort` of Rust's core is SIGTRAP on some machines.)
    const OWN: [&str; 7] = [
        "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGSYS", "SIGTRAP",
    ];
    match cause {
        DownCause::Exited(_) | DownCause::Memory(_) => true,
        DownCause::Signal(name) => OWN.contains(&name.as_str()),
        DownCause::NotBuilt(_)
        | DownCause::Broken(_)
        | DownCause::Protocol(_)
        | DownCause::Deadline(_)
        | DownCause::Ordered => false,
    }
}

// === impl Suspects ===

impl Suspects {
    /// The plugin died by itself with these messages in hand. A message that was alone at `poison_after` deaths is poison;
    /// `None` is never.
    pub fn died(&mut self, in_hand: &[Held], poison_after: Option<u32>) -> Judgement {
        self.suspect(in_hand);
        let [one] = in_hand else {
            return if in_hand.is_empty() {
                Judgement::Nobody
            } else {
                Judgement::Suspects
            };
        };
        let deaths = self
            .known
            .get(&(one.slot, one.offset))
            .map_or(1, |known| known.deaths + 1);
        self.set_deaths(one.slot, one.offset, deaths);
        match poison_after {
            Some(most) if deaths >= most => Judgement::Poison(deaths),
            _ => Judgement::Alone(deaths),
        }
    }

    /// They are digested alone from now on.
    pub fn suspect(&mut self, in_hand: &[Held]) {
        for held in in_hand {
            let key = (held.slot, held.offset);
            let suspect = *self.known.entry(key).or_insert(Suspect {
                tag: held.tag,
                deaths: 0,
            });
            self.order.insert((suspect.deaths, held.slot, held.offset));
        }
    }

    fn set_deaths(&mut self, slot: Slot, offset: i64, deaths: u32) {
        if let Some(known) = self.known.get_mut(&(slot, offset)) {
            self.order.remove(&(known.deaths, slot, offset));
            known.deaths = deaths;
            self.order.insert((deaths, slot, offset));
        }
    }

    /// Who goes next, alone, of those that could go now: their tag, partition and offset.
    pub fn next(&self, is_ready: impl Fn(Held) -> bool) -> Option<Held> {
        let held = |(_, slot, offset): &(u32, Slot, i64)| {
            let known = self.known.get(&(*slot, *offset))?;
            Some(Held {
                slot: *slot,
                offset: *offset,
                tag: known.tag,
            })
        };
        self.order.iter().filter_map(held).find(|held| is_ready(*held))
    }

    /// A message comes again that was alone at so many deaths.
    pub fn suspect_again(&mut self, held: Held, deaths: u32) {
        self.suspect(&[held]);
        self.set_deaths(held.slot, held.offset, deaths);
    }

    /// All of them, and the deaths at which each was alone.
    #[must_use]
    pub fn all(&self) -> Vec<(Held, u32)> {
        let held = |(&(slot, offset), known): (&(Slot, i64), &Suspect)| {
            let tag = known.tag;
            (Held { slot, offset, tag }, known.deaths)
        };
        self.known.iter().map(held).collect()
    }

    /// A message is done, given up or passed by. Whether it was the last suspect.
    pub fn finished(&mut self, slot: Slot, offset: i64) -> bool {
        let Some(known) = self.known.remove(&(slot, offset)) else {
            return false;
        };
        self.order.remove(&(known.deaths, slot, offset));
        self.known.is_empty()
    }

    /// A person wants a message to be tried again as if it had never killed. It stays alone.
    pub fn forgive(&mut self, slot: Slot, offset: i64) {
        self.set_deaths(slot, offset, 0);
    }

    /// Another plugin has not shown yet what kills it.
    pub fn forgive_all(&mut self) {
        self.alone = None;
        let known: Vec<(Slot, i64)> = self.known.keys().copied().collect();
        known
            .into_iter()
            .for_each(|(slot, offset)| self.forgive(slot, offset));
    }

    /// The messages of a partition are another's now, or are read again.
    pub fn forget(&mut self, slot: Slot) {
        self.known.retain(|(of, _), _| *of != slot);
        self.order.retain(|(_, of, _)| *of != slot);
    }

    /// A message is one.
    #[must_use]
    pub fn knows(&self, slot: Slot, offset: i64) -> bool {
        self.known.contains_key(&(slot, offset))
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
#[path = "suspects/tests.rs"]
mod tests;
