//! Every setting there is, declared once. To add one: a line here, a field in `types`, a line in `convert`.

use std::time::Duration;

use super::consumer_config::CONFIG;
use super::forms::{
    check_dead_letter_topic, check_host, check_library, check_rate, check_registry_url, check_sha256,
    check_source_address, check_symbol, check_topic, check_user,
};
use super::schema::{Block, Key, Kind, Merge, ignored, key, planned, refused};
use super::units::LONGEST;
use super::words::{
    ConsumerType, Delivery, Deserializer, FileChecks, HeaderStyle, Isolation, LogFormat, LogLevel,
    Membership, Order, Then, Tombstones,
};

/// The top of the file.
pub(super) static ROOT: Block = Block {
    name: "settings",
    keys: ROOT_KEYS,
};

/// The seed's `client:` block: the keys of the cluster once more.
pub(super) static CLIENT: Block = Block {
    name: "client",
    keys: CLIENT_KEYS,
};

/// One route in its long form.
pub(super) static ROUTE: Block = Block {
    name: "route",
    keys: ROUTE_KEYS,
};

static SSL: Block = Block {
    name: "ssl_config",
    keys: &[
        key("cafile", Kind::Path, "PEM file of the authorities that sign the brokers' certificates.")
            .required()
            .example("/etc/devour/ca.pem"),
        key("certfile", Kind::Path, "The client's certificate, PEM.").example("/etc/devour/client.pem"),
        key("keyfile", Kind::Path, "The key of that certificate, PEM.")
            .otherwise("the file of `certfile`")
            .example("/etc/devour/client.key"),
        key("password", Kind::Secret, "What opens the key.").example("\"${KEY_PASSWORD}\""),
        key(
            "verify_hostname",
            Kind::Bool,
            "Whether a broker's name must match its certificate. The seed's client never checked; this one does unless told not to.",
        )
        .default("true")
        .warn("false", "any holder of a certificate that this authority signed can pose as a broker"),
    ],
};

const HOSTS: Key = key(
    "hosts",
    Kind::Commas {
        what: "`host:port`",
        check: check_host,
    },
    "Kafka brokers to start from. With `ssl_config` these are their TLS ports.",
)
.example("\"127.0.0.1:9092\"");

const SSL_CONFIG: Key = key(
    "ssl_config",
    Kind::Block {
        block: &SSL,
        merge: Merge::Replace,
    },
    "TLS to the brokers, with a certificate of our own where the brokers ask for one.",
);

const LIBRDKAFKA: Key = key(
    "librdkafka",
    Kind::Scalars,
    "Any further property of librdkafka, checked by librdkafka itself, such as `sasl.mechanism` or `client.id`.",
)
.default("{}");

const SOCKET_TIMEOUT: Key = key(
    "socket_timeout_ms",
    Kind::clamped(10, 300_000, "milliseconds"),
    "How long a request may take (`socket.timeout.ms`, and at least 1000 of it for connecting).",
)
.otherwise("librdkafka's 60000")
.example("60000");

const OFFSETS_TIMEOUT: Key = key(
    "offsets_channel_socket_timeout_ms",
    Kind::integer(1, 3_600_000, "milliseconds"),
    "How long a commit and the reading of committed offsets may take.",
)
.default("10000");

const USE_GREENLETS: Key = key(
    "use_greenlets",
    Kind::Bool,
    "Tasks rather than OS threads. Accepted for the seed's sake: the plugin decides.",
)
.example("false")
.warn(
    "true",
    "the plugin decides, and what this version runs digests on OS threads",
);

const EXCLUDE_INTERNAL: Key = key(
    "exclude_internal_topics",
    Kind::Bool,
    "Whether topics whose names begin with `__`, such as the offsets topic, are kept from consumers.",
)
.default("true");

const SOURCE_ADDRESS: Key = key(
    "source_address",
    Kind::Text {
        what: "an IP address",
        check: check_source_address,
    },
    "Address that connections to the brokers come from, without a port.",
)
.otherwise("the system chooses")
.example("\"\"");

