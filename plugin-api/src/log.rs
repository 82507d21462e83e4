//! `tracing` inside a plugin: one subscriber per library that forwards every event to the host of the instance that
//! logs. The host adds route, topic, partition and offset.

use std::{fmt, sync::Once};

use devour_abi::LogLevel;
use serde_json::{Map, Value};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};
use tracing_subscriber::{Layer, Registry, layer::Context, layer::SubscriberExt, registry::LookupSpan};

use crate::context::context;

/// Installs the subscriber, once per library. A program that has one already (a test of the author's) keeps it.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let _ = tracing::subscriber::set_global_default(Registry::default().with(ToHost));
    });
}

/// Forwards events to the host.
struct ToHost;

/// The fields of a span, kept with it, so that its events have them too.
struct SpanFields(Map<String, Value>);

/// Collects the fields of an event or span.
#[derive(Default)]
struct Collected {
    message: String,
    fields: Map<String, Value>,
}

fn level_of(metadata: &Metadata<'_>) -> LogLevel {
    match *metadata.level() {
        Level::ERROR => LogLevel::ERROR,
        Level::WARN => LogLevel::WARN,
        Level::INFO => LogLevel::INFO,
        Level::DEBUG => LogLevel::DEBUG,
        Level::TRACE => LogLevel::TRACE,
    }
}

// === impl ToHost ===

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for ToHost {
    // Hosts differ in what they keep and may change it, so no callsite is decided for ever.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        context().is_some_and(|context| context.host().log_enabled(level_of(metadata)))
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, registry: Context<'_, S>) {
        let mut collected = Collected::default();
        attributes.record(&mut collected);
        if let Some(span) = registry.span(id) {
            span.extensions_mut().insert(SpanFields(collected.fields));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, registry: Context<'_, S>) {
        let mut collected = Collected::default();
        values.record(&mut collected);
        if let Some(span) = registry.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<SpanFields>()
        {
            fields.0.extend(collected.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, registry: Context<'_, S>) {
        let Some(context) = context() else { return };
        let mut collected = Collected::default();
        for span in registry
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(fields) = span.extensions().get::<SpanFields>() {
                collected.fields.extend(fields.0.clone());
            }
        }
        event.record(&mut collected);
        let fields = Value::Object(collected.fields).to_string();
        let metadata = event.metadata();
        context
            .host()
            .log(level_of(metadata), metadata.target(), &collected.message, &fields);
    }
}

// === impl Collected ===

impl Collected {
    fn put(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Collected {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.put(field, Value::String(text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.put(field, Value::from(value));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, Value::String(value.to_string()));
    }
}
