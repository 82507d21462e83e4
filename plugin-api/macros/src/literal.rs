//! The values of arguments: strings, flags, choices, numbers, durations; and what is said of a name that there is not.

use std::{fmt::Display, str::FromStr};

use syn::{Error, Expr, Ident, Lit, LitBool, LitInt, LitStr, Result, Token, parse::ParseStream};

/// `= "a"`.
pub(crate) fn string(input: ParseStream<'_>) -> Result<LitStr> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// `= "a"` or `= ["a", "b"]`.
pub(crate) fn strings(input: ParseStream<'_>) -> Result<Vec<LitStr>> {
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
pub(crate) fn flag(input: ParseStream<'_>) -> Result<bool> {
    if input.peek(Token![=]) {
        input.parse::<Token![=]>()?;
        return Ok(input.parse::<LitBool>()?.value);
    }
    Ok(true)
}

pub(crate) fn above_zero<T: FromStr<Err: Display> + Default + PartialOrd>(literal: &LitInt) -> Result<T> {
    let number: T = literal.base10_parse()?;
    if number > T::default() {
        Ok(number)
    } else {
        Err(Error::new(literal.span(), "expected a number above 0"))
    }
}

/// A duration as settings have it, such as `"250ms"` or `"5s"`, in milliseconds.
pub(crate) fn duration(literal: &LitStr) -> Result<u64> {
    let text = literal.value();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let milliseconds = number.parse::<u64>().ok().zip(scale);
    match milliseconds.and_then(|(number, scale)| number.checked_mul(scale)) {
        Some(milliseconds) if milliseconds > 0 => Ok(milliseconds),
        _ => Err(Error::new(
            literal.span(),
            "expected a duration above 0: a whole number with ms, s, m, h or d, as in \"5s\"",
        )),
    }
}

pub(crate) fn one_of(input: ParseStream<'_>, choices: &[(&str, &str)]) -> Result<Ident> {
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

pub(crate) fn unknown(name: &Ident, text: &str, known: &[&str]) -> Error {
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
