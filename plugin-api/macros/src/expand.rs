//! The impl block as a whole: which methods are digests, and the `Plugin` that they and its life make.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Error, FnArg, ImplItem, ImplItemFn, ItemImpl, Result};

use crate::{
    arguments::{Arguments, DigestArguments},
    digest::{Digest, Marks, takes_batch},
    life::{Kind, construct, hooks},
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
    let (kind, digests) = digests(&block, &arguments)?;
    let items = digests.iter().map(|digest| &digest.items);
    let entries = digests.iter().map(|digest| &digest.entry);
    let attributes = &arguments.attributes;
    let settings = arguments
        .settings
        .as_ref()
        .map_or_else(|| quote! { ::devour::NoSettings }, ToTokens::to_token_stream);
    let construct = construct(&block, &arguments, consumer)?;
    let hooks = hooks(&block, &arguments, kind, consumer)?;
    let symbol = arguments
        .symbol
        .as_ref()
        .map_or_else(|| type_name.to_string(), syn::LitStr::value);
    let (plugin, entry, export) = match kind {
        Kind::Sync => (
            quote! { ::devour::plugin::Plugin },
            quote! { ::devour::plugin::DigestEntry },
            quote! { ::devour::export_consumer! },
        ),
        Kind::Async => (
            quote! { ::devour::asynchronous::plugin::AsyncPlugin },
            quote! { ::devour::asynchronous::plugin::AsyncDigestEntry },
            quote! { ::devour::export_async_consumer! },
        ),
    };
    let block = unmarked(block.to_token_stream());
    Ok(quote! {
        #block
        const _: () = {
            #(#items)*
            impl #plugin for #consumer {
                type Settings = #settings;
                fn digests() -> ::std::vec::Vec<#entry<Self>> {
                    ::std::vec![#(#entries),*]
                }
                fn attributes() -> ::devour::Attributes {
                    ::devour::Attributes::new() #attributes
                }
                #construct
                #hooks
            }
            #export(#consumer as #symbol);
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

pub(crate) fn methods(block: &ItemImpl) -> impl Iterator<Item = &ImplItemFn> {
    block.items.iter().filter_map(|item| match item {
        ImplItem::Fn(method) => Some(method),
        _ => None,
    })
}

/// The digests of the block, the default one first, and whether they are async.
fn digests(block: &ItemImpl, arguments: &Arguments) -> Result<(Kind, Vec<Digest>)> {
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
    let kind = Kind::of(found.iter().map(|(method, _)| *method))?;
    let mut digests = Vec::new();
    for (index, (method, own)) in found.iter().enumerate() {
        let marks = Marks {
            own,
            block_dump: &arguments.dump,
            block_strict: arguments.strict,
            schema: arguments.schema.as_ref(),
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
    Ok((kind, digests))
}
