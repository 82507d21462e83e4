//! The frames that cross between the daemon and a plugin's process: what they say, how they are written, how strictly
//! they are read. A frame is its kind, a byte, and its fields, numbers in this machine's order (both sides are the
//! same program), each text or list preceded by its length.
//!
//! Everything about the instance goes over the *work* socket of its lane: calls and lifecycle steps one way, outcomes
//! and answers the other, so their order needs no further rule; produced records too, which come before the outcomes of
//! those who produced them. What may wait or be lost (logs, metrics) and what must arrive while a digest runs (that the
//! route stops, that there is room for records, what became of them) goes over the *talk* socket.

use devour_abi::{Delivered, Failure, HostErrorKind, HostFailure, LogLevel};
use serde::{Deserialize, Serialize};

use super::{
    frame::{FrameError, FrameReader, FrameWriter, MAX_TEXT},
    voice::Durations,
};
use crate::os::socket::MAX_FRAME;

/// What the daemon says to a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ToLane<'a> {
    /// Names of slots.
    Learn(Learned<'a>),
    /// Order tags of the next call, as many as fit; more may follow.
    Released(Tags<'a>),
    /// As above.
    Held(Tags<'a>),
    /// Digest a batch that lies in one piece.
    Call(CallFrame),
    /// Digest messages of the stock.
    Stored {
        number: u64,
        /// Where each begins, in units of 8 bytes.
        places: Places<'a>,
    },
    /// A step of the lifecycle, as JSON; empty if it lies in the memfd beside the frame.
    Lifecycle(&'a str),
    /// The arena is the memfd beside the frame from now on. No call is in hand.
    Arena { bytes: u64 },
}

/// A call's messages and where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallFrame {
    pub number: u64,
    /// First byte, and how many: in the arena, or in the memfd beside the frame.
    pub start: u64,
    pub bytes: u64,
    pub count: u32,
    pub place: PlaceKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceKind {
    Arena,
    Beside,
}

/// What a lane says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FromLane<'a> {
    /// The instance stands.
    Up,
    /// There will be none.
    NotBuilt(&'a str),
    Failed {
        call: u64,
        index: u32,
        failure: Failure,
    },
    NotBegun {
        call: u64,
        first: u32,
        count: u32,
    },
    /// Messages were taken beyond their call.
    Taken {
        call: u64,
        first: u32,
        count: u32,
    },
    /// Messages that were taken are done.
    Completed(Completed<'a>),
    Returned {
        call: u64,
        finished: u32,
        /// Nanoseconds that the lane was at it.
        took: u64,
        broken: Option<Failure>,
    },
    /// The answer to a lifecycle step: JSON, empty if it lies in the memfd beside the frame.
    Answered(&'a str),
    /// The step failed.
    StepFailed(Failure),
    /// Records that were produced, as [`super::produced`] writes them.
    Produced(&'a [u8]),
    /// One that is too large for a frame: it lies in the memfd beside it.
    ProducedBeside,
}

/// What a plugin's process says beside its work.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FromTalk<'a> {
    Log {
        level: LogLevel,
        at: Option<(u32, i64)>,
        target: &'a str,
        message: &'a str,
        fields: &'a str,
    },
    Count {
        name: &'a str,
        by: u64,
    },
    Time {
        name: &'a str,
        durations: Durations,
    },
    /// Lines of the log, and metrics, that were dropped because nobody read.
    Lost {
        logs: u64,
        metrics: u64,
    },
}

/// What the daemon says beside the work, after [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToTalk {
    /// The route is being stopped.
    Stop,
    /// There is room for so many bytes of records more, of which one takes `most` at most.
    Room { bytes: u64, most: u64 },
    /// A record has come.
    Received { number: u64 },
    /// A record is written.
    Delivered { number: u64, delivered: Delivered },
    /// A record is not written.
    NotDelivered { number: u64, failure: HostFailure },
}

/// The first frame of the talk socket, as JSON. Beside it: the arena, the page of cells, the page of cut numbers, the
/// library, and the JSON itself if the frame is only its length. Frames of the kind [`LANES`] follow, with the work
/// sockets beside them in the order of the lanes.
#[derive(Serialize, Deserialize)]
pub(super) struct Hello {
    pub route: String,
    pub library: std::path::PathBuf,
    pub symbol: String,
    pub construct: devour_abi::ConstructRequest,
    pub arena_bytes: usize,
    pub reads_headers: bool,
    pub hold_on_reject: bool,
    /// Messages can be taken beyond their call.
    pub takes: bool,
    pub log_level: LogLevel,
    pub core_dumps: bool,
    pub bounds: crate::os::Bounds,
    /// The soft limit that the daemon itself was started with.
    pub open_files: Option<u64>,
}

/// JSON up to this length travels in its frame.
pub(super) const MAX_INLINE: usize = 48 * 1024;
/// JSON that comes in a memfd is not longer than this.
pub(super) const MAX_BESIDE: usize = 64 << 20;
/// Records up to this length together travel in a frame; one that is longer, in a memfd beside its frame.
pub(super) const MAX_PRODUCED: usize = 60 * 1024;
/// So many tags, or names of slots at most, go into one frame.
pub(super) const TAGS_AT_ONCE: usize = 6000;
/// So many messages of the stock at most go into one call.
pub(super) const STORED_AT_ONCE: usize = 10_000;
/// So many completed messages at most go into one frame.
pub(super) const COMPLETED_AT_ONCE: usize = 4000;
/// The first byte of a frame with work sockets beside it.
pub(super) const LANES: u8 = 3;
/// So many work sockets at most go beside one frame.
pub(super) const LANES_AT_ONCE: usize = 16;

/// Places in the stock, as they lie in a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Places<'a>(&'a [u8]);

/// Calls and indexes of messages that are done, as they lie in a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Completed<'a>(&'a [u8]);

/// A list of order tags, as it lies in a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tags<'a>(&'a [u8]);

/// A list of slots with their topic and partition, as it lies in a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Learned<'a>(&'a [u8]);

mod kind {
    pub const LEARN: u8 = 1;
    pub const RELEASED: u8 = 2;
    pub const HELD: u8 = 3;
    pub const CALL: u8 = 4;
    pub const LIFECYCLE: u8 = 5;
    pub const ARENA: u8 = 6;
    pub const STORED: u8 = 7;
    pub const UP: u8 = 16;
    pub const NOT_BUILT: u8 = 17;
    pub const FAILED: u8 = 18;
    pub const NOT_BEGUN: u8 = 19;
    pub const RETURNED: u8 = 20;
    pub const ANSWERED: u8 = 21;
    pub const STEP_FAILED: u8 = 22;
    pub const TAKEN: u8 = 23;
    pub const COMPLETED: u8 = 24;
    pub const PRODUCED: u8 = 25;
    pub const PRODUCED_BESIDE: u8 = 26;
    pub const LOG: u8 = 32;
    pub const COUNT: u8 = 33;
    pub const TIME: u8 = 34;
    pub const LOST: u8 = 35;
    pub const STOP: u8 = 48;
    pub const ROOM: u8 = 49;
    pub const RECEIVED: u8 = 50;
    pub const DELIVERED: u8 = 51;
    pub const NOT_DELIVERED: u8 = 52;
}

// === impl ToLane ===

impl<'a> ToLane<'a> {
    pub(super) fn learn<'n>(buffer: &mut Vec<u8>, names: impl Iterator<Item = (u32, i32, &'n str)>) {
        let mut frame = FrameWriter::new(buffer, kind::LEARN);
        for (slot, partition, topic) in names {
            frame = frame
                .u32(slot)
                .u32(partition.cast_unsigned())
                .text(topic, MAX_TEXT);
        }
    }

    pub(super) fn released(buffer: &mut Vec<u8>, tags: &[u64]) {
        tags.iter()
            .fold(FrameWriter::new(buffer, kind::RELEASED), |frame, tag| {
                frame.u64(*tag)
            });
    }

    pub(super) fn held(buffer: &mut Vec<u8>, tags: &[u64]) {
        tags.iter()
            .fold(FrameWriter::new(buffer, kind::HELD), |frame, tag| frame.u64(*tag));
    }

    pub(super) fn call(buffer: &mut Vec<u8>, call: &CallFrame) {
        let beside = u32::from(call.place == PlaceKind::Beside);
        let _ = FrameWriter::new(buffer, kind::CALL)
            .u64(call.number)
            .u64(call.start)
            .u64(call.bytes)
            .u32(call.count)
            .u32(beside);
    }

    pub(super) fn stored(buffer: &mut Vec<u8>, number: u64, places: &[u32]) {
        places.iter().fold(
            FrameWriter::new(buffer, kind::STORED).u64(number),
            |frame, place| frame.u32(*place),
        );
    }

    pub(super) fn lifecycle(buffer: &mut Vec<u8>, json: &str) {
        let _ = FrameWriter::new(buffer, kind::LIFECYCLE).text(json, MAX_INLINE);
    }

    pub(super) fn arena(buffer: &mut Vec<u8>, bytes: u64) {
        let _ = FrameWriter::new(buffer, kind::ARENA).u64(bytes);
    }

    pub(super) fn decode(frame: &'a [u8]) -> Result<Self, FrameError> {
        let mut frame = FrameReader::new(frame)?;
        match frame.kind {
            kind::LEARN => Ok(Self::Learn(Learned(frame.rest))),
            kind::RELEASED => Ok(Self::Released(Tags(frame.rest))),
            kind::HELD => Ok(Self::Held(Tags(frame.rest))),
            kind::CALL => {
                let (number, start, bytes, count) = (frame.u64()?, frame.u64()?, frame.u64()?, frame.u32()?);
                let place = if frame.flag()? {
                    PlaceKind::Beside
                } else {
                    PlaceKind::Arena
                };
                frame.end(Self::Call(CallFrame {
                    number,
                    start,
                    bytes,
                    count,
                    place,
                }))
            }
            kind::STORED => {
                let number = frame.u64()?;
                if frame.rest.len() % 4 != 0 {
                    return Err(FrameError::Value(frame.kind));
                }
                Ok(Self::Stored {
                    number,
                    places: Places(frame.rest),
                })
            }
            kind::LIFECYCLE => {
                let json = frame.text()?;
                frame.end(Self::Lifecycle(json))
            }
            kind::ARENA => {
                let bytes = frame.u64()?;
                frame.end(Self::Arena { bytes })
            }
            other => Err(FrameError::Kind(other)),
        }
    }
}

impl Tags<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u64::from_ne_bytes(*bytes))
    }
}

