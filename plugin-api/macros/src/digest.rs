//! A digest method: what it takes, and the handler that calls it.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Error, FnArg, GenericParam, Ident, ImplItemFn, Pat, Path, Result, Type, spanned::Spanned};

use crate::{
    arguments::{DigestArguments, Dump, Dumps, Mode},
    parameter::{Parameter, variable},
    types::{argument_of, borrowed_view, is_named, with_lifetime},
};

/// A digest of the block.
pub(crate) struct Digest {
    pub(crate) name: Ident,
    /// The items of its handler.
    pub(crate) items: TokenStream,
    /// Its `DigestEntry`, or its `AsyncDigestEntry`.
    pub(crate) entry: TokenStream,
}

/// Marks of the method itself, and what the block says for all.
pub(crate) struct Marks<'a> {
    pub(crate) own: &'a DigestArguments,
    pub(crate) block_dump: &'a Dumps,
    pub(crate) block_strict: bool,
    /// What cuts the messages.
    pub(crate) schema: Option<&'a Path>,
}

// === impl Digest ===

impl Digest {
    /// Makes the handler of `method` of `consumer`.
    pub(crate) fn new(index: usize, consumer: &Type, method: &ImplItemFn, marks: &Marks<'_>) -> Result<Self> {
        let name = method.sig.ident.clone();
        let own = check_signature(method)?;
        let dump = marks.own.dump.winner().or_else(|| marks.block_dump.winner());
        let handler = format_ident!("Digest{index}");
        let text = name.to_string();
        let is_async = method.sig.asyncness.is_some();
        let (items, kind, entry) = if let Some(message) = batch_of(method) {
            if is_async {
                return Err(Error::new_spanned(
                    message,
                    "an async digest takes one message: many of them run at once, up to the route's `in_flight`",
                ));
            }
            let extract = marks.extract(message);
            let items = batch_handler(&handler, consumer, &name, &lent(message, &own), &extract);
            let entry = quote! { ::devour::plugin::DigestEntry::batch::<#handler>(#text) };
            (items, quote! { ::devour::plugin::BatchHandler }, entry)
        } else {
            let mut parameters = method.sig.inputs.iter().skip(1);
            check_offset(method, parameters.next())?;
            let parameters = parameters.map(Parameter::read).collect::<Result<Vec<_>>>()?;
            let taken = Taken::of(index, &parameters, dump, marks, &own)?;
            if is_async {
                let entry =
                    quote! { ::devour::asynchronous::plugin::AsyncDigestEntry::single::<#handler>(#text) };
                let kind = quote! { ::devour::asynchronous::plugin::AsyncHandler };
                (async_handler(&handler, consumer, method, &taken), kind, entry)
            } else {
                let entry = quote! { ::devour::plugin::DigestEntry::single::<#handler>(#text) };
                let kind = quote! { ::devour::plugin::Handler };
                (single_handler(&handler, consumer, method, &taken), kind, entry)
            }
        };
        let assertion = dump.map(|dump| accepts(dump, &handler, consumer, &kind));
        Ok(Self {
            name,
            items: quote! { #items #assertion },
            entry: dumped(entry, dump),
        })
    }
}

fn batch_handler(
    handler: &Ident,
    consumer: &Type,
    name: &Ident,
    message: &TokenStream,
    extract: &TokenStream,
) -> TokenStream {
    quote! {
        struct #handler;
        impl ::devour::plugin::BatchHandler<#consumer> for #handler {
            type Message<'m> = #message;
            #extract
            fn digest(
                consumer: &mut #consumer,
                batch: &mut ::devour::Batch<Self::Message<'_>>,
            ) -> ::std::result::Result<(), ::devour::DigestError> {
                ::devour::IntoOutcome::into_outcome(<#consumer>::#name(consumer, batch))
            }
        }
    }
}

fn single_handler(handler: &Ident, consumer: &Type, method: &ImplItemFn, taken: &Taken) -> TokenStream {
    let Taken {
        items,
        message,
        extract,
        prepare,
        arguments,
    } = taken;
    let name = &method.sig.ident;
    let call = quote_spanned! { method.sig.output.span() =>
        ::devour::IntoOutcome::into_outcome(<#consumer>::#name(consumer, offset, #(#arguments),*))
    };
    quote! {
        #items
        struct #handler;
        impl ::devour::plugin::Handler<#consumer> for #handler {
            type Message<'m> = #message;
            #extract
            #[inline]
            fn digest(
                consumer: &mut #consumer,
                offset: i64,
                taken: Self::Message<'_>,
            ) -> ::std::result::Result<(), ::devour::DigestError> {
                #prepare
                #call
            }
        }
    }
}

fn async_handler(handler: &Ident, consumer: &Type, method: &ImplItemFn, taken: &Taken) -> TokenStream {
    let Taken {
        items,
        message,
        extract,
        prepare,
        arguments,
    } = taken;
    let name = &method.sig.ident;
    let call = quote_spanned! { method.sig.output.span() =>
        ::devour::IntoOutcome::into_outcome(<#consumer>::#name(consumer, offset, #(#arguments),*).await)
    };
    // At the method's name, so that a future that cannot go from thread to thread is shown there.
    let future = quote_spanned! { name.span() =>
        impl ::std::future::Future<Output = ::std::result::Result<(), ::devour::DigestError>> + ::std::marker::Send
    };
    quote! {
        #items
        struct #handler;
        impl ::devour::asynchronous::plugin::AsyncHandler<#consumer> for #handler {
            type Message<'m> = #message;
            #extract
            fn digest<'m>(consumer: &'m #consumer, offset: i64, taken: Self::Message<'m>) -> #future {
                async move {
                    #prepare
                    #call
                }
            }
        }
    }
}

// === impl Marks ===

impl Marks<'_> {
    /// How `Message`, which the author wrote as `ty`, is made where a schema cuts the messages.
    fn extract(&self, ty: &Type) -> TokenStream {
        let is_itself = |schema: &Path| {
            argument_of(ty, "Json").is_some_and(|inner| {
                inner.to_token_stream().to_string() == schema.to_token_stream().to_string()
            })
        };
        match self.schema {
            // It takes no more than the schema's attributes by itself.
            Some(schema) if is_itself(schema) => extract_by(quote! { fit_itself }, schema),
            _ => self.extract_fields(),
        }
    }

    fn extract_fields(&self) -> TokenStream {
        self.schema
            .map_or_else(TokenStream::new, |schema| extract_by(quote! { fit }, schema))
    }
}

fn extract_by(how: TokenStream, schema: &Path) -> TokenStream {
    quote! {
        #[inline]
        fn extract(
            message: ::devour::Message<'_>,
            dump: ::devour::abi::DumpMode,
        ) -> ::std::result::Result<::std::option::Option<Self::Message<'_>>, ::devour::Undecodable> {
            ::devour::schema::#how::<#schema, Self::Message<'_>>(message, dump)
        }
    }
}

/// What a digest takes and how its arguments are made of it.
struct Taken {
    items: TokenStream,
    message: TokenStream,
    /// How that is made, where a schema cuts it first.
    extract: TokenStream,
    prepare: TokenStream,
    arguments: Vec<TokenStream>,
}

// === impl Taken ===

impl Taken {
    fn of(
        index: usize,
        parameters: &[Parameter],
        dump: Option<Dump>,
        marks: &Marks<'_>,
        own: &[Ident],
    ) -> Result<Self> {
        let whole = match (parameters, dump.map(|dump| dump.mode)) {
            // A sole parameter is taken whole if its type says so, or if it cannot be a field.
            ([only], Some(Mode::Raw | Mode::Object)) => {
                Some(only.whole(own).unwrap_or_else(|| with_lifetime(&only.ty, own)))
            }
            ([only], _) => only.whole(own),
            (several, Some(mode @ (Mode::Raw | Mode::Object))) => {
                let span = several
                    .get(1)
                    .map_or_else(|| dump.map(|dump| dump.span), |more| Some(more.ty.span()));
                let text = format!(
                    "with `{}` a digest takes `offset` and one more parameter; fields are for `dump_json`",
                    mode.attribute()
                );
                return Err(Error::new(
                    span.unwrap_or_else(proc_macro2::Span::call_site),
                    text,
                ));
            }
            _ => None,
        };
        match whole {
            Some(message) => Ok(Self {
                items: TokenStream::new(),
                message,
                extract: marks.extract(&parameters[0].ty),
                prepare: TokenStream::new(),
                arguments: vec![quote! { taken }],
            }),
            None => Self::fields(index, parameters, marks, own),
        }
    }

