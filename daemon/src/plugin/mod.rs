//! Finds, checks, loads and names plugin libraries.
//!
//! The way of a library: [`locate`] finds the file; [`Store::admit`] opens it once, checks that nobody else could
//! change it (`trust`), reads it without running it ([`Image`]) and takes a private copy named by its content hash; a
//! throw-away child opens the copy ([`Prober::probe`]) and says what its consumers are; only then may it be opened
//! where it matters ([`open_descriptor`] in a plugin process, [`open_copy`] in the daemon). [`check_route`] does all of
//! it for one route, [`list`] and [`inspect`] for a person.

mod check;
mod error;
mod error_text;
mod generation;
mod image;
mod inspect;
mod list;
mod locate;
mod open;
mod probe;
mod probe_child;
mod probe_talk;
mod store;
mod trust;

#[cfg(test)]
mod tests;

pub use check::{Checked, RouteAsk, RouteFinding, check_route};
pub use error::{Death, PluginError, PluginFault, Stage};
pub use generation::{ContentHash, Generations};
pub use image::Image;
pub use inspect::{ConsumerReport, Inspection, Inspector, inspect};
pub use list::{Listing, list};
pub use locate::{libraries_in, locate};
pub use open::{open_copy, open_descriptor};
pub use probe::{PROBE_TIMEOUT, Probe, Prober, child_environment};
pub use probe_child::probe_child_main;
pub use store::{Library, Store, Swept, content_hash};
