//! What a person ordered of a route that holds until somebody orders otherwise: `devourd pause` and `devourd stop`. Kept in a
//! file of `state_dir`, so that neither a restart of the daemon nor a reload forgets it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    settings::RouteName,
    time::{from_utc, now_ms, utc},
};

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nothing is fetched and digested; assignment and plugin stay.
    Paused,
    /// Neither client nor plugin.
    Stopped,
}

/// An order, and when it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByHand {
    /// What.
    pub hold: Hold,
    /// Milliseconds since 1970.
    pub since_ms: i64,
}

/// The orders of all routes, and their file.
#[derive(Debug, Default)]
pub struct Orders {
    /// `None`: they end with the process.
    file: Option<PathBuf>,
    /// The settings whose routes these are, for whoever reads the file.
    settings: PathBuf,
    routes: BTreeMap<RouteName, ByHand>,
}

/// An order could not be written down, and so was not carried out.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}. Nothing was changed: an order by hand has to survive a restart", .file.display())]
pub struct NotWritten {
    file: PathBuf,
    source: io::Error,
}

// === impl Hold ===

impl Hold {
    /// As the file and `devourd status` have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Paused, Self::Stopped]
            .into_iter()
            .find(|hold| hold.name() == name)
    }
}

// === impl ByHand ===

impl ByHand {
    /// An order that is given now.
    #[must_use]
    pub fn now(hold: Hold) -> Self {
        Self {
            hold,
            since_ms: now_ms(),
        }
    }
}

// === impl Orders ===

impl Orders {
    /// The orders for the routes of `settings`. Daemons that share a `state_dir` do not share orders. A file that is
    /// damaged is put aside and said: a daemon starts all the same.
    #[must_use]
    pub fn load(state_dir: &Path, settings: &Path) -> Self {
        let settings = settings.canonicalize().unwrap_or_else(|_| settings.to_owned());
        let digest = Sha256::digest(settings.as_os_str().as_encoded_bytes());
        let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let file = state_dir.join(format!("by-hand-{digest}.json"));
        let mut orders = Self {
            file: Some(file.clone()),
            settings,
            routes: BTreeMap::new(),
        };
        let document = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice::<Value>(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return orders,
            Err(error) => Err(error.to_string()),
        };
        let routes = document.and_then(|document| match document.get("routes") {
            Some(Value::Object(routes)) => Ok(routes.clone()),
            _ => Err("it has no `routes`".to_owned()),
        });
        match routes {
            Ok(routes) => {
                for (name, order) in &routes {
                    match read(name, order) {
                        Some((name, order)) => {
                            orders.routes.insert(name, order);
                        }
                        None => tracing::error!(route = name, file = %file.display(), order = %order,
                            "an order by hand cannot be read; the route runs as its settings say"),
                    }
                }
            }
            Err(error) => {
                let aside = file.with_extension("json.damaged");
                let kept = fs::rename(&file, &aside).is_ok();
                tracing::error!(file = %file.display(), error, kept_as = kept.then(|| aside.display().to_string()),
                    "what was ordered by hand cannot be read; all routes run as their settings say");
            }
        }
        orders
    }

    /// What holds for a route.
    #[must_use]
    pub fn of(&self, route: &RouteName) -> Option<ByHand> {
        self.routes.get(route).copied()
    }

    /// Orders, or with `None` takes an order back. Written down before it counts. An order that holds already keeps its
    /// time. What holds afterwards for each route is what [`Orders::of`] says.
    ///
    /// # Errors
    /// When it cannot be written down: then nothing was changed.
    pub fn order(&mut self, routes: &[RouteName], hold: Option<Hold>) -> Result<(), NotWritten> {
        let mut changed = self.routes.clone();
        for route in routes {
            match hold {
                Some(hold) if changed.get(route).is_some_and(|order| order.hold == hold) => {}
                Some(hold) => {
                    changed.insert(route.clone(), ByHand::now(hold));
                }
                None => {
                    changed.remove(route);
                }
            }
        }
        if changed != self.routes {
            self.write(&changed)?;
            self.routes = changed;
        }
        Ok(())
    }

