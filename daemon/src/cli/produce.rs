//! `devourd produce ROUTE-OR-TOPIC [FILE]`: sends what a file or standard input holds, so that a route can be tried
//! without another tool. It uses the settings' cluster, and the route's own where it has one.

use std::{
    fs::File,
    io::{self, BufReader, IsTerminal, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;

use super::{BAD_SETTINGS, DONE, FAILED, INTERNAL, run};
use crate::{
    kafka::{self, ClientError, PropertyFinding, Reader, is_pattern, reader_properties},
    lane::Printed,
    os::Spawner,
    plugin::Store,
    settings::{self, Cluster, Log, LogLevel, RateLimit, Route, RouteName, Settings, Topics},
    telemetry,
};

mod input;
mod sending;

use input::{Defaults, Input};
use sending::{Progress, Sending};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of a route, whose topic is meant, or of a topic.
    #[arg(value_name = "ROUTE-OR-TOPIC")]
    target: String,
    /// What is sent; else standard input.
    file: Option<PathBuf>,
    /// What a line is.
    #[arg(long, value_enum, default_value_t = Format::Lines)]
    format: Format,
    /// The key of every message that has none of its own.
    #[arg(long)]
    key: Option<String>,
    /// A header of every message; may be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The partition of every message that has none of its own; else the key decides.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Send so many at most, such as `200/s`, `30/m` or `5/h`.
    #[arg(long, value_name = "RATE", value_parser = settings::parse_rate)]
    rate: Option<RateLimit>,
    /// Which of the topics of a route that reads several.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
}

/// What a line of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The message itself, byte for byte.
    Lines,
    /// A JSON object with `value` and, where they are wanted, `key`, `headers`, `partition`, `timestamp`.
    Json,
}

/// Where it goes.
struct Target<'s> {
    topic: String,
    cluster: &'s Cluster,
    /// For the names of clients, and for people.
    name: RouteName,
    /// It was named as a topic, so nobody said that it is to come into being.
    has_to_exist: bool,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// What was asked for does not fit the settings.
    #[error("{0}")]
    Asked(String),
    #[error("{0}")]
    Input(String),
    #[error("no child process can be started: {0}")]
    NoChild(io::Error),
    #[error("{}", told(.0))]
    Properties(Vec<PropertyFinding>),
    #[error("{what}: {source}")]
    Client { what: String, source: ClientError },
    #[error("no descriptor is left: {0}")]
    System(#[from] io::Error),
    /// `place` is the input and its line.
    #[error("{place}: {why}; {progress}")]
    Stopped {
        place: String,
        why: String,
        progress: Progress,
    },
}

/// How long a broker may take to answer a question.
const TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn run(flag: Option<&Path>, args: &Args) -> u8 {
    let settings = match run::load(flag) {
        Ok(settings) => settings,
        Err(status) => return status,
    };
    // What goes well is printed; the log is for what does not.
    telemetry::start(Log {
        level: LogLevel::Warn,
        ..settings.log
    });
    match produce(&settings, args) {
        Ok((topic, progress)) => {
            println!("{progress} to {topic}");
            DONE
        }
        Err(error) => {
            eprintln!("devourd produce: {error}");
            match error {
                Failed::Asked(_) | Failed::Properties(_) => BAD_SETTINGS,
                Failed::NoChild(_) => INTERNAL,
                _ => FAILED,
            }
        }
    }
}

fn produce(settings: &Settings, args: &Args) -> Result<(String, Progress), Failed> {
    let target = Target::find(settings, &args.target, args.topic.as_deref())?;
    let partitions = partitions(settings, &target, args)?;
    let defaults = Defaults {
        format: args.format,
        key: args.key.clone().map(String::into_bytes),
        headers: args
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), Some(value.clone().into_bytes())))
            .collect(),
        partition: args.partition,
        partitions,
    };
    let (name, read) = open(args.file.as_deref())?;
    let mut input = Input::new(read, &name, defaults);
    let mut sending = Sending::new(&target, &name, args.rate)?;
    let sent = sending.send_all(&mut input);
    let progress = sending.close();
    match sent {
        Ok(()) => Ok((target.topic, progress)),
        Err(stop) => Err(Failed::Stopped {
            place: stop.place,
            why: stop.why,
            progress,
        }),
    }
}

/// The input and its name.
fn open(file: Option<&Path>) -> Result<(String, Box<dyn Read>), Failed> {
    match file {
        Some(path) if path != Path::new("-") => {
            let opened = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
                true => Err(io::ErrorKind::IsADirectory.into()),
                false => Ok(file),
            });
            let file = opened.map_err(|error| Failed::Input(format!("{}: {error}", path.display())))?;
            Ok((path.display().to_string(), Box::new(file)))
        }
        _ => {
            let stdin = io::stdin();
            if stdin.is_terminal() {
                eprintln!("every line is a message; Ctrl-D ends");
            }
            Ok(("standard input".to_owned(), Box::new(stdin)))
        }
    }
}

