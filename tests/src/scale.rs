//! How large a scenario is: about a tenth of the promised counts in CI, all of them under `DEVOUR_SOAK=1`
//! (`cargo xtask soak`).

use std::time::Duration;

/// True under `DEVOUR_SOAK=1`: the counts that the documentation promises.
pub fn soak() -> bool {
    std::env::var("DEVOUR_SOAK").is_ok_and(|value| value == "1")
}

/// `full` messages in a soak, a tenth of it otherwise (at least one).
pub fn messages(full: u64) -> u64 {
    if soak() { full } else { (full / 10).max(1) }
}

/// How long a scenario waits for a state that `in_ci` is long enough for at a tenth of the counts.
pub fn patience(in_ci: Duration) -> Duration {
    if soak() { in_ci * 10 } else { in_ci }
}
