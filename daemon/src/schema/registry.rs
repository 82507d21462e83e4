//! The schemas of a registry, fetched by a thread of their own when a message first names one, and remembered.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    os::fd::BorrowedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, Once, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use schema_registry_converter::blocking::schema_registry::SrSettings;

use super::{
    RegistryConfig, Unshaped,
    decoder::{Decoder, HEAD, Json, NoDecoder, id_of},
};
use crate::{os::EventFd, settings::RouteName};

/// The schemas of a route's registry.
pub(super) struct Registry {
    known: HashMap<u32, Known>,
    asked: HashSet<u32>,
    ask: mpsc::Sender<u32>,
    told: Arc<Told>,
    /// Of the value that was decoded last.
    buffer: Vec<u8>,
}

enum Known {
    Decoder(Box<Decoder>),
    Unusable { why: String, until: Instant },
}

/// What the thread has found out.
struct Told {
    answers: Mutex<Vec<(u32, Known)>>,
    wake: EventFd,
}

/// The thread that asks.
struct Asker {
    config: RegistryConfig,
    route: RouteName,
    told: Arc<Told>,
    /// To be asked for, by when, and how often that failed.
    due: BTreeMap<u32, (Instant, u32)>,
    told_at: Option<Instant>,
}

/// How long a schema that the registry does not have is not asked for again.
const UNUSABLE_FOR: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Waits between attempts.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Time between two lines of the log that say that the registry cannot be asked.
const QUIET: Duration = Duration::from_secs(60);
/// What a message of Avro may make its decoder allocate at once: it says itself how long its parts are.
const AVRO_AT_ONCE: usize = 64 << 20;

static ONCE: Once = Once::new();

// === impl Registry ===

impl Registry {
    pub(super) fn new(config: RegistryConfig, route: RouteName) -> io::Result<Self> {
        ONCE.call_once(|| {
            apache_avro::util::max_allocation_bytes(AVRO_AT_ONCE);
            // Another may be there already: then that is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let told = Arc::new(Told {
            answers: Mutex::new(Vec::new()),
            wake: EventFd::new()?,
        });
        let (ask, asked) = mpsc::channel();
        let asker = Asker {
            config,
            told: Arc::clone(&told),
            due: BTreeMap::new(),
            told_at: None,
            route,
        };
        thread::Builder::new()
            .name(format!("registry {}", asker.route))
            .spawn(move || asker.run(&asked))?;
        Ok(Self {
            known: HashMap::new(),
            asked: HashSet::new(),
            ask,
            told,
            buffer: Vec::new(),
        })
    }

    /// Readable when schemas came.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.told.wake.as_fd()
    }

    /// The schemas that came.
    pub(super) fn take_answers(&mut self) -> Vec<u32> {
        self.told.wake.drain();
        let answers = std::mem::take(&mut *self.told.answers.lock().unwrap_or_else(PoisonError::into_inner));
        let mut ids = Vec::new();
        for (id, known) in answers {
            self.asked.remove(&id);
            self.known.insert(id, known);
            ids.push(id);
        }
        ids
    }

    /// A value as JSON. Waits for nothing.
    pub(super) fn decode<'a>(&'a mut self, value: &'a [u8]) -> Result<&'a [u8], Unshaped> {
        let Some(id) = id_of(value) else {
            return Err(Unshaped::Rejected(format!(
                "not in the registry's wire format: expected a zero byte and the four bytes of a schema's id, found {:02x?}",
                &value[..value.len().min(HEAD)]
            )));
        };
        match self.known.get(&id) {
            Some(Known::Unusable { why, until }) if *until > Instant::now() => {
                Err(Unshaped::Rejected(format!("schema {id} cannot be used: {why}")))
            }
            Some(Known::Decoder(decoder)) => {
                // Foreign bytes in foreign code: what it makes of them must not end the daemon.
                let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode(value, &mut self.buffer)));
                match decoded.unwrap_or_else(|_| Err("the decoder broke".to_owned())) {
                    Ok(Json::Within) => Ok(&value[HEAD..]),
                    Ok(Json::Written) => Ok(&self.buffer),
                    Err(why) => Err(Unshaped::Rejected(format!("does not fit its schema {id}: {why}"))),
                }
            }
            _ => {
                if self.asked.insert(id) {
                    // The thread lives as long as this.
                    let _ = self.ask.send(id);
                }
                Err(Unshaped::Waits { id })
            }
        }
    }
}

// === impl Asker ===

impl Asker {
    fn run(mut self, asked: &mpsc::Receiver<u32>) {
        loop {
            let next = self.due.values().map(|(at, _)| *at).min();
            let wait = next.map_or(Duration::from_secs(3600), |at| {
                at.saturating_duration_since(Instant::now())
            });
            match asked.recv_timeout(wait) {
                Ok(id) => {
                    self.due.insert(id, (Instant::now(), 0));
                    continue;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            let due: Vec<u32> = self
                .due
                .iter()
                .filter(|(_, (at, _))| *at <= now)
                .map(|(id, _)| *id)
                .collect();
            for id in due {
                self.ask(id);
            }
        }
    }

    fn ask(&mut self, id: u32) {
        let known = match self.fetch(id) {
            Ok(decoder) => Known::Decoder(Box::new(decoder)),
            Err(NoDecoder::Unusable(why)) => Known::Unusable {
                why,
                until: Instant::now() + UNUSABLE_FOR,
            },
            Err(NoDecoder::Unreachable(error)) => return self.again(id, &error),
        };
        if self.told_at.take().is_some() {
            tracing::info!(route = %self.route, "the schema registry answers again");
        }
        self.due.remove(&id);
        let mut answers = self.told.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((id, known));
        drop(answers);
        self.told.wake.signal();
    }

    fn again(&mut self, id: u32, error: &str) {
        let now = Instant::now();
        let (at, failures) = self.due.entry(id).or_insert((now, 0));
        let wait = FIRST_WAIT
            .saturating_mul(1 << (*failures).min(8))
            .min(LONGEST_WAIT);
        (*at, *failures) = (now + wait, *failures + 1);
        if self
            .told_at
            .is_none_or(|told_at| now.saturating_duration_since(told_at) >= QUIET)
        {
            self.told_at = Some(now);
            let registry = self.config.urls.join(", ");
            tracing::warn!(route = %self.route, schema = id, registry, error,
                "the schema registry does not give a schema now; messages that need it wait, and it is asked again");
        }
    }

    fn fetch(&self, id: u32) -> Result<Decoder, NoDecoder> {
        let settings = self
            .settings()
            .map_err(|error| NoDecoder::Unreachable(error.to_string()))?;
        let kind = self.config.deserializer;
        catch_unwind(AssertUnwindSafe(|| Decoder::fetch(settings, kind, id))).unwrap_or_else(|_| {
            Err(NoDecoder::Unusable(
                "its schema cannot be read: the decoder broke".to_owned(),
            ))
        })
    }

    fn settings(&self) -> Result<SrSettings, schema_registry_converter::error::SRCError> {
        let mut urls = self
            .config
            .urls
            .iter()
            .map(|url| url.trim_end_matches('/').to_owned());
        let mut builder = SrSettings::new_builder(urls.next().unwrap_or_default());
        for url in urls {
            builder.add_url(url);
        }
        match self
            .config
            .credentials
            .as_ref()
            .map(|credentials| credentials.expose())
        {
            Some(credentials) => match credentials.split_once(':') {
                Some((user, password)) => builder.set_basic_authorization(user, Some(password)),
                None => builder.set_token_authorization(credentials),
            },
            None => &mut builder,
        };
        builder.no_proxy().set_timeout(TIMEOUT).build()
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
