//! `devourd demo`: an embedded broker, the sample plugins and real messages, judged by what the plugins wrote down.

use std::{
    io::{IsTerminal, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use devour_abi::LogLevel as PluginLevel;
use serde_json::json;
use tokio::sync::mpsc;

use super::{DONE, FAILED, INTERNAL, LEFT, run};
use crate::{
    kafka::{EmbeddedBroker, Producer, Record, producer_properties},
    lane::{Durations, Lost, PluginLog, PluginVoice, Printed, Stream},
    os::spawn::{MARK, mark_of_no_plugin},
    settings::{self, Log, LogFormat, LogLevel, ProcessEnvironment, RouteName, Settings},
    signals::{self, Signal},
    systemd::Systemd,
    telemetry,
};

mod judge;

use judge::{Judge, Verdict};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the sample plugins.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// How many messages.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    messages: u64,
    /// End with one line of JSON instead of a summary.
    #[arg(long)]
    json: bool,
}

/// The samples' libraries.
const LIBRARIES: [&str; 2] = ["libdevour_echo.so", "libdevour_math.so"];
/// Where a package puts them.
const INSTALLED: &str = "/usr/lib/devour/samples";
/// The broker keeps 5 MiB a partition and drops what is older: the producer stays this far ahead at most.
const AHEAD: u64 = 20_000;
const PARTITIONS: i32 = 4;
const TOPICS: [&str; 2] = ["echo", "math"];
/// So long without a digest means that something is wrong.
const STUCK: Duration = Duration::from_secs(60);
/// Lines of each plugin's output that a person is shown.
const SHOWN: usize = 3;

pub(super) fn run(args: &Args) -> u8 {
    telemetry::start(Log {
        level: LogLevel::Warn,
        format: LogFormat::Auto,
    });
    match demonstrate(args) {
        Ok(true) => DONE,
        Ok(false) => FAILED,
        Err(error) => {
            eprintln!("devourd demo: {error}");
            INTERNAL
        }
    }
}

/// Whether all went well.
fn demonstrate(args: &Args) -> Result<bool, String> {
    let plugins = find_samples(args.plugins.as_deref())?;
    let dir = tempfile::Builder::new()
        .prefix("devourd-demo-")
        .tempdir()
        .map_err(|e| format!("no temporary directory: {e}"))?;
    let broker = start_broker()?;
    let settings = write_settings(dir.path(), &plugins, broker.bootstrap())?;
    let say = Say {
        json: args.json,
        terminal: std::io::stderr().is_terminal(),
    };
    say.line(&format!(
        "embedded broker at {}, plugins from {}",
        broker.bootstrap(),
        plugins.display()
    ));

    let (tell, told) = mpsc::unbounded_channel();
    signals::listen(tell.clone(), LEFT).map_err(|e| format!("cannot listen to signals: {e}"))?;
    let over = Arc::new(AtomicBool::new(false));
    let driver = drive(
        &settings,
        dir.path().to_owned(),
        args.messages,
        say,
        Stop {
            tell,
            over: Arc::clone(&over),
        },
    );
    let voice: Arc<dyn PluginVoice> = Arc::new(DemoVoice {
        say,
        shown: Mutex::default(),
        log: telemetry::voice(),
    });
    let how = run::Run {
        printed: Printed::Log,
        voice,
        reloads: false,
        ends_with_routes: true,
        has_control_socket: false,
    };
    let status = run::supervise(settings, how, Systemd::none(), told);
    over.store(true, Ordering::Relaxed);
    let result = driver
        .join()
        .map_err(|_| "the producing thread panicked".to_owned())??;
    report(&result, args.json);
    Ok(status == DONE && result.verdict.is_clean(result.produced))
}

fn find_samples(given: Option<&Path>) -> Result<PathBuf, String> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join("deps")));
    let places: Vec<PathBuf> = match given {
        Some(dir) => vec![dir.to_owned()],
        None => [Some(PathBuf::from(INSTALLED)), beside]
            .into_iter()
            .flatten()
            .collect(),
    };
    let has_all = |dir: &&PathBuf| LIBRARIES.iter().all(|library| dir.join(library).is_file());
    places.iter().find(has_all).cloned().ok_or_else(|| {
        let places: Vec<String> = places.iter().map(|dir| dir.display().to_string()).collect();
        format!(
            "the sample plugins ({}) are not in {}: name their directory with --plugins, or use `cargo demo` in a \
             checkout, which builds them",
            LIBRARIES.join(", "),
            places.join(" nor in ")
        )
    })
}

