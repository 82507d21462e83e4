//! Topic names and patterns as librdkafka understands them: an entry that starts with `^` is an extended regular
//! expression of POSIX, everything else a name.

use std::ffi::CString;
use std::mem::MaybeUninit;

/// Whether Kafka's own topics (`__consumer_offsets`, `__transaction_state`) may be read by a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InternalTopics {
    Exclude,
    Allow,
}

/// A compiled topic pattern, matched as librdkafka matches it (the same functions of the C library).
pub struct TopicPattern {
    compiled: Box<libc::regex_t>,
}

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is no regular expression: {reason}")]
pub struct PatternError {
    pub pattern: String,
    pub reason: String,
}

/// The entry is a pattern, not a name.
pub fn is_pattern(topic: &str) -> bool {
    topic.starts_with('^')
}

/// The topic belongs to Kafka itself, by its name.
pub fn is_internal(topic: &str) -> bool {
    topic.starts_with("__")
}

/// Whether a pattern can match a topic that starts with `__`; `true` where the start of the pattern does not tell.
pub(super) fn may_match_internal(pattern: &str) -> bool {
    let mut rest = pattern.strip_prefix('^').unwrap_or(pattern).chars();
    // Two literal characters decide, unless an alternative or a quantifier takes them back.
    if pattern.contains('|') {
        return true;
    }
    for _ in 0..2 {
        match rest.next() {
            Some('_') => {}
            Some(c) if c.is_ascii_alphanumeric() || c == '-' => {
                return matches!(rest.next(), Some('*' | '?' | '{'));
            }
            _ => return true,
        }
    }
    true
}

// === impl TopicPattern ===

impl TopicPattern {
    /// Compiles a pattern, with its `^`.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let refused = |reason: String| PatternError {
            pattern: pattern.to_owned(),
            reason,
        };
        let text = CString::new(pattern).map_err(|_| refused("it holds a NUL byte".into()))?;
        let mut compiled = Box::new(MaybeUninit::<libc::regex_t>::uninit());
        // SAFETY: `regcomp` fills the structure that it is given; `text` is terminated and lives during the call.
        let code = unsafe {
            libc::regcomp(
                compiled.as_mut_ptr(),
                text.as_ptr(),
                libc::REG_EXTENDED | libc::REG_NOSUB,
            )
        };
        if code != 0 {
            let mut buffer = [0 as libc::c_char; 256];
            // SAFETY: after a failed `regcomp` POSIX lets `regerror` read the same structure; the buffer's length is
            // passed and the text is terminated within it.
            let reason = unsafe {
                libc::regerror(code, compiled.as_ptr(), buffer.as_mut_ptr(), buffer.len());
                super::errors::text_of(buffer.as_ptr())
            };
            return Err(refused(reason));
        }
        // SAFETY: `regcomp` returned 0, so the structure is initialised.
        let compiled = unsafe { compiled.assume_init() };
        Ok(Self { compiled })
    }

    /// Whether the pattern matches this topic.
    pub fn matches(&self, topic: &str) -> bool {
        let Ok(topic) = CString::new(topic) else {
            return false;
        };
        // SAFETY: compiled in `new`; with REG_NOSUB no match array is written.
        unsafe { libc::regexec(&*self.compiled, topic.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for TopicPattern {
    fn drop(&mut self) {
        // SAFETY: compiled in `new` and freed once, here.
        unsafe { libc::regfree(&mut *self.compiled) }
    }
}

// SAFETY: the compiled expression is owned, and `regexec` is thread-safe on it by POSIX.
unsafe impl Send for TopicPattern {}
// SAFETY: as above.
unsafe impl Sync for TopicPattern {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pattern_matches_as_librdkafka_does() {
        let pattern = TopicPattern::new("^orders\\.[a-z]+$").unwrap();
        assert!(pattern.matches("orders.eu"));
        assert!(!pattern.matches("orders.1") && !pattern.matches("my.orders.eu"));
        let error = TopicPattern::new("^orders.(").err().unwrap();
        assert!(error.to_string().contains("`^orders.(`"), "{error}");
    }

    #[test]
    fn what_can_reach_internal_topics_is_known_by_its_start() {
        for safe in ["^orders", "^orders.*", "^a", "^_a.*", "^A[0-9]"] {
            assert!(!may_match_internal(safe), "{safe}");
        }
        for unsafe_ in [
            "^.*", "^__", "^_", "^_.*", "^(a|b)", "^a|_", "^[a-z_]", "^a*", "^a?_", "^", "^\\_",
        ] {
            assert!(may_match_internal(unsafe_), "{unsafe_}");
        }
    }
}
