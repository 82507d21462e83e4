//! Models that produce: saving or deleting one through [`ProducerModel`] also produces its state, in the transaction of its
//! row. Nothing here is about orders.

use std::marker::PhantomData;

use devour::{
    Attribute, Event, Extras, ProduceContext, Producer, ProducerConfig, Schema,
    serde::{Deserialize, Serialize},
};
use diesel::{Column, QueryResult, Table};

use crate::{Connection, Database, ModelError};

/// A model: a struct that is a row of a table.
pub trait Model: Serialize + Clone + 'static {
    /// The plugin's name, for the generic topic.
    const PLUGIN: &'static str;
    /// The model's name, for the generic topic.
    const NAME: &'static str;
    /// The column that tells rows apart, which is the key of messages.
    const PRIMARY_KEY: &'static str;
    /// The table.
    type Table: Table<AllColumns: Columns>;

    /// Inserts the row, or updates the one that is there.
    ///
    /// # Errors
    /// The database's word.
    fn write(&self, connection: &mut Connection) -> QueryResult<Written>;

    /// Deletes the row: what it was, if it was there.
    ///
    /// # Errors
    /// The database's word.
    fn erase(&self, connection: &mut Connection) -> QueryResult<Option<Self>>;
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is new.
    Created,
    /// It is another than before.
    Updated,
    /// It was so already, or is newer.
    Unchanged,
}

/// The schema of a model: the columns of its table, and nothing else that the struct may have.
///
/// ```
/// use devour::{Schema, serde_json::json};
/// use devour_orders::{ModelSchema, Order};
///
/// let payload = json!({"id": 7, "customer": "Ada", "cents": 250, "status": "open", "version": 1, "secret": true});
/// let cut = ModelSchema::<Order>::cut(payload, Default::default());
/// assert_eq!(cut, json!({"id": 7, "customer": "Ada", "cents": 250, "status": "open", "version": 1}));
/// ```
pub struct ModelSchema<M>(PhantomData<M>);

/// The columns of a table, as attributes of a schema.
pub trait Columns {
    /// In the table's order.
    const ATTRIBUTES: &'static [Attribute];
}

/// A model whose changes are produced.
pub trait ProducerModel: Model {
    /// The producer of its messages. Begin with [`config_of`] and change what is to be otherwise: the topic is
    /// `<plugin>__<model>`, the schema the model's, the key its primary key.
    #[must_use]
    fn producer() -> ProducerConfig {
        config_of::<Self>()
    }

    /// Saves it. If that changes the row, its state is produced with the event `create` or `update`, in the same
    /// transaction.
    ///
    /// # Errors
    /// When it is not saved; then nothing is produced either.
    fn save(&self, database: &mut Database, saving: &Saving) -> Result<Written, ModelError> {
        database.transaction(|database| {
            let written = self.write(database.connection()?)?;
            let event = match written {
                Written::Created => Event::Create,
                Written::Updated => Event::Update,
                Written::Unchanged => return Ok(written),
            };
            produce_state(self, database, saving, event, Signal::PostSave)?;
            Ok(written)
        })
    }

    /// Deletes it. If it was there, its last state is produced with the event `delete`, in the same transaction, and
    /// returned.
    ///
    /// # Errors
    /// When it is not deleted; then nothing is produced either.
    fn delete(&self, database: &mut Database, saving: &Saving) -> Result<Option<Self>, ModelError> {
        database.transaction(|database| {
            let erased = self.erase(database.connection()?)?;
            if let Some(last) = &erased {
                produce_state(last, database, saving, Event::Delete, Signal::PostDelete)?;
            }
            Ok(erased)
        })
    }
}

/// How one model is saved or deleted.
#[derive(Clone, Debug, Default)]
pub struct Saving {
    produce: Option<bool>,
    context: ProduceContext,
    extras: Extras,
}