fn start_broker() -> Result<EmbeddedBroker, String> {
    let mut command = Command::new("/proc/self/exe");
    command
        .env(MARK, mark_of_no_plugin())
        // Ctrl-C on a terminal is for the daemon, which drains while the broker still answers.
        .process_group(0)
        .arg("embedded-broker")
        .args(TOPICS.map(|topic| format!("{topic}:{PARTITIONS}")));
    EmbeddedBroker::spawn(command).map_err(|error| error.to_string())
}

/// A settings file as an operator would write it, read as an operator's would be.
fn write_settings(dir: &Path, plugins: &Path, bootstrap: &str) -> Result<Settings, String> {
    let ledger = |name: &str| dir.join(format!("{name}.seen"));
    let route = |library: &str, symbol: &str, name: &str| {
        json!({
            "path": plugins.join(library),
            "symbol": symbol,
            "topic": name,
            "consumer_type": "balanced_consumer",
            "config": { "consumer_group": format!("demo_{name}"), "auto_commit_interval_ms": 500 },
            "settings": { "ledger": ledger(name) },
        })
    };
    let text = json!({
        "hosts": bootstrap,
        "state_dir": dir.join("state"),
        // A checkout may lie anywhere; these plugins were just built by whoever runs this.
        "plugin_file_checks": "off",
        "consumer_routes": {
            "echo": route(LIBRARIES[0], "EchoJson", "echo"),
            "math": route(LIBRARIES[1], "Math", "math"),
        },
    });
    // JSON is YAML.
    let file = dir.join("settings.yaml");
    std::fs::write(&file, format!("{text:#}")).map_err(|e| format!("{}: {e}", file.display()))?;
    settings::load(&file, &ProcessEnvironment).map_err(|findings| findings.to_string())
}

/// How the producing thread ends the routes.
struct Stop {
    tell: mpsc::UnboundedSender<Signal>,
    /// They have ended by themselves.
    over: Arc<AtomicBool>,
}

struct Outcome {
    produced: u64,
    verdict: Verdict,
    seconds: f64,
}

fn drive(
    settings: &Settings,
    dir: PathBuf,
    messages: u64,
    say: Say,
    stop: Stop,
) -> JoinHandle<Result<Outcome, String>> {
    let properties = producer_properties(&settings.cluster);
    std::thread::spawn(move || {
        let result = properties
            .map_err(|findings| {
                findings
                    .iter()
                    .map(|f| f.message.clone())
                    .collect::<Vec<_>>()
                    .join("; ")
            })
            .and_then(|properties| Producer::create(&properties).map_err(|error| error.to_string()))
            .and_then(|producer| produce_and_judge(&producer, &dir, messages, say, &stop.over));
        // The receiver is gone only when the routes have ended.
        let _ = stop.tell.send(Signal::Stop);
        result
    })
}

fn produce_and_judge(
    producer: &Producer,
    dir: &Path,
    messages: u64,
    say: Say,
    over: &AtomicBool,
) -> Result<Outcome, String> {
    let mut judge = Judge::new(TOPICS.map(|topic| dir.join(format!("{topic}.seen"))).to_vec());
    let began = Instant::now();
    let mut first_digest = None;
    let mut last_progress = Instant::now();
    let mut last_shown = Instant::now();
    let mut sent = 0;
    loop {
        let ahead = sent - judge.verdict().distinct.min(sent);
        let burst = (AHEAD - ahead.min(AHEAD)).min(1000).min(messages - sent);
        for number in sent..sent + burst {
            send(producer, number)?;
        }
        sent += burst;
        producer.poll(if burst == 0 {
            Duration::from_millis(2)
        } else {
            Duration::ZERO
        });
        if judge
            .read()
            .map_err(|e| format!("what the plugins wrote down: {e}"))?
            > 0
        {
            last_progress = Instant::now();
            first_digest.get_or_insert(last_progress);
        }
        let digested = judge.verdict().digested;
        if last_shown.elapsed() >= Duration::from_millis(500) {
            last_shown = Instant::now();
            say.progress(sent, digested, messages, began.elapsed());
        }
        if sent == messages && judge.verdict().distinct >= messages || over.load(Ordering::Relaxed) {
            break;
        }
        if last_progress.elapsed() > STUCK {
            say.line(&format!("no digest for {} s: giving up", STUCK.as_secs()));
            break;
        }
    }
    say.end_progress();
    producer
        .flush(Duration::from_secs(10))
        .map_err(|error| error.to_string())?;
    let seconds = first_digest
        .unwrap_or(began)
        .elapsed()
        .max(began.elapsed().min(Duration::from_millis(1)))
        .as_secs_f64();
    Ok(Outcome {
        produced: producer.delivered(),
        verdict: judge.verdict().clone(),
        seconds,
    })
}