    fn fields(index: usize, parameters: &[Parameter], marks: &Marks<'_>, own: &[Ident]) -> Result<Self> {
        let fields_type = format_ident!("Fields{index}");
        let strict = marks.own.strict || marks.block_strict;
        let (mut names, mut types, mut variables, mut arguments, mut reads) =
            (vec![], vec![], vec![], vec![], vec![]);
        let mut with_message = false;
        for parameter in parameters {
            if let Some(message) = parameter.message() {
                with_message = true;
                arguments.push(message);
                continue;
            }
            let field = parameter.field(own)?;
            if names.contains(&parameter.name) {
                let text = format!("the field `{}` is named twice", parameter.name);
                return Err(Error::new_spanned(&parameter.ty, text));
            }
            let variable = variable(names.len());
            arguments.push((field.argument)(&variable));
            // At the parameter's place, so that a type that cannot be decoded is shown there.
            let decoded = &field.decoded;
            reads.push(quote_spanned! { parameter.ty.span() => reader.value::<#decoded>()? });
            names.push(parameter.name.clone());
            types.push(field.decoded);
            variables.push(variable);
        }
        let indexes: Vec<_> = (0..names.len()).collect();
        let items = quote! {
            struct #fields_type<'m> {
                #(#variables: #types,)*
                lifetime: ::std::marker::PhantomData<&'m ()>,
            }
            impl<'m> ::devour::json::Fields<'m> for #fields_type<'m> {
                const NAMES: &'static [&'static str] = &[#(#names),*];
                const STRICT: bool = #strict;
                fn read<A: ::devour::serde::de::MapAccess<'m>>(
                    reader: &mut ::devour::json::FieldReader<A>,
                ) -> ::std::result::Result<Self, A::Error> {
                    #(let mut #variables: ::std::option::Option<#types> = ::std::option::Option::None;)*
                    while let ::std::option::Option::Some(index) = reader.next_field()? {
                        match index {
                            #(#indexes => #variables = ::std::option::Option::Some(#reads),)*
                            _ => {}
                        }
                    }
                    ::std::result::Result::Ok(Self {
                        #(#variables: reader.settle(#variables, #indexes)?,)*
                        lifetime: ::std::marker::PhantomData,
                    })
                }
            }
        };
        let fields = quote! { ::devour::JsonFields<#fields_type<'m>> };
        let unpack = quote! { let #fields_type { #(#variables,)* lifetime: _ } = };
        let (message, prepare) = if with_message {
            let prepare = quote! { let message = taken.message; #unpack taken.value.0; };
            (quote! { ::devour::WithMessage<'m, #fields> }, prepare)
        } else {
            (fields, quote! { #unpack taken.0; })
        };
        let named = marks.schema.map(|schema| {
            let text =
                "a parameter is no attribute of the consumer's `schema_class`: it would always be missing";
            quote_spanned! { schema.span() =>
                const _: () = ::std::assert!(
                    ::devour::schema::takes(<#schema as ::devour::Schema>::ATTRIBUTES, &[#(#names),*]),
                    #text
                );
            }
        });
        Ok(Self {
            items: quote! { #items #named },
            message,
            extract: marks.extract_fields(),
            prepare,
            arguments,
        })
    }
}

/// `M` of a digest's only parameter `batch: &mut Batch<M>`.
fn batch_of(method: &ImplItemFn) -> Option<&Type> {
    let FnArg::Typed(typed) = method.sig.inputs.iter().nth(1)? else {
        return None;
    };
    match (&*typed.ty, method.sig.inputs.len()) {
        (Type::Reference(reference), 2) if reference.mutability.is_some() => {
            argument_of(&reference.elem, "Batch")
        }
        _ => None,
    }
}

/// Whether the method takes a batch.
pub(crate) fn takes_batch(method: &ImplItemFn) -> bool {
    batch_of(method).is_some()
}

fn lent(ty: &Type, own: &[Ident]) -> TokenStream {
    let borrowed = ["Raw", "Object", "Message", "Dumped"];
    if borrowed.iter().any(|name| is_named(ty, name)) {
        borrowed_view(ty, own)
    } else {
        with_lifetime(ty, own)
    }
}

/// Checks what every digest has; returns the lifetimes that the method declares.
fn check_signature(method: &ImplItemFn) -> Result<Vec<Ident>> {
    let signature = &method.sig;
    if let Some(token) = &signature.unsafety {
        return Err(Error::new_spanned(token, "a digest is not `unsafe`"));
    }
    match (signature.asyncness, signature.receiver()) {
        (Some(_), Some(receiver)) if receiver.reference.is_some() && receiver.mutability.is_none() => {}
        (Some(_), receiver) => {
            let text = "an async digest takes `&self`: many of them run at once, so what they change stands behind a \
                        `Mutex` or is atomic";
            return Err(match receiver {
                Some(receiver) => Error::new_spanned(receiver, text),
                None => Error::new_spanned(&signature.ident, text),
            });
        }
        (None, Some(receiver)) if receiver.reference.is_some() => {}
        (None, Some(receiver)) => return Err(Error::new_spanned(receiver, "a digest takes `&mut self`")),
        (None, None) => return Err(Error::new_spanned(&signature.ident, "a digest takes `&mut self`")),
    }
    let mut own = Vec::new();
    for generic in &signature.generics.params {
        match generic {
            GenericParam::Lifetime(lifetime) => own.push(lifetime.lifetime.ident.clone()),
            other => {
                return Err(Error::new_spanned(
                    other,
                    "a digest has no type parameters: it is called by name",
                ));
            }
        }
    }
    Ok(own)
}

fn check_offset(method: &ImplItemFn, parameter: Option<&FnArg>) -> Result<()> {
    let text = "the first parameter of a digest after `self` is `offset: i64`";
    let Some(FnArg::Typed(typed)) = parameter else {
        return Err(Error::new_spanned(&method.sig.ident, text));
    };
    let named = match &*typed.pat {
        Pat::Ident(ident) => ident.ident == "offset" || ident.ident == "_offset",
        Pat::Wild(_) => true,
        _ => false,
    };
    if named && is_named(&typed.ty, "i64") {
        Ok(())
    } else {
        Err(Error::new_spanned(typed, text))
    }
}

/// Fails to compile where the dump mode is not one that the handler's message can be made from.
fn accepts(dump: Dump, handler: &Ident, consumer: &Type, kind: &TokenStream) -> TokenStream {
    let variant = dump.mode.variant();
    let text = format!(
        "`{}` does not fit the type that the digest takes",
        dump.mode.attribute()
    );
    quote_spanned! { dump.span =>
        const _: () = ::std::assert!(
            ::devour::plugin::accepts::<<#handler as #kind<#consumer>>::Message<'static>>(#variant),
            #text
        );
    }
}

fn dumped(entry: TokenStream, dump: Option<Dump>) -> TokenStream {
    match dump {
        Some(dump) => {
            let variant = dump.mode.variant();
            quote! { #entry.dump(#variant) }
        }
        None => entry,
    }
}
