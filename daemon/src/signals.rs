//! Signals as events, read by a thread of their own.

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1},
    iterator::Signals,
};
use tokio::sync::mpsc;

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

/// Takes over the process's signals and tells of each.
///
/// # Errors
/// When the system refuses a handler or the thread.
pub fn listen(tell: mpsc::UnboundedSender<Signal>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let signal = match signal {
                    SIGHUP => Signal::Reload,
                    SIGUSR1 => Signal::Dump,
                    _ => Signal::Stop,
                };
                if tell.send(signal).is_err() {
                    return;
                }
            }
        })?;
    Ok(())
}
