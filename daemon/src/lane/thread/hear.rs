//! What the threads say, and their end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use devour_abi::FailureKind;

use super::{GHOSTS, SAID, TIMER, ThreadHome};
use crate::lane::{DownCause, Home, HomeEvent, produced::Produced, thread_lane::Said};

impl ThreadHome {
    pub(super) fn hear(&mut self, events: &mut Vec<HomeEvent>) {
        events.append(&mut self.pending);
        let mut tokens = std::mem::take(&mut self.tokens);
        if let Err(error) = self.poller.wait(&mut tokens, Some(Duration::ZERO)) {
            tracing::error!(route = %self.config.route, %error, "the plugin's descriptors cannot be waited for");
        }
        for token in &tokens {
            match *token {
                SAID.. => self.hear_lane((*token - SAID) as usize, events),
                TIMER => self.tick(),
                GHOSTS => self.hear_ghosts(),
                _ => {
                    self.wake.drain();
                }
            }
        }
        self.tokens = tokens;
    }

    fn hear_lane(&mut self, lane: usize, events: &mut Vec<HomeEvent>) {
        let Some(life) = &self.life else { return };
        let shared = Arc::clone(&life.threads[lane].shared);
        shared.wake.drain();
        shared.woken.store(false, Ordering::Release);
        let mut all = Vec::new();
        while let Some(said) = shared.said.pop() {
            all.push(said);
        }
        // Before the outcomes that were told behind them; what is still being collected was produced behind those.
        self.take_produced(shared.outputs.take_of_all(), events);
        for said in all {
            if let Err(what) = self.apply(lane, said, events) {
                self.end(DownCause::Protocol(what));
            }
        }
        self.take_produced(shared.take_produced(), events);
    }

    fn take_produced(&mut self, records: Vec<u8>, events: &mut Vec<HomeEvent>) {
        if records.is_empty() {
            return;
        }
        let Some(life) = &self.life else { return };
        let number = life.number;
        // Written by this process: it can be read.
        let most = self.config.output_bytes;
        let mut taken = 0;
        let produced = Produced::of(records, number);
        produced.iter().for_each(|output| taken += output.bytes.min(most));
        self.room = self.room.saturating_sub(taken);
        events.push(HomeEvent::Produced(produced));
    }

    fn apply(&mut self, lane: usize, said: Said, events: &mut Vec<HomeEvent>) -> Result<(), String> {
        let in_hand = &mut self.lanes[lane].in_hand;
        match said {
            Said::Produced(records) => self.take_produced(records, events),
            Said::Up => {
                if let Some(life) = &mut self.life {
                    life.threads[lane].up = true;
                    if life.threads.iter().all(|thread| thread.up) && life.ending.is_none() {
                        events.push(HomeEvent::Up { pid: None });
                    }
                }
            }
            Said::NotBuilt(why) => self.end(DownCause::NotBuilt(why)),
            Said::Failed { call, index, failure } => {
                in_hand.failed(call, index)?;
                if matches!(failure.kind, FailureKind::PANIC | FailureKind::FATAL) {
                    // A message that was taken: nobody returns from a call to say it.
                    self.end(DownCause::Broken(failure.clone()));
                }
                if self.is_wanted(call) {
                    events.push(HomeEvent::Failed { call, index, failure });
                }
            }
            Said::NotBegun { call, first, count } => {
                in_hand.not_begun(call, first, count)?;
                if self.is_wanted(call) {
                    events.push(HomeEvent::NotBegun { call, first, count });
                }
            }
            Said::Taken { call, first, count } => {
                in_hand.taken(call, first, count)?;
                self.note_taken(lane, call, first, count);
                if self.is_wanted(call) {
                    events.push(HomeEvent::Taken { call, first, count });
                }
            }
            Said::Completed { call, index } => {
                in_hand.completed(call, index)?;
                if self.is_wanted(call) {
                    events.push(HomeEvent::Completed { call, index });
                }
            }
            Said::Returned {
                call,
                finished,
                took,
                broken,
            } => {
                in_hand.returned(call, finished)?;
                if let Some(failure) = &broken {
                    self.end(DownCause::Broken(failure.clone()));
                }
                if self.came_back(call) {
                    events.push(HomeEvent::Returned {
                        call,
                        finished,
                        took,
                        broken,
                    });
                }
            }
            Said::Lifecycle(answer) => {
                in_hand.answered()?;
                self.lanes[lane].steps_answered += 1;
                if let Err(failure) = &answer
                    && matches!(failure.kind, FailureKind::PANIC | FailureKind::FATAL)
                {
                    self.end(DownCause::Broken(failure.clone()));
                }
                events.push(HomeEvent::Lifecycle { lane, answer });
            }
            Said::Ended => self.lane_ended(lane, events),
        }
        Ok(())
    }

    /// One thread is over; the home is down when all are.
    fn lane_ended(&mut self, lane: usize, events: &mut Vec<HomeEvent>) {
        if let Some(life) = &mut self.life {
            life.threads[lane].ended = true;
        }
        // Nobody told it to end: it was stopped, or the thread panicked outside of the plugin. The others go with it.
        self.end(DownCause::Ordered);
        if self
            .life
            .as_ref()
            .is_some_and(|life| life.threads.iter().all(|thread| thread.ended))
        {
            self.down(events);
        }
    }

    fn down(&mut self, events: &mut Vec<HomeEvent>) {
        let progress = self.all_progress();
        for thread in self.life.iter().flat_map(|life| &life.threads) {
            let _ = self.poller.remove(&thread.shared.wake);
        }
        self.note_ghosts();
        let Some(life) = self.life.take() else { return };
        for lane in &mut self.lanes {
            lane.in_hand.clear();
            lane.taken.clear();
        }
        for held in self.calls.values_mut() {
            held.handed = false;
        }
        self.calls.retain(|_, held| !held.abandoned);
        self.room = 0;
        events.push(HomeEvent::Down {
            cause: life.ending.unwrap_or(DownCause::Ordered),
            told: progress.clone(),
            progress,
            missed: life.missed,
        });
    }
}
