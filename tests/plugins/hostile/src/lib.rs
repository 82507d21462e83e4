//! Consumers that do what consumers must not, each in one step of its life, and one (`Good`) that behaves. Written
//! against the ABI itself, so that nothing of the SDK softens what they do.
// The exported symbols are unsafe attributes.
#![allow(unsafe_code)]

use devour_abi::{
    Call, CallReturn, ConstructRequest, DescribeRequest, Descriptor, DigestInfo, DumpMode, Failure,
    FailureKind, Host, Instance, LifecycleAnswer, LifecycleCall, LogLevel, PluginConsumer, PluginInstance,
    Topics, abi_stable::std_types::RNone,
};
use serde_json::{Value, json};

/// What every consumer here says of itself.
fn descriptor(symbol: &str) -> Descriptor {
    Descriptor {
        abi: devour_abi::ABI_VERSION.into(),
        package: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        symbol: symbol.into(),
        topic: Some(Topics::One("hostile".into())),
        digests: vec![
            DigestInfo {
                name: "digest".into(),
                accepts: vec![DumpMode::Json, DumpMode::Raw],
                ..DigestInfo::default()
            },
            DigestInfo {
                name: "digest_other".into(),
                dump: DumpMode::Object,
                ..DigestInfo::default()
            },
        ],
        ..Descriptor::default()
    }
}

/// An instance that digests everything and does nothing.
struct Idle;

impl PluginInstance for Idle {
    fn digest(&mut self, call: &Call<'_>) -> CallReturn {
        // A call has fewer than 2^20 messages.
        let finished = call.messages.len() as u32;
        call.cell.store(call.number, finished);
        CallReturn {
            finished,
            broken: RNone,
        }
    }
    fn lifecycle(&mut self, _: LifecycleCall) -> Result<LifecycleAnswer, Failure> {
        Ok(LifecycleAnswer::default())
    }
}

/// A consumer of this library: what it says of itself, what it finds in settings, what its constructor does.
macro_rules! consumer {
    ($(#[$doc:meta])* $name:ident, describe: $describe:expr, check: $check:expr, construct: $construct:expr $(,)?) => {
        $(#[$doc])*
        pub struct $name;

        impl PluginConsumer for $name {
            fn describe(request: DescribeRequest) -> Result<Descriptor, Failure> {
                let describe: fn(Descriptor, Value) -> Result<Descriptor, Failure> = $describe;
                describe(descriptor(stringify!($name)), request.settings)
            }
            fn check(settings: Value) -> Vec<String> {
                let check: fn(Value) -> Vec<String> = $check;
                check(settings)
            }
            fn construct(request: ConstructRequest, host: Host) -> Result<Instance, Failure> {
                let construct: fn(ConstructRequest, &Host) -> Result<Instance, Failure> = $construct;
                construct(request, &host)
            }
        }

        devour_abi::export_symbol!(stringify!($name), $name);
    };
}

consumer!(
    /// Behaves. Its settings are `{"currency": TEXT, "limits": {"day": INTEGER}}`, and it logs that it was constructed.
    Good,
    describe: |said, settings| {
        let topic = settings.get("topic").and_then(Value::as_str).unwrap_or("hostile");
        let schema = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "topic": { "type": "string" },
                "currency": { "type": "string" },
                "limits": { "type": "object", "properties": { "day": { "type": "integer" } } },
            },
        });
        Ok(Descriptor { topic: Some(Topics::One(topic.into())), settings_schema: Some(schema), ..said })
    },
    check: |settings| {
        let odd = settings.get("currency").is_some_and(|currency| currency == "DM");
        if odd { vec!["currency: there is no such currency any more".into()] } else { vec![] }
    },
    construct: |request, host| {
        host.log(LogLevel::INFO, "good", &format!("constructed for {}", request.route), "{}");
        Ok(Instance::new(Idle))
    },
);

consumer!(
    /// Its constructor panics.
    ConstructorPanics,
    describe: |said, _| Ok(said),
    check: |_| vec![],
    construct: |_, _| panic!("the constructor does not like it here"),
);

consumer!(
    /// Its constructor returns an error.
    ConstructorFails,
    describe: |said, _| Ok(said),
    check: |_| vec![],
    construct: |_, _| Err(Failure::new(FailureKind::FATAL, "no database at localhost")),
);

consumer!(
    /// Its constructor ends the process, as a success.
    ConstructorExits,
    describe: |said, _| Ok(said),
    check: |_| vec![],
    construct: |_, _| std::process::exit(0),
);

consumer!(
    /// Its constructor never returns.
    ConstructorHangs,
    describe: |said, _| Ok(said),
    check: |_| vec![],
    construct: |_, _| loop {
        std::thread::park();
    },
);

consumer!(
    /// Its descriptor panics.
    DescriptorPanics,
    describe: |_, _| panic!("nobody knows what this is"),
    check: |_| vec![],
    construct: |_, _| Ok(Instance::new(Idle)),
);

consumer!(
    /// Its check ends the process by SIGABRT, after printing.
    CheckAborts,
    describe: |said, _| Ok(said),
    check: |_| {
        eprintln!("these settings are the last straw");
        std::process::abort()
    },
    construct: |_, _| Ok(Instance::new(Idle)),
);

consumer!(
    /// Its check never returns.
    CheckHangs,
    describe: |said, _| Ok(said),
    check: |_| loop {
        std::thread::park();
    },
    construct: |_, _| Ok(Instance::new(Idle)),
);

consumer!(
    /// It refuses to say what it is without a topic in its settings.
    SettingsRefused,
    describe: |said, settings| match settings.get("topic") {
        Some(_) => Ok(said),
        None => Err(Failure::new(FailureKind::REJECT, "settings name no `topic` to read from")),
    },
    check: |_| vec!["limits: too low".into(), "limits: too many".into()],
    construct: |_, _| Ok(Instance::new(Idle)),
);

consumer!(
    /// Says of itself that it has no digest.
    NoDigest,
    describe: |said, _| Ok(Descriptor { digests: vec![], ..said }),
    check: |_| vec![],
    construct: |_, _| Ok(Instance::new(Idle)),
);
