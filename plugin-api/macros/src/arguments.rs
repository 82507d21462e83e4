//! The arguments of `#[consumer(..)]` and `#[digest(..)]`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{
    Error, Expr, Ident, LitStr, Path, Result, Token, Type,
    ext::IdentExt,
    parenthesized,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
    token::Paren,
};

use crate::literal::{above_zero, duration, flag, one_of, string, strings, unknown};

/// All that `#[consumer(..)]` may say.
#[derive(Default)]
pub(crate) struct Arguments {
    /// Calls on `Attributes`, in order.
    pub(crate) attributes: TokenStream,
    pub(crate) dump: Dumps,
    pub(crate) digests: Vec<Ident>,
    pub(crate) digest_name: Option<LitStr>,
    pub(crate) settings: Option<Type>,
    pub(crate) strict: bool,
    pub(crate) symbol: Option<LitStr>,
    /// Where it says that the consumer is buffering.
    pub(crate) buffering: Option<Span>,
    /// Where it says that the consumer completes messages by itself.
    pub(crate) asynchronous: Option<Span>,
    /// Where it says how many threads its runtime has.
    pub(crate) workers: Option<Span>,
    /// The type that messages are cut by.
    pub(crate) schema: Option<Path>,
}

/// The seed's three flags.
#[derive(Clone, Default)]
pub(crate) struct Dumps {
    raw: Option<Span>,
    obj: Option<Span>,
    json: Option<Span>,
}

/// A dump mode that was asked for, and where.
#[derive(Clone, Copy)]
pub(crate) struct Dump {
    pub(crate) mode: Mode,
    pub(crate) span: Span,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Raw,
    Object,
    Json,
}

/// What `#[digest(..)]` may say.
#[derive(Default)]
pub(crate) struct DigestArguments {
    pub(crate) dump: Dumps,
    pub(crate) strict: bool,
}

const KNOWN: &[&str] = &[
    "topic",
    "consumer_type",
    "config",
    "dump_raw",
    "dump_obj",
    "dump_json",
    "digests",
    "digest_name",
    "schema_class",
    "settings",
    "strict",
    "headers",
    "swap",
    "isolation",
    "keeps_offsets",
    "buffering",
    "asynchronous",
    "workers",
    "symbol",
];

// === impl Arguments ===

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut arguments = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let name = Ident::parse_any(input)?;
            if seen.contains(&name) {
                return Err(Error::new(name.span(), format!("`{name}` is said twice")));
            }
            arguments.argument(&name, input)?;
            seen.push(name);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

