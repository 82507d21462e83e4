//! The attributes of crate `devour`: [`macro@consumer`] makes a consumer of an impl block, [`macro@settings`] makes
//! a struct a plugin's settings. Their docs stand where authors meet them, in `devour`.

mod arguments;
mod digest;
mod expand;
mod life;
mod literal;
mod parameter;
mod schema;
#[cfg(test)]
mod tests;
mod types;

use proc_macro::TokenStream;
use quote::quote;

/// Makes a consumer of `impl Type { fn digest(&mut self, offset: i64, ..) -> .. }` and exports it under its name.
///
/// The parameters after `offset` are the fields of the message's JSON object, each of a type that derives
/// `Deserialize`. `&str` and `&[T]` may be borrowed; an `Option` may be missing or null; any other field must be
/// there. With one parameter of type `Json<T>`, `Raw<'_>`, `&[u8]` (with `dump_raw`), `Message<'_>` or `Object<'_>`
/// the digest takes that instead. `#[field("name")]` before a parameter names a field that is no Rust name; a
/// parameter `message: Message<'_>` beside fields is the message itself.
///
/// | argument | meaning |
/// |---|---|
/// | `topic = "a"`, `topic = ["a", "^b-.*"]` | topics or patterns |
/// | `consumer_type = "balanced_consumer"` | or `"simple_consumer"` |
/// | `config(consumer_group = "g", ..)` | the consumer's configuration |
/// | `dump_raw`, `dump_obj`, `dump_json` | how digests take a message; raw beats obj beats json |
/// | `digests(a, b)` | methods that are digests, beside those marked `#[digest]`; else `digest` or `digest_batch` is |
/// | `digest_name = "a"` | the one that is called unless the route names another; else the first |
/// | `schema_class = Order` | a type that derives `Schema` and `Deserialize`: JSON is cut by it before the digest takes it, and what does not fit is rejected; `= "Order"` is a name for people alone |
/// | `settings = MySettings` | type of the plugin's settings; needs `fn construct` |
/// | `strict` | fields that the digest does not name are rejected |
/// | `headers`, `headers = false` | digests see headers, or do not |
/// | `swap = "after"` | the old is stopped before new code is built, else `"beside"` |
/// | `isolation = "process"` | never in a thread of the daemon, else `"any"` |
/// | `keeps_offsets`, `asynchronous` | see `Attributes` |
/// | `buffering`, `buffering(max_wait = "5s", max_messages = 1000)` | digests keep what they take until `flush`, which is called so long after the first and at so many |
/// | `workers = 2` | threads of async digests, else one |
/// | `symbol = "name"` | exported under another name than the type's |
///
/// A method marked `#[digest(dump_raw)]` (or `strict`) has it for itself. These methods of the block are its life, with
/// the signatures of `Consumer`; `()` will do where they return `Result<(), DigestError>`: `construct`, `started`,
/// `assigned`, `revoked`, `flush`, `stopped`; and `check`, `describe`. Without `construct` the type must be `Default`.
/// All other methods are the author's own.
///
/// Where digests are `async fn digest(&self, offset: i64, ..)`, many messages are in flight at once, and the steps of the
/// consumer's life take `&self` and may be async too; see `AsyncConsumer`.
///
/// ```
/// use devour::prelude::*;
///
/// #[derive(Default)]
/// pub struct Payments;
///
/// #[consumer(topic = "payments", consumer_type = "balanced_consumer", config(consumer_group = "payments"))]
/// impl Payments {
///     #[digest]
///     fn book(&mut self, offset: i64, id: u64, #[field("type")] kind: &str, note: Option<&str>) {
///         info!(offset, id, kind, note, "booked");
///     }
///
///     #[digest(dump_raw)]
///     fn archive(&mut self, _offset: i64, bytes: &[u8]) -> Result<(), DigestError> {
///         if bytes.is_empty() { Err(DigestError::reject("nothing to archive")) } else { Ok(()) }
///     }
/// }
/// ```
///
/// What does not fit is said where it stands:
///
/// ```compile_fail
/// use devour::prelude::*;
/// #[derive(Default)]
/// struct NoOffset;
/// #[consumer(topic = "x")]
/// impl NoOffset {
///     fn digest(&mut self, id: u64) {} // the first parameter is `offset: i64`
/// }
/// ```
/// ```compile_fail
/// use devour::prelude::*;
/// #[derive(Default)]
/// struct Misspelled;
/// #[consumer(topik = "x")] // there is no argument `topik`; did you mean `topic`?
/// impl Misspelled {
///     fn digest(&mut self, offset: i64) {}
/// }
/// ```
/// ```compile_fail
/// use devour::prelude::*;
/// #[derive(Default)]
/// struct NoDigest;
/// #[consumer(topic = "x")]
/// impl NoDigest {
///     fn digset(&mut self, offset: i64) {}
/// }
/// ```
/// ```compile_fail
/// use devour::prelude::*;
/// #[derive(Default)]
/// struct Mismatched;
/// #[consumer(dump_raw)]
/// impl Mismatched {
///     fn digest(&mut self, offset: i64, message: Message<'_>) {} // takes dump_obj
/// }
/// ```
/// ```compile_fail
/// use devour::prelude::*;
/// #[derive(Default)]
/// struct Borrowing;
/// #[consumer(topic = "x")]
/// impl Borrowing {
///     fn digest(&mut self, offset: i64, names: Vec<&str>) {} // an escape could not be held
/// }
/// ```
/// ```compile_fail
/// use devour::prelude::*;
/// #[derive(Default)]
/// struct Exclusive;
/// #[consumer(topic = "x")]
/// impl Exclusive {
///     async fn digest(&mut self, offset: i64, id: u64) {} // an async digest takes `&self`
/// }
/// ```
/// ```compile_fail
/// use devour::prelude::*;
/// #[derive(Default)]
/// struct Unsendable;
/// #[consumer(topic = "x")]
/// impl Unsendable {
///     async fn digest(&self, offset: i64, id: u64) {
///         let id = std::rc::Rc::new(id); // an `Rc` cannot go to another thread while the future awaits
///         devour::tokio::task::yield_now().await;
///         drop(id);
///     }
/// }
/// ```
/// ```compile_fail
/// use devour::prelude::*;
/// #[derive(Default)]
/// struct Hoarder(Vec<u64>);
/// #[consumer(topic = "x", buffering)] // it has no `flush`
/// impl Hoarder {
///     fn digest(&mut self, offset: i64, id: u64) { self.0.push(id); }
/// }
/// ```
#[proc_macro_attribute]
pub fn consumer(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item: proc_macro2::TokenStream = item.into();
    expand::consumer(arguments.into(), item.clone())
        .unwrap_or_else(|error| {
            // The block without its marks: then the only errors are ours.
            let error = error.into_compile_error();
            let block = expand::unmarked(item);
            quote! { #block #error }
        })
        .into()
}

/// Makes a struct a schema whose attributes are its fields, by the names that serde gives them (`rename`, `rename_all`,
/// `alias`, `skip` are heeded). A field whose type is a schema itself (or `Option`, `Vec`, `Box` of one) is cut by it.
///
/// | `#[schema(..)]` | meaning |
/// |---|---|
/// | on the struct: `all` | no list of attributes: all are taken |
/// | on the struct: `name = "Order"` | its name, else the type's |
/// | on a field: `whole` | its objects are taken whole, although its type is a schema |
///
/// ```
/// use devour::{prelude::*, serde_json::{Map, json}};
///
/// #[derive(Schema, Deserialize)]
/// #[serde(crate = "devour::serde", rename_all = "camelCase")]
/// struct Order {
///     order_id: u64,
///     #[serde(rename = "type")]
///     kind: Option<String>,
/// }
///
/// assert_eq!(Order::cut(json!({"orderId": 1, "order_id": 2, "type": "b2b"}), Map::new()), json!({"orderId": 1, "type": "b2b"}));
/// ```
/// ```compile_fail
/// use devour::prelude::*;
/// #[derive(Schema)]
/// struct Flattened {
///     #[serde(flatten)] // which attributes there are stands nowhere
///     rest: std::collections::BTreeMap<String, u64>,
/// }
/// ```
/// ```compile_fail
/// use devour::prelude::*;
/// #[derive(Schema, Deserialize)]
/// #[serde(crate = "devour::serde")]
/// struct Order { id: u64 }
/// #[derive(Default)]
/// struct Bills;
/// #[consumer(topic = "orders", schema_class = Order)]
/// impl Bills {
///     fn digest(&mut self, offset: i64, cents: u64) {} // no attribute of `Order`
/// }
/// ```
#[proc_macro_derive(Schema, attributes(schema, serde))]
pub fn schema(item: TokenStream) -> TokenStream {
    let item = syn::parse_macro_input!(item as syn::DeriveInput);
    schema::derive(&item)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a struct a plugin's settings: it derives `Deserialize` and `JsonSchema` (through `devour`, so the plugin needs
/// neither crate), and refuses keys that it does not have.
///
/// ```
/// use devour::prelude::*;
///
/// /// How totals are kept.
/// #[settings]
/// struct TotalsSettings {
///     /// ISO 4217.
///     currency: String,
///     #[serde(default)]
///     digits: u8,
/// }
/// ```
#[proc_macro_attribute]
pub fn settings(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if !arguments.is_empty() {
        let error = syn::Error::new(proc_macro2::Span::call_site(), "`#[settings]` takes no arguments");
        return error.into_compile_error().into();
    }
    let item = syn::parse_macro_input!(item as syn::Item);
    quote! {
        #[derive(::devour::serde::Deserialize, ::devour::schemars::JsonSchema)]
        #[serde(crate = "::devour::serde", deny_unknown_fields)]
        #[schemars(crate = "::devour::schemars")]
        #item
    }
    .into()
}
