//! A command's side: one request to the daemon, and its answer.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Answer, Request, path::Reachable};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No daemon listens there.
    #[error(
        "no devourd answers at {}: {source}. Is it running? `--socket FILE`, DEVOUR_SOCKET or `--settings FILE` names another control socket",
        .path.display()
    )]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// It listens, and did not answer.
    #[error("devourd at {} did not answer: {source}", .path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// How long the daemon may take to answer, unless the request says that it takes long: its end is noticed all the same.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer: a status of thousands of routes fits.
const LONGEST: u64 = 64 << 20;

/// Asks the daemon that listens at `path`.
///
/// # Errors
/// When none listens there, or it does not answer.
pub fn ask(path: &Path, request: &Request) -> Result<Answer, AskError> {
    let reachable = Reachable::of(path).and_then(|reachable| {
        let stream = UnixStream::connect(reachable.path())?;
        stream.set_read_timeout(request.is_answered_at_once().then_some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    });
    let stream = reachable.map_err(|source| AskError::Connect {
        path: path.to_owned(),
        source,
    })?;
    exchange(stream, request).map_err(|source| AskError::Silent {
        path: path.to_owned(),
        source,
    })
}

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Answer> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}
