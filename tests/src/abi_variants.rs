//! Plugins (and a host to open them with) built against other versions of `devour-abi`: a copy of the crate is edited
//! in a workspace of its own and built there, once, in a target directory that the variants share.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    command::{self, CommandError},
    process::Exit,
};

/// What is changed in the copy of `devour-abi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbiVariant {
    /// As it is.
    Unchanged,
    /// The next minor version: every table of functions and every `..More` struct has one entry more at its end, and
    /// the descriptor and the construct request have a field more.
    NextMinor,
    /// The next major version, of the same layout.
    NextMajor,
    /// The same version with another layout of a type that crosses for every message.
    OtherLayout,
}

/// What [`build`] made.
#[derive(Clone, Debug)]
pub struct Built {
    /// A plugin that exports the consumer `Variant`. Its constructor writes `host has appended: true` (or `false`) to
    /// its log.
    pub plugin: PathBuf,
    /// A host of the variant's version: `opener LIBRARY SYMBOL` opens a consumer, constructs it and prints one JSON
    /// line: `{"opened":bool,"error":..,"descriptor":..,"module_has_appended":bool,"constructed":bool,"logs":[..]}`.
    pub opener: PathBuf,
}

/// Why a variant could not be built.
#[derive(Debug, thiserror::Error)]
pub enum VariantError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The crate no longer has what a variant changes: adapt this file.
    #[error("{file} no longer holds `{text}`, which the variant edits")]
    NotFound {
        /// The source file.
        file: &'static str,
        /// What was looked for.
        text: String,
    },
    /// Cargo could not be run, or took too long.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Cargo failed.
    #[error("cargo failed on {dir}:\n{output}")]
    Cargo {
        /// The workspace of the variant.
        dir: PathBuf,
        /// What it printed.
        output: String,
    },
}

/// How long cargo may take: all dependencies are built once, in about a minute on a machine that is not busy.
const LONGEST: Duration = Duration::from_secs(600);

/// Builds `variant` below `dir` from the workspace at `root`. A second call with the same `dir` rebuilds only what
/// changed, another variant only what differs.
///
/// # Errors
/// See [`VariantError`].
pub fn build(root: &Path, dir: &Path, variant: AbiVariant) -> Result<Built, VariantError> {
    let (abi, name, target) = (root.join("plugin-api/abi"), variant.name(), dir.join("target"));
    let dir = &dir.join(name);
    let mut crate_files = vec![("Cargo.toml".to_owned(), read(&abi.join("Cargo.toml"))?)];
    for entry in fs::read_dir(abi.join("src")).map_err(io_at(&abi))? {
        let path = entry.map_err(io_at(&abi))?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        crate_files.push((format!("src/{name}"), read(&path)?));
    }
    for (change, file) in variant.changes() {
        let text = crate_files
            .iter_mut()
            .find(|(name, _)| name == file)
            .map(|(_, text)| text);
        let text = text.ok_or(VariantError::NotFound {
            file,
            text: "the file".into(),
        })?;
        change.apply(file, text)?;
    }
    // A name of its own: cargo tells packages of one target directory apart by their path in the workspace.
    let copy = dir.join(format!("abi-{name}"));
    for (name, text) in crate_files {
        write(&copy.join(name), &text)?;
    }
    write(
        &dir.join("Cargo.toml"),
        &workspace_manifest(&read(&root.join("Cargo.toml"))?, variant)?,
    )?;
    write(&dir.join("Cargo.lock"), &read(&root.join("Cargo.lock"))?)?;
    write(
        &dir.join("variant/Cargo.toml"),
        &VARIANT_MANIFEST.replace("VARIANT", name),
    )?;
    write(&dir.join("variant/src/lib.rs"), VARIANT_PLUGIN)?;
    write(
        &dir.join("opener/Cargo.toml"),
        &OPENER_MANIFEST.replace("VARIANT", name),
    )?;
    let opener = if variant == AbiVariant::NextMinor {
        OPENER.replace("MODULE_HAS_APPENDED", "module.appended().is_some()")
    } else {
        OPENER.replace("MODULE_HAS_APPENDED", "false")
    };
    write(&dir.join("opener/src/main.rs"), &opener)?;

    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--workspace", "--quiet"])
        .current_dir(dir)
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS");
    let done = command::run(&mut cargo, LONGEST)?;
    if done.exit != Exit::Status(0) {
        return Err(VariantError::Cargo {
            dir: dir.to_owned(),
            output: done.stderr,
        });
    }
    let built = target.join("debug");
    Ok(Built {
        plugin: built.join(format!("libvariant_{name}.so")),
        opener: built.join(format!("opener_{name}")),
    })
}

enum Change {
    Replace(&'static str, &'static str),
    /// Inserts the second text before the first `}` at the start of a line that follows the first text.
    AppendTo(&'static str, &'static str),
    /// Inserts the second text before the first `});` that follows the first text.
    AppendToTable(&'static str, &'static str),
    AtEnd(&'static str),
}

// === impl AbiVariant ===

impl AbiVariant {
    /// Its name in files.
    fn name(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::NextMinor => "next_minor",
            Self::NextMajor => "next_major",
            Self::OtherLayout => "other_layout",
        }
    }

