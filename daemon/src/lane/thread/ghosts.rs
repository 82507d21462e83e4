//! Messages that a plugin's own threads still hold when their instance is gone: nobody can take them back, so their places
//! in the stock are not used again until they are given back.

use std::{collections::HashMap, sync::Arc};

use super::{GHOSTS, ThreadHome};
use crate::{
    lane::{CallNumber, Kept, Source, thread_lane::Said, thread_lane::Shared},
    os::Interest,
};

/// What is left of one lane of an earlier life.
pub(super) struct Ghost {
    shared: Arc<Shared>,
    /// What its threads hold, by call and index.
    held: HashMap<(CallNumber, u32), Kept>,
}

impl ThreadHome {
    /// All lanes are over: what of their messages is held elsewhere keeps its place.
    pub(super) fn note_ghosts(&mut self) {
        let (Some(life), Some(stock)) = (&self.life, &mut self.stock) else {
            return;
        };
        let (mut messages, mut found) = (0, Vec::new());
        for (lane, thread) in self.lanes.iter().zip(&life.threads) {
            let mut held = HashMap::new();
            for (call, index) in lane.in_hand.held_beyond() {
                let source = self.calls.get(&call).map(|held| &held.call.source);
                if let Some(Source::Stored(kept)) = source
                    && let Some(kept) = kept.get(index as usize)
                {
                    stock.lend(*kept);
                    held.insert((call, index), *kept);
                }
            }
            if held.is_empty() {
                continue;
            }
            messages += held.len();
            let shared = Arc::clone(&thread.shared);
            found.push(Ghost { shared, held });
        }
        for ghost in &found {
            self.listen_to(ghost);
        }
        self.ghosts.append(&mut found);
        // What was said meanwhile is heard at once.
        self.hear_ghosts();
        let left: usize = self.ghosts.iter().map(|ghost| ghost.held.len()).sum();
        if messages > 0 && left > 0 {
            tracing::warn!(route = %self.config.route, messages = left,
                "threads of the plugin still hold messages of an instance that is gone; the room of these messages is not \
                 used again until they are given back");
        }
    }

    /// They go with the stock, to whoever has it next.
    pub(super) fn give_ghosts(&mut self) -> Vec<Ghost> {
        for ghost in &self.ghosts {
            let _ = self.poller.remove(&ghost.shared.wake);
        }
        std::mem::take(&mut self.ghosts)
    }

    /// They come with the stock.
    pub(super) fn adopt_ghosts(&mut self, ghosts: Vec<Ghost>) {
        for ghost in &ghosts {
            self.listen_to(ghost);
        }
        self.ghosts = ghosts;
        // What was said before somebody listened.
        self.hear_ghosts();
    }

    fn listen_to(&self, ghost: &Ghost) {
        if let Err(error) = self.poller.add(&ghost.shared.wake, GHOSTS, Interest::Read) {
            tracing::warn!(route = %self.config.route, %error, "cannot hear when messages are given back; their room is lost");
        }
    }

    /// What earlier lives have given back.
    pub(super) fn hear_ghosts(&mut self) {
        let Some(stock) = &mut self.stock else { return };
        for ghost in &mut self.ghosts {
            ghost.shared.wake.drain();
            while let Some(said) = ghost.shared.said.pop() {
                if let Said::Completed { call, index } | Said::Failed { call, index, .. } = said
                    && let Some(kept) = ghost.held.remove(&(call, index))
                {
                    stock.given_back(kept);
                }
            }
        }
        let poller = &self.poller;
        self.ghosts.retain(|ghost| {
            let holds = !ghost.held.is_empty();
            if !holds {
                let _ = poller.remove(&ghost.shared.wake);
            }
            holds
        });
    }
}
