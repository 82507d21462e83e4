//! What the control socket asks of the daemon.

use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use super::{Supervisor, apply::Wanted, orders::What, receipt::Reason, route::State};
use crate::{
    admin::{Answer, Asked, ControlSocket, Request, serve},
    os::process,
    settings::RouteName,
    worker::{Command, Reply, WorkerHandle},
};

/// The supervisor's end of the control socket.
pub(super) struct Control {
    tell: mpsc::UnboundedSender<Asked>,
    pub(super) told: mpsc::UnboundedReceiver<Asked>,
    socket: Option<ControlSocket>,
}

// === impl Control ===

impl Control {
    /// No socket yet.
    pub(super) fn new() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self {
            tell,
            told,
            socket: None,
        }
    }

    pub(super) fn set(&mut self, socket: ControlSocket) {
        self.socket = Some(socket);
    }

    /// Serves the socket, if there is one. Inside the runtime.
    pub(super) fn start(&self) {
        let Some(socket) = &self.socket else { return };
        match serve(socket, self.tell.clone()) {
            // It runs as long as the runtime does.
            Ok(_task) => tracing::debug!(path = %socket.path().display(), "control socket"),
            Err(error) => {
                tracing::error!(path = %socket.path().display(), %error, "the control socket cannot be served");
            }
        }
    }
}

// === impl Supervisor ===

impl Supervisor {
    /// Answers to a control socket too.
    #[must_use]
    pub fn controlled_by(mut self, socket: ControlSocket) -> Self {
        self.control.set(socket);
        self
    }

    /// Does what was asked, or says why not.
    pub(super) fn obey(&mut self, asked: Asked) {
        let Asked {
            request,
            process_group,
            reply,
        } = asked;
        tracing::debug!(?request, ?process_group, "control request");
        if self.is_a_plugins(process_group) {
            answer(reply, Answer::failed("a plugin does not control its daemon"));
            return;
        }
        match request {
            Request::Reload { wait } => {
                let (tell, receipt) = oneshot::channel();
                self.reload(Wanted::new(Reason::Command).and_tell(tell));
                if wait {
                    tokio::spawn(async move {
                        // Without a receipt the daemon is ending: the client hears that nobody answered.
                        if let Ok(receipt) = receipt.await {
                            answer(reply, Answer::Done(serde_json::json!({ "receipt": receipt })));
                        }
                    });
                } else {
                    answer(reply, Answer::Done(serde_json::json!({ "reload": "begun" })));
                }
            }
            Request::Status { route } => self.status(route.as_deref(), reply),
            Request::Pause { route } => self.pause(route.as_deref(), reply),
            Request::Resume { route } => self.resume(route.as_deref(), reply),
            Request::Stop {
                route: None,
                all: false,
            } => {
                answer(
                    reply,
                    Answer::failed("to stop all routes, say so: `--all`, on the socket `\"all\":true`"),
                );
            }
            Request::Stop { route, .. } => self.stop_by_hand(route.as_deref(), reply),
            Request::Start { route } => self.start_by_hand(route.as_deref(), reply),
            Request::Restart { route, client } => {
                let what = if client { What::Client } else { What::Plugin };
                self.restart(route.as_deref(), what, reply);
            }
            Request::Skip {
                route,
                topic,
                partition,
                offset,
            } => self.to_worker(&route, reply, move |worker, reply| {
                let skipped = format!("{topic}/{partition}@{offset}");
                let hear = Reply::new(move |done: Result<(), String>| {
                    let done = done.map_or_else(Answer::failed, |()| {
                        Answer::Done(serde_json::json!({ "skipped": skipped }))
                    });
                    answer(reply, done);
                });
                worker.tell(Command::Skip {
                    topic,
                    partition,
                    offset,
                    reply: hear,
                });
            }),
        }
    }

    /// Whether who asks runs in a plugin's process group: every child of the daemon leads one, also the plugin that is
    /// taking over and the one that is going.
    fn is_a_plugins(&self, process_group: Option<u32>) -> bool {
        process_group.is_some_and(|group| {
            self.routes.values().any(|route| route.pid == Some(group)) || process::is_our_child(group)
        })
    }

    /// Passes a command to a route's worker, which answers; answers itself where there is none.
    fn to_worker(
        &self,
        name: &str,
        reply: oneshot::Sender<Answer>,
        tell: impl FnOnce(&WorkerHandle, oneshot::Sender<Answer>),
    ) {
        let Some((name, route)) = self.routes.iter().find(|(known, _)| known.as_str() == name) else {
            answer(reply, Answer::failed(self.no_such_route(name)));
            return;
        };
        match &route.worker {
            Some(_) if route.state == State::Draining => {
                answer(reply, Answer::failed(format!("route `{name}` is stopping")));
            }
            Some(worker) => tell(worker, reply),
            None => {
                let why = route.last_error.as_deref().unwrap_or("it was stopped");
                let error = format!("route `{name}` does not run now, it is {}: {why}", route.state);
                answer(reply, Answer::failed(error));
            }
        }
    }

    pub(super) fn no_such_route(&self, name: &str) -> String {
        if self.unplanned.contains_key(name) {
            return format!("route `{name}` cannot run as it is: the log says why");
        }
        let routes: Vec<&str> = self.routes.keys().map(RouteName::as_str).collect();
        let near = routes
            .iter()
            .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)))
            .filter(|near| strsim::jaro_winkler(near, name) > 0.7);
        let hint = near
            .map(|near| format!(" Did you mean `{near}`?"))
            .unwrap_or_default();
        let known = match routes.as_slice() {
            [] => "none".to_owned(),
            routes => routes.join(", "),
        };
        format!("there is no route `{name}` (the daemon's routes: {known}).{hint}")
    }
}

/// Who asked may be gone.
pub(super) fn answer(reply: oneshot::Sender<Answer>, answer: Answer) {
    let _ = reply.send(answer);
}

/// Where a daemon's control socket lies, and whether somebody named that place.
#[must_use]
pub fn socket_path(named: Option<&PathBuf>) -> (PathBuf, bool) {
    match named {
        Some(path) => (path.clone(), true),
        None => (
            crate::admin::default_path(std::env::var_os("RUNTIME_DIRECTORY")),
            false,
        ),
    }
}
