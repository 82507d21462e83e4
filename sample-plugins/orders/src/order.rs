//! The one model of this plugin.

use devour::serde::{Deserialize, Serialize};
use diesel::prelude::*;

use crate::{Connection, Model, ProducerModel, Written, on};

diesel::table! {
    /// Orders.
    orders (id) {
        /// Its number.
        id -> BigInt,
        /// Whose it is.
        customer -> Text,
        /// What it costs.
        cents -> BigInt,
        /// Where it stands.
        status -> Text,
        /// Counts its changes; an older version never replaces a newer one.
        version -> BigInt,
    }
}

/// An order.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    AsChangeset,
    Identifiable,
    Insertable,
    Queryable,
    Selectable,
)]
#[serde(crate = "devour::serde")]
#[diesel(table_name = orders)]
pub struct Order {
    /// Its number.
    pub id: i64,
    /// Whose it is.
    pub customer: String,
    /// What it costs.
    pub cents: i64,
    /// Where it stands.
    pub status: String,
    /// Counts its changes.
    pub version: i64,
}

impl Order {
    /// All orders, by number.
    ///
    /// # Errors
    /// The database's word.
    pub fn all(connection: &mut Connection) -> QueryResult<Vec<Self>> {
        on!(connection, inner => orders::table.order(orders::id).select(Self::as_select()).load(inner))
    }
}

impl Model for Order {
    const PLUGIN: &'static str = "orders";
    const NAME: &'static str = "order";
    const PRIMARY_KEY: &'static str = "id";
    type Table = orders::table;

    // A version that is not newer changes nothing: a message that comes again is neither written nor produced again.
    fn write(&self, connection: &mut Connection) -> QueryResult<Written> {
        on!(connection, inner => {
            let insert = diesel::insert_into(orders::table).values(self).on_conflict_do_nothing();
            if insert.execute(inner)? == 1 {
                return Ok(Written::Created);
            }
            let older = orders::table.find(self.id).filter(orders::version.lt(self.version));
            match diesel::update(older).set(self).execute(inner)? {
                0 => Ok(Written::Unchanged),
                _ => Ok(Written::Updated),
            }
        })
    }

    fn erase(&self, connection: &mut Connection) -> QueryResult<Option<Self>> {
        on!(connection, inner => {
            let older = orders::table.find(self.id).filter(orders::version.lt(self.version));
            diesel::delete(older).returning(Self::as_returning()).get_result(inner).optional()
        })
    }
}

impl ProducerModel for Order {}
