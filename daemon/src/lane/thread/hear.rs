//! What the thread says, its end, and what it takes too long for.

use std::{sync::Arc, time::Duration};

use devour_abi::{FailureKind, Progress};

use super::{SAID, Subject, TIMER, ThreadHome};
use crate::lane::{DownCause, Home, HomeEvent, Source, in_hand::AtWork, thread_lane::Said};

impl ThreadHome {
    pub(super) fn hear(&mut self, events: &mut Vec<HomeEvent>) {
        events.append(&mut self.pending);
        let mut tokens = std::mem::take(&mut self.tokens);
        if let Err(error) = self.poller.wait(&mut tokens, Some(Duration::ZERO)) {
            tracing::error!(route = %self.config.route, %error, "the plugin's descriptors cannot be waited for");
        }
        for token in &tokens {
            match *token {
                SAID => {
                    let Some(shared) = self.life.as_ref().map(|life| Arc::clone(&life.shared)) else {
                        continue;
                    };
                    shared.wake.drain();
                    while let Some(said) = shared.said.pop() {
                        if let Err(what) = self.apply(said, events) {
                            self.end(DownCause::Protocol(what));
                        }
                    }
                }
                TIMER => self.tick(),
                _ => {
                    self.wake.drain();
                }
            }
        }
        self.tokens = tokens;
    }

    fn apply(&mut self, said: Said, events: &mut Vec<HomeEvent>) -> Result<(), String> {
        match said {
            Said::Up => {
                if let Some(life) = &mut self.life {
                    life.up = true;
                    events.push(HomeEvent::Up { pid: None });
                }
            }
            Said::NotBuilt(why) => self.end(DownCause::NotBuilt(why)),
            Said::Failed { call, index, failure } => {
                self.in_hand.failed(call, index)?;
                if self.is_wanted(call) {
                    events.push(HomeEvent::Failed { call, index, failure });
                }
            }
            Said::NotBegun { call, first, count } => {
                self.in_hand.not_begun(call, first, count)?;
                if self.is_wanted(call) {
                    events.push(HomeEvent::NotBegun { call, first, count });
                }
            }
            Said::Returned {
                call,
                finished,
                broken,
            } => {
                self.in_hand.returned(call, finished)?;
                if let Some(failure) = &broken {
                    self.end(DownCause::Broken(failure.clone()));
                }
                if self.came_back(call) {
                    events.push(HomeEvent::Returned {
                        call,
                        finished,
                        broken,
                    });
                }
            }
            Said::Lifecycle(answer) => {
                self.in_hand.answered()?;
                self.steps_answered += 1;
                if let Err(failure) = &answer
                    && matches!(failure.kind, FailureKind::PANIC | FailureKind::FATAL)
                {
                    self.end(DownCause::Broken(failure.clone()));
                }
                events.push(HomeEvent::Lifecycle(answer));
            }
            Said::Ended => self.down(events),
        }
        Ok(())
    }

    /// The thread is over.
    fn down(&mut self, events: &mut Vec<HomeEvent>) {
        let progress = self.in_hand.note(self.cell());
        let Some(life) = self.life.take() else { return };
        let _ = self.poller.remove(&life.shared.wake);
        self.in_hand.clear();
        for held in &mut self.calls {
            held.handed = false;
        }
        self.calls.retain(|held| !held.abandoned);
        // Nobody told it to end: it was stopped, or the thread panicked outside of the plugin.
        let cause = life.ending.unwrap_or(DownCause::Ordered);
        events.push(HomeEvent::Down { cause, progress });
    }

    fn subject(&self) -> Subject {
        match &self.life {
            None => Subject::Nothing,
            Some(life) if life.ending.is_some() && life.named => Subject::Nothing,
            Some(life) if life.ending.is_some() => Subject::Ending,
            Some(life) if !life.up => Subject::Building,
            Some(_) => match self.in_hand.at_work() {
                AtWork::Step => Subject::Step(self.steps_answered),
                AtWork::Call(_) if self.config.digest_timeout.is_some() => {
                    Subject::Digest(self.in_hand.progress(self.cell()))
                }
                _ => Subject::Nothing,
            },
        }
    }

    fn tick(&mut self) {
        let times = self.timer.drain();
        let subject = self.subject();
        if subject == Subject::Nothing {
            self.timer.stop();
            self.ticking = false;
            self.watch.stop();
            return;
        }
        let waited = self.watch.tick(subject, times);
        let (lifecycle, digest) = (self.config.lifecycle_timeout, self.config.digest_timeout);
        let missed = match subject {
            Subject::Building if waited >= lifecycle => {
                format!("its constructor did not return within {lifecycle:?}")
            }
            Subject::Step(_) if waited >= lifecycle => {
                format!("a lifecycle call did not return within {lifecycle:?}")
            }
            Subject::Digest(at) if digest.is_some_and(|limit| waited >= limit) => {
                let limit = digest.unwrap_or_default();
                format!(
                    "the digest of {} did not return within {limit:?}",
                    self.describe(at)
                )
            }
            Subject::Ending if waited >= lifecycle => return self.name_blocked(),
            _ => return,
        };
        let route = &self.config.route;
        tracing::error!(%route, "{missed}; a thread cannot be ended, so the route stands still until it returns");
        self.pending.push(HomeEvent::Stuck(missed.clone()));
        self.end(DownCause::Deadline(missed));
    }

    fn name_blocked(&mut self) {
        let at = self.describe(self.progress());
        let Some(life) = &mut self.life else { return };
        life.named = true;
        tracing::error!(route = %self.config.route, calls = self.in_hand.calls(), at,
            "the plugin's thread does not end; what it has in hand stays in memory. Only a restart of the daemon helps");
    }

    pub(super) fn describe(&self, at: Progress) -> String {
        let known = self.held(at.call).and_then(|held| {
            let entry = held.call.entries().get(at.index as usize)?;
            let (_, topic, partition) = self.slots.iter().rev().find(|(slot, _, _)| *slot == entry.slot)?;
            let offset = match &held.call.source {
                Source::Fetched(batch) => batch.get(entry.index as usize)?.offset(),
                Source::Parked(records) => records.get(entry.index as usize)?.offset,
            };
            Some(format!("{topic}/{partition} at offset {offset}"))
        });
        known.unwrap_or_else(|| format!("call {}", at.call))
    }
}
