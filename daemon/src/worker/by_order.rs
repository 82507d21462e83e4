//! What a person orders of a route at work: a pause, and a new plugin in place of the one that works. Neither touches the
//! group: partitions stay, commits go on.

use std::time::{Duration, Instant};

use devour_abi::LifecycleCall;

use super::{
    Reply,
    engine::{Engine, Plugin},
};
use crate::{kafka::Consumer, lane::DownCause};

/// A plugin that is being replaced because somebody ordered it.
pub(super) struct Restarting {
    phase: Phase,
    /// Who wants to know the successor's process, or why there is none.
    replies: Vec<Reply<Restarted>>,
}

/// The successor's process (none in a thread), or why there is no successor.
pub type Restarted = Result<Option<u32>, String>;

/// How far the replacement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It finishes what it is at, and gives back what it has not begun. Past the deadline it is ended all the same.
    GivingBack { deadline: Instant },
    /// It is told that its partitions and its life end.
    Parting { deadline: Instant },
    /// It is being ended.
    Ending,
    /// Its successor is being built.
    Building,
}

/// More than a lifecycle call may take: by then the plugin's home has ended it.
const SLACK: Duration = Duration::from_secs(1);

// === impl Engine ===

impl Engine {
    /// Whether the plugin may be given messages: it digests, and nobody ordered otherwise.
    pub(super) fn may_digest(&self) -> bool {
        self.is_up() && !self.paused && self.restarting.is_none() && !self.hands_over()
    }

    // === pause ===

    /// Nothing more is fetched, and nothing that waits is handed out. What is in hand is finished; says how much that is.
    pub(super) fn pause(&mut self, client: &Consumer) -> usize {
        if !self.paused {
            self.paused = true;
            tracing::info!(route = %self.config.route, in_hand = self.in_hand(), "paused by order");
            if self.config.buffers() {
                self.flush();
            }
        }
        self.hold_back(client);
        self.in_hand()
    }

    /// The pause is over.
    pub(super) fn end_pause(&mut self) {
        if std::mem::take(&mut self.paused) {
            tracing::info!(route = %self.config.route, "resumed by order");
        }
    }

    // === a new plugin ===

    /// Replaces the plugin: what it has in hand is finished or goes to its successor.
    pub(super) fn restart_plugin(&mut self, reply: Reply<Restarted>, now: Instant) {
        if self.stuck {
            let at = self.blocked_by();
            return reply.answer(Err(format!(
                "its plugin is stuck in a thread of the daemon, at {at}: only a restart of the daemon ends it"
            )));
        }
        if self.is_swapping() {
            let why = "a reload is giving it another plugin at this moment";
            return reply.answer(Err(why.to_owned()));
        }
        if let Some(restarting) = &mut self.restarting {
            return restarting.replies.push(reply);
        }
        tracing::info!(route = %self.config.route, pid = self.pid, "plugin restarts by order");
        let phase = match self.plugin {
            Plugin::Down => Phase::Building,
            Plugin::Starting | Plugin::Greeting => Phase::Ending,
            Plugin::Up { .. } => Phase::GivingBack {
                deadline: now + self.config.drain_timeout,
            },
        };
        self.restarting = Some(Restarting {
            phase,
            replies: vec![reply],
        });
        match phase {
            Phase::Building => self.start_plugin(),
            Phase::Ending => self.home.end(DownCause::Ordered),
            Phase::GivingBack { .. } | Phase::Parting { .. } => self.recall_all(),
        }
    }

    /// The next step of a replacement, if it is time for it.
    pub(super) fn mind_restart(&mut self, now: Instant) {
        let Some(phase) = self.restarting.as_ref().map(|restarting| restarting.phase) else {
            // A reload came meanwhile.
            if let Some(config) = self.swap_later.take() {
                self.begin_swap(*config);
            }
            return;
        };
        let next = match phase {
            Phase::GivingBack { .. } if self.has_given_back() && self.steps.is_empty() => {
                let slots = self.partitions.assigned_slots();
                if !slots.is_empty() {
                    let partitions = self.describe(&slots);
                    let lost = false;
                    self.step("revoked", LifecycleCall::Revoked { partitions, lost }, Vec::new());
                }
                self.step("stopped", LifecycleCall::Stopped, Vec::new());
                // Two calls, each with its own bound.
                let deadline = now + 2 * (self.config.lifecycle_timeout + SLACK);
                Phase::Parting { deadline }
            }
            Phase::GivingBack { deadline } if deadline <= now => {
                let blocked_by = self.blocked_by();
                tracing::warn!(route = %self.config.route, blocked_by,
                    "the plugin did not give back its messages in time for its restart; it is ended, its successor gets them");
                self.home.end(DownCause::Ordered);
                Phase::Ending
            }
            Phase::GivingBack { deadline } => {
                // What it digested since it was told to flush is flushed too.
                if self.flush_at().is_some() {
                    self.flush();
                }
                Phase::GivingBack { deadline }
            }
            Phase::Parting { deadline } if self.steps.is_empty() || deadline <= now => {
                self.home.end(DownCause::Ordered);
                Phase::Ending
            }
            phase => phase,
        };
        if let Some(restarting) = &mut self.restarting {
            restarting.phase = next;
        }
    }

    /// When the next step of a replacement is due, if nothing else wakes the thread before.
    pub(super) fn restart_due(&self) -> Option<Instant> {
        match self.restarting.as_ref()?.phase {
            Phase::GivingBack { deadline } | Phase::Parting { deadline } => Some(deadline),
            Phase::Ending | Phase::Building => None,
        }
    }

    /// A plugin that was being replaced has ended: that was the order, however it ended. Of a successor that ended before it
    /// digested, who ordered is told.
    pub(super) fn ended_by_order(&mut self, cause: DownCause) -> DownCause {
        match self.restarting.take() {
            Some(restarting) if restarting.phase == Phase::Building => {
                let why = format!("its new plugin did not start: {cause}");
                restarting.answer(&Err(why));
                cause
            }
            Some(restarting) => {
                if cause != DownCause::Ordered {
                    tracing::warn!(route = %self.config.route, cause = %cause, "the plugin ended otherwise while it was restarted by order");
                }
                self.restarting = Some(Restarting {
                    phase: Phase::Building,
                    ..restarting
                });
                DownCause::Ordered
            }
            None => cause,
        }
    }

    /// The next plugin after one that was replaced.
    pub(super) fn start_successor(&mut self) {
        if self.restarting.is_some() {
            self.start_plugin();
        }
    }

    /// A plugin digests: if it is a successor, who ordered it is told.
    pub(super) fn succeeded(&mut self) {
        if let Some(restarting) = self.restarting.take() {
            restarting.answer(&Ok(self.pid));
        }
    }

    /// It cannot be ended.
    pub(super) fn cannot_be_replaced(&mut self, why: &str) {
        if let Some(restarting) = self.restarting.take() {
            restarting.answer(&Err(format!("its plugin cannot be ended: {why}")));
        }
    }
}

// === impl Restarting ===

impl Restarting {
    fn answer(self, answer: &Restarted) {
        for reply in self.replies {
            reply.answer(answer.clone());
        }
    }
}