impl Places<'_> {
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = u32> {
        self.0
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u32::from_ne_bytes(*bytes))
    }
}

impl<'a> Completed<'a> {
    /// Writes a frame of them.
    pub(super) fn encode(buffer: &mut Vec<u8>, completed: &[(u64, u32)]) {
        let frame = FrameWriter::new(buffer, kind::COMPLETED);
        completed
            .iter()
            .fold(frame, |frame, (call, index)| frame.u64(*call).u32(*index));
    }

    pub(super) fn iter(self) -> impl Iterator<Item = (u64, u32)> + use<'a> {
        self.0.as_chunks::<12>().0.iter().map(|bytes| {
            let (call, index) = bytes.split_at(8);
            let (mut number, mut at) = ([0; 8], [0; 4]);
            number.copy_from_slice(call);
            at.copy_from_slice(index);
            (u64::from_ne_bytes(number), u32::from_ne_bytes(at))
        })
    }
}

impl<'a> Iterator for Learned<'a> {
    type Item = (u32, i32, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let mut frame = FrameReader {
            kind: kind::LEARN,
            rest: self.0,
        };
        let (slot, partition, topic) = (frame.u32().ok()?, frame.u32().ok()?, frame.text().ok()?);
        self.0 = frame.rest;
        Some((slot, partition.cast_signed(), topic))
    }
}