/// How many partitions the topic has, where that has to be known beforehand: librdkafka makes a topic that is not there
/// (where brokers allow it), and lets the key decide where there is no such partition. Neither is what was asked for.
fn partitions(settings: &Settings, target: &Target<'_>, args: &Args) -> Result<Option<i32>, Failed> {
    if !target.has_to_exist && args.partition.is_none() && args.format == Format::Lines {
        return Ok(None);
    }
    let topic = &target.topic;
    let properties = reader_properties(target.cluster, &target.name, None).map_err(Failed::Properties)?;
    let reader =
        Reader::create(&properties, target.name.clone()).map_err(client("cannot make a Kafka client"))?;
    let count = reader.partitions(topic, TIMEOUT);
    reader.close(Duration::from_secs(2));
    match count {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.code() == Some(kafka::ErrorCode::UNKNOWN_TOPIC_OR_PART) => {
            if target.has_to_exist {
                let no_route = run::find_route(settings, topic).err().unwrap_or_default();
                Err(Failed::Asked(format!(
                    "{no_route} The brokers have no topic of that name either."
                )))
            } else {
                Ok(None)
            }
        }
        Err(error) => Err(client(format!("cannot look at {topic}"))(error)),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// A failure of librdkafka while `what` was being done.
fn client(what: impl Into<String>) -> impl FnOnce(ClientError) -> Failed {
    let what = what.into();
    |source| Failed::Client { what, source }
}

fn told(findings: &[PropertyFinding]) -> String {
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| format!("{}: {}", finding.key, finding.message))
        .collect();
    lines.join("; ")
}

// === impl Target ===

impl<'s> Target<'s> {
    fn find(settings: &'s Settings, name: &str, topic: Option<&str>) -> Result<Self, Failed> {
        let Some(route) = settings.route(name) else {
            return Self::topic(settings, name, topic);
        };
        let topics = topics_of(settings, route)?;
        let reads = topics.join(", ");
        let topic = match (topic, &topics[..]) {
            (Some(topic), _) if topics.iter().any(|known| known == topic || is_pattern(known)) => topic,
            (Some(topic), _) => {
                let reason = format!("route `{name}` does not read `{topic}`; it reads {reads}");
                return Err(Failed::Asked(reason));
            }
            (None, [one]) if !is_pattern(one) => one,
            (None, _) => {
                let reason = format!("route `{name}` reads {reads}: say by `--topic NAME` which is meant");
                return Err(Failed::Asked(reason));
            }
        };
        Ok(Self {
            topic: topic.to_owned(),
            cluster: &route.cluster,
            name: route.name.clone(),
            has_to_exist: false,
        })
    }

    fn topic(settings: &'s Settings, name: &str, topic: Option<&str>) -> Result<Self, Failed> {
        // A name that no topic can have is a route's that was mistyped.
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.is_some() || name.is_empty() || !name.chars().all(legal) {
            return Err(Failed::Asked(
                run::find_route(settings, name).err().unwrap_or_default(),
            ));
        }
        let client = RouteName::new("produce").map_err(|error| Failed::Asked(error.to_string()))?;
        Ok(Self {
            topic: name.to_owned(),
            cluster: &settings.cluster,
            name: client,
            has_to_exist: true,
        })
    }
}

/// The topics that a route reads: its own, or its plugin's, which is asked in a child process.
fn topics_of(settings: &Settings, route: &Route) -> Result<Vec<String>, Failed> {
    match &route.topic {
        Some(Topics::Names(names)) => return Ok(names.clone()),
        Some(Topics::Pattern(pattern)) => return Ok(vec![pattern.clone()]),
        None => {}
    }
    let spawner = Spawner::start()
        .and_then(|spawner| spawner.adopt_orphans().map(|()| spawner))
        .map_err(Failed::NoChild)?;
    let planner = run::planner(
        settings,
        Store::in_memory(),
        spawner,
        telemetry::voice(),
        Printed::Log,
    );
    let descriptor = planner
        .describe(settings, route)
        .map_err(|finding| Failed::Asked(format!("route `{}`: {}", route.name, finding.message)))?;
    match descriptor.topic {
        Some(topics) if !topics.names().is_empty() => Ok(topics.names().to_vec()),
        _ => Err(Failed::Asked(format!(
            "neither route `{}` nor its plugin names a topic",
            route.name
        ))),
    }
}

/// The input as the brokers are to get it, in pieces that are read ahead.
type Bytes = BufReader<Box<dyn Read>>;
