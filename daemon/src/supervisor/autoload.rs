//! Routes that nobody wrote down: with `autoload: true` each consumer in the plugin directories that declares all that a
//! route needs is routed under its own name in snake case, with the settings' `defaults`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use devour_abi::{ConsumerType, Descriptor};

use super::{
    plan::{PlanFinding, Planner},
    prove::Refused,
    watch::is_library,
};
use crate::{
    plugin::{Listing, PluginFault, list},
    settings::{Route, RouteName, Settings, format_size},
};

/// A consumer that lies in a plugin directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    /// The library's name in its directory.
    library: String,
    symbol: String,
}

// === impl Planner ===

impl Planner {
    /// Adds the autoloaded routes to those of `settings`, in place of such as are there already. What stands in the way
    /// of one is returned by the name that it would have, or by the library's.
    #[must_use]
    pub fn autoload(&self, settings: &mut Settings) -> Vec<(RouteName, Vec<PlanFinding>)> {
        settings.routes.retain(|route| !route.autoloaded);
        if settings.autoload.is_none() {
            return Refused::new();
        }
        let (offers, mut refused) = offers(settings);
        let named = settings
            .routes
            .iter()
            .map(|route| (route.name.to_string(), route.symbol.clone()));
        let (routed, clashes) = choose(offers, &named.collect());
        for (name, why) in clashes {
            refuse(&mut refused, &name, "", why, false);
        }
        for (name, offer) in routed {
            match route(self, settings, &name, &offer) {
                Ok(Some(route)) => settings.routes.push(route),
                Ok(None) => {}
                Err(finding) => {
                    refused.extend(named_or(&name, &offer.library).map(|name| (name, vec![finding])));
                }
            }
        }
        refused
    }
}

/// The consumers in the plugin directories that no route of the settings names, and the libraries that cannot be read.
fn offers(settings: &Settings) -> (Vec<Offer>, Refused) {
    let routed: BTreeSet<&str> = settings
        .routes
        .iter()
        .map(|route| route.symbol.as_str())
        .collect();
    let (mut offers, mut refused, mut seen) = (Vec::new(), Refused::new(), BTreeSet::new());
    let there: Vec<PathBuf> = settings
        .plugin_dirs
        .iter()
        .filter(|dir| dir.symlink_metadata().is_ok())
        .cloned()
        .collect();
    for Listing {
        file,
        consumers,
        error,
    } in list(&there, settings.plugin_file_checks)
    {
        let name = file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        // One behind another of the same name is never found by it.
        let is_first = is_library(&name) && name.ends_with(".so") && seen.insert(name.clone());
        match error {
            // A library that plugins need is no plugin.
            Some(error) if matches!(*error.fault, PluginFault::NotAPlugin { .. }) => {}
            Some(error) if is_first || there.contains(&file) => {
                refuse(&mut refused, &name, "path", error.to_string(), true);
            }
            None if is_first => {
                let symbols = consumers
                    .into_iter()
                    .filter(|symbol| !routed.contains(symbol.as_str()));
                offers.extend(symbols.map(|symbol| Offer {
                    library: name.clone(),
                    symbol,
                }));
            }
            _ => {}
        }
    }
    (offers, refused)
}

/// Gives each offer its name. Two of one name, or one of a name that the settings give to another, are clashes, which name
/// both.
fn choose(
    offers: Vec<Offer>,
    named: &BTreeMap<String, String>,
) -> (BTreeMap<String, Offer>, BTreeMap<String, String>) {
    let mut by_name: BTreeMap<String, BTreeSet<Offer>> = BTreeMap::new();
    for offer in offers {
        by_name
            .entry(snake_case(&offer.symbol))
            .or_default()
            .insert(offer);
    }
    let (mut routed, mut clashes) = (BTreeMap::new(), BTreeMap::new());
    for (name, offers) in by_name {
        let mut told: Vec<String> = offers
            .iter()
            .map(|offer| format!("`{}` of {}", offer.symbol, offer.library))
            .collect();
        if let Some(symbol) = named.get(&name) {
            told.insert(0, format!("the route `{name}` of the settings (for `{symbol}`)"));
        }
        if told.len() > 1 {
            let all = told.join(" and ");
            clashes.insert(
                name,
                format!(
                    "autoload: {all} have one name; give all but one of them a route with a name of its own, or take it \
                     out of the plugin directory"
                ),
            );
        } else {
            routed.extend(offers.into_iter().next().map(|offer| (name, offer)));
        }
    }
    (routed, clashes)
}

/// The route of an offer, if it declares all that it needs.
fn route(
    planner: &Planner,
    settings: &Settings,
    name: &str,
    offer: &Offer,
) -> Result<Option<Route>, PlanFinding> {
    let route_name = RouteName::new(name).map_err(|error| {
        let symbol = &offer.symbol;
        PlanFinding::new(
            "",
            format!("autoload: `{symbol}` cannot be routed under its own name, `{name}`: {error}"),
        )
    })?;
    let Some(mut route) = settings.autoloaded(route_name, &offer.library, &offer.symbol) else {
        return Ok(None);
    };
    route.autoloaded = true;
    let descriptor = planner.describe(settings, &route)?;
    if let Err(lacks) = declares(&descriptor, &route) {
        tracing::info!(
            library = offer.library,
            symbol = offer.symbol,
            "not autoloaded: {lacks}"
        );
        return Ok(None);
    }
    let asked: usize = settings.routes.iter().map(|route| route.memory).sum();
    if let Some(memory) = settings.memory.filter(|memory| asked + route.memory > *memory) {
        let (asked, memory) = (
            format_size((asked + route.memory) as u64),
            format_size(memory as u64),
        );
        let why = format!(
            "autoload: with it the routes ask for {asked} together, more than the {memory} of the daemon"
        );
        return Err(PlanFinding::new("memory", why));
    }
    Ok(Some(route))
}

