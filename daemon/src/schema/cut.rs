//! Cuts the text of a JSON value down to the attributes that a schema names. Nothing is decoded and nothing of what is
//! dropped is copied: the result is a list of pieces of the text. All of the text is checked, what is dropped too.
//!
//! What is taken stays as it was written: escapes, digits of numbers, space inside of it, names that are there twice.

use std::ops::Range;

use super::attributes::{Attributes, Take};

/// What is left of a text, as pieces of it. Used again from message to message.
#[derive(Debug, Default)]
pub struct Pieces {
    pieces: Vec<Range<u32>>,
    length: usize,
}

/// Why a text cannot be cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// It is no JSON.
    #[error("not JSON: expected {expected}, found {found} at byte {at}")]
    NotJson {
        /// What could stand there.
        expected: &'static str,
        /// What does.
        found: String,
        /// Where.
        at: usize,
    },
    /// It is no text.
    #[error("not JSON: not UTF-8 at byte {at}")]
    NotText {
        /// Where.
        at: usize,
    },
    /// What is cut stands too deep.
    #[error("its arrays are nested deeper than {DEEPEST} where the schema cuts, at byte {at}")]
    TooDeep {
        /// Where.
        at: usize,
    },
    /// There is nothing.
    #[error("the value is empty, expected JSON")]
    Empty,
}

/// Arrays and objects inside each other that are cut; what is taken whole or dropped may be as deep as it likes. The
/// decoders that plugins use take no more.
const DEEPEST: usize = 128;

/// Stands for a comma that joins what did not stand beside each other.
const COMMA: Range<u32> = u32::MAX..u32::MAX;

/// Reads a text from its beginning.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// The arrays (false) and objects (true) that a skipped value has opened.
    open: Vec<bool>,
}

// === impl Pieces ===

impl Pieces {
    /// Cuts `text` down to `attributes`.
    ///
    /// # Errors
    /// Where it is no JSON.
    pub fn cut(&mut self, text: &[u8], attributes: &Attributes) -> Result<(), CutError> {
        self.pieces.clear();
        self.length = 0;
        if text.is_empty() {
            return Err(CutError::Empty);
        }
        if let Err(error) = std::str::from_utf8(text) {
            let at = error.valid_up_to();
            return Err(CutError::NotText { at });
        }
        let mut scanner = Scanner {
            text,
            at: 0,
            open: Vec::new(),
        };
        scanner.space();
        self.take(0..scanner.at);
        self.value(&mut scanner, attributes, 0)?;
        let end = scanner.at;
        scanner.space();
        if scanner.at < text.len() {
            return Err(scanner.expected("the end"));
        }
        self.take(end..scanner.at);
        Ok(())
    }

    /// Bytes of the result.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is left, which no JSON value is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Writes the result, which was cut from `text`.
    ///
    /// # Panics
    /// When `to` is not as long as the result, or `text` is another.
    pub fn write(&self, text: &[u8], to: &mut [u8]) {
        let mut rest = to;
        for piece in &self.pieces {
            let piece = if *piece == COMMA {
                b","
            } else {
                &text[piece.start as usize..piece.end as usize]
            };
            let (here, after) = rest.split_at_mut(piece.len());
            here.copy_from_slice(piece);
            rest = after;
        }
        debug_assert!(rest.is_empty());
    }

    /// Appends a piece; with the one before it if they stand beside each other.
    #[inline]
    fn take(&mut self, piece: Range<usize>) {
        if piece.is_empty() {
            return;
        }
        self.length += piece.len();
        // A message is shorter than 2 GiB: Kafka's own lengths are signed numbers of 32 bits.
        let (start, end) = (piece.start as u32, piece.end as u32);
        match self.pieces.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => self.pieces.push(start..end),
        }
    }

    fn comma(&mut self) {
        self.length += 1;
        self.pieces.push(COMMA);
    }

    fn value(
        &mut self,
        scanner: &mut Scanner<'_>,
        attributes: &Attributes,
        depth: usize,
    ) -> Result<(), CutError> {
        if depth > DEEPEST {
            return Err(CutError::TooDeep { at: scanner.at });
        }
        match scanner.peek() {
            Some(b'{') => self.object(scanner, attributes, depth),
            Some(b'[') => self.array(scanner, attributes, depth),
            _ => {
                let start = scanner.at;
                scanner.skip_value()?;
                self.take(start..scanner.at);
                Ok(())
            }
        }
    }

    fn array(
        &mut self,
        scanner: &mut Scanner<'_>,
        attributes: &Attributes,
        depth: usize,
    ) -> Result<(), CutError> {
        // Everything between the elements is taken with them.
        let mut from = scanner.at;
        scanner.at += 1;
        scanner.space();
        if scanner.peek() != Some(b']') {
            loop {
                self.take(from..scanner.at);
                self.value(scanner, attributes, depth + 1)?;
                from = scanner.at;
                scanner.space();
                match scanner.peek() {
                    Some(b',') => {
                        scanner.at += 1;
                        scanner.space();
                    }
                    Some(b']') => break,
                    _ => return Err(scanner.expected("`,` or `]`")),
                }
            }
        }
        scanner.at += 1;
        self.take(from..scanner.at);
        Ok(())
    }

    fn object(
        &mut self,
        scanner: &mut Scanner<'_>,
        attributes: &Attributes,
        depth: usize,
    ) -> Result<(), CutError> {
        let open = scanner.at;
        scanner.at += 1;
        self.take(open..scanner.at);
        // Where what was taken last ends, if nothing was dropped since.
        let mut beside = Some(scanner.at);
        let mut any = false;
        scanner.space();
        if scanner.peek() == Some(b'}') {
            self.take(open + 1..scanner.at + 1);
            scanner.at += 1;
            return Ok(());
        }
        loop {
            let start = scanner.at;
            let take = scanner.name(attributes)?;
            scanner.colon()?;
            match take {
                None => {
                    scanner.skip_value()?;
                    beside = None;
                }
                Some(take) => {
                    match beside {
                        Some(end) => self.take(end..start),
                        None if any => self.comma(),
                        None => {}
                    }
                    match take {
                        Take::Whole => {
                            scanner.skip_value()?;
                            self.take(start..scanner.at);
                        }
                        Take::Cut(inner) => {
                            self.take(start..scanner.at);
                            self.value(scanner, inner, depth + 1)?;
                        }
                    }
                    any = true;
                    beside = Some(scanner.at);
                }
            }
            scanner.space();
            match scanner.peek() {
                Some(b',') => {
                    scanner.at += 1;
                    scanner.space();
                }
                Some(b'}') => {
                    let end = scanner.at;
                    scanner.at += 1;
                    self.take(beside.unwrap_or(end)..scanner.at);
                    return Ok(());
                }
                _ => return Err(scanner.expected("`,` or `}`")),
            }
        }
    }
}

