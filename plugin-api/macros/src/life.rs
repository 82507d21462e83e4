//! The methods of the block that are the consumer's life: how it is made, and the steps that are forwarded to it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Error, ImplItemFn, ItemImpl, Result, Type, spanned::Spanned};

use crate::{arguments::Arguments, expand::methods};

/// How the digests of a block run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// On the thread of the lane.
    Sync,
    /// As futures.
    Async,
}

// === impl Kind ===

impl Kind {
    /// That of all these digests.
    pub(crate) fn of<'d>(digests: impl Iterator<Item = &'d ImplItemFn>) -> Result<Self> {
        let mut kind = None;
        for method in digests {
            let own = Self::of_one(method);
            if *kind.get_or_insert(own) != own {
                let text = "the digests of a consumer are all `async`, or none is: the other kind is another consumer";
                return Err(Error::new_spanned(&method.sig.ident, text));
            }
        }
        Ok(kind.unwrap_or(Self::Sync))
    }

    fn of_one(method: &ImplItemFn) -> Self {
        match method.sig.asyncness {
            Some(_) => Self::Async,
            None => Self::Sync,
        }
    }
}

/// The block's own constructor, or `Default`.
pub(crate) fn construct(block: &ItemImpl, arguments: &Arguments, consumer: &Type) -> Result<TokenStream> {
    let own = methods(block).find(|method| method.sig.ident == "construct");
    let body = match (own, &arguments.settings) {
        (Some(method), settings) => {
            if let Some(token) = &method.sig.asyncness {
                return Err(Error::new_spanned(
                    token,
                    "`construct` is not `async`: what must be awaited is opened in `started`",
                ));
            }
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
pub(crate) fn hooks(
    block: &ItemImpl,
    arguments: &Arguments,
    kind: Kind,
    consumer: &Type,
) -> Result<TokenStream> {
    check_flush(block, arguments, kind)?;
    if let (Some(span), Kind::Sync) = (arguments.workers, kind) {
        let text = "`workers` are the threads of async digests, and this block has none";
        return Err(Error::new(span, text));
    }
    let mut hooks = TokenStream::new();
    for method in methods(block) {
        let name = &method.sig.ident;
        let text = name.to_string();
        let begin = match kind {
            Kind::Sync => format!("fn {text}(&mut self"),
            Kind::Async => format!("async fn {text}(&self"),
        };
        let expect = |count: usize, shape: &str| expect(method, count, shape);
        hooks.extend(match text.as_str() {
            "flush" if kind == Kind::Async => TokenStream::new(),
            "started" | "flush" | "stopped" => {
                expect(1, &format!("{begin}) -> Result<(), DigestError>"))?;
                step(kind, consumer, method, Step::plain())?
            }
            "assigned" => {
                let shape =
                    format!("{begin}, partitions: &[AssignedPartition]) -> Result<Vec<StartOffset>, DigestError>");
                expect(2, &shape)?;
                step(kind, consumer, method, Step::assigned())?
            }
            "revoked" => {
                expect(2, &format!("{begin}, revoked: &Revoked) -> Result<(), DigestError>"))?;
                step(kind, consumer, method, Step::revoked())?
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

fn expect(method: &ImplItemFn, count: usize, shape: &str) -> Result<()> {
    if method.sig.inputs.len() == count {
        Ok(())
    } else {
        Err(Error::new_spanned(&method.sig, format!("expected `{shape}`")))
    }
}

/// A consumer that flushes says that it buffers, and one that buffers flushes: else messages would be done too early, or
/// never.
fn check_flush(block: &ItemImpl, arguments: &Arguments, kind: Kind) -> Result<()> {
    let flush = methods(block).find(|method| method.sig.ident == "flush" && method.sig.receiver().is_some());
    match (kind, arguments.buffering, flush) {
        (Kind::Async, Some(span), _) => Err(Error::new(
            span,
            "an async consumer is not `buffering`: a message is done when its digest returned",
        )),
        (Kind::Async, None, Some(method)) => Err(Error::new_spanned(
            &method.sig.ident,
            "an async consumer has no `flush`: a message is done when its digest returned; if it is no step of its life, \
             give it another name",
        )),
        (Kind::Sync, Some(span), None) => Err(Error::new(
            span,
            "a `buffering` consumer has `fn flush(&mut self) -> Result<(), DigestError>`: what its digests took is done \
             when that returned `Ok`",
        )),
        (Kind::Sync, None, Some(method)) if arguments.asynchronous.is_none() => Err(Error::new_spanned(
            &method.sig.ident,
            "`flush` is called for a `buffering` consumer, else a message is done when its digest returned: write \
             `#[consumer(buffering, ..)]`; if it is no step of its life, give it another name",
        )),
        _ => Ok(()),
    }
}

/// What the forwarding method of a step takes and returns.
struct Step {
    parameter: TokenStream,
    argument: TokenStream,
    output: TokenStream,
    convert: TokenStream,
}

impl Step {
    fn plain() -> Self {
        Self {
            parameter: TokenStream::new(),
            argument: TokenStream::new(),
            output: quote! { () },
            convert: quote! { ::devour::IntoOutcome::into_outcome },
        }
    }

    fn assigned() -> Self {
        Self {
            parameter: quote! { partitions: &[::devour::abi::AssignedPartition] },
            argument: quote! { partitions },
            output: quote! { ::std::vec::Vec<::devour::abi::StartOffset> },
            convert: quote! { ::devour::plugin::IntoStartOffsets::into_start_offsets },
        }
    }

    fn revoked() -> Self {
        Self {
            parameter: quote! { revoked: &::devour::Revoked },
            argument: quote! { revoked },
            ..Self::plain()
        }
    }
}

/// The forwarding method of a step. In an async consumer the block's own method may be async or not.
fn step(kind: Kind, consumer: &Type, method: &ImplItemFn, step: Step) -> Result<TokenStream> {
    let name = &method.sig.ident;
    let Step {
        parameter,
        argument,
        output,
        convert,
    } = step;
    let outcome = quote! { ::std::result::Result<#output, ::devour::DigestError> };
    if kind == Kind::Sync {
        if let Some(token) = &method.sig.asyncness {
            let text = format!("`{name}` is `async` where the digests are: these are not");
            return Err(Error::new_spanned(token, text));
        }
        return Ok(quote_spanned! { name.span() =>
            fn #name(&mut self, #parameter) -> #outcome { #convert(<#consumer>::#name(self, #argument)) }
        });
    }
    match method.sig.receiver() {
        Some(receiver) if receiver.mutability.is_some() => {
            let text = format!("in an async consumer `{name}` takes `&self`: its digests may be running");
            return Err(Error::new_spanned(receiver, text));
        }
        _ => {}
    }
    let end = method.sig.asyncness.map(|_| quote! { .await });
    Ok(quote_spanned! { name.span() =>
        async fn #name(&self, #parameter) -> #outcome { #convert(<#consumer>::#name(self, #argument) #end) }
    })
}
