//! `#[derive(Schema)]`: the fields of a struct as the attributes of a schema, by the names that serde gives them.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    Attribute, Data, DeriveInput, Error, Field, Fields, Lifetime, LitStr, Result, Token, ext::IdentExt,
    meta::ParseNestedMeta, parse::ParseStream, spanned::Spanned,
};

/// What the struct says of itself.
#[derive(Default)]
struct OfStruct {
    all: bool,
    name: Option<LitStr>,
    case: Option<Case>,
}

/// What a field says of itself.
#[derive(Default)]
struct OfField {
    whole: bool,
    skip: bool,
    name: Option<String>,
    aliases: Vec<String>,
}

/// serde's cases of names.
#[derive(Clone, Copy)]
enum Case {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

/// Expands `#[derive(Schema)]`.
pub(crate) fn derive(item: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &item.data else {
        let text = "a schema is a struct: its fields are the attributes";
        return Err(Error::new_spanned(&item.ident, text));
    };
    if let Some(parameter) = item.generics.type_params().next() {
        let text = "a schema has no type parameters: its attributes are known before";
        return Err(Error::new_spanned(parameter, text));
    }
    let own = OfStruct::read(&item.attrs)?;
    let mut attributes = Vec::new();
    match &data.fields {
        Fields::Named(fields) if !own.all && !fields.named.is_empty() => {
            for field in &fields.named {
                attributes.extend(attributes_of(field, own.case)?);
            }
        }
        Fields::Unnamed(fields) if fields.unnamed.len() > 1 => {
            let text = "attributes have names: a schema is a struct with named fields";
            return Err(Error::new_spanned(&item.ident, text));
        }
        _ => {}
    }
    let list = if attributes.is_empty() {
        quote! { ::std::option::Option::None }
    } else {
        quote! { ::std::option::Option::Some(&[#(#attributes),*]) }
    };
    let ident = &item.ident;
    let name = own
        .name
        .map_or_else(|| ident.unraw().to_string(), |name| name.value());
    let (impl_generics, type_generics, where_clause) = item.generics.split_for_impl();
    Ok(quote! {
        impl #impl_generics ::devour::Schema for #ident #type_generics #where_clause {
            const NAME: &'static str = #name;
            const ATTRIBUTES: ::std::option::Option<&'static [::devour::Attribute]> = {
                #[allow(unused_imports)]
                use ::devour::schema::Whole as _;
                #list
            };
        }
    })
}

/// The attribute of a field, and one for each of its aliases.
fn attributes_of(field: &Field, case: Option<Case>) -> Result<Vec<TokenStream>> {
    let own = OfField::read(&field.attrs)?;
    let Some(ident) = field.ident.as_ref().filter(|_| !own.skip) else {
        return Ok(Vec::new());
    };
    let plain = ident.unraw().to_string();
    let name = own
        .name
        .unwrap_or_else(|| case.map_or_else(|| plain.clone(), |case| case.of(&plain)));
    let ty = type_text(&field.ty.to_token_stream());
    // Lifetimes of the struct cannot stand in a constant: which they are makes no schema.
    let lasting = lasting(field.ty.to_token_stream());
    let nested = if own.whole {
        quote! { ::std::option::Option::None }
    } else {
        quote_spanned! { field.ty.span() => <::devour::schema::Nested<#lasting>>::NESTED }
    };
    let attribute = |name: &String| {
        quote! { ::devour::Attribute { name: #name, type_name: #ty, schema: #nested } }
    };
    Ok(std::iter::once(&name)
        .chain(&own.aliases)
        .map(attribute)
        .collect())
}

/// A type as people write it.
fn type_text(tokens: &TokenStream) -> String {
    let text = tokens.to_string();
    let mut out = String::new();
    let mut word = false;
    for part in text.split_whitespace() {
        // Two words keep their space; what stands beside punctuation needs none.
        let starts_word = part.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if word && starts_word || out.ends_with(',') || out.ends_with(';') {
            out.push(' ');
        }
        out.push_str(part);
        word = part.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    }
    out
}

/// The type with every lifetime as `'static`.
fn lasting(tokens: TokenStream) -> TokenStream {
    use proc_macro2::{Group, TokenTree};
    let mut out = TokenStream::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let forever = || Lifetime::new("'static", Span::call_site()).into_token_stream();
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '\'' => {
                tokens.next();
                out.extend(forever());
            }
            TokenTree::Punct(punct) if punct.as_char() == '&' => {
                out.extend([TokenTree::Punct(punct)]);
                let named = matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == '\'');
                if !named {
                    out.extend(forever());
                }
            }
            TokenTree::Group(group) => {
                out.extend([TokenTree::Group(Group::new(
                    group.delimiter(),
                    lasting(group.stream()),
                ))]);
            }
            other => out.extend([other]),
        }
    }
    out
}

// === impl OfStruct ===

impl OfStruct {
    fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut own = Self::default();
        for attribute in attributes {
            if attribute.path().is_ident("schema") {
                attribute.parse_nested_meta(|meta| {
                    if meta.path.is_ident("all") {
                        own.all = true;
                    } else if meta.path.is_ident("name") {
                        own.name = Some(meta.value()?.parse()?);
                    } else {
                        return Err(meta.error("on a struct there are `all` and `name = \"..\"`"));
                    }
                    Ok(())
                })?;
            } else if attribute.path().is_ident("serde") {
                attribute.parse_nested_meta(|meta| {
                    if meta.path.is_ident("rename_all") {
                        own.case = deserialized(&meta)?.map(|case| Case::named(&case)).transpose()?;
                        return Ok(());
                    }
                    pass(&meta)
                })?;
            }
        }
        Ok(own)
    }
}

// === impl OfField ===

impl OfField {
    fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut own = Self::default();
        for attribute in attributes {
            if attribute.path().is_ident("schema") {
                attribute.parse_nested_meta(|meta| {
                    if meta.path.is_ident("whole") {
                        own.whole = true;
                        return Ok(());
                    }
                    Err(meta.error("on a field there is `whole`"))
                })?;
            } else if attribute.path().is_ident("serde") {
                attribute.parse_nested_meta(|meta| own.serde(&meta))?;
            }
        }
        Ok(own)
    }