/// Whether a consumer declares what a route needs, and what it lacks.
fn declares(descriptor: &Descriptor, route: &Route) -> Result<(), &'static str> {
    if descriptor.topic.is_none() {
        return Err("it declares no topic");
    }
    let has_group = descriptor.config.contains_key("consumer_group") || route.config.consumer_group.is_some();
    let is_balanced = route
        .consumer_type
        .map(|kind| kind == crate::settings::ConsumerType::Balanced)
        .or(descriptor
            .consumer_type
            .map(|kind| kind == ConsumerType::BalancedConsumer))
        .unwrap_or(has_group);
    if is_balanced && !has_group {
        return Err("it is a balanced_consumer and declares no consumer_group");
    }
    Ok(())
}

fn refuse(refused: &mut Refused, name: &str, key: &str, why: String, is_of_file: bool) {
    let mut finding = PlanFinding::new(key, why);
    finding.is_of_file = is_of_file;
    refused.extend(named_or(name, "autoload").map(|name| (name, vec![finding])));
}

/// A name for the receipt, where the wanted one cannot name a route.
fn named_or(name: &str, other: &str) -> Option<RouteName> {
    let other = || RouteName::new(other).or_else(|_| RouteName::new("autoload"));
    RouteName::new(name).or_else(|_| other()).ok()
}

/// Whether a running route came from this library.
pub(super) fn is_from(route: &Route, library: &Path) -> bool {
    route.autoloaded && Some(route.path.as_ref()) == library.file_name()
}

/// `OrderConsumer` is `order_consumer`, `HTTPSink` is `http_sink`.
fn snake_case(symbol: &str) -> String {
    let chars: Vec<char> = symbol.chars().collect();
    let mut name = String::new();
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| chars.get(at));
        let after = chars.get(at + 1);
        let ends_lower = before.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let ends_acronym =
            before.is_some_and(char::is_ascii_uppercase) && after.is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && (ends_lower || ends_acronym) {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer(library: &str, symbol: &str) -> Offer {
        Offer {
            library: library.to_owned(),
            symbol: symbol.to_owned(),
        }
    }

    #[test]
    fn names_are_those_of_the_consumers_in_snake_case() {
        for (symbol, name) in [
            ("OrderConsumer", "order_consumer"),
            ("HTTPSink", "http_sink"),
            ("EchoJson", "echo_json"),
            ("Kafka2Db", "kafka2_db"),
            ("math", "math"),
            ("_Private", "_private"),
            ("Snake_Case", "snake_case"),
            ("A", "a"),
        ] {
            assert_eq!(snake_case(symbol), name);
        }
    }

    #[test]
    fn a_clash_names_both() {
        let named = BTreeMap::from([("bills".to_owned(), "Other".to_owned())]);
        let offers = vec![
            offer("liba.so", "Orders"),
            offer("libb.so", "Orders"),
            offer("libc.so", "Bills"),
            offer("libc.so", "Math"),
        ];
        let (routed, clashes) = choose(offers, &named);
        assert_eq!(
            routed,
            BTreeMap::from([("math".to_owned(), offer("libc.so", "Math"))])
        );
        assert!(
            clashes["orders"].contains("`Orders` of liba.so and `Orders` of libb.so"),
            "{clashes:?}"
        );
        assert!(
            clashes["bills"]
                .contains("the route `bills` of the settings (for `Other`) and `Bills` of libc.so"),
            "{clashes:?}"
        );
    }

    proptest! {
        /// Every offer is routed or part of a clash; a routed name is its own, and no route's of the settings.
        #[test]
        fn every_offer_is_routed_under_its_own_name_or_told(
            offers in proptest::collection::vec(("lib[abc]\\.so", "[A-C][a-b]?_?[A-B]?"), 0..8),
            named in proptest::collection::vec("[a-c][a-b]?", 0..3),
        ) {
            let offers: Vec<Offer> = offers.iter().map(|(library, symbol)| offer(library, symbol)).collect();
            let named: BTreeMap<String, String> =
                named.into_iter().map(|name| (name, "Other".to_owned())).collect();
            let (routed, clashes) = choose(offers.clone(), &named);
            for (name, one) in &routed {
                prop_assert!(!named.contains_key(name) && !clashes.contains_key(name));
                prop_assert_eq!(name, &snake_case(&one.symbol));
            }
            for one in &offers {
                let name = snake_case(&one.symbol);
                let told = |text: &String| text.contains(&format!("`{}` of {}", one.symbol, one.library));
                prop_assert!(routed.get(&name) == Some(one) || clashes.get(&name).is_some_and(told));
            }
            let mut reversed = offers;
            reversed.reverse();
            prop_assert_eq!((routed, clashes), choose(reversed, &named));
        }

        #[test]
        fn a_symbol_that_is_short_enough_can_name_a_route(symbol in "[A-Za-z_][A-Za-z0-9_]{0,31}") {
            prop_assert!(RouteName::new(&snake_case(&symbol)).is_ok());
        }
    }
}
