//! The impl block as a whole: which methods are digests, which are its life, and the `Plugin` that they make.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{Attribute, Error, FnArg, ImplItem, ImplItemFn, ItemImpl, Result, Type, spanned::Spanned};

use crate::{
    arguments::{Arguments, DigestArguments},
    digest::{Digest, Marks, takes_batch},
    types::last_segment,
};

/// Expands `#[consumer(..)]`.
pub(crate) fn consumer(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let arguments: Arguments = syn::parse2(arguments)?;
    let block: ItemImpl = syn::parse2(item).map_err(|error| {
        Error::new(
            error.span(),
            format!("`#[consumer(..)]` stands over `impl YourType {{ .. }}`: {error}"),
        )
    })?;
    if let Some((_, path, _)) = &block.trait_ {
        return Err(Error::new_spanned(
            path,
            "`#[consumer(..)]` stands over a block of the type's own methods; an `impl Consumer` is exported with \
             `export_consumer!`",
        ));
    }
    if !block.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &block.generics,
            "a consumer is one type: a symbol cannot be generic",
        ));
    }
    let consumer = &*block.self_ty;
    let Some(type_name) = last_segment(consumer).map(|segment| segment.ident.clone()) else {
        return Err(Error::new_spanned(consumer, "expected the name of a type"));
    };
    let digests = digests(&block, &arguments)?;
    let items = digests.iter().map(|digest| &digest.items);
    let entries = digests.iter().map(|digest| &digest.entry);
    let attributes = &arguments.attributes;
    let settings = arguments
        .settings
        .as_ref()
        .map_or_else(|| quote! { ::devour::NoSettings }, ToTokens::to_token_stream);
    let construct = construct(&block, &arguments, consumer)?;
    let hooks = hooks(&block, consumer)?;
    let symbol = arguments
        .symbol
        .as_ref()
        .map_or_else(|| type_name.to_string(), syn::LitStr::value);
    let types = &arguments.types;
    let block = unmarked(block.to_token_stream());
    Ok(quote! {
        #block
        const _: () = {
            #(const _: ::std::marker::PhantomData<#types> = ::std::marker::PhantomData;)*
            #(#items)*
            impl ::devour::plugin::Plugin for #consumer {
                type Settings = #settings;
                fn digests() -> ::std::vec::Vec<::devour::plugin::DigestEntry<Self>> {
                    ::std::vec![#(#entries),*]
                }
                fn attributes() -> ::devour::Attributes {
                    ::devour::Attributes::new() #attributes
                }
                #construct
                #hooks
            }
            ::devour::export_consumer!(#consumer as #symbol);
        };
    })
}

/// The block without the marks that only this macro knows.
pub(crate) fn unmarked(item: TokenStream) -> TokenStream {
    let Ok(mut block) = syn::parse2::<ItemImpl>(item.clone()) else {
        return item;
    };
    for item in &mut block.items {
        let ImplItem::Fn(method) = item else { continue };
        method.attrs.retain(|attribute| !is_digest_mark(attribute));
        for input in &mut method.sig.inputs {
            if let FnArg::Typed(typed) = input {
                typed
                    .attrs
                    .retain(|attribute| !attribute.path().is_ident("field"));
            }
        }
    }
    block.into_token_stream()
}

fn is_digest_mark(attribute: &Attribute) -> bool {
    attribute.path().is_ident("digest")
}

fn methods(block: &ItemImpl) -> impl Iterator<Item = &ImplItemFn> {
    block.items.iter().filter_map(|item| match item {
        ImplItem::Fn(method) => Some(method),
        _ => None,
    })
}

/// The digests of the block, the default one first.
fn digests(block: &ItemImpl, arguments: &Arguments) -> Result<Vec<Digest>> {
    let mut found: Vec<(&ImplItemFn, DigestArguments)> = Vec::new();
    for method in methods(block) {
        let mark = method.attrs.iter().find(|attribute| is_digest_mark(attribute));
        let listed = arguments.digests.contains(&method.sig.ident);
        match mark {
            Some(mark) if matches!(mark.meta, syn::Meta::List(_)) => found.push((method, mark.parse_args()?)),
            Some(_) => found.push((method, DigestArguments::default())),
            None if listed => found.push((method, DigestArguments::default())),
            None => {}
        }
    }
    for name in &arguments.digests {
        if !methods(block).any(|method| method.sig.ident == *name) {
            return Err(Error::new(
                name.span(),
                format!("this block has no method `{name}`"),
            ));
        }
    }
    if found.is_empty() {
        // `digest_batch` overrides `digest`, which it may then use as it likes.
        let batch = methods(block).find(|method| method.sig.ident == "digest_batch" && takes_batch(method));
        let single = methods(block).find(|method| method.sig.ident == "digest");
        let Some(only) = batch.or(single) else {
            let text =
                "this block has no method `digest`, none marked `#[digest]`, and `digests(..)` lists none";
            return Err(Error::new_spanned(&block.self_ty, text));
        };
        found.push((only, DigestArguments::default()));
    }
    let mut digests = Vec::new();
    for (index, (method, own)) in found.iter().enumerate() {
        let marks = Marks {
            own,
            block_dump: &arguments.dump,
            block_strict: arguments.strict,
        };
        digests.push(Digest::new(index, &block.self_ty, method, &marks)?);
    }
    if let Some(name) = &arguments.digest_name {
        let Some(place) = digests.iter().position(|digest| digest.name == name.value()) else {
            let names: Vec<_> = digests
                .iter()
                .map(|digest| format!("`{}`", digest.name))
                .collect();
            return Err(Error::new(
                name.span(),
                format!("no such digest; there are {}", names.join(", ")),
            ));
        };
        digests[..=place].rotate_right(1);
    }
    Ok(digests)
}

