//! What the threads take too long for. A thread cannot be ended: it is named, and its route stands still.

use std::{sync::Arc, time::Duration};

use devour_abi::Progress;

use super::{Subject, ThreadHome};
use crate::lane::{CallNumber, DownCause, Home, HomeEvent, in_hand::AtWork};

/// Memory that was not used for so long is given back, if it is worth it.
const IDLE: Duration = Duration::from_secs(5);
const WORTH_IT: usize = 1 << 20;

impl ThreadHome {
    fn subject(&self, lane: usize) -> Subject {
        let Some(life) = self.life.as_ref().filter(|life| life.ending.is_none()) else {
            return Subject::Nothing;
        };
        if !life.threads[lane].up {
            return Subject::Building;
        }
        let state = &self.lanes[lane];
        match state.in_hand.at_work() {
            AtWork::Step => Subject::Step(state.steps_answered),
            AtWork::Call(_) if self.config.digest_timeout.is_some() && !self.suspended => {
                Subject::Digest(self.progress(lane))
            }
            _ => Subject::Nothing,
        }
    }

    /// Nothing is kept, and the stock holds memory.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty()
            && self
                .stock
                .as_ref()
                .is_some_and(|stock| stock.touched() > WORTH_IT && stock.is_empty())
    }

    pub(super) fn tick(&mut self) {
        let times = self.timer.drain();
        let waited = self.period * u32::try_from(times.min(2)).unwrap_or(2);
        self.clock += waited;
        if self.suspended {
            let taken = self.lanes.iter_mut().flat_map(|lane| &mut lane.taken);
            taken.for_each(|(_, _, _, at)| *at += waited);
        }
        let mut any = self.mind_end() | self.mind_memory(times);
        for lane in 0..self.lanes.len() {
            let subject = self.subject(lane);
            any |= subject != Subject::Nothing || !self.lanes[lane].taken.is_empty() || self.suspended;
            if subject == Subject::Nothing {
                self.lanes[lane].watch.stop();
            } else {
                let waited = self.lanes[lane].watch.tick(subject, times);
                self.mind_lane(subject, waited);
            }
            self.mind_taken(lane);
        }
        if !any {
            self.timer.stop();
            self.ticking = false;
        }
    }

    fn mind_lane(&mut self, subject: Subject, waited: Duration) {
        let (lifecycle, digest) = (self.config.lifecycle_timeout, self.config.digest_timeout);
        let (text, missed) = match subject {
            Subject::Building if waited >= lifecycle => (
                format!("its constructor did not return within {lifecycle:?}"),
                None,
            ),
            Subject::Step(_) if waited >= lifecycle => (
                format!("a lifecycle call did not return within {lifecycle:?}"),
                None,
            ),
            Subject::Digest(at) if digest.is_some_and(|limit| waited >= limit) => (self.late(at), Some(at)),
            _ => return,
        };
        self.missed(text, missed);
    }

    /// A message that was taken has its deadline from then on.
    fn mind_taken(&mut self, lane: usize) {
        let Some(limit) = self.config.digest_timeout else {
            self.lanes[lane].taken.clear();
            return;
        };
        if self.life.as_ref().is_none_or(|life| life.ending.is_some()) {
            return;
        }
        let state = &mut self.lanes[lane];
        while let Some((call, first, count, at)) = state.taken.front().copied() {
            let open = (first..first + count).find(|index| state.in_hand.is_open(call, *index));
            let Some(index) = open else {
                state.taken.pop_front();
                continue;
            };
            if self.clock.saturating_sub(at) >= limit {
                let at = Progress { call, index };
                let text = self.late(at);
                self.missed(text, Some(at));
            }
            return;
        }
    }

    fn late(&self, at: Progress) -> String {
        let limit = self.config.digest_timeout.unwrap_or_default();
        format!(
            "the digest of {} did not return within {limit:?}",
            self.describe(at)
        )
    }

    fn missed(&mut self, text: String, at: Option<Progress>) {
        let route = &self.config.route;
        tracing::error!(%route, "{text}; a thread cannot be ended, so the route stands still until it returns");
        self.pending.push(HomeEvent::Stuck(text.clone()));
        self.wake.signal();
        if let Some(life) = &mut self.life {
            life.missed = at;
        }
        self.end(DownCause::Deadline(text));
    }

    /// Names a thread that was told to end and does not. Whether there is something to wait for.
    fn mind_end(&mut self) -> bool {
        let Some(life) = self
            .life
            .as_ref()
            .filter(|life| life.ending.is_some() && !life.named)
        else {
            return false;
        };
        if self.clock.saturating_sub(life.ending_since) < self.config.lifecycle_timeout {
            return true;
        }
        let at = self.describe_all();
        let calls: usize = self.lanes.iter().map(|lane| lane.in_hand.calls()).sum();
        if let Some(life) = &mut self.life {
            life.named = true;
        }
        self.pending.push(HomeEvent::Stuck(format!(
            "a thread of the plugin does not end: {at}"
        )));
        self.wake.signal();
        tracing::error!(route = %self.config.route, calls, at,
            "the plugin's thread does not end; what it has in hand stays in memory. Only a restart of the daemon helps");
        false
    }

    /// Gives back memory that was not used for a while. Whether there is some.
    fn mind_memory(&mut self, times: u64) -> bool {
        if !self.is_idle() {
            self.idle.stop();
            return false;
        }
        if self.idle.tick(true, times) < IDLE {
            return true;
        }
        if let Some(stock) = &mut self.stock {
            let renewed = stock.renew().and_then(|()| stock.view());
            match renewed {
                Ok(view) => self.view = Some(Arc::new(view)),
                Err(error) => {
                    tracing::warn!(route = %self.config.route, %error, "unused memory cannot be given back");
                }
            }
        }
        false
    }

    /// Runs of messages that were taken, to be watched.
    pub(super) fn note_taken(&mut self, lane: usize, call: CallNumber, first: u32, count: u32) {
        if self.config.digest_timeout.is_some() {
            self.lanes[lane].taken.push_back((call, first, count, self.clock));
            self.tick_from_now();
        }
    }

    /// What each lane has in hand, for people.
    pub(super) fn describe_all(&self) -> String {
        let busy = (0..self.lanes.len()).filter(|lane| self.lanes[*lane].in_hand.calls() > 0);
        let texts: Vec<String> = busy.map(|lane| self.describe(self.progress(lane))).collect();
        texts.join(", ")
    }

    fn describe(&self, at: Progress) -> String {
        let known = self.calls.get(&at.call).and_then(|held| {
            let (slot, offset) = held.call.position(at.index)?;
            let (topic, partition) = self.slots.get(&slot)?;
            Some(format!("{topic}/{partition} at offset {offset}"))
        });
        known.unwrap_or_else(|| format!("call {}", at.call))
    }
}
