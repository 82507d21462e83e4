//! How frames are written and read: numbers, texts, failures, one after the other; reading checks every length.

use devour_abi::{Failure, FailureKind};

/// Writes a frame into a buffer that is used again.
pub(super) struct FrameWriter<'a>(&'a mut Vec<u8>);

/// Reads a frame, and checks it.
pub(super) struct FrameReader<'a> {
    pub kind: u8,
    pub rest: &'a [u8],
}

/// Why a frame was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("an unknown kind of frame, {0}")]
    Kind(u8),
    #[error("a frame of kind {0} that ends too early")]
    Short(u8),
    #[error("a frame of kind {0} with {1} bytes too many")]
    Long(u8, usize),
    #[error("a frame of kind {0} with a text that is not UTF-8")]
    Text(u8),
    #[error("a frame of kind {0} with a value out of range")]
    Value(u8),
}

/// Texts of a frame are cut to so many bytes.
pub(super) const MAX_TEXT: usize = 16 * 1024;
// === impl FrameWriter ===

impl<'a> FrameWriter<'a> {
    pub(super) fn new(buffer: &'a mut Vec<u8>, kind: u8) -> Self {
        buffer.clear();
        buffer.push(kind);
        Self(buffer)
    }

    pub(super) fn u32(self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    pub(super) fn u64(self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    pub(super) fn text(self, text: &str, most: usize) -> Self {
        let text = cut(text, most);
        let this = self.u32(text.len() as u32);
        this.0.extend_from_slice(text.as_bytes());
        this
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn failure(self, failure: &Failure) -> Self {
        self.u32(failure.kind.0)
            .u64(failure.delay_ms)
            .text(&failure.message, MAX_TEXT)
    }
}

// === impl FrameReader ===

impl<'a> FrameReader<'a> {
    pub(super) fn new(frame: &'a [u8]) -> Result<Self, FrameError> {
        let (kind, rest) = frame.split_first().ok_or(FrameError::Short(0))?;
        Ok(Self { kind: *kind, rest })
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], FrameError> {
        let (here, rest) = self
            .rest
            .split_at_checked(bytes)
            .ok_or(FrameError::Short(self.kind))?;
        self.rest = rest;
        Ok(here)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (here, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(FrameError::Short(self.kind))?;
        self.rest = rest;
        Ok(*here)
    }

    pub(super) fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_ne_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, FrameError> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FrameError::Value(self.kind)),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, FrameError> {
        let length = self.u32()? as usize;
        std::str::from_utf8(self.take(length)?).map_err(|_| FrameError::Text(self.kind))
    }

    pub(super) fn failure(&mut self) -> Result<Failure, FrameError> {
        let kind = FailureKind(self.u32()?);
        let delay_ms = self.u64()?;
        let mut failure = Failure::new(kind, self.text()?);
        failure.delay_ms = delay_ms;
        Ok(failure)
    }

    pub(super) fn end<T>(self, value: T) -> Result<T, FrameError> {
        if self.rest.is_empty() {
            Ok(value)
        } else {
            Err(FrameError::Long(self.kind, self.rest.len()))
        }
    }
}

/// The longest beginning of `text` that has at most `most` bytes.
pub(super) fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
