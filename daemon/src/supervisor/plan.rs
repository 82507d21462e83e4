//! From a route's settings and its plugin's descriptor to what a worker runs. Everything that can be wrong is found
//! here, before anything is started or stopped.

use std::{sync::Arc, time::Duration};

pub mod bounds;
mod letters;
mod outputs;
mod transactions;

use devour_abi::{ConstructRequest, Descriptor, DigestInfo, IsolationDemand};

use crate::{
    kafka::{self, ClientProperties, StartOffset},
    lane::{HomeConfig, Intake, PluginVoice, Printed},
    os::{Bounds, Spawner},
    plugin::{Checked, Library, Prober, RouteAsk, RouteFinding, Store, check_route, child_environment},
    schema::{HAS_REGISTRY, RegistryConfig, SchemaConfig},
    settings::{
        ConsumerConfig, ConsumerType, Delivery, DumpMode, Isolation, Membership, OffsetReset, Order, Route,
        Settings, Then, Tombstones, Topics,
    },
    worker::{CommitPolicy, FlushPolicy, ResetTo, WorkerConfig},
};

/// A route that is proven: what runs it, and what tells it from another.
#[derive(Clone)]
pub struct Plan {
    /// The route's settings.
    pub route: Route,
    /// Its plugin.
    pub library: Library,
    /// What the plugin says of itself.
    pub descriptor: Descriptor,
    /// What its worker runs.
    pub worker: WorkerConfig,
}

/// What is wrong with a route, each with the key of the route that it concerns.
#[derive(Clone, Debug)]
pub struct PlanFinding {
    /// Key inside the route, such as `path`, or `config` and `consumer_group`; empty for the route as a whole.
    pub key: Vec<String>,
    /// What is wrong and what to do.
    pub message: String,
    /// It is only about the library's file as it is now: a route that runs another may go on with that.
    pub is_of_file: bool,
}

/// What every plan needs beside the route.
pub struct Planner {
    /// Keeps copies of plugins.
    pub store: Store,
    /// Asks plugins in throw-away children.
    pub prober: Prober,
    /// Starts their processes.
    pub spawner: Spawner,
    /// Where what they say goes.
    pub voice: Arc<dyn PluginVoice>,
    /// What becomes of what they print.
    pub printed: Printed,
}

/// How long a plugin may take to say what it is.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// When a buffering consumer is told to flush that says nothing about it, and its route neither.
const FLUSH_WAIT: Duration = Duration::from_secs(5);

/// A route's choices, laid over the plugin's.
struct Choices {
    topics: Vec<String>,
    consumer_type: ConsumerType,
    config: ConsumerConfig,
    digest: DigestInfo,
}

// === impl Planner ===

