//! What the plugin's process takes too long for, counted in the daemon's own ticks.

use std::time::Duration;

use devour_abi::Progress;

use super::{CLOSED_GRACE, Doomed, IDLE, ProcessHome, Subject, WORTH_IT};
use crate::lane::{
    CallNumber, DownCause, Home, channel::ToLane, in_hand::AtWork, plugin_process::Stage, printed::Ear,
};

/// What the other lanes have to give back what they hold, before the process is ended because of one.
const LANES_GRACE: Duration = Duration::from_secs(1);

/// What whoever minds SIGTERM has at least, before SIGKILL comes.
const TERM_GRACE: Duration = Duration::from_millis(100);

impl ProcessHome {
    /// What has a deadline in the process as a whole.
    fn subject_of_process(&self) -> Subject {
        let Some(process) = &self.process else {
            return Subject::Nothing;
        };
        if process.killed.is_some() {
            return Subject::Nothing;
        }
        if process.closed {
            return Subject::Closed;
        }
        if process.stage == Stage::Building {
            return Subject::Building;
        }
        let idle = || {
            self.lanes
                .iter()
                .all(|lane| lane.in_hand.at_work() == AtWork::Idle)
        };
        if self.calls.touched() > WORTH_IT && self.calls.is_empty() && idle() {
            return Subject::Idle;
        }
        Subject::Nothing
    }

