//! `devourd dead-letter list ROUTE` and `devourd dead-letter replay ROUTE`: what a route gave up, and the way back.

use std::{path::Path, time::Duration};

use clap::Subcommand;

use super::{BAD_SETTINGS, FAILED, run, where_silent};
use crate::{
    kafka::{ClientError, Message, PropertyFinding, Timestamp},
    lane::record::Header,
    settings::{DeadLetter, Log, LogLevel, Route, Settings},
    telemetry,
    worker::dead_letter::headers::{self, Story, Told},
};

mod list;
mod replay;

/// How long a broker may take to answer a question.
const TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Subcommand)]
pub(super) enum Command {
    /// The dead letters of a route: where each came from, when, and why.
    List {
        /// Name of the route.
        route: String,
        /// Print so many at most.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sends a route's dead letters back to where they came from, each once.
    Replay {
        /// Name of the route.
        route: String,
        /// Send so many at most.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Only say what would be sent.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// A letter of the route that was asked for.
struct Letter {
    partition: i32,
    offset: i64,
    key: Option<Box<[u8]>>,
    payload: Option<Box<[u8]>>,
    /// All of them, ours included.
    headers: Vec<Header>,
    timestamp: Option<i64>,
    told: Told,
}

/// Why a command could not be done.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{}", told(.0))]
    Properties(Vec<PropertyFinding>),
    #[error("{what}: {source}")]
    Client { what: String, source: ClientError },
    #[error("no descriptor is left: {0}")]
    System(#[from] std::io::Error),
    #[error(
        "{done} letters were sent back; then {letter} was not taken by {to}: {error}. It and what follows it in its \
         partition are sent by the next replay"
    )]
    Refused {
        done: usize,
        letter: String,
        to: String,
        error: String,
    },
}

fn told(findings: &[PropertyFinding]) -> String {
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| format!("{}: {}", finding.key, finding.message))
        .collect();
    lines.join("; ")
}

pub(super) fn run(flag: Option<&Path>, command: &Command) -> u8 {
    let (name, verb) = match command {
        Command::List { route, .. } => (route, "list"),
        Command::Replay { route, .. } => (route, "replay"),
    };
    let settings = match run::load(flag) {
        Ok(settings) => settings,
        Err(status) => return status,
    };
    let (route, to) = match dead_letters_of(&settings, name) {
        Ok(found) => found,
        Err(error) => {
            eprintln!("devourd dead-letter {verb}: {error}");
            return BAD_SETTINGS;
        }
    };
    // What goes well is printed; the log is for what does not.
    telemetry::start(Log {
        level: LogLevel::Warn,
        ..settings.log
    });
    let done = match command {
        Command::List { limit, json, .. } => list::list(route, to, limit.unwrap_or(usize::MAX), *json),
        Command::Replay {
            limit, dry_run, json, ..
        } => {
            let how = if *dry_run {
                replay::How::OnlySay
            } else {
                replay::How::Send
            };
            replay::replay(route, to, limit.unwrap_or(usize::MAX), how, *json)
        }
    };
    done.unwrap_or_else(|error| {
        let code = match &error {
            Failed::Client { source, .. } => source.code(),
            _ => None,
        };
        eprintln!(
            "devourd dead-letter {verb}: {error}{}",
            where_silent(code, &route.cluster.hosts)
        );
        FAILED
    })
}

fn dead_letters_of<'a>(settings: &'a Settings, name: &str) -> Result<(&'a Route, &'a DeadLetter), String> {
    let route = run::find_route(settings, name)?;
    let to = route.on_error.dead_letter.as_ref().ok_or_else(|| {
        format!(
            "route `{name}` of {} has no dead-letter topic: `on_error: {{ then: dead_letter, dead_letter: {{ topic: \
             NAME }} }}`",
            settings.file.display()
        )
    })?;
    Ok((route, to))
}

// === impl Letter ===

impl Letter {
    /// A message of the dead-letter topic; `None` for one of another route or another program.
    fn of(message: &Message<'_>, route: &Route) -> Option<Self> {
        let headers: Vec<Header> = message
            .headers()
            .into_iter()
            .map(|(name, value)| (name.into(), value.map(Box::from)))
            .collect();
        let told = headers::read(&headers).filter(|told| told.route == route.name.as_str())?;
        Some(Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(Box::from),
            payload: message.payload().map(Box::from),
            headers,
            timestamp: match message.timestamp() {
                Timestamp::Created(at) | Timestamp::Appended(at) => Some(at),
                Timestamp::None => None,
            },
            told,
        })
    }

    /// Where it came from, for people.
    fn from(&self) -> String {
        let Story {
            topic,
            partition,
            offset,
            ..
        } = &self.told.story;
        format!("{topic}/{partition}@{offset}")
    }

    /// Its key as text, for people: bytes that are none are escaped.
    fn key_text(&self) -> Option<String> {
        let key = self.key.as_deref()?;
        Some(match std::str::from_utf8(key) {
            Ok(text) => text.to_owned(),
            Err(_) => key.escape_ascii().to_string(),
        })
    }
}

/// A failure of librdkafka in `what` was being done.
fn client(what: impl Into<String>) -> impl FnOnce(ClientError) -> Failed {
    let what = what.into();
    |source| Failed::Client { what, source }
}