/// What of the models of a route is produced automatically; the setting `producers`.
#[derive(Clone, Debug, Deserialize, devour::schemars::JsonSchema)]
#[serde(crate = "devour::serde", deny_unknown_fields)]
#[schemars(crate = "devour::schemars")]
pub struct Producers {
    /// Whether models produce when they are saved or deleted.
    #[serde(default = "yes")]
    pub auto_produce: bool,
    /// When they do not all the same.
    #[serde(default)]
    pub exclude: Vec<Signal>,
}

/// When a model may produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, devour::schemars::JsonSchema)]
#[serde(crate = "devour::serde", rename_all = "snake_case")]
#[schemars(crate = "devour::schemars")]
pub enum Signal {
    /// After it was saved.
    PostSave,
    /// After it was deleted.
    PostDelete,
}

/// The producer of a model's messages.
pub struct ModelProducer<M>(M);

/// What a model's producer is like that says nothing else.
#[must_use]
pub fn config_of<M: Model>() -> ProducerConfig {
    ProducerConfig::new()
        .topic(format!("{}__{}", M::PLUGIN, M::NAME))
        .schema_class::<ModelSchema<M>>()
        .partition_key(M::PRIMARY_KEY)
}

fn produce_state<M: ProducerModel>(
    model: &M,
    database: &mut Database,
    saving: &Saving,
    event: Event,
    signal: Signal,
) -> Result<(), ModelError> {
    let automatic = || M::producer().produces_by_itself() && database.producers().allow(signal);
    if !saving.produce.unwrap_or_else(automatic) {
        return Ok(());
    }
    let context = saving.context.clone().with_event(event);
    let record = ModelProducer::new(model.clone()).record(&context, saving.extras.clone())?;
    database.produce(record)
}

fn yes() -> bool {
    true
}

// === impl Schema ===

impl<M: Model> Schema for ModelSchema<M> {
    const NAME: &'static str = M::NAME;
    const ATTRIBUTES: Option<&'static [Attribute]> =
        Some(<<M::Table as Table>::AllColumns as Columns>::ATTRIBUTES);
}

/// Diesel's lists of columns are tuples.
macro_rules! columns {
    ($($column:ident)+) => {
        impl<$($column: Column),+> Columns for ($($column,)+) {
            const ATTRIBUTES: &'static [Attribute] = &[$(Attribute {
                name: $column::NAME,
                type_name: "column",
                schema: None,
            }),+];
        }
    };
}

columns!(A);
columns!(A B);
columns!(A B C);
columns!(A B C D);
columns!(A B C D E);
columns!(A B C D E F);
columns!(A B C D E F G);
columns!(A B C D E F G H);
columns!(A B C D E F G H I);
columns!(A B C D E F G H I J);
columns!(A B C D E F G H I J K);
columns!(A B C D E F G H I J K L);

// === impl ModelProducer ===

impl<M: ProducerModel> Producer for ModelProducer<M> {
    type Payload = M;

    fn new(payload: M) -> Self {
        Self(payload)
    }

    fn payload(&self) -> &M {
        &self.0
    }

    fn config() -> ProducerConfig {
        M::producer()
    }
}

// === impl Saving ===

impl Saving {
    /// As the model and the settings say.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Produces, or does not, whatever model and settings say.
    #[must_use]
    pub fn produce(mut self, produce: bool) -> Self {
        self.produce = Some(produce);
        self
    }

    /// What the producer's hooks are told; the event is added.
    #[must_use]
    pub fn produce_context(mut self, context: impl Into<ProduceContext>) -> Self {
        self.context = context.into();
        self
    }

    /// What is added to the message.
    #[must_use]
    pub fn produce_extras(mut self, extras: impl Into<Extras>) -> Self {
        self.extras = extras.into();
        self
    }
}

// === impl Producers ===

impl Producers {
    fn allow(&self, signal: Signal) -> bool {
        self.auto_produce && !self.exclude.contains(&signal)
    }
}

impl Default for Producers {
    fn default() -> Self {
        Self {
            auto_produce: true,
            exclude: Vec::new(),
        }
    }
}