// === impl FromLane ===

impl<'a> FromLane<'a> {
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        let _ = match self {
            Self::Up => FrameWriter::new(buffer, kind::UP),
            Self::NotBuilt(why) => FrameWriter::new(buffer, kind::NOT_BUILT).text(why, MAX_TEXT),
            Self::Failed { call, index, failure } => FrameWriter::new(buffer, kind::FAILED)
                .u64(*call)
                .u32(*index)
                .failure(failure),
            Self::NotBegun { call, first, count } => FrameWriter::new(buffer, kind::NOT_BEGUN)
                .u64(*call)
                .u32(*first)
                .u32(*count),
            Self::Taken { call, first, count } => FrameWriter::new(buffer, kind::TAKEN)
                .u64(*call)
                .u32(*first)
                .u32(*count),
            Self::Completed(completed) => {
                let frame = FrameWriter::new(buffer, kind::COMPLETED);
                completed
                    .iter()
                    .fold(frame, |frame, (call, index)| frame.u64(call).u32(index))
            }
            Self::Returned {
                call,
                finished,
                took,
                broken,
            } => {
                let frame = FrameWriter::new(buffer, kind::RETURNED)
                    .u64(*call)
                    .u32(*finished)
                    .u64(*took);
                match broken {
                    None => frame.u32(0),
                    Some(failure) => frame.u32(1).failure(failure),
                }
            }
            Self::Answered(json) => FrameWriter::new(buffer, kind::ANSWERED).text(json, MAX_INLINE),
            Self::StepFailed(failure) => FrameWriter::new(buffer, kind::STEP_FAILED).failure(failure),
            Self::Produced(records) => FrameWriter::new(buffer, kind::PRODUCED).bytes(records),
            Self::ProducedBeside => FrameWriter::new(buffer, kind::PRODUCED_BESIDE),
        };
    }

    pub(super) fn decode(frame: &'a [u8]) -> Result<Self, FrameError> {
        let mut frame = FrameReader::new(frame)?;
        let said = match frame.kind {
            kind::UP => Self::Up,
            kind::NOT_BUILT => Self::NotBuilt(frame.text()?),
            kind::FAILED => Self::Failed {
                call: frame.u64()?,
                index: frame.u32()?,
                failure: frame.failure()?,
            },
            kind::NOT_BEGUN => Self::NotBegun {
                call: frame.u64()?,
                first: frame.u32()?,
                count: frame.u32()?,
            },
            kind::TAKEN => Self::Taken {
                call: frame.u64()?,
                first: frame.u32()?,
                count: frame.u32()?,
            },
            kind::COMPLETED => {
                let bytes = frame.rest;
                if bytes.is_empty() || bytes.len() % 12 != 0 {
                    return Err(FrameError::Value(frame.kind));
                }
                frame.rest = &[];
                Self::Completed(Completed(bytes))
            }
            kind::RETURNED => {
                let (call, finished, took) = (frame.u64()?, frame.u32()?, frame.u64()?);
                let broken = if frame.flag()? {
                    Some(frame.failure()?)
                } else {
                    None
                };
                Self::Returned {
                    call,
                    finished,
                    took,
                    broken,
                }
            }
            kind::ANSWERED => Self::Answered(frame.text()?),
            kind::STEP_FAILED => Self::StepFailed(frame.failure()?),
            kind::PRODUCED => Self::Produced(std::mem::take(&mut frame.rest)),
            kind::PRODUCED_BESIDE => Self::ProducedBeside,
            other => return Err(FrameError::Kind(other)),
        };
        frame.end(said)
    }
}