// === impl Scanner ===

impl<'a> Scanner<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[cold]
    fn expected(&self, expected: &'static str) -> CutError {
        let found = match self.text.get(self.at..) {
            None | Some([]) => "the end".to_owned(),
            Some(rest) => {
                // The text is UTF-8 and this place is the beginning of a character.
                let letter = String::from_utf8_lossy(&rest[..rest.len().min(4)]);
                letter
                    .chars()
                    .next()
                    .map_or_else(String::new, |letter| format!("`{}`", letter.escape_default()))
            }
        };
        CutError::NotJson {
            expected,
            found,
            at: self.at,
        }
    }

    /// Reads a member's name: how the attribute of this name is taken, if there is one.
    #[inline]
    fn name<'s>(&mut self, attributes: &'s Attributes) -> Result<Option<&'s Take>, CutError> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a name in quotes"));
        }
        let start = self.at + 1;
        let escaped = self.string()?;
        let name = &self.text[start..self.at - 1];
        if !escaped {
            return Ok(attributes.find(name));
        }
        // Rare: the name is written with escapes. What serde_json cannot read as text is no attribute's name.
        let name: Result<String, _> = serde_json::from_slice(&self.text[start - 1..self.at]);
        Ok(name.ok().and_then(|name| attributes.find(name.as_bytes())))
    }

    #[inline]
    fn colon(&mut self) -> Result<(), CutError> {
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.expected("`:`"));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Passes over a string and checks it; whether it has escapes.
    #[inline]
    fn string(&mut self) -> Result<bool, CutError> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at += plain(&self.text[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.expected("no control character in a string")),
                None => return Err(self.expected("the end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), CutError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|digit| digit.is_ascii_hexdigit()) {
                        return Err(self.expected("four hexadecimal digits"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.expected("an escape")),
        }
        Ok(())
    }

    /// Passes over a value and checks it, however deep it is.
    fn skip_value(&mut self) -> Result<(), CutError> {
        self.open.clear();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'{') => {
                    self.at += 1;
                    self.space();
                    if self.peek() != Some(b'}') {
                        self.open.push(true);
                        self.skip_name()?;
                        continue;
                    }
                    self.at += 1;
                }
                Some(b'[') => {
                    self.at += 1;
                    self.space();
                    if self.peek() != Some(b']') {
                        self.open.push(false);
                        continue;
                    }
                    self.at += 1;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return Err(self.expected("a value")),
            }
            // Ends what ends here, up to where the next value begins.
            loop {
                let Some(is_object) = self.open.last().copied() else {
                    return Ok(());
                };
                self.space();
                match (is_object, self.peek()) {
                    (_, Some(b',')) => {
                        self.at += 1;
                        self.space();
                        if is_object {
                            self.skip_name()?;
                        }
                        break;
                    }
                    (true, Some(b'}')) | (false, Some(b']')) => {
                        self.at += 1;
                        self.open.pop();
                    }
                    (true, _) => return Err(self.expected("`,` or `}`")),
                    (false, _) => return Err(self.expected("`,` or `]`")),
                }
            }
        }
    }

    fn skip_name(&mut self) -> Result<(), CutError> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a name in quotes"));
        }
        self.string()?;
        self.colon()
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), CutError> {
        for letter in word {
            if self.peek() != Some(*letter) {
                return Err(self.expected("a value"));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), CutError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            // No digit follows a leading zero.
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.expected("a digit")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), CutError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.expected("a digit"));
        }
        Ok(())
    }
}

/// How many bytes at the beginning are plain letters of a string: no quote, no backslash, no control character. Eight
/// at a time.
#[inline]
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    /// The high bit of the bytes that are zero; of bytes above the first such one it may be wrong.
    fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & HIGH
    }
    let mut at = 0;
    while let Some(chunk) = text[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = zeros(word ^ (ONES * u64::from(b'"')));
        let backslash = zeros(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = quote | backslash | control;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\') || *byte < 0x20;
    at + text[at..].iter().position(ends).unwrap_or(text.len() - at)
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