impl Planner {
    /// Proves a route. `first` says that the daemon starts: only then does `reset_offset_on_start` act.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn plan(&self, settings: &Settings, route: &Route, first: bool) -> Result<Plan, Vec<PlanFinding>> {
        for PlanFinding { key, message, .. } in bounds::warnings(route) {
            tracing::warn!(route = %route.name, key = key.join("."), "{message}");
        }
        let bounds = bounds::of(route)?;
        check_registry(route)?;
        let Checked { library, probe } = self.checked(settings, route, &bounds)?;
        let descriptor = probe.descriptor;
        let choices = choices(route, &descriptor)?;
        let properties = client_properties(settings, route, &choices)?;
        let dead_letter = letters::config(route, &descriptor, choices.config.consumer_group.clone())?;
        let outputs = outputs::properties(route)?;
        let transaction = transactions::config(route, &descriptor, &choices, &instance_id(settings, route))?;
        let mut worker = self.worker(settings, route, &library, &descriptor, choices, properties, first);
        worker.outputs = outputs;
        worker.transaction = transaction;
        transactions::bound(&mut worker);
        worker.dead_letter = dead_letter;
        bounds::set(&mut worker.home, bounds);
        Ok(Plan {
            route: route.clone(),
            library,
            descriptor,
            worker,
        })
    }

    /// What the plugin of a route says of itself under the route's settings, which have to be right.
    ///
    /// # Errors
    /// Everything that is wrong with them and the plugin, as one finding.
    pub fn describe(&self, settings: &Settings, route: &Route) -> Result<Descriptor, PlanFinding> {
        let checked = bounds::of(route).and_then(|bounds| self.checked(settings, route, &bounds));
        match checked {
            Ok(checked) => Ok(checked.probe.descriptor),
            Err(findings) => {
                let is_of_file = findings.iter().all(|finding| finding.is_of_file);
                let texts: Vec<String> = findings.into_iter().map(|finding| finding.message).collect();
                let mut finding = PlanFinding::new("path", texts.join("\n"));
                finding.is_of_file = is_of_file;
                Err(finding)
            }
        }
    }

    /// The one way in which a route's plugin is probed: within the route's bounds, and without what these settings
    /// substitute, which may be other secrets than those of the start.
    fn checked(
        &self,
        settings: &Settings,
        route: &Route,
        bounds: &Bounds,
    ) -> Result<Checked, Vec<PlanFinding>> {
        let environment = child_environment(&settings.substituted_variables);
        let checked = check_route(
            RouteAsk::from(route),
            &settings.plugin_dirs,
            &self.store,
            settings.plugin_file_checks,
            &self.prober.within(bounds).seeing(environment),
            PROBE_TIMEOUT,
        );
        checked.map_err(|found| found.into_iter().map(PlanFinding::from).collect())
    }

    #[allow(clippy::too_many_arguments)]
    fn worker(
        &self,
        settings: &Settings,
        route: &Route,
        library: &Library,
        descriptor: &Descriptor,
        choices: Choices,
        properties: ClientProperties,
        first: bool,
    ) -> WorkerConfig {
        let config = &choices.config;
        let millis = Duration::from_millis;
        let latest = config.auto_offset_reset == Some(OffsetReset::Latest);
        let reset = config.reset_offset_on_start == Some(true) && first;
        let idle = config
            .consumer_timeout_ms
            .and_then(|ms| u64::try_from(ms).ok())
            .map(millis);
        let max_poll_interval = millis(properties.max_poll_interval_ms());
        let (order, lanes) = (route.concurrency.order, route.concurrency.lanes);
        let flush = descriptor.buffering.then(|| FlushPolicy {
            max_wait: route
                .flush
                .max_wait
                .or(descriptor.flush_max_wait_ms.map(Duration::from_millis))
                .unwrap_or(FLUSH_WAIT),
            max_messages: route
                .flush
                .max_messages
                .or(descriptor
                    .flush_max_messages
                    .map(|most| usize::try_from(most).unwrap_or(usize::MAX)))
                .unwrap_or(usize::MAX),
        });
        // With one lane in the order of partitions nothing needs to stand between what is fetched and the lane.
        let straight = lanes == 1
            && order == Order::Partition
            && !descriptor.asynchronous
            && flush.is_none()
            && route.schema.is_none()
            && route.deserializer.is_none()
            && route.batch.max_wait.is_zero();
        let intake = if straight { Intake::Calls } else { Intake::Stock };
        WorkerConfig {
            route: route.name.clone(),
            topics: choices.topics,
            exclude_internal_topics: route.cluster.exclude_internal_topics,
            consumer_type: choices.consumer_type,
            commit: CommitPolicy {
                enabled: config.commits() && route.delivery == Delivery::AtLeastOnce,
                interval: millis(config.auto_commit_interval_ms.unwrap_or(5000)),
                timeout: millis(route.cluster.offsets_channel_socket_timeout_ms),
                retries: config.offsets_commit_max_retries.unwrap_or(5),
                backoff: millis(config.offsets_channel_backoff_ms.unwrap_or(1000)),
            },
            batch: route.batch,
            order,
            schema: schema_of(route),
            in_flight: route.concurrency.in_flight,
            asynchronous: descriptor.asynchronous,
            flush,
            takes_batches: choices.digest.takes_batches,
            fixed_batches: choices.digest.takes_batches || !route.batch.max_wait.is_zero(),
            rate_limit: route.rate_limit,
            queued_max_messages: config
                .queued_max_messages
                .map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
            memory: route.memory,
            on_error: route.on_error.clone(),
            dead_letter: None,
            outputs: properties.clone(),
            transaction: None,
            lifecycle_timeout: route.lifecycle_timeout,
            drain_timeout: route.drain_timeout,
            has_group: config.consumer_group.is_some(),
            without_offset: if latest {
                StartOffset::End
            } else {
                StartOffset::Beginning
            },
            keeps_offsets: descriptor.keeps_offsets,
            reset_to: reset.then_some(if latest { ResetTo::End } else { ResetTo::Beginning }),
            idle_limit: idle,
            stall_timeout: route.stall_timeout,
            release_after: route.release_after,
            poison_after: route.poison_after,
            max_poll_interval,
            properties,
            swap: descriptor.swap,
            home: HomeConfig {
                route: route.name.clone(),
                isolation: route.isolation,
                library: library.clone(),
                symbol: route.symbol.clone(),
                construct: ConstructRequest {
                    route: route.name.to_string(),
                    lane: 0,
                    lanes: lanes as u32,
                    generation: 1,
                    settings: route.settings.clone(),
                    digest_name: route.digest_name.clone(),
                    dump: route.dump.map(dump_mode),
                    reject_tombstones: route.tombstones == Tombstones::Reject,
                },
                intake,
                takes: descriptor.asynchronous,
                keeps_headers: choices.digest.reads_headers || route.on_error.then == Then::DeadLetter,
                digest: choices.digest,
                arena_bytes: route.memory,
                // As much again as half of what is in hand.
                output_bytes: route.memory / 2,
                hold_on_reject: route.on_error.then != Then::Skip,
                lifecycle_timeout: route.lifecycle_timeout,
                digest_timeout: route.digest_timeout,
                environment: child_environment(&settings.substituted_variables),
                bounds: Bounds::default(),
                stdout: self.printed,
                voice: Arc::clone(&self.voice),
                spawner: self.spawner.clone(),
            },
        }
    }
}