    /// What has a deadline in a lane.
    fn subject_of_lane(&self, lane: usize) -> Subject {
        let up = |process: &super::PluginProcess| process.is_up();
        if !self.process.as_ref().is_some_and(up) {
            return Subject::Nothing;
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

    pub(super) fn tick(&mut self) {
        let times = self.timer.drain();
        if self.rate.owes() {
            Ear {
                route: &self.config.route,
                voice: &*self.config.voice,
                rate: &mut self.rate,
            }
            .settle();
        }
        let waited = self.process_watch.period() * u32::try_from(times.min(2)).unwrap_or(2);
        self.clock += waited;
        if self.suspended {
            let taken = self.lanes.iter_mut().flat_map(|lane| &mut lane.taken);
            taken.for_each(|run| run.at += waited);
        }
        let subject = self.subject_of_process();
        let mut any = subject != Subject::Nothing || self.doomed.is_some();
        if subject == Subject::Nothing {
            self.process_watch.stop();
        } else {
            let waited = self.process_watch.tick(subject, times);
            self.mind_process(subject, waited);
        }
        for lane in 0..self.lanes.len() {
            let subject = self.subject_of_lane(lane);
            any |= subject != Subject::Nothing || !self.lanes[lane].taken.is_empty() || self.suspended;
            if subject == Subject::Nothing {
                self.lanes[lane].watch.stop();
            } else {
                let waited = self.lanes[lane].watch.tick(subject, times);
                self.mind_lane(lane, subject, waited);
            }
            self.mind_taken(lane);
        }
        self.mind_doomed();
        if !any {
            self.timer.stop();
            self.ticking = false;
        }
    }

    fn mind_process(&mut self, subject: Subject, waited: Duration) {
        let lifecycle = self.config.lifecycle_timeout;
        let missed = match subject {
            Subject::Building if waited >= lifecycle => DownCause::Deadline(format!(
                "its constructor did not return within {lifecycle:?}; it was ended"
            )),
            Subject::Closed if waited >= CLOSED_GRACE => {
                DownCause::Protocol("it closed its sockets and lived on".into())
            }
            Subject::Idle if waited >= IDLE => return self.give_back_memory(),
            _ => return,
        };
        if let Some(process) = &mut self.process {
            process.kill(missed);
        }
    }

    fn mind_lane(&mut self, lane: usize, subject: Subject, waited: Duration) {
        let lifecycle = self.config.lifecycle_timeout;
        match subject {
            Subject::Step(_) if waited >= lifecycle => {
                let cause = DownCause::Deadline(format!(
                    "a lifecycle call did not return within {lifecycle:?}; it was ended"
                ));
                self.doom(lane, cause, None);
            }
            Subject::Digest(at) if self.config.digest_timeout.is_some_and(|limit| waited >= limit) => {
                let cause = self.late(at);
                self.doom(lane, cause, Some(at));
            }
            _ => {}
        }
    }

    /// A message that was taken has its deadline from then on.
    fn mind_taken(&mut self, lane: usize) {
        let Some(limit) = self.config.digest_timeout else {
            self.lanes[lane].taken.clear();
            return;
        };
        let state = &mut self.lanes[lane];
        while let Some(run) = state.taken.front() {
            let open =
                (run.first..run.first + run.count).find(|index| state.in_hand.is_open(run.call, *index));
            let Some(index) = open else {
                state.taken.pop_front();
                continue;
            };
            if self.clock.saturating_sub(run.at) < limit {
                return;
            }
            let at = Progress {
                call: run.call,
                index,
            };
            let cause = self.late(at);
            return self.doom(lane, cause, Some(at));
        }
    }

    fn late(&self, at: Progress) -> DownCause {
        let limit = self.config.digest_timeout.unwrap_or_default();
        let message = self.describe(at);
        DownCause::Deadline(format!(
            "the digest of {message} did not return within {limit:?}; it was ended"
        ))
    }

    /// The process is to end because of one lane: the others finish the message in hand, if that is soon.
    fn doom(&mut self, lane: usize, cause: DownCause, missed: Option<Progress>) {
        if self.doomed.is_some() {
            return;
        }
        self.cut();
        // Who minds it, the plugin or what it has started, has until the other lanes are done.
        if let Some(process) = &self.process {
            process.child.terminate_group();
        }
        self.doomed = Some(Doomed {
            cause,
            lane,
            missed,
            since: self.clock,
        });
    }

    pub(super) fn mind_doomed(&mut self) {
        let Some(doomed) = &self.doomed else { return };
        let others = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(lane, _)| *lane != doomed.lane);
        let idle = others
            .into_iter()
            .all(|(_, lane)| lane.in_hand.at_work() == AtWork::Idle);
        let waited = self.clock.saturating_sub(doomed.since);
        if (idle && waited >= TERM_GRACE) || waited >= LANES_GRACE {
            let cause = doomed.cause.clone();
            if let Some(process) = &mut self.process {
                process.kill(cause);
            }
        }
    }

    fn describe(&self, at: Progress) -> String {
        let known = self.calls.position(at.call, at.index).and_then(|(slot, offset)| {
            let (topic, partition) = self.slots.get(&slot.0)?;
            Some(format!("{topic}/{partition} at offset {offset}"))
        });
        known.unwrap_or_else(|| format!("call {}", at.call))
    }

    /// Runs of messages that were taken, to be watched.
    pub(super) fn note_taken(&mut self, lane: usize, call: CallNumber, first: u32, count: u32) {
        if self.config.digest_timeout.is_some() {
            let at = self.clock;
            self.lanes[lane].taken.push_back(super::TakenRun {
                call,
                first,
                count,
                at,
            });
            self.tick_from_now();
        }
    }

    fn give_back_memory(&mut self) {
        if let Err(error) = self.calls.renew() {
            tracing::warn!(route = %self.config.route, %error, "unused memory cannot be given back");
            return;
        }
        self.send_arena();
    }

    /// Tells all lanes of memory that their messages lie in from now on.
    pub(super) fn send_arena(&mut self) {
        let Some(process) = &mut self.process else { return };
        let arena = self.calls.arena_fd();
        ToLane::arena(&mut self.frame, self.calls.arena_bytes() as u64);
        let mut sent = Ok(());
        for work in &mut process.works {
            sent = sent.and(work.send(&self.poller, &self.frame, Some(arena)));
        }
        self.check_sent(sent);
    }
}
