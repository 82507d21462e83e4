//! What a probe and its child say to each other: JSON over a SOCK_SEQPACKET, in pieces that fit into a frame.

use std::io;

use devour_abi::{ConstructRequest, Descriptor};
use serde::{Deserialize, Serialize};

use super::{PluginError, Stage};
use crate::os::{
    SeqPacket,
    socket::{MAX_FRAME, Received, Sent, Wait},
};

/// What the child is to do. It lies in a file that comes with the first frame, after the library.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    /// The consumer.
    pub(super) symbol: String,
    /// The plugin's settings.
    pub(super) settings: serde_json::Value,
    /// Whether to construct it too.
    pub(super) construct: Option<ConstructRequest>,
    /// In which bounds.
    pub(super) bounds: crate::os::Bounds,
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Answer {
    /// What it does from now on.
    Begin {
        /// That.
        stage: Stage,
    },
    /// What the consumer says of itself.
    Descriptor {
        /// That.
        descriptor: Box<Descriptor>,
    },
    /// What the consumer says of its settings.
    Findings {
        /// One text each.
        findings: Vec<String>,
    },
    /// The consumer logged something while it was constructed.
    Log {
        /// The line.
        line: String,
    },
    /// It is not a plugin that can be used.
    Error {
        /// Why.
        error: PluginError,
    },
    /// That was all.
    Done,
}

/// The first frame of a conversation: the library and the request come beside it.
pub(super) const HELLO: &[u8] = b"probe 1";

const MORE: u8 = b'+';
const LAST: u8 = b'.';

/// The child's end, blocking: the probe always reads.
pub(super) fn say(socket: &SeqPacket, answer: &Answer) -> io::Result<Sent> {
    let text = serde_json::to_vec(answer)?;
    let mut pieces = text.chunks(MAX_FRAME - 1).peekable();
    let mut frame = Vec::with_capacity(text.len().min(MAX_FRAME - 1) + 1);
    while let Some(piece) = pieces.next() {
        frame.clear();
        frame.push(if pieces.peek().is_some() { MORE } else { LAST });
        frame.extend_from_slice(piece);
        if socket.send(&frame, &[], Wait::Yes)? == Sent::Closed {
            return Ok(Sent::Closed);
        }
    }
    Ok(Sent::Done)
}

/// The probe's end: puts pieces together. What comes is a stranger's.
pub(super) struct Listener {
    frame: Vec<u8>,
    text: Vec<u8>,
    heard: usize,
}

/// What listening came to.
pub(super) enum Heard {
    /// One answer.
    Answer(Answer),
    /// Nothing now.
    Nothing,
    /// The other end is closed.
    Closed,
    /// What was said is no answer.
    Rubbish(String),
}

/// A descriptor with a generous schema, and the log of a constructor, are far below.
const MOST_BYTES: usize = 4 * 1024 * 1024;

// === impl Listener ===

impl Listener {
    pub(super) fn new() -> Self {
        Self {
            frame: vec![0; MAX_FRAME],
            text: Vec::new(),
            heard: 0,
        }
    }

    pub(super) fn listen(&mut self, socket: &SeqPacket) -> Heard {
        loop {
            let bytes = match socket.receive(&mut self.frame, Wait::No) {
                Ok(Received::Frame(bytes)) => bytes,
                Ok(Received::Nothing) => return Heard::Nothing,
                // What was said before a reset follows after it.
                Ok(Received::Reset) => continue,
                Ok(Received::Closed) => return Heard::Closed,
                Err(error) => return Heard::Rubbish(error.to_string()),
            };
            self.heard += bytes;
            if self.heard > MOST_BYTES {
                return Heard::Rubbish(format!("more than {MOST_BYTES} bytes"));
            }
            self.text.extend_from_slice(&self.frame[1..bytes]);
            match self.frame[0] {
                MORE => {}
                LAST => {
                    let answer = serde_json::from_slice(&self.text);
                    self.text.clear();
                    return answer.map_or_else(|error| Heard::Rubbish(error.to_string()), Heard::Answer);
                }
                other => return Heard::Rubbish(format!("a frame that begins with {other:#04x}")),
            }
        }
    }
}