const ZOOKEEPER_HOSTS: Key = ignored(
    "zookeeper_hosts",
    Kind::Any,
    "\"zk1:2181\"",
    "Kafka no longer has a ZooKeeper to ask; brokers are found through `hosts`",
);
const BROKER_VERSION: Key = ignored(
    "broker_version",
    Kind::Any,
    "\"2.0.0\"",
    "brokers of 0.10 and later say themselves what they speak, and older ones are not supported",
);
const AUTO_START: Key = ignored(
    "auto_start",
    Kind::Any,
    "true",
    "every route is started; leave a route out of `consumer_routes` to keep it from starting",
);
const LOG_NAME: Key = ignored(
    "log_name",
    Kind::Any,
    "devour",
    "log lines carry the route's name; see `log`",
);
const ZOOKEEPER: Key = ignored(
    "zookeeper",
    Kind::Any,
    "\"zk1:2181\"",
    "groups are balanced by Kafka itself; see `hosts`",
);
const ZOOKEEPER_TIMEOUT: Key = ignored(
    "zookeeper_connection_timeout_ms",
    Kind::Any,
    "6000",
    "there is no ZooKeeper; see `socket_timeout_ms`",
);

const CLIENT_KEYS: &[Key] = &[
    HOSTS,
    SSL_CONFIG,
    SOCKET_TIMEOUT,
    OFFSETS_TIMEOUT,
    SOURCE_ADDRESS,
    EXCLUDE_INTERNAL,
    USE_GREENLETS,
    LIBRDKAFKA,
    ZOOKEEPER_HOSTS,
    BROKER_VERSION,
    AUTO_START,
    LOG_NAME,
    ZOOKEEPER,
    ZOOKEEPER_TIMEOUT,
];

static LOG: Block = Block {
    name: "log",
    keys: &[
        key(
            "level",
            Kind::choice(LogLevel::WORDS),
            "The least important level that is logged.",
        )
        .default("info"),
        key(
            "format",
            Kind::choice(LogFormat::WORDS),
            "`auto` is text on a terminal and JSON otherwise.",
        )
        .default("auto"),
    ],
};

const ROOT_KEYS: &[Key] = &[
    HOSTS.required(),
    key(
        "consumer_routes",
        Kind::Routes,
        "The consumers: a name for each, and what it runs. Short form: `library::Symbol`. Long form: a mapping. Needed unless there is `routes_dir` or `autoload`.",
    )
    .required()
    .example("{}"),
    SSL_CONFIG,
    SOCKET_TIMEOUT,
    OFFSETS_TIMEOUT,
    SOURCE_ADDRESS,
    EXCLUDE_INTERNAL,
    USE_GREENLETS,
    LIBRDKAFKA,
    key(
        "client",
        Kind::block(&CLIENT),
        "The keys of the cluster (all of the above but `consumer_routes`) may stand in this block instead, as in the seed's source.",
    )
    .example("\n  socket_timeout_ms: 60000"),
    key("plugin_dirs", Kind::Paths, "Where plugins that are named without a slash are searched, in this order.")
        .default("[/usr/lib/devour/plugins]"),
    key(
        "autoload",
        Kind::Bool,
        "Whether a consumer in `plugin_dirs` that no route names is routed too, if it declares all that a route needs: under its own name in snake case, with `defaults`.",
    )
    .default("false"),
    key(
        "routes_dir",
        Kind::Path,
        "A directory with further routes: every `*.yaml` in it holds a `consumer_routes` and nothing else.",
    )
    .otherwise("none")
    .example("/etc/devour/routes.d"),
    key(
        "max_generations",
        Kind::integer(1, 1_000_000, "versions"),
        "How many versions of its plugin a route in thread isolation may run before the daemon has to be restarted: their code stays in its memory.",
    )
    .default("200"),
    key("state_dir", Kind::Path, "Where private copies of plugins, locks and probes' results are kept.")
        .otherwise("`$STATE_DIRECTORY`, else `/var/lib/devour`, else `$XDG_STATE_HOME/devour`")
        .example("/var/lib/devour"),
    key("control_socket", Kind::Path, "The socket that `devourd status` and its like talk to.")
        .otherwise("`$RUNTIME_DIRECTORY/control.sock`, else `/run/devour/control.sock`")
        .example("/run/devour/control.sock"),
    key("log", Kind::block(&LOG), "What is logged, and how."),
    key("shutdown_timeout", Kind::duration(), "How long a stop may take to finish what is in hand.").default("30s"),
    key("core_dumps", Kind::Bool, "Whether plugin processes may leave core files, which hold messages.").default("false"),
    key(
        "plugin_file_checks",
        Kind::choice(FileChecks::WORDS),
        "Whether a plugin's file, and every directory above it, must be safe from writing by others.",
    )
    .default("enforce")
    .warn("off", "whoever can write a plugin's file runs code as this user"),
    key("defaults", Kind::block(&ROUTE), "Any key of a route, for every route that does not set it itself.")
        .example("\n  isolation: process"),
    ZOOKEEPER_HOSTS,
    BROKER_VERSION,
    AUTO_START,
    LOG_NAME,
    ZOOKEEPER,
    ZOOKEEPER_TIMEOUT,
    key(
        "memory",
        Kind::Size { min: 1 << 20, max: 1 << 44 },
        "The daemon's budget: the `memory` of all routes together may not be more.",
    )
    .default("none")
    .or_none(),
    planned("limits"),
    planned("groups"),
    planned("metrics"),
    planned("admin"),
    planned("user"),
    planned("sandbox"),
    planned("producers"),
];

