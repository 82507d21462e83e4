//! Signals as events, read by a thread of their own.

use std::time::Duration;

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1},
    iterator::Signals,
};
use tokio::sync::mpsc;

use crate::os::process;

/// What an operator, a terminal or systemd wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT: drain and end; the second one ends at once.
    Stop,
    /// SIGHUP: read the settings again.
    Reload,
    /// SIGUSR1: log every route's state.
    Dump,
}

/// How long after a second stop the daemon may take to end; then the thread ends it.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Takes over the process's signals and tells of each. To be called before anything that takes long: until then a signal
/// ends the process without a word, or, where it is the first of a container, is not heard at all. After a second stop the
/// process ends with `left` even where nobody listens.
///
/// # Errors
/// When the system refuses a handler or the thread.
pub fn listen(tell: mpsc::UnboundedSender<Signal>, left: u8) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut stops = 0;
            for signal in signals.forever() {
                let signal = match signal {
                    SIGHUP => Signal::Reload,
                    SIGUSR1 => Signal::Dump,
                    _ => Signal::Stop,
                };
                // Who listened is gone when the daemon ends by itself; it may still be stopped on its way.
                let _ = tell.send(signal);
                stops += u32::from(signal == Signal::Stop);
                if stops >= 2 {
                    std::thread::sleep(AT_ONCE);
                    process::exit_now(i32::from(left));
                }
            }
        })?;
    Ok(())
}
