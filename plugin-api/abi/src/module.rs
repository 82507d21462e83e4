//! The root of a library: the module behind an exported symbol, how a plugin exports it and how a host opens it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use abi_stable::{
    StableAbi,
    library::{AbiHeaderRef, CheckTypeLayout, LibHeader, RootModule, RootModuleError, RootModuleResult},
    package_version_strings,
    prefix_type::{PrefixTypeTrait, WithMetadata},
    sabi_types::{VersionNumber, VersionStrings},
    std_types::{RResult, RStr, RString, RVec},
};

use crate::{
    ConstructRequest, DescribeRequest, Descriptor, Failure, FailureKind, Host, Instance,
    layout::{self, Older},
};

/// What stands behind an exported symbol.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ConsumerModuleRef)))]
#[sabi(missing_field(option))]
pub struct ConsumerModule {
    describe: extern "C" fn(request: RStr<'_>) -> RResult<RString, Failure>,
    check: extern "C" fn(settings: RStr<'_>) -> RResult<RVec<RString>, Failure>,
    #[sabi(last_prefix_field)]
    construct: extern "C" fn(request: RStr<'_>, host: Host) -> RResult<Instance, Failure>,
}

impl RootModule for ConsumerModuleRef {
    // Never used: a symbol is opened through `open_header`, so that one library may export many consumers.
    abi_stable::declare_root_module_statics! {ConsumerModuleRef}
    const BASE_NAME: &'static str = "devour";
    const NAME: &'static str = "devour";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// A consumer type, as the SDK presents it to this crate.
pub trait PluginConsumer {
    /// What the consumer is, under these settings.
    ///
    /// # Errors
    /// When the settings do not allow to say.
    fn describe(request: DescribeRequest) -> Result<Descriptor, Failure>;
    /// Findings on the plugin's settings, one text each; pure.
    fn check(settings: serde_json::Value) -> Vec<String>;
    /// Makes an instance.
    ///
    /// # Errors
    /// Why there can be none.
    fn construct(request: ConstructRequest, host: Host) -> Result<Instance, Failure>;
}

/// Why a symbol could not be opened as a consumer.
#[derive(Debug)]
pub enum OpenError {
    /// The library was built with another abi_stable: `found` and `expected` are `major.minor`.
    OtherAbiStable {
        /// This side's.
        expected: String,
        /// The library's.
        found: String,
    },
    /// The library was built for another major version of `devour-abi`.
    OtherMajor {
        /// This side's version.
        expected: String,
        /// The library's version.
        found: String,
    },
    /// The library uses abi_stable, but is another program's: its name for itself.
    OtherLibrary(String),
    /// The layouts of the types differ; the text says where, one line each.
    Layout(String),
    /// Anything else that abi_stable reports.
    Other(String),
}

/// Opens the header behind a symbol: compares versions and layouts, and returns the module.
///
/// # Errors
/// See [`OpenError`].
///
/// # Safety
/// `header` must point to a `LibHeader` of a loaded library that is never unloaded.
pub unsafe fn open_header(header: *const LibHeader) -> Result<ConsumerModuleRef, OpenError> {
    // SAFETY: the caller says that a header stands there; its first field is the `AbiHeader`, and `AbiHeaderRef` is a
    // transparent reference to it.
    let header: AbiHeaderRef = unsafe { std::mem::transmute::<*const LibHeader, AbiHeaderRef>(header) };
    if !header.is_valid() {
        let ours = abi_stable::library::AbiHeader::VALUE;
        return Err(OpenError::OtherAbiStable {
            expected: format!("{}.{}", ours.abi_major, ours.abi_minor),
            found: format!("{}.{}", header.abi_major, header.abi_minor),
        });
    }
    let header = header.upgrade().map_err(|e| OpenError::Other(e.to_string()))?;
    let name = header.root_mod_consts().name();
    if name.as_str() != ConsumerModuleRef::NAME {
        return Err(OpenError::OtherLibrary(name.to_string()));
    }
    let version = |text: VersionStrings| {
        VersionNumber::new(text).map_err(|e| OpenError::Other(format!("its version cannot be read: {e}")))
    };
    let ours = ConsumerModuleRef::VERSION_STRINGS;
    let (found, expected) = (version(header.version_strings())?, version(ours)?);
    if found.major != expected.major {
        return Err(OpenError::OtherMajor {
            expected: ours.version.to_string(),
            found: header.version_strings().version.to_string(),
        });
    }
    let theirs = header
        .layout()
        .ok_or_else(|| OpenError::Layout("the library says nothing of its layout".into()))?;
    let older = if found.minor < expected.minor {
        Older::Plugin
    } else {
        Older::Host
    };
    layout::compare(<ConsumerModuleRef as StableAbi>::LAYOUT, theirs, older).map_err(OpenError::Layout)?;
    // SAFETY: the layouts were compared just now; what only the newer side has stands at the end of a prefix type.
    unsafe { header.unchecked_layout::<ConsumerModuleRef>() }.map_err(|e| OpenError::Other(e.to_string()))
}

// === impl ConsumerModuleRef ===

impl ConsumerModuleRef {
    /// The module of a consumer type of this very program, for tests of a plugin without a library.
    #[must_use]
    pub fn of<C: PluginConsumer>() -> Self {
        Self(ModuleOf::<C>::VALUE.static_as_prefix())
    }

    /// See [`PluginConsumer::describe`].
    ///
    /// # Errors
    /// The plugin's failure, or an answer that is not a descriptor.
    pub fn describe_consumer(&self, request: &DescribeRequest) -> Result<Descriptor, Failure> {
        let request = to_text(request)?;
        let text = self.describe()(RStr::from_str(&request)).into_result()?;
        serde_json::from_str(&text)
            .map_err(|e| Failure::new(FailureKind::FATAL, format!("its descriptor cannot be read: {e}")))
    }

    /// See [`PluginConsumer::check`].
    ///
    /// # Errors
    /// If the check panicked.
    pub fn check_settings(&self, settings: &serde_json::Value) -> Result<Vec<String>, Failure> {
        let settings = to_text(settings)?;
        let findings = self.check()(RStr::from_str(&settings)).into_result()?;
        Ok(findings.into_iter().map(RString::into_string).collect())
    }

    /// See [`PluginConsumer::construct`].
    ///
    /// # Errors
    /// Why there is no instance.
    pub fn construct_instance(&self, request: &ConstructRequest, host: Host) -> Result<Instance, Failure> {
        let request = to_text(request)?;
        self.construct()(RStr::from_str(&request), host).into_result()
    }
}

fn to_text(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::new(FailureKind::FATAL, e.to_string()))
}

fn from_text<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|e| Failure::new(FailureKind::FATAL, format!("the host's request: {e}")))
}

/// Runs plugin code for the host: a panic becomes a failure.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> RResult<T, Failure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.into(),
        Err(panic) => RResult::RErr(Failure::of_panic(panic)),
    }
}