// === impl FromTalk ===

impl<'a> FromTalk<'a> {
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        let _ = match self {
            Self::Log {
                level,
                at,
                target,
                message,
                fields,
            } => {
                let (slot, offset) = at.unwrap_or((0, 0));
                // Half of a JSON object is none.
                let fields = if fields.len() > MAX_TEXT { "{}" } else { fields };
                FrameWriter::new(buffer, kind::LOG)
                    .u32(level.0)
                    .u32(u32::from(at.is_some()))
                    .u32(slot)
                    .u64(offset.cast_unsigned())
                    .text(target, 256)
                    .text(message, MAX_TEXT)
                    .text(fields, MAX_TEXT)
            }
            Self::Count { name, by } => FrameWriter::new(buffer, kind::COUNT)
                .text(name, MAX_TEXT)
                .u64(*by),
            Self::Time { name, durations } => FrameWriter::new(buffer, kind::TIME)
                .text(name, MAX_TEXT)
                .u64(durations.count)
                .u64(durations.sum)
                .u64(durations.max),
            Self::Lost { logs, metrics } => FrameWriter::new(buffer, kind::LOST).u64(*logs).u64(*metrics),
        };
    }

    pub(super) fn decode(frame: &'a [u8]) -> Result<Self, FrameError> {
        let mut frame = FrameReader::new(frame)?;
        let said = match frame.kind {
            kind::LOG => {
                let level = LogLevel(frame.u32()?);
                if level < LogLevel::ERROR || level > LogLevel::TRACE {
                    return Err(FrameError::Value(frame.kind));
                }
                let known = frame.flag()?;
                let (slot, offset) = (frame.u32()?, frame.u64()?.cast_signed());
                let at = known.then_some((slot, offset));
                Self::Log {
                    level,
                    at,
                    target: frame.text()?,
                    message: frame.text()?,
                    fields: frame.text()?,
                }
            }
            kind::COUNT => Self::Count {
                name: frame.text()?,
                by: frame.u64()?,
            },
            kind::TIME => {
                let name = frame.text()?;
                let durations = Durations {
                    count: frame.u64()?,
                    sum: frame.u64()?,
                    max: frame.u64()?,
                };
                Self::Time { name, durations }
            }
            kind::LOST => Self::Lost {
                logs: frame.u64()?,
                metrics: frame.u64()?,
            },
            other => return Err(FrameError::Kind(other)),
        };
        frame.end(said)
    }
}

