//! How scenarios are listed, run, and ignored with a reason.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{
    daemon,
    kafka::{self, Kafka, KafkaError, Nodes},
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
        let (variant, ready): (_, Box<dyn FnOnce() -> Result<Outcome, KafkaError> + Send>) = match run {
            Run::Shared(variant, body) => (variant, Box::new(move || Ok(body(kafka::shared()?)))),
            Run::Cluster(variant, body) => {
                let ready = move || {
                    let mut cluster = kafka::cluster()?;
                    let (kafka, nodes) = cluster.parts();
                    Ok(body(kafka, nodes))
                };
                (variant, Box::new(ready))
            }
            Run::OwnBroker(variant, body) => {
                (variant, Box::new(move || kafka::ensure_jars().map(|_| body())))
            }
            Run::Alone(variant, body) => (variant, Box::new(move || Ok(body()))),
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
            Err(KafkaError::Unavailable(reason)) if !kafka::required() => {
                Ok(Completion::ignored_with(reason))
            }
            Err(error) => Err(error.into()),
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
