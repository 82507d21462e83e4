//! Types as authors write them in a signature, made into types that can stand in an item.

use proc_macro2::{Punct, Spacing, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{GenericArgument, Ident, Lifetime, PathArguments, PathSegment, Type, TypePath};

/// The type with every elided lifetime (and those in `own`, the method's) as `'m`.
pub(crate) fn with_lifetime(ty: &Type, own: &[Ident]) -> TokenStream {
    let mut out = TokenStream::new();
    lend(ty.to_token_stream(), own, &mut out);
    out
}

/// Whether a reference stands anywhere inside.
pub(crate) fn has_reference(ty: &Type) -> bool {
    fn within(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Punct(punct) => punct.as_char() == '&',
            TokenTree::Group(group) => within(group.stream()),
            _ => false,
        })
    }
    within(ty.to_token_stream())
}

/// The last segment of a path type.
pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(TypePath { qself: None, path }) => path.segments.last(),
        _ => None,
    }
}

/// `T` of `Name<T>`, lifetimes passed over.
pub(crate) fn argument_of<'t>(ty: &'t Type, name: &str) -> Option<&'t Type> {
    let segment = last_segment(ty).filter(|segment| segment.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(inner) => Some(inner),
        _ => None,
    })
}

/// Whether the type is this plain name.
pub(crate) fn is_named(ty: &Type, name: &str) -> bool {
    last_segment(ty).is_some_and(|segment| segment.ident == name)
}

/// The type with a lifetime even where the author left it out: `Raw` is `Raw<'m>`.
pub(crate) fn borrowed_view(ty: &Type, own: &[Ident]) -> TokenStream {
    match last_segment(ty) {
        Some(segment) if segment.arguments.is_none() => quote! { #ty<'m> },
        _ => with_lifetime(ty, own),
    }
}

fn lend(tokens: TokenStream, own: &[Ident], out: &mut TokenStream) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '&' => {
                out.extend([TokenTree::Punct(punct)]);
                let named = matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == '\'');
                if !named {
                    out.extend(Lifetime::new("'m", Span::call_site()).into_token_stream());
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == '\'' => {
                let name = tokens.next();
                let ours = match &name {
                    Some(TokenTree::Ident(ident)) => ident == "_" || own.contains(ident),
                    _ => false,
                };
                if ours {
                    out.extend(Lifetime::new("'m", Span::call_site()).into_token_stream());
                } else {
                    out.extend([TokenTree::Punct(Punct::new('\'', Spacing::Joint))]);
                    out.extend(name);
                }
            }
            TokenTree::Group(group) => {
                let mut inner = TokenStream::new();
                lend(group.stream(), own, &mut inner);
                let mut lent = proc_macro2::Group::new(group.delimiter(), inner);
                lent.set_span(group.span());
                out.extend([TokenTree::Group(lent)]);
            }
            other => out.extend([other]),
        }
    }
}