impl Arguments {
    fn argument(&mut self, name: &Ident, input: ParseStream<'_>) -> Result<()> {
        match name.to_string().as_str() {
            "topic" => {
                for topic in strings(input)? {
                    self.add(quote! { .topic(#topic) });
                }
            }
            "consumer_type" => {
                let variant = one_of(
                    input,
                    &[
                        ("balanced_consumer", "BalancedConsumer"),
                        ("simple_consumer", "SimpleConsumer"),
                    ],
                )?;
                self.add(quote! { .consumer_type(::devour::abi::ConsumerType::#variant) });
            }
            "config" => self.config(input)?,
            "schema_class" => {
                input.parse::<Token![=]>()?;
                if input.peek(LitStr) {
                    let name: LitStr = input.parse()?;
                    self.add(quote! { .schema_class(#name) });
                } else {
                    let schema: Path = input.parse()?;
                    self.add(quote! { .schema::<#schema>() });
                    self.schema = Some(schema);
                }
            }
            "swap" => {
                let variant = one_of(input, &[("beside", "Beside"), ("after", "After")])?;
                self.add(quote! { .swap(::devour::abi::SwapMode::#variant) });
            }
            "isolation" => {
                let variant = one_of(input, &[("any", "Any"), ("process", "Process")])?;
                self.add(quote! { .isolation(::devour::abi::IsolationDemand::#variant) });
            }
            "headers" => {
                let call = if flag(input)? {
                    quote! { .with_headers() }
                } else {
                    quote! { .without_headers() }
                };
                self.add(call);
            }
            "keeps_offsets" => {
                if flag(input)? {
                    self.add(quote! { .keeps_offsets() });
                }
            }
            "asynchronous" => {
                if flag(input)? {
                    self.asynchronous = Some(name.span());
                    self.add(quote! { .asynchronous() });
                }
            }
            "buffering" => self.buffering(name, input)?,
            "workers" => {
                input.parse::<Token![=]>()?;
                let threads = above_zero::<usize>(&input.parse()?)?;
                self.workers = Some(name.span());
                self.add(quote! { .workers(#threads) });
            }
            "strict" => self.strict = flag(input)?,
            "settings" => {
                input.parse::<Token![=]>()?;
                self.settings = Some(input.parse()?);
            }
            "digests" => {
                let inner;
                parenthesized!(inner in input);
                self.digests = Punctuated::<Ident, Token![,]>::parse_terminated(&inner)?
                    .into_iter()
                    .collect();
            }
            "digest_name" => self.digest_name = Some(string(input)?),
            "symbol" => self.symbol = Some(string(input)?),
            _ if self.dump.argument(name, input)? => {}
            other => return Err(unknown(name, other, KNOWN)),
        }
        Ok(())
    }

    fn add(&mut self, call: TokenStream) {
        self.attributes.extend(call);
    }

    /// `buffering`, `buffering = false`, or `buffering(max_wait = "5s", max_messages = 1000)` with either or both.
    fn buffering(&mut self, name: &Ident, input: ParseStream<'_>) -> Result<()> {
        if !input.peek(Paren) {
            if !flag(input)? {
                return Ok(());
            }
        } else {
            let inner;
            parenthesized!(inner in input);
            while !inner.is_empty() {
                let key = Ident::parse_any(&inner)?;
                inner.parse::<Token![=]>()?;
                match key.to_string().as_str() {
                    "max_wait" => {
                        let milliseconds = duration(&inner.parse()?)?;
                        self.add(quote! {
                            .flush_max_wait(::std::time::Duration::from_millis(#milliseconds))
                        });
                    }
                    "max_messages" => {
                        let messages = above_zero::<u64>(&inner.parse()?)?;
                        self.add(quote! { .flush_max_messages(#messages) });
                    }
                    other => return Err(unknown(&key, other, &["max_wait", "max_messages"])),
                }
                if !inner.is_empty() {
                    inner.parse::<Token![,]>()?;
                }
            }
        }
        self.buffering = Some(name.span());
        self.add(quote! { .buffering() });
        Ok(())
    }

    fn config(&mut self, input: ParseStream<'_>) -> Result<()> {
        let inner;
        parenthesized!(inner in input);
        while !inner.is_empty() {
            let key = Ident::parse_any(&inner)?.unraw().to_string();
            inner.parse::<Token![=]>()?;
            let value: Expr = inner.parse()?;
            let value = match value {
                Expr::Array(list) => {
                    let elements = list.elems;
                    quote! { ::std::vec![#elements] }
                }
                other => other.into_token_stream(),
            };
            self.add(quote! { .config(#key, #value) });
            if !inner.is_empty() {
                inner.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }
}

// === impl Dumps ===

impl Dumps {
    /// The one that holds: raw beats object beats JSON, as in the seed.
    pub(crate) fn winner(&self) -> Option<Dump> {
        let dump = |mode| move |span| Dump { mode, span };
        self.raw
            .map(dump(Mode::Raw))
            .or(self.obj.map(dump(Mode::Object)))
            .or(self.json.map(dump(Mode::Json)))
    }

    /// Takes an argument if it is one of the three.
    fn argument(&mut self, name: &Ident, input: ParseStream<'_>) -> Result<bool> {
        let place = match name.to_string().as_str() {
            "dump_raw" => &mut self.raw,
            "dump_obj" => &mut self.obj,
            "dump_json" => &mut self.json,
            _ => return Ok(false),
        };
        *place = flag(input)?.then(|| name.span());
        Ok(true)
    }
}

impl Mode {
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::Raw => "dump_raw",
            Self::Object => "dump_obj",
            Self::Json => "dump_json",
        }
    }

    pub(crate) fn variant(self) -> TokenStream {
        match self {
            Self::Raw => quote! { ::devour::abi::DumpMode::Raw },
            Self::Object => quote! { ::devour::abi::DumpMode::Object },
            Self::Json => quote! { ::devour::abi::DumpMode::Json },
        }
    }
}

// === impl DigestArguments ===

impl Parse for DigestArguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut arguments = Self::default();
        while !input.is_empty() {
            let name = Ident::parse_any(input)?;
            if name == "strict" {
                arguments.strict = flag(input)?;
            } else if !arguments.dump.argument(&name, input)? {
                let known = ["dump_raw", "dump_obj", "dump_json", "strict"];
                return Err(unknown(&name, &name.to_string(), &known));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}