static BATCH: Block = Block {
    name: "batch",
    keys: &[
        key("max_messages", Kind::integer(1, 1_000_000, ""), "Messages.").default("1000"),
        key(
            "max_bytes",
            Kind::Size {
                min: 1024,
                max: 1 << 40,
            },
            "Bytes; a larger message travels alone.",
        )
        .default("1MiB"),
        key(
            "max_wait",
            Kind::Duration {
                min: Duration::ZERO,
                max: Duration::from_secs(3600),
            },
            "How long a call waits to become full; with `0s` what is there goes out at once.",
        )
        .default("0s"),
    ],
};

static BACKOFF_DIGEST: Block = Block {
    name: "backoff",
    keys: &[
        key("initial", Kind::duration(), "The first wait.").default("1s"),
        key("max", Kind::duration(), "The longest wait.").default("30s"),
    ],
};

static DEAD_LETTER: Block = Block {
    name: "dead_letter",
    keys: &[
        key(
            "topic",
            Kind::Text {
                what: "the name of a topic",
                check: check_dead_letter_topic,
            },
            "The topic; needed where `then` is `dead_letter`. None that the route itself reads.",
        )
        .example("orders.dead"),
        key(
            "headers",
            Kind::choice(HeaderStyle::WORDS),
            "Whose names the headers have that say what happened: Kafka Connect's or Spring's.",
        )
        .default("connect"),
    ],
};

static FLUSH: Block = Block {
    name: "flush",
    keys: &[
        key(
            "max_wait",
            Kind::duration(),
            "So long after the first message that it took.",
        )
        .otherwise("as the plugin says")
        .example("5s"),
        key(
            "max_messages",
            Kind::integer(1, 10_000_000, "messages"),
            "When it has taken so many.",
        )
        .otherwise("as the plugin says")
        .example("10000"),
    ],
};

static ON_ERROR: Block = Block {
    name: "on_error",
    keys: &[
        key("attempts", Kind::integer(1, 1_000_000_000, "attempts"), "How often a message is tried; `none` is for ever.")
            .default("none")
            .or_none(),
        key("backoff", Kind::block(&BACKOFF_DIGEST), "Waits between attempts; they double, and are jittered."),
        key(
            "then",
            Kind::choice(Then::WORDS),
            "What comes after the last attempt, and at once for a message that cannot be decoded: its partition (or key) parks (`stop`), it is passed over and counted (`skip`, what the seed did), or it goes to another topic (`dead_letter`).",
        )
        .default("stop"),
        key("dead_letter", Kind::block(&DEAD_LETTER), "Where dead letters go. A message is finished once the brokers have its dead letter."),
    ],
};