/// What is made of the route's messages before the plugin sees them.
fn schema_of(route: &Route) -> Option<SchemaConfig> {
    let registry = route.deserializer.map(|deserializer| RegistryConfig {
        deserializer,
        urls: route.schema_registry.urls.clone(),
        credentials: route.schema_registry.credentials.clone(),
    });
    (registry.is_some() || route.schema.is_some()).then(|| SchemaConfig {
        attributes: route.schema.clone(),
        registry,
    })
}

/// Whether a route that needs a schema registry names one, and can ask it.
fn check_registry(route: &Route) -> Result<(), Vec<PlanFinding>> {
    let finding = match route.deserializer {
        Some(_) if !HAS_REGISTRY => PlanFinding::new(
            "deserializer",
            "this devourd was built without the feature `schema-registry`: build it with `cargo build --release -p devourd \
             --features schema-registry`",
        ),
        Some(_) if route.schema_registry.urls.is_empty() => PlanFinding::new(
            "deserializer",
            "it needs a registry: add `schema_registry: { url: \"http://127.0.0.1:8081\" }`",
        ),
        _ => return Ok(()),
    };
    Err(vec![finding])
}

/// Lays the route's keys over the plugin's attributes.
fn choices(route: &Route, descriptor: &Descriptor) -> Result<Choices, Vec<PlanFinding>> {
    let mut findings = Vec::new();
    let mut finding = |key: &str, message: String| {
        let key = key.split('.').filter(|key| !key.is_empty());
        let key = key.map(str::to_owned).collect();
        findings.push(PlanFinding {
            key,
            message,
            is_of_file: false,
        });
    };
    let plugin_config = ConsumerConfig::from_plugin(&descriptor.config).unwrap_or_else(|errors| {
        let errors = errors.join("; ");
        finding(
            "path",
            format!("the plugin's own `config` attribute is wrong: {errors}"),
        );
        ConsumerConfig::default()
    });
    let config = route.config.over(&plugin_config);
    let topics = match (&route.topic, &descriptor.topic) {
        (Some(Topics::Names(names)), _) => names.clone(),
        (Some(Topics::Pattern(pattern)), _) => vec![pattern.clone()],
        (None, Some(topics)) => topics.names().to_vec(),
        (None, None) => Vec::new(),
    };
    if topics.is_empty() {
        finding(
            "",
            format!(
                "neither the route nor `{}` names a topic: add `topic:`",
                route.symbol
            ),
        );
    }
    if let Some(message) = letters::comes_back(route, &topics) {
        finding("on_error.dead_letter.topic", message);
    }
    let declared = descriptor.consumer_type.map(|kind| match kind {
        devour_abi::ConsumerType::BalancedConsumer => ConsumerType::Balanced,
        devour_abi::ConsumerType::SimpleConsumer => ConsumerType::Simple,
    });
    // The seed's own default: a group where one is named, every partition otherwise.
    let by_group = if config.consumer_group.is_some() {
        ConsumerType::Balanced
    } else {
        ConsumerType::Simple
    };
    let consumer_type = route.consumer_type.or(declared).unwrap_or(by_group);
    if consumer_type == ConsumerType::Balanced && config.consumer_group.is_none() {
        let message = "a balanced_consumer needs `config: { consumer_group: NAME }`: the group shares the partitions out";
        finding("consumer_type", message.to_owned());
    }
    if descriptor.isolation == IsolationDemand::Process && route.isolation == Isolation::Thread {
        finding(
            "isolation",
            format!(
                "`{}` demands a process of its own: `isolation: process`",
                route.symbol
            ),
        );
    }
    let digest = match &route.digest_name {
        Some(name) => descriptor.digests.iter().find(|digest| digest.name == *name),
        None => descriptor.digests.first(),
    };
    match digest {
        Some(digest) if findings.is_empty() => {
            let mut digest = digest.clone();
            // The whole message has its headers: what the route chose may see more than the default would.
            digest.reads_headers |= route.dump == Some(DumpMode::Object);
            Ok(Choices {
                topics,
                consumer_type,
                config,
                digest,
            })
        }
        Some(_) => Err(findings),
        None => {
            let names: Vec<&str> = descriptor
                .digests
                .iter()
                .map(|digest| digest.name.as_str())
                .collect();
            findings.push(PlanFinding {
                key: vec!["digest_name".to_owned()],
                message: format!(
                    "`{}` has no such digest; it has {}",
                    route.symbol,
                    names.join(", ")
                ),
                is_of_file: false,
            });
            Err(findings)
        }
    }
}

