//! How scenarios are listed, run, and ignored with a reason.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{
    daemon,
    kafka::{self, Kafka, KafkaError, Nodes},
    nspawn::{self, Image, Suite, SystemdError},
    postgres::{self, Postgres, PostgresError},
};

/// A scenario's end: any error that can be shown fails it.
pub type Outcome = Result<(), Failed>;

/// One file of scenarios.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The file's name.
    pub name: &'static str,
    /// The file itself, which begins with what it proves.
    pub text: &'static str,
    /// What it runs.
    pub runs: &'static [Run],
}

/// One run of a scenario: its name within the file (may be empty) and what it needs.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Talks to the shared cluster.
    Shared(&'static str, fn(&Kafka) -> Outcome),
    /// Has the cluster of three for itself.
    Cluster(&'static str, fn(&Kafka, &mut Nodes) -> Outcome),
    /// Starts brokers of its own.
    OwnBroker(&'static str, fn() -> Outcome),
    /// Needs no Kafka.
    Alone(&'static str, fn() -> Outcome),
    /// Talks to the shared cluster, and needs to be root.
    Root(&'static str, fn(&Kafka) -> Outcome),
    /// Talks to the shared cluster, and to a PostgreSQL of its own.
    Postgres(&'static str, fn(&Kafka, &Postgres) -> Outcome),
    /// Talks to the shared cluster, and boots this Debian with our package beside it.
    Systemd(&'static str, Suite, fn(&Kafka, &Image) -> Outcome),
}

/// What a run needs is not here.
enum Missing {
    Ignored(String),
    Failed(String),
}

impl From<KafkaError> for Missing {
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::Unavailable(reason) if !kafka::required() => Self::Ignored(reason),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<PostgresError> for Missing {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Unavailable(reason) if !postgres::required() => Self::Ignored(reason),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<SystemdError> for Missing {
    fn from(error: SystemdError) -> Self {
        match error {
            SystemdError::NotNow(reason) => Self::Ignored(reason),
            SystemdError::Unavailable(reason) if !nspawn::required() => Self::Ignored(reason),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// A scenario's runs in both isolations: `both!(Shared, run)` where `run` also takes the [`Isolation`].
#[macro_export]
macro_rules! both {
    (Shared, $run:path) => {
        &[
            $crate::scenario::Run::Shared("process", |kafka| {
                $run(kafka, $crate::scenario::Isolation::Process)
            }),
            $crate::scenario::Run::Shared("thread", |kafka| $run(kafka, $crate::scenario::Isolation::Thread)),
        ]
    };
    (OwnBroker, $run:path) => {
        &[
            $crate::scenario::Run::OwnBroker("process", || $run($crate::scenario::Isolation::Process)),
            $crate::scenario::Run::OwnBroker("thread", || $run($crate::scenario::Isolation::Thread)),
        ]
    };
}

/// Where a route's plugin lives, as the settings name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In a process of its own.
    Process,
    /// In the daemon.
    Thread,
}

/// Runs what the command line asks for, as libtest would. `program` is the daemon to test.
pub fn main(program: &str, scenarios: &[Scenario]) -> ExitCode {
    daemon::set_program(program);
    let arguments = Arguments::from_args();
    let trials = scenarios.iter().flat_map(Scenario::trials).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

// === impl Scenario ===

impl Scenario {
    /// The file's first comment.
    pub fn proves(&self) -> String {
        let lines = self.text.lines().map_while(|line| line.strip_prefix("//!"));
        lines.map(str::trim).collect::<Vec<_>>().join(" ")
    }

    fn trials(&self) -> Vec<Trial> {
        self.runs.iter().map(|&run| self.trial(run)).collect()
    }

    fn trial(&self, run: Run) -> Trial {
        type Ready = Box<dyn FnOnce() -> Result<Outcome, Missing> + Send>;
        let (variant, ready): (_, Ready) = match run {
            Run::Shared(variant, body) => (variant, Box::new(move || Ok(body(kafka::shared()?)))),
            Run::Cluster(variant, body) => {
                let ready = move || {
                    let mut cluster = kafka::cluster()?;
                    let (kafka, nodes) = cluster.parts();
                    Ok(body(kafka, nodes))
                };
                (variant, Box::new(ready))
            }
            Run::OwnBroker(variant, body) => (
                variant,
                Box::new(move || {
                    kafka::ensure_jars()?;
                    Ok(body())
                }),
            ),
            Run::Alone(variant, body) => (variant, Box::new(move || Ok(body()))),
            Run::Root(variant, body) => {
                let ready = move || {
                    nspawn::is_root()?;
                    Ok(body(kafka::shared()?))
                };
                (variant, Box::new(ready))
            }
            Run::Postgres(variant, body) => {
                let ready = move || {
                    let kafka = kafka::shared()?;
                    let postgres = Postgres::start()?;
                    Ok(body(kafka, &postgres))
                };
                (variant, Box::new(ready))
            }
            Run::Systemd(variant, suite, body) => {
                let ready = move || {
                    let image = nspawn::image(suite)?;
                    Ok(body(kafka::shared()?, &image))
                };
                (variant, Box::new(ready))
            }
        };
        let name = if variant.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}::{variant}", self.name)
        };
        let proves = self.proves();
        Trial::ignorable_test(name, move || match ready() {
            Ok(Ok(())) => Ok(Completion::Completed),
            Ok(Err(failed)) => {
                let why = failed.message().unwrap_or("no reason given");
                Err(format!("not proven: {proves}\n{why}").into())
            }
            Err(Missing::Ignored(reason)) => Ok(Completion::ignored_with(reason)),
            Err(Missing::Failed(why)) => Err(why.into()),
        })
    }
}

// === impl Isolation ===

impl Isolation {
    /// As the setting `isolation` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Thread => "thread",
        }
    }
}
