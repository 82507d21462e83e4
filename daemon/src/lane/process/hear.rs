//! What the plugin's process says, and its death: read, checked, applied.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use devour_abi::{Failure, LifecycleAnswer};

use super::{ProcessHome, TIMER, WAKE, breaks};
use crate::{
    lane::{
        DownCause, Home, HomeEvent,
        channel::{FromLane, FromTalk, MAX_BESIDE, ToTalk},
        plugin_process::{EXIT, PluginProcess, STDERR, STDOUT, Stage, TALK, WORK},
        printed::Ear,
        produced::{self, MAX_RECORD, Produced},
        voice::{Lost, PluginLog, Position},
    },
    os::{
        memory::read_bounded,
        socket::{Received, Wait},
    },
};

/// Frames and rounds of reading before something else has its turn.
const FRAMES_AT_ONCE: usize = 1024;
const AFTER_DEATH: usize = 64;
const MAX_METRICS: usize = 1000;
const MAX_METRIC_NAME: usize = 256;

/// What became of a socket.
enum Heard {
    /// There may be more.
    More,
    /// That was all, for now or for ever.
    All,
}

impl ProcessHome {
    pub(super) fn hear(&mut self, events: &mut Vec<HomeEvent>) {
        events.append(&mut self.pending);
        let mut tokens = std::mem::take(&mut self.tokens);
        if let Err(error) = self.poller.wait(&mut tokens, Some(Duration::ZERO)) {
            tracing::error!(route = %self.config.route, %error, "the plugin's descriptors cannot be waited for");
        }
        for token in &tokens {
            match *token {
                WORK.. => {
                    self.hear_work((*token - WORK) as usize, events);
                }
                TALK => {
                    self.hear_talk();
                }
                STDOUT | STDERR => self.hear_printed(*token),
                TIMER => self.tick(),
                WAKE => {
                    self.wake.drain();
                }
                _ => {}
            }
        }
        if self.doomed.is_some() {
            self.mind_doomed();
        }
        if tokens.contains(&EXIT) {
            self.bury(events);
        }
        self.tokens = tokens;
    }

    /// The process is reaped and its group killed: what it still said counts, then it is down.
    fn bury(&mut self, events: &mut Vec<HomeEvent>) {
        let Some(exit) = self.process.as_ref().and_then(|process| process.child.try_exit()) else {
            return;
        };
        // A grandchild outside of the group may hold the pipes and sockets and fill them for ever.
        for _ in 0..AFTER_DEATH {
            let mut all = true;
            for lane in 0..self.lanes.len() {
                all &= matches!(self.hear_work(lane, events), Heard::All);
            }
            all &= matches!(self.hear_talk(), Heard::All);
            self.hear_printed(STDOUT);
            self.hear_printed(STDERR);
            if all {
                break;
            }
        }
        let progress = self.all_progress();
        let told = (0..self.lanes.len()).map(|lane| self.told(lane)).collect();
        self.room = 0;
        for lane in 0..self.lanes.len() {
            let cell = self.cell(lane);
            let state = &mut self.lanes[lane];
            state.in_hand.note(cell);
            state.in_hand.clear();
            state.taken.clear();
        }
        let (asked, missed) = match self.doomed.take() {
            Some(doomed) => (Some(doomed.cause), doomed.missed),
            None => (None, None),
        };
        self.calls.all_came_back();
        let Some(mut process) = self.process.take() else {
            return;
        };
        let mut ear = Ear {
            route: &self.config.route,
            voice: &*self.config.voice,
            rate: &mut self.rate,
        };
        for stream in [&mut process.stdout, &mut process.stderr].into_iter().flatten() {
            stream.finish(&mut ear);
        }
        ear.settle();
        let _ = self.poller.remove(process.child.exit_fd());
        events.push(HomeEvent::Down {
            cause: process.cause(exit, asked),
            progress,
            told,
            missed,
        });
    }

    fn hear_printed(&mut self, token: u64) {
        let Some(process) = &mut self.process else { return };
        let slot = if token == STDOUT {
            &mut process.stdout
        } else {
            &mut process.stderr
        };
        let Some(stream) = slot else { return };
        let mut ear = Ear {
            route: &self.config.route,
            voice: &*self.config.voice,
            rate: &mut self.rate,
        };
        if !stream.read(&mut ear) {
            stream.finish(&mut ear);
            // Closed, it leaves the poller by itself.
            *slot = None;
        }
        if self.rate.owes() {
            self.tick_from_now();
        }
    }

    fn hear_work(&mut self, lane: usize, events: &mut Vec<HomeEvent>) -> Heard {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut fds = Vec::new();
        let mut heard = Heard::More;
        for _ in 0..FRAMES_AT_ONCE {
            let Some(process) = &mut self.process else { break };
            let work = &mut process.works[lane];
            if let Err(error) = work.flush(&self.poller) {
                process.distrust(error);
            }
            // A large answer to a lifecycle step brings a descriptor, and a large record.
            let socket = process.works[lane].socket();
            let got = socket.receive_with_fds(&mut buffer, &mut fds, Wait::No);
            match got {
                Ok(Received::Frame(bytes)) => {
                    let said = FromLane::decode(&buffer[..bytes]).map_err(|error| error.to_string());
                    let applied = said.and_then(|said| self.apply(lane, said, fds.pop(), events));
                    fds.clear();
                    self.check_heard(applied);
                }
                other => {
                    if self.not_a_frame(other, WORK + lane as u64) {
                        continue;
                    }
                    heard = Heard::All;
                    break;
                }
            }
        }
        self.buffer = buffer;
        heard
    }