static BUDGET: Block = Block {
    name: "budget",
    keys: &[
        key("restarts", Kind::integer(1, 1_000_000, "restarts"), "Restarts.")
            .required()
            .example("10"),
        key("per", Kind::duration(), "The time in which there may be so many.").default("10m"),
    ],
};

static RESTART: Block = Block {
    name: "restart",
    keys: &[
        key(
            "initial",
            Kind::duration(),
            "The first wait; the first restart of all is immediate.",
        )
        .default("1s"),
        key("max", Kind::duration(), "The longest wait.").default("60s"),
        key(
            "budget",
            Kind::Block {
                block: &BUDGET,
                merge: Merge::Replace,
            },
            "How many restarts there may be in a time, such as `{ restarts: 10, per: 10m }`; when it is spent the route is `failed` until a reload. A run of a minute gives it back.",
        )
        .or_none()
        .otherwise("none: it is started again for ever")
        .example("none"),
        refused("window", "it is a key of `budget`: `budget: { restarts: 10, per: 10m }`"),
    ],
};

static LIMITS: Block = Block {
    name: "limits",
    keys: &[
        key(
            "memory",
            Kind::Size {
                min: 16 << 20,
                max: 1 << 44,
            },
            "Bytes of memory of its own: above them it is ended. The arena (`memory` of the route) is not among them.",
        )
        .or_none()
        .otherwise("no limit")
        .example("512MiB"),
        key(
            "open_files",
            Kind::integer(32, 1_048_576, "descriptors"),
            "Open descriptors.",
        )
        .or_none()
        .otherwise("the soft limit that the daemon was started with")
        .example("1024"),
        key(
            "nice",
            Kind::integer(0, 19, ""),
            "How far it stands back where processors are short: 19 is furthest.",
        )
        .or_none()
        .otherwise("as the daemon")
        .example("10"),
    ],
};

static SANDBOX: Block = Block {
    name: "sandbox",
    keys: &[
        key(
            "network",
            Kind::Bool,
            "Whether it may open sockets, of any kind.",
        )
        .default("false"),
        key(
            "write",
            Kind::Paths,
            "Files, and directories with all that is below them, that it may write to; others it may only read.",
        )
        .default("[]"),
    ],
};

static CONCURRENCY: Block = Block {
    name: "concurrency",
    keys: &[
        key(
            "order",
            Kind::choice(Order::WORDS),
            "What keeps its order: all messages of a partition, those of a partition with the same key, or none.",
        )
        .default("partition"),
        key(
            "lanes",
            Kind::integer(1, 200, "lanes"),
            "Instances of the consumer, each with a thread of its own. A key (or partition) is in one of them at a time.",
        )
        .default("1"),
        key(
            "in_flight",
            Kind::integer(1, 100_000, "messages"),
            "Messages that an async consumer has going at once, in all lanes together; fewer where `memory` does not hold so many.",
        )
        .default("100"),
    ],
};

static SCHEMA_REGISTRY: Block = Block {
    name: "schema_registry",
    keys: &[
        key(
            "url",
            Kind::Commas {
                what: "an `http://` or `https://` URL",
                check: check_registry_url,
            },
            "The registry, or several of one registry, which are tried in turn.",
        )
        .otherwise("none: it has to be given with a `deserializer`")
        .example("\"http://127.0.0.1:8081\""),
        key(
            "credentials",
            Kind::Secret,
            "`user:password` for basic authentication, else a bearer token.",
        )
        .otherwise("none are sent")
        .example("\"user:password\""),
    ],
};