    /// The version of the copy.
    pub fn version(self) -> &'static str {
        match self {
            Self::Unchanged | Self::OtherLayout => "1.0.0",
            Self::NextMinor => "1.1.0",
            Self::NextMajor => "2.0.0",
        }
    }

    fn changes(self) -> Vec<(Change, &'static str)> {
        use Change::{AppendTo, AppendToTable, AtEnd, Replace};
        const FIELD: &str = "    appended: extern \"C\" fn() -> u32,\n";
        const ENTRY: &str = "                appended: crate::appended,\n";
        const MORE: &str = "    /// What this version appends.\n    pub appended: usize,\n";
        const TEXT: &str = "    /// What this version appends.\n    pub appended: String,\n";
        let version = |to| (Replace("version = \"1.0.0\"", to), "Cargo.toml");
        match self {
            Self::Unchanged => vec![],
            Self::NextMajor => vec![version("version = \"2.0.0\"")],
            Self::OtherLayout => vec![(
                Replace("pub attempt: u32,", "pub attempt: u64,"),
                "src/message.rs",
            )],
            Self::NextMinor => vec![
                version("version = \"1.1.0\""),
                (
                    AtEnd("\npub(crate) extern \"C\" fn appended() -> u32 {\n    11\n}\n"),
                    "src/lib.rs",
                ),
                (
                    AppendTo(
                        "pub struct ConsumerModule {",
                        "    pub appended: extern \"C\" fn() -> u32,\n",
                    ),
                    "src/module.rs",
                ),
                (
                    AppendToTable("WithMetadata::new(ConsumerModule {", ENTRY),
                    "src/module.rs",
                ),
                (AppendTo("struct InstanceVtable {", FIELD), "src/instance.rs"),
                (
                    AppendToTable("WithMetadata::new(InstanceVtable {", ENTRY),
                    "src/instance.rs",
                ),
                (AppendTo("struct CallHostVtable {", FIELD), "src/call.rs"),
                (
                    AppendToTable("WithMetadata::new(CallHostVtable {", ENTRY),
                    "src/call.rs",
                ),
                (AppendTo("pub struct CallMore {", MORE), "src/call.rs"),
                (AppendTo("struct OwnedVtable {", FIELD), "src/message.rs"),
                (
                    AppendToTable("WithMetadata::new(OwnedVtable {", ENTRY),
                    "src/message.rs",
                ),
                (AppendTo("pub struct MessageMore {", MORE), "src/message.rs"),
                (AppendTo("struct HostVtable {", FIELD), "src/host.rs"),
                (
                    AppendToTable("WithMetadata::new(HostVtable {", ENTRY),
                    "src/host.rs",
                ),
                (
                    AtEnd(
                        "\nimpl Host {\n    /// Whether the host has what this version appends.\n    #[must_use]\n    pub fn \
                         has_appended(&self) -> bool {\n        self.vtable.appended().is_some()\n    }\n}\n",
                    ),
                    "src/host.rs",
                ),
                (AppendTo("pub struct Descriptor {", TEXT), "src/descriptor.rs"),
                (
                    AppendTo("pub struct ConstructRequest {", TEXT),
                    "src/descriptor.rs",
                ),
            ],
        }
    }
}

// === impl Change ===

impl Change {
    fn apply(&self, file: &'static str, source: &mut String) -> Result<(), VariantError> {
        let missing = |text: &str| VariantError::NotFound {
            file,
            text: text.to_owned(),
        };
        let (after, end, new) = match self {
            Self::AtEnd(new) => {
                source.push_str(new);
                return Ok(());
            }
            Self::Replace(old, new) => {
                let at = source.find(old).ok_or_else(|| missing(old))?;
                source.replace_range(at..at + old.len(), new);
                return Ok(());
            }
            Self::AppendTo(after, new) => (after, "\n}", new),
            Self::AppendToTable(after, new) => (after, "});", new),
        };
        let begin = source.find(after).ok_or_else(|| missing(after))?;
        let length = source[begin..].find(end).ok_or_else(|| missing(after))?;
        // At the start of the line that closes.
        let line = source[..begin + length + 1]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        source.insert_str(line, new);
        Ok(())
    }
}

/// The root's manifest with other members, so that the variant has the same dependencies and lock file; its profiles
/// are left out, because they cost minutes here.
fn workspace_manifest(root: &str, variant: AbiVariant) -> Result<String, VariantError> {
    let file = "Cargo.toml";
    let mut manifest = String::new();
    let mut members = false;
    for line in root.lines().take_while(|line| !line.starts_with("[profile")) {
        if line.starts_with("members = ") {
            members = true;
            manifest.push_str(&format!(
                "members = [\"abi-{}\", \"variant\", \"opener\"]\n",
                variant.name()
            ));
        } else if line.starts_with("devour-abi = ") {
            manifest.push_str(&format!(
                "devour-abi = {{ path = \"abi-{}\", version = \"{}\" }}\n",
                variant.name(),
                variant.version()
            ));
        } else if !line.starts_with("default-members") && !line.contains("path = \"") {
            manifest.push_str(line);
            manifest.push('\n');
        }
    }
    if members {
        Ok(manifest)
    } else {
        Err(VariantError::NotFound {
            file,
            text: "members = ".into(),
        })
    }
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> VariantError + use<> {
    let path = path.to_owned();
    move |source| VariantError::Io {
        path: path.clone(),
        source,
    }
}

fn read(path: &Path) -> Result<String, VariantError> {
    fs::read_to_string(path).map_err(io_at(path))
}

/// Leaves a file that is as it should be alone, so that cargo does not build it again.
fn write(path: &Path, text: &str) -> Result<(), VariantError> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(io_at(dir))?;
    }
    fs::write(path, text).map_err(io_at(path))
}

