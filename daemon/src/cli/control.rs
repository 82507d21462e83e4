//! `devourd pause`, `resume`, `stop`, `start`, `restart` and `skip`: what a running daemon is told over its control socket.
//! Of the settings they read where that is, and only where `--settings` names a file.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{DONE, FAILED};
use crate::{
    admin::{self, Answer, Request},
    settings::{self, Finding, ProcessEnvironment},
};

/// Which daemon.
#[derive(clap::Args)]
pub(super) struct Socket {
    /// The daemon's control socket; else `control_socket` of the file that `--settings` names, else
    /// /run/devour/control.sock.
    #[arg(long, env = "DEVOUR_SOCKET", value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Print the answer as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// One route, or all.
#[derive(clap::Args)]
pub(super) struct Routes {
    /// Name of the route; else all routes.
    route: Option<String>,
    #[command(flatten)]
    socket: Socket,
}

#[derive(clap::Args)]
pub(super) struct Stop {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    socket: Socket,
}

/// All routes have to be asked for.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Name of the route.
    route: Option<String>,
    /// Stop all routes.
    #[arg(long)]
    all: bool,
}

#[derive(clap::Args)]
pub(super) struct Restart {
    /// Name of the route; else all routes.
    route: Option<String>,
    /// Make a new Kafka client too.
    #[arg(long)]
    client: bool,
    #[command(flatten)]
    socket: Socket,
}

#[derive(clap::Args)]
pub(super) struct Skip {
    /// Name of the route.
    route: String,
    /// The message that its partition waits for, as the log names it.
    #[arg(value_name = "TOPIC/PARTITION@OFFSET", value_parser = message)]
    message: Place,
    #[command(flatten)]
    socket: Socket,
}

/// Where a message stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    topic: String,
    partition: i32,
    offset: i64,
}

pub(super) fn pause(settings: Option<&Path>, args: &Routes) -> u8 {
    let route = args.route.clone();
    ask(
        "pause",
        settings,
        &args.socket,
        &Request::Pause { route },
        |done| {
            lines(done, "paused", |said| match said["in_hand"].as_u64() {
                None => "paused; the route is busy now and pauses as soon as it can".to_owned(),
                Some(0) => "paused".to_owned(),
                Some(in_hand) => format!("paused; {in_hand} messages in hand are finished yet"),
            })
        },
    )
}

pub(super) fn resume(settings: Option<&Path>, args: &Routes) -> u8 {
    let route = args.route.clone();
    ask(
        "resume",
        settings,
        &args.socket,
        &Request::Resume { route },
        |done| {
            lines(done, "resumed", |said| {
                let resumed: Vec<&str> = said["resumed"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|one| one.as_str())
                    .collect();
                match (said["was_paused"] == true, resumed.is_empty()) {
                    _ if said["busy"] == true => {
                        "the route is busy now and resumes as soon as it can".to_owned()
                    }
                    (true, true) => "resumed".to_owned(),
                    (true, false) => format!("resumed; tried again: {}", resumed.join(", ")),
                    (false, false) => format!("tried again: {}", resumed.join(", ")),
                    (false, true) => "is not paused and has nothing that is stopped".to_owned(),
                }
            })
        },
    )
}

pub(super) fn stop(settings: Option<&Path>, args: &Stop) -> u8 {
    let request = Request::Stop {
        route: args.which.route.clone(),
        all: args.which.all,
    };
    ask("stop", settings, &args.socket, &request, |done| {
        lines(done, "stopped", |said| match said["left"].as_u64() {
            None | Some(0) => "stopped".to_owned(),
            Some(left) => {
                format!("stopped; its deadline passed with {left} messages in hand, which are read again")
            }
        })
    })
}

pub(super) fn start(settings: Option<&Path>, args: &Routes) -> u8 {
    let route = args.route.clone();
    ask(
        "start",
        settings,
        &args.socket,
        &Request::Start { route },
        |done| lines(done, "started", |said| format!("started{}", in_process(said))),
    )
}

pub(super) fn restart(settings: Option<&Path>, args: &Restart) -> u8 {
    let request = Request::Restart {
        route: args.route.clone(),
        client: args.client,
    };
    ask("restart", settings, &args.socket, &request, |done| {
        lines(done, "restarted", |said| format!("restarted{}", in_process(said)))
    })
}