fn send(producer: &Producer, number: u64) -> Result<(), String> {
    let (topic, payload) = match number % 2 {
        0 => (TOPICS[0], json!({ "id": number, "text": "hello" })),
        _ => (
            TOPICS[1],
            json!({ "id": number, "variables": [number % 7 + 1, number % 11 + 1, number % 13 + 1] }),
        ),
    };
    let (key, payload) = ((number % 997).to_string(), payload.to_string());
    let record = Record {
        topic,
        key: Some(key.as_bytes()),
        payload: Some(payload.as_bytes()),
        ..Record::default()
    };
    producer
        .send(&record, Duration::from_secs(30))
        .map_err(|error| error.to_string())
}

fn report(outcome: &Outcome, as_json: bool) {
    let Outcome {
        produced,
        verdict,
        seconds,
    } = outcome;
    let lost = verdict.lost(*produced);
    let rate = verdict.digested as f64 / seconds;
    if as_json {
        println!(
            "{{\"produced\":{produced},\"digested\":{},\"lost\":{lost},\"duplicated\":{},\"out_of_order\":{},\
             \"seconds\":{seconds:.3},\"messages_per_second\":{rate:.0}}}",
            verdict.digested, verdict.duplicated, verdict.out_of_order
        );
    } else {
        println!("produced      {produced}");
        println!("digested      {} ({rate:.0} messages a second)", verdict.digested);
        println!("lost          {lost}");
        println!("duplicated    {}", verdict.duplicated);
        println!("out of order  {}", verdict.out_of_order);
    }
}

/// What a person is shown on the way; nothing where a program reads.
#[derive(Clone, Copy)]
struct Say {
    json: bool,
    terminal: bool,
}

impl Say {
    fn line(self, text: &str) {
        if !self.json || self.terminal {
            eprintln!("{text}");
        }
    }

    fn progress(self, sent: u64, digested: u64, messages: u64, took: Duration) {
        if self.terminal {
            let rate = digested as f64 / took.as_secs_f64();
            eprint!("\r  produced {sent}/{messages}  digested {digested}  {rate:.0}/s   ");
            // A terminal that is gone is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    }

    fn end_progress(self) {
        if self.terminal {
            eprintln!();
        }
    }
}

/// Shows the first lines that each plugin prints; its log goes to the log.
struct DemoVoice {
    say: Say,
    shown: Mutex<std::collections::HashMap<RouteName, usize>>,
    log: Arc<dyn PluginVoice>,
}

impl PluginVoice for DemoVoice {
    fn level(&self) -> PluginLevel {
        self.log.level()
    }

    fn log(&self, route: &RouteName, log: &PluginLog<'_>) {
        self.log.log(route, log);
    }

    fn printed(&self, route: &RouteName, stream: Stream, line: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let count = shown.entry(route.clone()).or_default();
        *count += 1;
        match (*count <= SHOWN, stream) {
            (true, _) | (_, Stream::Stderr) => self.say.line(&format!("{route} | {line}")),
            _ if *count == SHOWN + 1 => self.say.line(&format!("{route} | ...")),
            _ => {}
        }
    }

    fn lost(&self, _: &RouteName, _: Lost, _: u64) {
        // Most of what is printed is not shown anyway.
    }

    fn count(&self, route: &RouteName, name: &str, by: u64) {
        self.log.count(route, name, by);
    }

    fn time(&self, route: &RouteName, name: &str, durations: Durations) {
        self.log.time(route, name, durations);
    }
}