// === impl ToTalk ===

impl ToTalk {
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        let _ = match self {
            Self::Stop => FrameWriter::new(buffer, kind::STOP),
            Self::Room { bytes, most } => FrameWriter::new(buffer, kind::ROOM).u64(*bytes).u64(*most),
            Self::Received { number } => FrameWriter::new(buffer, kind::RECEIVED).u64(*number),
            Self::Delivered { number, delivered } => FrameWriter::new(buffer, kind::DELIVERED)
                .u64(*number)
                .u32(delivered.partition.cast_unsigned())
                .u64(delivered.offset.cast_unsigned()),
            Self::NotDelivered { number, failure } => FrameWriter::new(buffer, kind::NOT_DELIVERED)
                .u64(*number)
                .u32(failure.kind.0)
                .text(&failure.message, MAX_TEXT),
        };
    }

    pub(super) fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        let mut frame = FrameReader::new(frame)?;
        let said = match frame.kind {
            kind::STOP => Self::Stop,
            kind::ROOM => Self::Room {
                bytes: frame.u64()?,
                most: frame.u64()?,
            },
            kind::RECEIVED => Self::Received { number: frame.u64()? },
            kind::DELIVERED => Self::Delivered {
                number: frame.u64()?,
                delivered: Delivered {
                    partition: frame.u32()?.cast_signed(),
                    offset: frame.u64()?.cast_signed(),
                },
            },
            kind::NOT_DELIVERED => {
                let (number, kind) = (frame.u64()?, HostErrorKind(frame.u32()?));
                let failure = HostFailure::new(kind, frame.text()?);
                Self::NotDelivered { number, failure }
            }
            other => return Err(FrameError::Kind(other)),
        };
        frame.end(said)
    }
}

const _: () = assert!(4 * MAX_TEXT <= MAX_FRAME && MAX_INLINE < MAX_FRAME && TAGS_AT_ONCE * 8 < MAX_FRAME);
const _: () = assert!(MAX_PRODUCED + 1 < MAX_FRAME);
const _: () = assert!(STORED_AT_ONCE * 4 + 9 < MAX_FRAME && COMPLETED_AT_ONCE * 12 < MAX_FRAME);

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
