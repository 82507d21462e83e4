//! The arguments of `#[consumer(..)]` and `#[digest(..)]`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{
    Error, Expr, Ident, Lit, LitBool, LitStr, Path, Result, Token, Type,
    ext::IdentExt,
    parenthesized,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
};

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
    /// Paths that must name types.
    pub(crate) types: Vec<Path>,
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
                let class = if input.peek(LitStr) {
                    input.parse::<LitStr>()?.value()
                } else {
                    let path: Path = input.parse()?;
                    let last = path.segments.last().map(|segment| segment.ident.to_string());
                    self.types.push(path);
                    last.unwrap_or_default()
                };
                self.add(quote! { .schema_class(#class) });
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
            "keeps_offsets" | "buffering" | "asynchronous" => {
                if flag(input)? {
                    self.add(quote! { .#name() });
                }
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

fn string(input: ParseStream<'_>) -> Result<LitStr> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// `= "a"` or `= ["a", "b"]`.
fn strings(input: ParseStream<'_>) -> Result<Vec<LitStr>> {
    input.parse::<Token![=]>()?;
    let text = |expr: &Expr| match expr {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Ok(text.clone()),
            other => Err(Error::new(other.span(), "expected a string")),
        },
        other => Err(Error::new_spanned(other, "expected a string")),
    };
    match input.parse()? {
        Expr::Array(list) => list.elems.iter().map(text).collect(),
        one => Ok(vec![text(&one)?]),
    }
}

/// Nothing (true), or `= true`, `= false`.
fn flag(input: ParseStream<'_>) -> Result<bool> {
    if input.peek(Token![=]) {
        input.parse::<Token![=]>()?;
        return Ok(input.parse::<LitBool>()?.value);
    }
    Ok(true)
}

fn one_of(input: ParseStream<'_>, choices: &[(&str, &str)]) -> Result<Ident> {
    let text = string(input)?;
    let value = text.value();
    match choices.iter().find(|(name, _)| *name == value) {
        Some((_, variant)) => Ok(Ident::new(variant, text.span())),
        None => {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            Err(Error::new(
                text.span(),
                format!("expected {}", names.join(" or ")),
            ))
        }
    }
}

fn unknown(name: &Ident, text: &str, known: &[&str]) -> Error {
    let nearest = known.iter().min_by_key(|candidate| distance(candidate, text));
    let hint = match nearest {
        Some(nearest) if distance(nearest, text) <= 2 => format!("; did you mean `{nearest}`?"),
        _ => format!("; there are {}", known.join(", ")),
    };
    Error::new(name.span(), format!("there is no argument `{text}`{hint}"))
}

/// How many letters must be added, removed or changed.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let changed = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[right.len()]
}