/// The module of a consumer type.
struct ModuleOf<C>(std::marker::PhantomData<C>);

impl<C: PluginConsumer> ModuleOf<C> {
    const VALUE: &'static WithMetadata<ConsumerModule> = &WithMetadata::new(ConsumerModule {
        describe: Self::describe,
        check: Self::check,
        construct: Self::construct,
    });

    extern "C" fn describe(request: RStr<'_>) -> RResult<RString, Failure> {
        guarded(|| {
            C::describe(from_text(request.as_str())?)
                .and_then(|d| to_text(&d))
                .map(RString::from)
        })
    }

    extern "C" fn check(settings: RStr<'_>) -> RResult<RVec<RString>, Failure> {
        guarded(|| {
            Ok(C::check(from_text(settings.as_str())?)
                .into_iter()
                .map(RString::from)
                .collect())
        })
    }

    extern "C" fn construct(request: RStr<'_>, host: Host) -> RResult<Instance, Failure> {
        guarded(|| C::construct(from_text(request.as_str())?, host))
    }
}

/// The `LibHeader` of a consumer type. For [`export_consumer!`].
#[doc(hidden)]
pub const fn header_of<C: PluginConsumer>() -> LibHeader {
    extern "C" fn root<C: PluginConsumer>() -> RootModuleResult {
        let module = ConsumerModuleRef::of::<C>();
        // SAFETY: only the type parameter is erased; `header_of` names the same module type below.
        RResult::<_, RootModuleError>::ROk(unsafe { erase(module) })
    }
    // SAFETY: `root` returns a reference that was a `ConsumerModuleRef`.
    unsafe { LibHeader::from_constructor::<ConsumerModuleRef>(root::<C>, CheckTypeLayout::Yes) }
}

/// # Safety
/// The result must be given to a `LibHeader` of `ConsumerModuleRef` alone.
unsafe fn erase(
    module: ConsumerModuleRef,
) -> abi_stable::prefix_type::PrefixRef<abi_stable::marker_type::ErasedPrefix> {
    use abi_stable::prefix_type::PrefixRefTrait;
    // SAFETY: the caller promises that it is read back as what it is.
    unsafe { module.to_prefix_ref().cast() }
}

/// Exports a consumer type under a literal symbol: `export_consumer!(OrderConsumer)` gives the symbol
/// `OrderConsumer`; `export_consumer!(OrderConsumer as "orders")` gives `orders`.
#[macro_export]
macro_rules! export_symbol {
    ($symbol:expr, $consumer:ty) => {
        #[allow(unsafe_code)]
        const _: () = {
            #[unsafe(export_name = $symbol)]
            static HEADER: $crate::abi_stable::library::LibHeader = $crate::module::header_of::<$consumer>();
        };
    };
}

const _: fn() = || {
    fn is_prefix<T: PrefixTypeTrait>() {}
    is_prefix::<ConsumerModule>();
};