fn in_process(said: &Value) -> String {
    said["pid"]
        .as_u64()
        .map_or_else(String::new, |pid| format!(", its plugin's process is {pid}"))
}

/// A line for each route of an answer.
fn lines(done: &Value, key: &str, say: impl Fn(&Value) -> String) -> String {
    let routes = done[key].as_array().map(Vec::as_slice).unwrap_or_default();
    if routes.is_empty() {
        return "there is no route to which that applies".to_owned();
    }
    let name = |said: &Value| said["route"].as_str().unwrap_or_default().to_owned();
    let lines: Vec<String> = routes
        .iter()
        .map(|said| format!("{}: {}", name(said), say(said)))
        .collect();
    lines.join("\n")
}

pub(super) fn skip(settings: Option<&Path>, args: &Skip) -> u8 {
    let Place {
        topic,
        partition,
        offset,
    } = args.message.clone();
    let request = Request::Skip {
        route: args.route.clone(),
        topic,
        partition,
        offset,
    };
    ask("skip", settings, &args.socket, &request, |done| {
        format!("skipped: {}", done["skipped"].as_str().unwrap_or_default())
    })
}

fn ask(
    command: &str,
    settings: Option<&Path>,
    socket: &Socket,
    request: &Request,
    say: impl FnOnce(&Value) -> String,
) -> u8 {
    match exchange(settings, socket, request) {
        done @ Answer::Done(_) if socket.json => print_json(&done),
        Answer::Done(done) => print(&say(&done)),
        failed @ Answer::Failed { .. } => print_failed(command, socket, &failed),
    }
}

/// The daemon's answer; that there is none is a failure like any other.
pub(super) fn exchange(settings: Option<&Path>, socket: &Socket, request: &Request) -> Answer {
    let asked = place_of(settings, socket)
        .and_then(|path| admin::ask(&path, request).map_err(|error| error.to_string()));
    asked.unwrap_or_else(Answer::failed)
}

/// Where the daemon listens.
fn place_of(settings: Option<&Path>, socket: &Socket) -> Result<PathBuf, String> {
    let named = match (&socket.socket, settings) {
        (Some(path), _) => Some(path.clone()),
        (None, None) => None,
        (None, Some(file)) => settings::control_socket(file, &ProcessEnvironment).map_err(|findings| {
            let first = findings.sorted().into_iter().next();
            format!(
                "{} does not tell the control socket: {}. `--socket FILE` or DEVOUR_SOCKET names it too",
                file.display(),
                first.map_or_else(|| "it cannot be used".to_owned(), Finding::title),
            )
        })?,
    };
    Ok(named.unwrap_or_else(|| PathBuf::from(admin::DEFAULT)))
}

/// Who reads may have gone, as `head` does: that is no failure of ours.
pub(super) fn print(text: &str) -> u8 {
    let _ = writeln!(std::io::stdout(), "{text}");
    DONE
}

pub(super) fn print_json(value: &impl serde::Serialize) -> u8 {
    print(&serde_json::json!(value).to_string())
}

/// On standard error; with `--json` the answer as it came.
pub(super) fn print_failed(command: &str, socket: &Socket, answer: &Answer) -> u8 {
    match answer {
        Answer::Failed { error } if !socket.json => eprintln!("devourd {command}: {error}"),
        answer => {
            print_json(answer);
        }
    }
    FAILED
}

fn message(text: &str) -> Result<Place, String> {
    let form = || "expected TOPIC/PARTITION@OFFSET, such as `orders/3@1708`".to_owned();
    let (partition, offset) = text.rsplit_once('@').ok_or_else(form)?;
    let (topic, partition) = partition.rsplit_once('/').ok_or_else(form)?;
    let partition: i32 = partition.parse().map_err(|_| form())?;
    let offset: i64 = offset.parse().map_err(|_| form())?;
    if topic.is_empty() || partition < 0 || offset < 0 {
        return Err(form());
    }
    Ok(Place {
        topic: topic.to_owned(),
        partition,
        offset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_named_as_the_log_names_it() {
        let expected = Place {
            topic: "orders.eu".to_owned(),
            partition: 3,
            offset: 1708,
        };
        assert_eq!(message("orders.eu/3@1708"), Ok(expected));
        for wrong in [
            "", "orders", "orders/3", "orders@3", "/3@1", "o/x@1", "o/-1@1", "o/1@-1", "o/1@",
        ] {
            assert!(message(wrong).is_err(), "{wrong}");
        }
    }
}