const VARIANT_MANIFEST: &str = r#"[package]
name = "variant_VARIANT"
version = "0.1.0"
edition.workspace = true
publish = false

[lib]
crate-type = ["cdylib"]

[dependencies]
devour-abi.workspace = true
serde_json.workspace = true
"#;

const VARIANT_PLUGIN: &str = r#"//! A consumer that does nothing, built against a variant of the ABI.
use devour_abi::{
    Call, CallReturn, ConstructRequest, DescribeRequest, Descriptor, DigestInfo, Failure, Host, Instance,
    LifecycleAnswer, LifecycleCall, LogLevel, PluginConsumer, PluginInstance,
};

struct Variant;

impl PluginConsumer for Variant {
    fn describe(_: DescribeRequest) -> Result<Descriptor, Failure> {
        Ok(Descriptor {
            abi: devour_abi::ABI_VERSION.into(),
            package: "variant".into(),
            version: "0.1.0".into(),
            symbol: "Variant".into(),
            digests: vec![DigestInfo { name: "digest".into(), ..DigestInfo::default() }],
            ..Descriptor::default()
        })
    }
    fn check(_: serde_json::Value) -> Vec<String> {
        Vec::new()
    }
    fn construct(_: ConstructRequest, host: Host) -> Result<Instance, Failure> {
        host.log(LogLevel::INFO, "variant", &format!("built against {}", devour_abi::ABI_VERSION), "{}");
        Ok(Instance::new(Self))
    }
}

impl PluginInstance for Variant {
    fn digest(&mut self, call: &Call<'_>) -> CallReturn {
        let finished = call.messages.len() as u32;
        call.cell.store(call.number, finished);
        CallReturn { finished, broken: devour_abi::abi_stable::std_types::RNone }
    }
    fn lifecycle(&mut self, _: LifecycleCall) -> Result<LifecycleAnswer, Failure> {
        Ok(LifecycleAnswer::default())
    }
}

devour_abi::export_symbol!("Variant", Variant);
"#;

const OPENER_MANIFEST: &str = r#"[package]
name = "opener_VARIANT"
version = "0.1.0"
edition.workspace = true
publish = false

[dependencies]
devour-abi.workspace = true
libloading.workspace = true
serde_json.workspace = true
"#;

const OPENER: &str = r#"//! A host of the variant's version.
use std::sync::{Arc, Mutex};

use devour_abi::{ConstructRequest, DescribeRequest, Host, HostServices, LogLevel, ProduceRecord, abi_stable::library::LibHeader};

#[derive(Default)]
struct Logs(Mutex<Vec<String>>);

impl HostServices for Logs {
    fn log(&self, _: LogLevel, _: &str, message: &str, _: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
    fn log_enabled(&self, _: LogLevel) -> bool { true }
    fn count(&self, _: &str, _: u64) {}
    fn time(&self, _: &str, _: u64) {}
    fn settings(&self) -> String { "{}".into() }
    fn stop_requested(&self) -> bool { false }
    fn produce(&self, _: &ProduceRecord<'_>) -> Result<(), String> { Err("no".into()) }
    fn pause(&self, _: &str, _: i32) -> Result<(), String> { Err("no".into()) }
    fn resume(&self, _: &str, _: i32) -> Result<(), String> { Err("no".into()) }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let (library, symbol) = (args.next().expect("a library"), args.next().expect("a symbol"));
    let library = Box::leak(Box::new(unsafe { libloading::Library::new(library) }.expect("dlopen")));
    let header = unsafe { library.get::<*const LibHeader>(symbol.as_bytes()) }.expect("symbol");
    let answer = match unsafe { devour_abi::open_header(*header) } {
        Err(error) => serde_json::json!({ "opened": false, "error": format!("{error:?}") }),
        Ok(module) => {
            let descriptor = module.describe_consumer(&DescribeRequest::default());
            let logs = Arc::new(Logs::default());
            let made = module.construct_instance(&ConstructRequest::default(), Host::new(logs.clone()));
            let error = made.as_ref().err().map(|failure| failure.message.to_string());
            drop(made);
            serde_json::json!({
                "opened": true, "error": error, "descriptor": descriptor.ok(), "module_has_appended": MODULE_HAS_APPENDED,
                "constructed": error.is_none(), "logs": *logs.0.lock().unwrap(),
            })
        }
    };
    println!("{answer}");
}
"#;
