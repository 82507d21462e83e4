//! Slow lanes: what stands behind a message that takes long goes to another lane, so that no key waits for another's.

use std::time::{Duration, Instant};

use super::{calls::Standing, engine::Engine};
use crate::lane::CallNumber;

/// A lane that has been at one message for so long is slow.
const SLOW: Duration = Duration::from_millis(20);
/// How often lanes are looked at.
const LOOK: Duration = Duration::from_millis(10);

impl Engine {
    /// Takes back what slow lanes have not begun.
    pub(super) fn mind_slow_lanes(&mut self, now: Instant) {
        if self.lanes.len() < 2 || now < self.next_look || !self.is_up() {
            return;
        }
        self.next_look = now + LOOK;
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].calls == 0 {
                continue;
            }
            let at = self.home.progress(lane);
            let state = &mut self.lanes[lane];
            if state.seen.0 != at {
                state.seen = (at, now);
                state.recalled = false;
            } else if !state.recalled && now.saturating_duration_since(state.seen.1) >= SLOW {
                state.recalled = true;
                if self.has_more(lane, at.index) {
                    self.recall(lane);
                }
            }
        }
    }

    /// When they are looked at next, if any could be slow.
    pub(super) fn look_at(&self) -> Option<Instant> {
        let busy = self.lanes.len() > 1 && self.lanes.iter().any(|lane| lane.calls > 0 && !lane.recalled);
        busy.then_some(self.next_look)
    }

    /// Whether a lane has messages behind the one that it is at.
    fn has_more(&self, lane: usize, index: u32) -> bool {
        let out = |call: &&super::calls::InHand| call.lane == lane && !call.returned;
        let messages: usize = self.calls.values().filter(out).map(|call| call.open).sum();
        let _ = index;
        messages > 1
    }

    /// Takes back what a lane has not begun: it waits in its queues again.
    pub(super) fn recall(&mut self, lane: usize) {
        let Some((number, first)) = self.home.recall(lane) else {
            return;
        };
        let of_lane =
            |call: &&super::calls::InHand| call.lane == lane && !call.returned && call.number >= number;
        let mut numbers: Vec<CallNumber> = self
            .calls
            .values()
            .filter(of_lane)
            .map(|call| call.number)
            .collect();
        // The last first: each message then stands before all that were put back.
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        for call_number in numbers {
            let Some(mut call) = self.calls.remove(&call_number) else {
                continue;
            };
            let from = if call_number > number {
                0
            } else if self.config.takes_batches && first > 0 {
                // All of it is in hand at once.
                call.items.len()
            } else {
                first as usize
            };
            for index in (from..call.items.len()).rev() {
                if call.items[index].standing != Standing::Out {
                    continue;
                }
                let slot = call.items[index].slot;
                self.put_back(&mut call, index);
                if self.config.is_straight() {
                    self.hold_straight(slot);
                }
            }
            self.calls.insert(call_number, call);
        }
    }
}