fn construct(block: &ItemImpl, arguments: &Arguments, consumer: &Type) -> Result<TokenStream> {
    let own = methods(block).find(|method| method.sig.ident == "construct");
    let body = match (own, &arguments.settings) {
        (Some(method), settings) => {
            let call = match (method.sig.inputs.len(), settings) {
                (1, None) => quote! { <#consumer>::construct(context) },
                (1, Some(_)) => quote! { <#consumer>::construct(settings) },
                (2, _) => quote! { <#consumer>::construct(settings, context) },
                _ => {
                    let text = "`construct` takes `settings`, `context: ConsumerContext`, or both, and returns \
                                `Result<Self, DigestError>`";
                    return Err(Error::new_spanned(&method.sig, text));
                }
            };
            quote_spanned! { method.sig.ident.span() => #call }
        }
        (None, Some(settings)) => {
            let text = "a consumer with settings has `fn construct(settings: .., context: ConsumerContext) -> \
                        Result<Self, DigestError>`";
            return Err(Error::new_spanned(settings, text));
        }
        (None, None) => quote_spanned! { consumer.span() =>
            ::std::result::Result::Ok(<#consumer as ::std::default::Default>::default())
        },
    };
    Ok(quote! {
        fn construct(
            settings: Self::Settings,
            context: ::devour::ConsumerContext,
        ) -> ::std::result::Result<Self, ::devour::DigestError> {
            let _ = (&settings, &context);
            #body
        }
    })
}

/// The methods of the block that are the consumer's life, forwarded.
fn hooks(block: &ItemImpl, consumer: &Type) -> Result<TokenStream> {
    let outcome = quote! { ::std::result::Result<(), ::devour::DigestError> };
    let mut hooks = TokenStream::new();
    for method in methods(block) {
        let name = &method.sig.ident;
        let taken = method.sig.inputs.len();
        let expect = |count: usize, shape: &str| {
            if taken == count {
                Ok(())
            } else {
                Err(Error::new_spanned(&method.sig, format!("expected `{shape}`")))
            }
        };
        let text = name.to_string();
        hooks.extend(match text.as_str() {
            "started" | "flush" | "stopped" => {
                expect(1, &format!("fn {text}(&mut self) -> Result<(), DigestError>"))?;
                quote_spanned! { name.span() =>
                    fn #name(&mut self) -> #outcome { ::devour::IntoOutcome::into_outcome(<#consumer>::#name(self)) }
                }
            }
            "assigned" => {
                expect(
                    2,
                    "fn assigned(&mut self, partitions: &[AssignedPartition]) -> Result<Vec<StartOffset>, DigestError>",
                )?;
                quote_spanned! { name.span() =>
                    fn assigned(
                        &mut self,
                        partitions: &[::devour::abi::AssignedPartition],
                    ) -> ::std::result::Result<::std::vec::Vec<::devour::abi::StartOffset>, ::devour::DigestError> {
                        ::devour::plugin::IntoStartOffsets::into_start_offsets(<#consumer>::assigned(self, partitions))
                    }
                }
            }
            "revoked" => {
                expect(2, "fn revoked(&mut self, revoked: &Revoked) -> Result<(), DigestError>")?;
                quote_spanned! { name.span() =>
                    fn revoked(&mut self, revoked: &::devour::Revoked) -> #outcome {
                        ::devour::IntoOutcome::into_outcome(<#consumer>::revoked(self, revoked))
                    }
                }
            }
            "check" if method.sig.receiver().is_none() => {
                expect(1, "fn check(settings: &Settings) -> Vec<String>")?;
                quote_spanned! { name.span() =>
                    fn check(settings: &Self::Settings) -> ::std::vec::Vec<::std::string::String> {
                        <#consumer>::check(settings)
                    }
                }
            }
            "describe" if method.sig.receiver().is_none() => {
                expect(2, "fn describe(settings: &Settings, attributes: Attributes) -> Attributes")?;
                quote_spanned! { name.span() =>
                    fn describe(settings: &Self::Settings, attributes: ::devour::Attributes) -> ::devour::Attributes {
                        <#consumer>::describe(settings, attributes)
                    }
                }
            }
            _ => TokenStream::new(),
        });
    }
    Ok(hooks)
}
