//! Waiting for a state with a deadline: the only place of the fixtures where a thread pauses.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// The state did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:.1?} for {what}, in vain{}", Detail(last))]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub waited: Duration,
    /// What was seen last, or empty.
    pub last: String,
}

struct Detail<'a>(&'a str);

/// Asks `state` again and again until it gives a value, for at most `within`. A question that the kernel or a
/// condition variable can answer should wait there instead; this is for brokers, files and other processes.
pub fn until<T>(what: &str, within: Duration, mut state: impl FnMut() -> Option<T>) -> Result<T, TimedOut> {
    until_told(what, within, || state().ok_or_else(String::new))
}

/// As [`until`]; the state says in words why it is not there yet, and the last of these words is in the error.
pub fn until_told<T>(
    what: &str,
    within: Duration,
    mut state: impl FnMut() -> Result<T, String>,
) -> Result<T, TimedOut> {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let last = match state() {
            Ok(value) => return Ok(value),
            Err(last) => last,
        };
        if begin.elapsed() >= within {
            return Err(TimedOut {
                what: what.to_owned(),
                waited: begin.elapsed(),
                last,
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Pauses until `next`: the beat of a load or of a churn, never a wait for a state.
pub fn pace(next: Instant) {
    std::thread::sleep(next.saturating_duration_since(Instant::now()));
}

// === impl Detail ===

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "; last seen: {}", self.0)
        }
    }
}
