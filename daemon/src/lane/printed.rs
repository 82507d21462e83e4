//! What a plugin's process prints: always read, so that printing never blocks it; told line by line, at a bounded rate.

use std::time::{Duration, Instant};

use super::voice::{Lost, PluginVoice, Stream};
use crate::{
    os::pipe::{PipeReader, Read},
    settings::RouteName,
};

/// One of its two streams.
pub(super) struct Stdio {
    pub pipe: PipeReader,
    stream: Stream,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// What comes until the end of this line is passed over: it was too long.
    cut: bool,
}

/// The rate limit of a route: of what it prints, both streams together; of what it logs.
pub(super) struct Rate {
    second: Instant,
    told: u32,
    dropped: u64,
}

/// Who hears it.
pub(super) struct Ear<'a> {
    pub route: &'a RouteName,
    pub voice: &'a dyn PluginVoice,
    pub rate: &'a mut Rate,
}

/// Longer lines are cut.
const MAX_LINE: usize = 8 * 1024;
const LINES_A_SECOND: u32 = 1000;
/// Read at most so much before something else has its turn.
const AT_ONCE: usize = 256 * 1024;

// === impl Stdio ===

impl Stdio {
    pub(super) fn new(pipe: PipeReader, stream: Stream) -> Self {
        Self {
            pipe,
            stream,
            line: Vec::new(),
            cut: false,
        }
    }

    /// Reads what is there; `false` at the end of the stream.
    pub(super) fn read(&mut self, ear: &mut Ear<'_>) -> bool {
        let mut buffer = [0; 16 * 1024];
        let mut done = 0;
        while done < AT_ONCE {
            match self.pipe.read(&mut buffer) {
                Read::Bytes(bytes) => {
                    self.take(&buffer[..bytes], ear);
                    done += bytes;
                }
                Read::Nothing => return true,
                Read::End => return false,
            }
        }
        true
    }

    /// Nothing more will come: a line without an end is one too.
    pub(super) fn finish(&mut self, ear: &mut Ear<'_>) {
        if !self.line.is_empty() {
            self.tell(ear);
        }
    }

    fn take(&mut self, bytes: &[u8], ear: &mut Ear<'_>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            if !self.cut {
                let room = MAX_LINE - self.line.len();
                self.line.extend_from_slice(&text[..text.len().min(room)]);
                if text.len() > room {
                    self.tell(ear);
                    self.cut = true;
                }
            }
            if ends {
                if !self.cut {
                    self.tell(ear);
                }
                self.cut = false;
            }
        }
    }

    fn tell(&mut self, ear: &mut Ear<'_>) {
        if ear.admit(Instant::now()) {
            let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
            ear.voice
                .printed(ear.route, self.stream, &String::from_utf8_lossy(line));
        }
        self.line.clear();
    }
}

// === impl Rate ===

impl Rate {
    pub(super) fn new() -> Self {
        Self {
            second: Instant::now(),
            told: 0,
            dropped: 0,
        }
    }

    /// Whether something was dropped and not said yet.
    pub(super) fn owes(&self) -> bool {
        self.dropped > 0
    }

    /// Whether one more line may be told; first, how many were dropped and are to be said now.
    pub(super) fn admit(&mut self, now: Instant) -> (u64, bool) {
        let mut owed = 0;
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            owed = self.settle();
            self.second = now;
            self.told = 0;
        }
        let admitted = self.told < LINES_A_SECOND;
        if admitted {
            self.told += 1;
        } else {
            self.dropped += 1;
        }
        (owed, admitted)
    }

    /// How many were dropped and are to be said now.
    pub(super) fn settle(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

// === impl Ear ===

impl Ear<'_> {
    fn admit(&mut self, now: Instant) -> bool {
        let (owed, admitted) = self.rate.admit(now);
        self.say_dropped(owed);
        admitted
    }

    /// Says what was dropped.
    pub(super) fn settle(&mut self) {
        let owed = self.rate.settle();
        self.say_dropped(owed);
    }

    fn say_dropped(&self, count: u64) {
        if count > 0 {
            self.voice.lost(self.route, Lost::Printed, count);
        }
    }
}