/// Host, settings file and route, as one name that Kafka takes.
fn instance_id(settings: &Settings, route: &Route) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let file = settings
        .file
        .canonicalize()
        .unwrap_or_else(|_| settings.file.clone());
    kafka::group_instance_id(&host, &file, route.name.as_str())
}

/// The client's properties, checked by librdkafka itself.
fn client_properties(
    settings: &Settings,
    route: &Route,
    choices: &Choices,
) -> Result<ClientProperties, Vec<PlanFinding>> {
    let is_static = route.membership == Membership::Static && choices.consumer_type == ConsumerType::Balanced;
    let id = is_static.then(|| instance_id(settings, route));
    let properties = kafka::consumer_properties(
        &route.cluster,
        choices.consumer_type,
        &choices.config,
        &route.name,
        id,
    );
    let told = |findings: Vec<kafka::PropertyFinding>| {
        findings.into_iter().map(PlanFinding::from).collect::<Vec<_>>()
    };
    let properties = properties.map_err(told)?;
    let mut findings = kafka::check(&properties);
    findings.extend(kafka::check_topics(&properties, &choices.topics));
    if findings.is_empty() {
        Ok(properties)
    } else {
        Err(told(findings))
    }
}

impl PlanFinding {
    /// A finding about a key with dots; empty for the route as a whole.
    pub(super) fn new(key: &str, message: impl Into<String>) -> Self {
        let key = key.split('.').filter(|key| !key.is_empty());
        Self {
            key: key.map(str::to_owned).collect(),
            message: message.into(),
            is_of_file: false,
        }
    }
}

impl From<RouteFinding> for PlanFinding {
    fn from(found: RouteFinding) -> Self {
        Self {
            is_of_file: found.is_of_file(),
            key: found.key,
            message: found.text,
        }
    }
}

impl From<kafka::PropertyFinding> for PlanFinding {
    fn from(found: kafka::PropertyFinding) -> Self {
        Self {
            key: found.key.split('.').map(str::to_owned).collect(),
            message: found.message,
            is_of_file: false,
        }
    }
}

fn dump_mode(mode: DumpMode) -> devour_abi::DumpMode {
    match mode {
        DumpMode::Raw => devour_abi::DumpMode::Raw,
        DumpMode::Object => devour_abi::DumpMode::Object,
        DumpMode::Json => devour_abi::DumpMode::Json,
    }
}