static SCHEMA: Block = Block {
    name: "schema",
    keys: &[
        key(
            "attributes",
            Kind::Attributes,
            "The attributes of the message's object that are taken; the objects in one that has a list of its own are cut by that list. The rest is left out before the plugin sees the message.",
        )
        .otherwise("all")
        .example("[id, {customer: [id, name]}]"),
    ],
};

const ROUTE_KEYS: &[Key] = &[
    key(
        "path",
        Kind::Text { what: "the name or path of a library", check: check_library },
        "The library: a name that is searched in `plugin_dirs`, or a path with a slash.",
    )
    .required()
    .example("liborders.so"),
    key(
        "symbol",
        Kind::Text { what: "a symbol of the library", check: check_symbol },
        "The consumer in it; `devourd plugins inspect FILE` lists them.",
    )
    .required()
    .example("OrderConsumer"),
    key(
        "sha256",
        Kind::Text { what: "the SHA-256 of a file", check: check_sha256 },
        "The only content that the library may have: another is not run.",
    )
    .otherwise("any content")
    .example("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    key(
        "topic",
        Kind::OneOrMany { what: "the name of a topic or a `^pattern`", check: check_topic },
        "What it reads: a name, a list or a `^pattern`.",
    )
    .otherwise("as the plugin says")
    .example("orders"),
    key(
        "consumer_type",
        Kind::choice(ConsumerType::WORDS),
        "Whether it shares the partitions with its group or reads every one.",
    )
    .otherwise("as the plugin says")
    .example("balanced_consumer"),
    key("config", Kind::block(&CONFIG), "The seed's consumer options; they win over the plugin's, key by key."),
    key(
        "isolation",
        Kind::choice(Isolation::WORDS),
        "Where its digests run: in a plugin process of their own, or in a thread of the daemon.",
    )
    .default("process"),
    key("digest_name", Kind::Text { what: "the name of a digest", check: check_symbol }, "Which of the consumer's digests is called.")
        .otherwise("its first")
        .example("digest"),
    key("dump_raw", Kind::Bool, "The digest takes offset and bytes. Raw beats object beats JSON where several are true.")
        .otherwise("as the plugin says")
        .example("false"),
    key("dump_obj", Kind::Bool, "The digest takes offset and the whole message.").otherwise("as the plugin says").example("false"),
    key("dump_json", Kind::Bool, "The digest takes offset and the fields of a JSON object.")
        .otherwise("as the plugin says")
        .example("false"),
    key("schema_class", Kind::text(), "The schema of its messages.").otherwise("as the plugin says").example("OrderSchema"),
    key("batch", Kind::block(&BATCH), "How much one call carries at most; a slow digest gets less by itself."),
    key("flush", Kind::block(&FLUSH), "When a buffering consumer is told to flush; besides at every revoke and stop, and when what it took fills half of `memory`."),
    key(
        "memory",
        Kind::Size { min: 1 << 20, max: 32 << 30 },
        "The route's budget for messages in hand. Above it the route reads no more.",
    )
    .default("64MiB"),
    key("on_error", Kind::block(&ON_ERROR), "What happens when a digest fails."),
    key(
        "tombstones",
        Kind::choice(Tombstones::WORDS),
        "A message without a value, for a digest with JSON parameters: passed over and counted, or rejected.",
    )
    .default("skip"),
    key("restart", Kind::block(&RESTART), "Waits between restarts of a plugin that died."),
    key(
        "membership",
        Kind::choice(Membership::WORDS),
        "`static`: a restart of the daemon within the session timeout makes no rebalance.",
    )
    .default("static"),
    key(
        "delivery",
        Kind::choice(Delivery::WORDS),
        "`exactly_once`: offsets, what digests produce and dead letters are committed in one Kafka transaction, or not at all.",
    )
    .default("at_least_once"),
    key("lifecycle_timeout", Kind::duration(), "Deadline of the plugin's constructor and of each lifecycle method.").default("30s"),
    key(
        "drain_timeout",
        Kind::Duration { min: Duration::from_millis(1), max: LONGEST },
        "How long a partition that is taken away may take to finish what is in hand. Less than the session timeout (45 s).",
    )
    .default("20s"),
    key("digest_timeout", Kind::duration(), "Deadline of one digest; past it the plugin's process is replaced.")
        .default("5m")
        .or_none(),
    key("stall_timeout", Kind::duration(), "How long a partition that has messages to read may bring none, with nothing in hand, before its reading begins anew: first by a seek, then with a new client.")
        .default("60s")
        .or_none(),
    key("release_after", Kind::duration(), "A route that could not digest for so long, because its plugin does not run, leaves its group, so that others take its partitions; it joins again when its plugin runs.")
        .default("5m")
        .or_none(),
    key("poison_after", Kind::integer(1, 1000, "deaths"), "A message that was alone in hand at so many deaths of the plugin takes the route's `then` without meeting the plugin again; `none` is never.")
        .default("3")
        .or_none(),
    key("settings", Kind::Free, "The plugin's own settings, checked against its schema.").default("{}"),
    HOSTS.otherwise("the file's"),
    Key { doc: "The route's own TLS, in place of the file's; `none` for no TLS.", ..SSL_CONFIG }.or_none().otherwise("the file's"),
    Key { doc: "The route's own properties of librdkafka, merged over the file's.", ..LIBRDKAFKA },
    key("concurrency", Kind::block(&CONCURRENCY), "How many digest at once, and in which order."),
    key("rate_limit", Kind::Text { what: "a rate", check: check_rate }, "How many messages are digested in a second (`/s`), minute (`/m`) or hour (`/h`) at most, retries included.")
        .otherwise("no limit")
        .example("200/s"),
    key("limits", Kind::block(&LIMITS), "What its plugin's process may take.").or_none(),
    key(
        "user",
        Kind::Text { what: "the name or the number of a user", check: check_user },
        "Whom its plugin's process runs as, where the daemon may change that.",
    )
    .or_none()
    .otherwise("the daemon's user")
    .example("orders"),
    Key { otherwise: Some("no sandbox"), ..key("sandbox", Kind::block(&SANDBOX), "What its plugin's process may still do; without the block, all that its user may. `none` takes back what `defaults` say.") }.or_none(),
    key("schema", Kind::block(&SCHEMA), "What of a JSON message its plugin sees. `none` takes back what `defaults` say.").or_none().otherwise("all of it"),
    key(
        "deserializer",
        Kind::choice(Deserializer::WORDS),
        "Messages are written in this, by the schemas of `schema_registry` and in Confluent's wire format; the plugin sees JSON. `none` takes back what `defaults` say.",
    )
    .or_none()
    .otherwise("the plugin sees messages as they are")
    .example("avro"),
    key("schema_registry", Kind::block(&SCHEMA_REGISTRY), "Where the schemas of a `deserializer` are."),
    refused("in_flight", "it is a key of `concurrency`: `concurrency: { in_flight: 100 }`"),
    refused("order", "it is a key of `concurrency`: `concurrency: { order: key }`"),
    refused("lanes", "it is a key of `concurrency`: `concurrency: { lanes: 8 }`"),
    planned("swap"),
    refused("dead_letter", "it is a key of `on_error`: `on_error: { then: dead_letter, dead_letter: { topic: ... } }`"),
];

/// Properties of librdkafka that are ours to set, and what to write instead.
pub(super) const RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `hosts`"),
    ("metadata.broker.list", "use `hosts`"),
    ("group.id", "use `config: {consumer_group: ...}`"),
    (
        "enable.auto.commit",
        "every commit is devourd's own; use `config: {auto_commit_enable: ...}`",
    ),
    (
        "auto.commit.enable",
        "every commit is devourd's own; use `config: {auto_commit_enable: ...}`",
    ),
    ("enable.auto.offset.store", "every commit is devourd's own"),
    (
        "enable.partition.eof",
        "librdkafka 2.12 can skip a message after it",
    ),
    ("plugin.library.paths", "it would run foreign code in the daemon"),
    ("topic.blacklist", "use `exclude_internal_topics`"),
];