    fn serde(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("flatten") {
            return Err(meta.error(
                "the attributes of a flattened field are not known here: write them as fields, or take all with \
                 `#[schema(all)]` on the struct",
            ));
        }
        if meta.path.is_ident("rename") {
            self.name = deserialized(meta)?.map(|name| name.value());
        } else if meta.path.is_ident("alias") {
            self.aliases.push(meta.value()?.parse::<LitStr>()?.value());
        } else if meta.path.is_ident("skip") || meta.path.is_ident("skip_deserializing") {
            self.skip = true;
        } else {
            return pass(meta);
        }
        Ok(())
    }
}

/// `= "name"`, or what `(deserialize = "name", ..)` says: payloads are read by it.
fn deserialized(meta: &ParseNestedMeta<'_>) -> Result<Option<LitStr>> {
    if meta.input.peek(Token![=]) {
        return meta.value()?.parse().map(Some);
    }
    let mut found = None;
    meta.parse_nested_meta(|inner| {
        let name: LitStr = inner.value()?.parse()?;
        if inner.path.is_ident("deserialize") {
            found = Some(name);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Passes over what is serde's alone.
fn pass(meta: &ParseNestedMeta<'_>) -> Result<()> {
    fn rest(input: ParseStream<'_>) -> Result<()> {
        while !input.is_empty() && !input.peek(Token![,]) {
            input.parse::<proc_macro2::TokenTree>()?;
        }
        Ok(())
    }
    rest(meta.input)
}

// === impl Case ===

impl Case {
    fn named(text: &LitStr) -> Result<Self> {
        Ok(match text.value().as_str() {
            "lowercase" => Self::Lower,
            "UPPERCASE" => Self::Upper,
            "PascalCase" => Self::Pascal,
            "camelCase" => Self::Camel,
            "snake_case" => Self::Snake,
            "SCREAMING_SNAKE_CASE" => Self::ScreamingSnake,
            "kebab-case" => Self::Kebab,
            "SCREAMING-KEBAB-CASE" => Self::ScreamingKebab,
            _ => return Err(Error::new(text.span(), "serde has no such case of names")),
        })
    }

    /// A field's name in this case, as serde makes it.
    fn of(self, field: &str) -> String {
        let pascal = || {
            let mut capitalize = true;
            let mut out = String::new();
            for letter in field.chars() {
                if letter == '_' {
                    capitalize = true;
                } else if std::mem::take(&mut capitalize) {
                    out.push(letter.to_ascii_uppercase());
                } else {
                    out.push(letter);
                }
            }
            out
        };
        match self {
            // Names of fields are in lower case already.
            Self::Lower | Self::Snake => field.to_owned(),
            Self::Upper | Self::ScreamingSnake => field.to_ascii_uppercase(),
            Self::Pascal => pascal(),
            Self::Camel => {
                let pascal = pascal();
                let mut letters = pascal.chars();
                let first = letters.next().map(|letter| letter.to_ascii_lowercase());
                first.into_iter().chain(letters).collect()
            }
            Self::Kebab => field.replace('_', "-"),
            Self::ScreamingKebab => field.to_ascii_uppercase().replace('_', "-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_shown_as_people_write_them() {
        let text = |ty: TokenStream| type_text(&ty);
        assert_eq!(text(quote! { Option<Vec<u64>> }), "Option<Vec<u64>>");
        assert_eq!(
            text(quote! { BTreeMap<String, dyn Any> }),
            "BTreeMap<String, dyn Any>"
        );
        assert_eq!(
            text(quote! { std::borrow::Cow<'a, str> }),
            "std::borrow::Cow<'a, str>"
        );
        assert_eq!(text(quote! { (u8, [u16; 4]) }), "(u8, [u16; 4])");
    }

    #[test]
    fn names_have_serdes_cases() {
        assert_eq!(Case::Camel.of("order_id"), "orderId");
        assert_eq!(Case::Pascal.of("order_id"), "OrderId");
        assert_eq!(Case::ScreamingKebab.of("order_id"), "ORDER-ID");
    }
}