    fn hear_talk(&mut self) -> Heard {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut heard = Heard::More;
        for _ in 0..FRAMES_AT_ONCE {
            let Some(process) = &mut self.process else { break };
            if let Err(error) = process.talk.flush(&self.poller) {
                process.distrust(error);
            }
            match process.talk.socket().receive(&mut buffer, Wait::No) {
                Ok(Received::Frame(bytes)) => {
                    let said = FromTalk::decode(&buffer[..bytes]).map_err(|error| error.to_string());
                    let applied = said.and_then(|said| self.tell(&said));
                    self.check_heard(applied);
                }
                other => {
                    if self.not_a_frame(other, TALK) {
                        continue;
                    }
                    heard = Heard::All;
                    break;
                }
            }
        }
        self.buffer = buffer;
        heard
    }

    /// Handles what reading gave instead of a frame; whether to read on.
    fn not_a_frame(&mut self, got: std::io::Result<Received>, token: u64) -> bool {
        let Some(process) = &mut self.process else {
            return false;
        };
        match got {
            Ok(Received::Frame(_) | Received::Reset) => true,
            Ok(Received::Nothing) => false,
            Ok(Received::Closed) => {
                // A closed socket stays readable: it would wake the route without end.
                let outbox = match token.checked_sub(WORK) {
                    Some(lane) => &process.works[lane as usize],
                    None => &process.talk,
                };
                let _ = self.poller.remove(outbox.socket());
                process.closed = true;
                self.tick_from_now();
                false
            }
            Err(error) => {
                process.distrust(error);
                true
            }
        }
    }

    fn check_heard(&mut self, applied: Result<(), String>) {
        if let (Err(what), Some(process)) = (applied, &mut self.process) {
            process.distrust(what);
        }
    }

    /// Applies an outcome. Every number in it is checked.
    fn apply(
        &mut self,
        lane: usize,
        said: FromLane<'_>,
        beside: Option<OwnedFd>,
        events: &mut Vec<HomeEvent>,
    ) -> Result<(), String> {
        let Some(process) = self.process.as_mut().filter(|process| !process.deaf) else {
            return Ok(());
        };
        let said = match said {
            FromLane::Produced(records) => return self.take_produced(records.to_vec(), events),
            FromLane::ProducedBeside => return self.take_large(beside, events),
            said => said,
        };
        let state = &mut self.lanes[lane];
        match (process.stage, said) {
            (Stage::Building, FromLane::Up) => {
                process.lanes_up += 1;
                if process.lanes_up == process.works.len() {
                    process.stage = Stage::Up;
                    events.push(HomeEvent::Up {
                        pid: Some(process.child.pid),
                    });
                }
            }
            (Stage::Building, FromLane::NotBuilt(why)) => {
                process.deaf = true;
                process.kill(DownCause::NotBuilt(why.to_owned()));
            }
            (_, FromLane::Produced(_) | FromLane::ProducedBeside) => {}
            (Stage::Building, _) => return Err("an outcome before its instances stood".into()),
            (Stage::Up, FromLane::Up | FromLane::NotBuilt(_)) => {
                return Err("it said twice what became of its constructor".into());
            }
            (Stage::Up, FromLane::Failed { call, index, failure }) => {
                state.in_hand.failed(call, index)?;
                if breaks(&failure) {
                    // A message that was taken: nobody returns from a call to say it.
                    give_up(process, &failure);
                }
                if self.is_wanted(call) {
                    events.push(HomeEvent::Failed { call, index, failure });
                }
            }
            (Stage::Up, FromLane::NotBegun { call, first, count }) => {
                state.in_hand.not_begun(call, first, count)?;
                if self.is_wanted(call) {
                    events.push(HomeEvent::NotBegun { call, first, count });
                }
            }
            (Stage::Up, FromLane::Taken { call, first, count }) => {
                if !self.config.takes {
                    return Err("it took messages beyond their call, which it had not asked for".into());
                }
                state.in_hand.taken(call, first, count)?;
                self.note_taken(lane, call, first, count);
                if self.is_wanted(call) {
                    events.push(HomeEvent::Taken { call, first, count });
                }
            }
            (Stage::Up, FromLane::Completed(completed)) => {
                if !self.config.takes {
                    return Err("it completed messages that it had not taken".into());
                }
                for (call, index) in completed.iter() {
                    self.lanes[lane].in_hand.completed(call, index)?;
                    if self.is_wanted(call) {
                        events.push(HomeEvent::Completed { call, index });
                    }
                }
            }
            (
                Stage::Up,
                FromLane::Returned {
                    call,
                    finished,
                    took,
                    broken,
                },
            ) => {
                state.in_hand.returned(call, finished)?;
                if let Some(failure) = &broken {
                    give_up(process, failure);
                }
                if self.calls.came_back(call) {
                    events.push(HomeEvent::Returned {
                        call,
                        finished,
                        took: Duration::from_nanos(took),
                        broken,
                    });
                }
            }
            (Stage::Up, FromLane::Answered(json)) => {
                state.in_hand.answered()?;
                state.steps_answered += 1;
                let answer = Ok(read_answer(json, beside)?);
                events.push(HomeEvent::Lifecycle { lane, answer });
            }
            (Stage::Up, FromLane::StepFailed(failure)) => {
                state.in_hand.answered()?;
                state.steps_answered += 1;
                if breaks(&failure) {
                    give_up(process, &failure);
                }
                let answer = Err(failure);
                events.push(HomeEvent::Lifecycle { lane, answer });
            }
        }
        Ok(())
    }

