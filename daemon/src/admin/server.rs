//! The daemon's side: takes requests line by line and passes them on. Runs on the supervisor's own loop, and no client
//! can hold that up: a line is bounded in length and time.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
};

use super::{Answer, Asked, ControlSocket, Request};

/// The longest request.
const LONGEST: u64 = 64 * 1024;
/// How long a client may take to write its line.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many clients are served at once; others wait in the socket's queue.
const AT_ONCE: usize = 32;

/// Serves the socket until the task is aborted. Must be called inside the runtime.
///
/// # Errors
/// When the listener cannot be watched.
pub fn serve(socket: &ControlSocket, tell: mpsc::UnboundedSender<Asked>) -> io::Result<JoinHandle<()>> {
    let listener = UnixListener::from_std(socket.listener()?)?;
    Ok(tokio::spawn(accept(listener, tell)))
}

async fn accept(listener: UnixListener, tell: mpsc::UnboundedSender<Asked>) {
    let room = std::sync::Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = std::sync::Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let tell = tell.clone();
                tokio::spawn(async move {
                    if let Err(error) = attend(stream, &tell, permit).await {
                        tracing::debug!(%error, "a client of the control socket went away");
                    }
                });
            }
            Err(error) => {
                // No descriptor left, most likely: it may pass.
                tracing::warn!(%error, "the control socket takes no client now");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// One request and its answer.
async fn attend(
    mut stream: UnixStream,
    tell: &mpsc::UnboundedSender<Asked>,
    permit: OwnedSemaphorePermit,
) -> io::Result<()> {
    let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(LONGEST));
    let answer = match tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await {
        Err(_) => Answer::failed("no request came in time"),
        Ok(Err(error)) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
        Ok(_) => match serde_json::from_str::<Request>(&line) {
            Ok(request) => {
                if !request.is_answered_at_once() {
                    // Who waits for a reload keeps nobody else from asking.
                    drop(permit);
                }
                pass_on(request, peer, tell).await
            }
            Err(error) => Answer::failed(format!("this is no request: {error}")),
        },
    };
    let mut answer = serde_json::to_vec(&answer)?;
    answer.push(b'\n');
    write.write_all(&answer).await
}

async fn pass_on(request: Request, peer: Option<i32>, tell: &mpsc::UnboundedSender<Asked>) -> Answer {
    let (reply, answer) = oneshot::channel();
    let process_group = peer.and_then(|pid| {
        let group = rustix::process::getpgid(rustix::process::Pid::from_raw(pid)).ok()?;
        Some(group.as_raw_nonzero().get().unsigned_abs())
    });
    let asked = Asked {
        request,
        process_group,
        reply,
    };
    let ended = || Answer::failed("the route ended before it answered: look at its state and ask again");
    if tell.send(asked).is_err() {
        return Answer::failed("the daemon is ending");
    }
    answer.await.unwrap_or_else(|_| ended())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use super::*;
    use crate::admin::ask;

    /// Serves a socket, answering `resume` and nothing else, while `client` runs in a thread.
    fn with_server<T: Send + 'static>(client: impl FnOnce(&std::path::Path) -> T + Send + 'static) -> T {
        let dir = tempfile::tempdir().unwrap();
        let socket = ControlSocket::bind(&dir.path().join("control.sock")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (tell, mut told) = mpsc::unbounded_channel::<Asked>();
            let _task = serve(&socket, tell).unwrap();
            let path = socket.path().to_owned();
            let client = tokio::task::spawn_blocking(move || client(&path));
            tokio::pin!(client);
            loop {
                tokio::select! {
                    result = &mut client => return result.unwrap(),
                    Some(asked) = told.recv() => match asked.request {
                        Request::Resume { route } => {
                            let ours = rustix::process::getpgrp().as_raw_nonzero().get().unsigned_abs();
                            assert_eq!(asked.process_group, Some(ours));
                            asked.reply.send(Answer::Done(serde_json::json!({ "resumed": [route] }))).unwrap();
                        }
                        _ => drop(asked.reply),
                    }
                }
            }
        })
    }

    fn raw(path: &std::path::Path, line: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        // What is too long is answered before all of it is read.
        let _ = stream.write_all(line);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn a_request_is_answered_with_one_line() {
        let resume = Request::Resume {
            route: Some("orders".to_owned()),
        };
        let answer = with_server(move |path| ask(path, &resume).unwrap());
        assert_eq!(answer, Answer::Done(serde_json::json!({ "resumed": ["orders"] })));
    }

    #[test]
    fn nonsense_is_answered_too_and_holds_nobody_up() {
        with_server(|path| {
            // One that says nothing keeps its place and nobody else's.
            let silent = UnixStream::connect(path).unwrap();
            for line in [&b"{}\n"[..], b"resume\n", b"\xff\xfe\n", b"", &[b'x'; 100_000]] {
                let answer = raw(path, line);
                assert!(
                    answer.starts_with(r#"{"failed":{"error":"this is no request"#),
                    "{answer:?}"
                );
            }
            drop(silent);
            let skip = Request::Skip {
                route: "a".to_owned(),
                topic: "b".to_owned(),
                partition: 0,
                offset: 0,
            };
            let answer = ask(path, &skip).unwrap();
            assert!(matches!(answer, Answer::Failed { error } if error.contains("ended before it answered")));
        });
    }
}