    fn write(&self, routes: &BTreeMap<RouteName, ByHand>) -> Result<(), NotWritten> {
        let Some(file) = &self.file else { return Ok(()) };
        let orders: serde_json::Map<String, Value> = routes
            .iter()
            .map(|(name, order)| {
                let order = json!({"state": order.hold.name(), "since": utc(order.since_ms)});
                (name.to_string(), order)
            })
            .collect();
        let document = json!({"settings": self.settings, "routes": orders});
        replace(file, format!("{document:#}\n").as_bytes()).map_err(|source| NotWritten {
            file: file.clone(),
            source,
        })
    }
}

fn read(name: &str, order: &Value) -> Option<(RouteName, ByHand)> {
    let hold = Hold::of(order.get("state")?.as_str()?)?;
    let since_ms = from_utc(order.get("since")?.as_str()?)?;
    Some((name.parse().ok()?, ByHand { hold, since_ms }))
}

/// Replaces a file as a whole or not at all, also when the machine stops in between.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let beside = file.with_extension("json.new");
    let written = File::create(&beside).and_then(|mut new| {
        new.write_all(bytes)?;
        new.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&beside, file)) {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    File::open(dir)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(text: &str) -> RouteName {
        text.parse().unwrap()
    }

    fn file_in(dir: &Path) -> PathBuf {
        let mut files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let file = files.next().unwrap();
        assert_eq!(files.next(), None, "one file, and nothing is left beside it");
        file
    }

    #[test]
    fn an_order_survives_and_keeps_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Path::new("/etc/devour.yaml");
        let mut orders = Orders::load(dir.path(), settings);
        assert_eq!(orders.of(&name("orders")), None);
        orders.order(&[name("orders")], Some(Hold::Paused)).unwrap();
        orders.order(&[name("bills")], Some(Hold::Stopped)).unwrap();
        let first = orders.of(&name("orders")).unwrap();
        assert_eq!(first.hold, Hold::Paused);
        let mut again = Orders::load(dir.path(), settings);
        assert_eq!(again.of(&name("orders")), Some(first));
        assert_eq!(again.of(&name("bills")).unwrap().hold, Hold::Stopped);
        again.order(&[name("orders")], Some(Hold::Paused)).unwrap();
        assert_eq!(again.of(&name("orders")), Some(first), "it holds since then");
        again.order(&[name("orders"), name("other")], None).unwrap();
        assert_eq!(Orders::load(dir.path(), settings).of(&name("orders")), None);
        file_in(dir.path());
        // Another daemon with the same directory has orders of its own.
        let others = Orders::load(dir.path(), Path::new("/etc/other.yaml"));
        assert_eq!(others.of(&name("bills")), None);
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_a_damaged_order_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Path::new("/etc/devour.yaml");
        let both = [name("a"), name("b")];
        let mut orders = Orders::load(dir.path(), settings);
        orders.order(&both, Some(Hold::Stopped)).unwrap();
        let file = file_in(dir.path());
        let whole = fs::read_to_string(&file).unwrap();
        let odd = whole.replacen("stopped", "gone", 1);
        fs::write(&file, odd).unwrap();
        let orders = Orders::load(dir.path(), settings);
        assert_eq!(both.iter().filter(|route| orders.of(route).is_some()).count(), 1);
        for damaged in [
            "",
            "{",
            "[]",
            "{\"routes\": 3}",
            "\u{0}\u{0}",
            &whole[..whole.len() / 2],
        ] {
            fs::write(&file, damaged).unwrap();
            let mut orders = Orders::load(dir.path(), settings);
            assert_eq!(orders.of(&both[0]), None, "{damaged:?}");
            assert!(!file.exists(), "put aside");
            orders.order(&both, Some(Hold::Paused)).unwrap();
            assert!(Orders::load(dir.path(), settings).of(&both[0]).is_some());
        }
    }

    #[test]
    fn what_cannot_be_written_down_is_not_ordered() {
        let dir = tempfile::tempdir().unwrap();
        let no_directory = dir.path().join("file");
        fs::write(&no_directory, "").unwrap();
        let mut orders = Orders::load(&no_directory, Path::new("s.yaml"));
        let error = orders
            .order(&[name("a")], Some(Hold::Paused))
            .unwrap_err()
            .to_string();
        assert!(error.contains("Nothing was changed"), "{error}");
        assert_eq!(orders.of(&name("a")), None);
    }
}