    /// A record in memory beside its frame: copied, then looked at.
    fn take_large(&mut self, beside: Option<OwnedFd>, events: &mut Vec<HomeEvent>) -> Result<(), String> {
        let memory = beside.ok_or("a record without its memory")?;
        let bytes = read_bounded(memory.as_fd(), MAX_RECORD)
            .map_err(|error| format!("a record that cannot be read: {error}"))?;
        self.take_produced(bytes, events)
    }

    fn take_produced(&mut self, records: Vec<u8>, events: &mut Vec<HomeEvent>) -> Result<(), String> {
        let mut receipts = Vec::new();
        let taken = produced::check(&records, |number| receipts.push(number));
        let taken = taken
            .map_err(|error| error.to_string())?
            .min(self.config.output_bytes);
        self.room = self
            .room
            .checked_sub(taken)
            .ok_or("records for which it had no room")?;
        for number in receipts {
            self.say(&ToTalk::Received { number });
        }
        events.push(HomeEvent::Produced(Produced::of(records, self.life)));
        Ok(())
    }

    fn is_wanted(&self, call: u64) -> bool {
        self.calls.get(call).is_some_and(|call| !call.abandoned)
    }

    /// Passes on what the plugin says beside its work.
    fn tell(&mut self, said: &FromTalk<'_>) -> Result<(), String> {
        let killed = self.process.as_ref().map(|process| &process.killed);
        if matches!(killed, None | Some(Some(DownCause::Protocol(_)))) {
            return Ok(());
        }
        let (route, voice) = (&self.config.route, &*self.config.voice);
        match *said {
            FromTalk::Log {
                level,
                at,
                target,
                message,
                fields,
            } => {
                // A partition may be gone when the line comes.
                let at = at.and_then(|(slot, offset)| {
                    let (topic, partition) = self.slots.get(&slot)?;
                    Some(Position {
                        topic,
                        partition: *partition,
                        offset,
                    })
                });
                if level <= voice.level() {
                    voice.log(
                        route,
                        &PluginLog {
                            level,
                            target,
                            message,
                            fields,
                            at,
                        },
                    );
                }
            }
            FromTalk::Count { name, by } => {
                if knows(&mut self.metrics, name)? {
                    voice.count(route, name, by);
                } else {
                    voice.lost(route, Lost::Metrics, 1);
                }
            }
            FromTalk::Time { name, durations } => {
                if knows(&mut self.metrics, name)? {
                    voice.time(route, name, durations);
                } else {
                    voice.lost(route, Lost::Metrics, 1);
                }
            }
            FromTalk::Lost { logs, metrics } => {
                for (what, count) in [(Lost::Logs, logs), (Lost::Metrics, metrics)] {
                    if count > 0 {
                        voice.lost(route, what, count);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The instance is broken: its process is of no use any more.
fn give_up(process: &mut PluginProcess, failure: &Failure) {
    // What its other lanes said before still counts.
    process.kill(DownCause::Broken(failure.clone()));
}

/// Whether a metric of this name is kept: there is a bound to how many there may be.
fn knows(metrics: &mut std::collections::HashSet<Box<str>>, name: &str) -> Result<bool, String> {
    if name.len() > MAX_METRIC_NAME {
        return Err(format!("a metric with a name of {} bytes", name.len()));
    }
    if metrics.contains(name) {
        return Ok(true);
    }
    if metrics.len() >= MAX_METRICS {
        return Ok(false);
    }
    metrics.insert(name.into());
    Ok(true)
}

fn read_answer(json: &str, beside: Option<OwnedFd>) -> Result<LifecycleAnswer, String> {
    let wrong =
        |error: &dyn std::fmt::Display| format!("the answer to a lifecycle call cannot be read: {error}");
    if !json.is_empty() {
        return serde_json::from_str(json).map_err(|error| wrong(&error));
    }
    let memory = beside.ok_or_else(|| wrong(&"it is empty"))?;
    let bytes = read_bounded(memory.as_fd(), MAX_BESIDE).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(&error))
}
