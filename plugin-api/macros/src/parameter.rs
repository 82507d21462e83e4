//! A parameter of a digest after `offset`: a field of the JSON object, the message, or what the digest takes whole.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{Error, FnArg, Ident, LitStr, Pat, Result, Type, ext::IdentExt, spanned::Spanned};

use crate::types::{argument_of, borrowed_view, has_reference, is_named, with_lifetime};

/// One parameter.
pub(crate) struct Parameter {
    /// Name of the field.
    pub(crate) name: String,
    pub(crate) ty: Type,
    /// It has a name of its own for the field.
    pub(crate) renamed: bool,
}

/// A field of the JSON object.
pub(crate) struct Field {
    /// What is decoded; may use `'m`.
    pub(crate) decoded: TokenStream,
    /// How `value`, of that type, becomes the argument.
    pub(crate) argument: fn(&Ident) -> TokenStream,
}

// === impl Parameter ===

impl Parameter {
    /// Reads a parameter; takes its `#[field(..)]` away.
    pub(crate) fn read(argument: &FnArg) -> Result<Self> {
        let FnArg::Typed(typed) = argument else {
            return Err(Error::new_spanned(argument, "expected a parameter"));
        };
        if let Type::ImplTrait(_) = &*typed.ty {
            return Err(Error::new_spanned(
                &typed.ty,
                "a digest's parameter has a type of its own, not `impl Trait`",
            ));
        }
        let mut given = None;
        for attribute in typed
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("field"))
        {
            given = Some(attribute.parse_args::<LitStr>()?.value());
        }
        let renamed = given.is_some();
        let name = match (given, &*typed.pat) {
            (Some(name), _) => name,
            (None, Pat::Ident(ident)) => ident.ident.unraw().to_string(),
            // The name matters only if it is a field; then `field` says that it must be one.
            (None, _) => String::new(),
        };
        Ok(Self {
            name,
            ty: (*typed.ty).clone(),
            renamed,
        })
    }

    /// The type if the parameter is what the digest takes whole; may use `'m`.
    pub(crate) fn whole(&self, own: &[Ident]) -> Option<TokenStream> {
        if self.renamed {
            return None;
        }
        let borrowed = ["Raw", "Object", "Message", "Dumped"];
        if borrowed.iter().any(|name| is_named(&self.ty, name)) {
            return Some(borrowed_view(&self.ty, own));
        }
        ["Json", "WithMessage"]
            .iter()
            .any(|name| is_named(&self.ty, name))
            .then(|| with_lifetime(&self.ty, own))
    }

    /// Whether the parameter is the message beside fields: by value, or by reference.
    pub(crate) fn message(&self) -> Option<TokenStream> {
        if self.renamed {
            return None;
        }
        match &self.ty {
            Type::Reference(reference) if is_named(&reference.elem, "Message") => Some(quote! { &message }),
            ty if is_named(ty, "Message") => Some(quote! { message }),
            _ => None,
        }
    }

    /// The parameter as a field of the object.
    pub(crate) fn field(&self, own: &[Ident]) -> Result<Field> {
        if self.name.is_empty() {
            return Err(Error::new_spanned(
                &self.ty,
                "a parameter that is a field of the JSON object has a plain name, or `#[field(\"name\")]`",
            ));
        }
        let text = quote! { ::devour::json::Text<'m> };
        let is_str = |ty: &Type| is_named(ty, "str");
        match &self.ty {
            Type::Reference(reference) => {
                if let Some(mutable) = &reference.mutability {
                    return Err(Error::new_spanned(
                        mutable,
                        "a field is taken by value or by shared reference",
                    ));
                }
                match &*reference.elem {
                    ty if is_str(ty) => Ok(Field {
                        decoded: text,
                        argument: |value| quote! { &*#value.0 },
                    }),
                    Type::Slice(slice) => {
                        let element = owned(&slice.elem, own)?;
                        let decoded = quote! { ::std::vec::Vec<#element> };
                        Ok(Field {
                            decoded,
                            argument: |value| quote! { &#value[..] },
                        })
                    }
                    ty => Ok(Field {
                        decoded: owned(ty, own)?,
                        argument: |value| quote! { &#value },
                    }),
                }
            }
            ty if argument_of(ty, "Cow").is_some_and(is_str) => Ok(Field {
                decoded: text,
                argument: |value| quote! { #value.0 },
            }),
            ty => match argument_of(ty, "Option") {
                Some(inner) if argument_of(inner, "Cow").is_some_and(is_str) => Ok(Field {
                    decoded: quote! { ::std::option::Option<#text> },
                    argument: |value| quote! { #value.map(|text| text.0) },
                }),
                Some(Type::Reference(reference)) => match &*reference.elem {
                    ty if is_str(ty) => Ok(Field {
                        decoded: quote! { ::std::option::Option<#text> },
                        argument: |value| quote! { #value.as_ref().map(|text| &*text.0) },
                    }),
                    Type::Slice(slice) => {
                        let element = owned(&slice.elem, own)?;
                        let decoded = quote! { ::std::option::Option<::std::vec::Vec<#element>> };
                        Ok(Field {
                            decoded,
                            argument: |value| quote! { #value.as_deref() },
                        })
                    }
                    ty => {
                        let ty = owned(ty, own)?;
                        let decoded = quote! { ::std::option::Option<#ty> };
                        Ok(Field {
                            decoded,
                            argument: |value| quote! { #value.as_ref() },
                        })
                    }
                },
                _ => Ok(Field {
                    decoded: owned(ty, own)?,
                    argument: |value| quote! { #value },
                }),
            },
        }
    }
}

/// A type that is decoded as it stands.
fn owned(ty: &Type, own: &[Ident]) -> Result<TokenStream> {
    if has_reference(ty) {
        return Err(Error::new_spanned(
            ty,
            "a reference inside another type cannot hold what a JSON string with escapes says: \
             take `String` or `Cow<'_, str>` instead",
        ));
    }
    let lent = with_lifetime(ty, own);
    Ok(quote_spanned! { ty.span() => #lent })
}

/// The variable that a field is read into.
pub(crate) fn variable(index: usize) -> Ident {
    format_ident!("field_{index}")
}
