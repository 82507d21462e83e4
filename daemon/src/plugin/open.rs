//! Opens a library with the system's loader and compares what it exports with what this host knows. A library that was
//! opened is never closed: its code may have started threads, and what it gave us points into it.

// dlopen runs foreign code and a symbol is an untyped address: this file is where that is held.
#![allow(unsafe_code)]

use std::{
    ffi::OsStr,
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
};

use abi_stable::library::LibHeader;
use devour_abi::{ConsumerModuleRef, OpenError, open_header};
use libloading::os::unix::{Library as Loaded, RTLD_LOCAL, RTLD_NOW};

use super::{Library, PluginError, PluginFault};

/// Opens the library behind a descriptor and the consumer `symbol` in it. For a process that opens one library: the
/// loader knows a library by its name, and a descriptor's number may come again.
///
/// The caller has read the file ([`super::Image`]): `symbol` is a consumer that it defines itself.
///
/// # Errors
/// [`PluginFault::NotLoadable`], [`PluginFault::OtherAbi`], [`PluginFault::LayoutDiffers`],
/// [`PluginFault::NotAPlugin`]; the file is named by the descriptor's number ([`PluginError::of_file`] mends that).
pub fn open_descriptor(library: BorrowedFd<'_>, symbol: &str) -> Result<ConsumerModuleRef, PluginError> {
    let loaded = load_descriptor(library)?;
    compare(loaded, symbol)
}

/// Opens a private copy in this process, for thread isolation, and the consumer `symbol` in it.
///
/// # Errors
/// As [`open_descriptor`], and [`PluginFault::NoSuchSymbol`].
pub fn open_copy(library: &Library, symbol: &str) -> Result<ConsumerModuleRef, PluginError> {
    let named = |fault| PluginError::new(&library.file, fault).of_symbol(symbol);
    library.expect(symbol).map_err(|error| named(*error.fault))?;
    load(&library.copy)
        .and_then(|loaded| compare(loaded, symbol))
        .map_err(|error| named(*error.fault))
}

/// Loads it and runs its initialisers.
pub(super) fn load_descriptor(library: BorrowedFd<'_>) -> Result<&'static Loaded, PluginError> {
    load(Path::new(&format!("/proc/self/fd/{}", library.as_raw_fd())))
}

fn load(path: &Path) -> Result<&'static Loaded, PluginError> {
    // SAFETY: the initialisers of a plugin are foreign code that the operator chose to run; it was run in a child of
    // its own before it is run anywhere else.
    let loaded = unsafe { Loaded::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    let loaded = loaded.map_err(|error| {
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        // The loader names the file by a path that says nothing to a person.
        let own = format!("{}: ", path.display());
        PluginError::new(
            path,
            PluginFault::NotLoadable {
                reason: reason.replace(&own, ""),
            },
        )
    })?;
    Ok(Box::leak(Box::new(loaded)))
}

/// Finds the consumer and compares versions and layouts.
pub(super) fn compare(loaded: &'static Loaded, symbol: &str) -> Result<ConsumerModuleRef, PluginError> {
    let failed = |fault| PluginError::new(OsStr::new(""), fault).of_symbol(symbol);
    // SAFETY: the symbol is used as an address only, whatever it is.
    let header = unsafe { loaded.get::<*const LibHeader>(symbol) };
    let header = *header.map_err(|error| {
        failed(PluginFault::NotLoadable {
            reason: error.to_string(),
        })
    })?;
    // SAFETY: the file says that at this symbol stands data of a `LibHeader`'s size that begins with abi_stable's magic
    // (`Image`), and the library is never closed.
    unsafe { open_header(header) }.map_err(|error| {
        failed(match error {
            OpenError::OtherAbiStable { expected, found } => PluginFault::OtherAbiStable { expected, found },
            OpenError::OtherMajor { expected, found } => PluginFault::OtherAbi { expected, found },
            OpenError::OtherLibrary(name) => PluginFault::NotAPlugin {
                why: format!("it is an abi_stable library of another program, `{name}`"),
            },
            OpenError::Layout(difference) => PluginFault::LayoutDiffers { difference },
            OpenError::Other(why) => PluginFault::NotAPlugin { why },
        })
    })
}
