//! Durations and sizes as people write them: `250ms`, `5s`, `1MiB`, `500KB`. Whole numbers inside, so nothing is
//! rounded and nothing overflows unseen.

use std::time::Duration;

/// The longest duration that a setting may have: a year.
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 86_400);

const DURATION_UNITS: [(&str, u128); 5] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

const SIZE_UNITS: [(&str, u128); 9] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// Reads a duration: a number and one of `ms`, `s`, `m`, `h`, `d`; a fraction is fine (`1.5s`).
///
/// # Errors
/// Says in words what is wrong: no unit, an unknown unit, a negative number, more than a year.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text, "5s")?;
    if unit.is_empty() {
        return Err("a duration needs a unit, as in `250ms`, `5s`, `1m`, `2h`".into());
    }
    let Some((_, scale)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!(
            "`{}` is not a unit of time: use ms, s, m, h or d",
            short(unit)
        ));
    };
    let nanos = scaled(number, *scale)?;
    if nanos > LONGEST.as_nanos() {
        return Err("it is longer than 365d".into());
    }
    let whole = u64::try_from(nanos).map_err(|_| "it is longer than 365d".to_owned())?;
    Ok(Duration::from_nanos(whole))
}

/// Reads a size in bytes: a whole number, or one with a unit (`KB` is 1000, `KiB` is 1024; likewise M, G, T).
///
/// # Errors
/// Says in words what is wrong.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text, "1MiB")?;
    let lower = unit.to_ascii_lowercase();
    let scale = match SIZE_UNITS.iter().find(|(name, _)| *name == lower) {
        Some((_, scale)) => *scale,
        None if unit.is_empty() => 1,
        None if matches!(lower.as_str(), "k" | "m" | "g" | "t") => {
            let letter = lower.to_ascii_uppercase();
            return Err(format!(
                "`{unit}` is ambiguous: write {letter}iB (1024) or {letter}B (1000)"
            ));
        }
        None => {
            return Err(format!(
                "`{}` is not a unit of size: use B, KB, KiB, MB, MiB, GB or GiB",
                short(unit)
            ));
        }
    };
    if number.contains('.') && scale == 1 {
        return Err("a size is a whole number of bytes".into());
    }
    u64::try_from(scaled(number, scale)?).map_err(|_| "it is too large".into())
}

/// Writes a duration with the largest unit that keeps it whole; what [`parse_duration`] reads back (to the
/// millisecond).
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let whole = DURATION_UNITS
        .iter()
        .rev()
        .find(|(_, scale)| nanos > 0 && nanos.is_multiple_of(*scale));
    match whole {
        Some((unit, scale)) => format!("{}{unit}", nanos / scale),
        None => format!("{}ms", nanos / 1_000_000),
    }
}

/// Writes a size with the largest binary unit that keeps it whole; what [`parse_size`] reads back.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Splits `1.5 s` into its number and its unit.
fn split<'a>(text: &'a str, example: &str) -> Result<(&'a str, &'a str), String> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err("it is negative".into());
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("it is not a number with a unit, as in `{example}`"));
    }
    Ok((number, unit.trim()))
}

/// `number` (digits, perhaps a fraction) times `scale`, exact.
fn scaled(number: &str, scale: u128) -> Result<u128, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.contains('.') || whole.is_empty() {
        return Err(format!("`{}` is not a number", short(number)));
    }
    if whole.len() > 24 || fraction.len() > 12 {
        return Err("the number has too many digits".into());
    }
    let digits = |text: &str| {
        text.parse::<u128>()
            .map_err(|_| format!("`{}` is not a number", short(text)))
    };
    let tenths = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(12));
    let part = digits(fraction)? * scale;
    if !part.is_multiple_of(tenths) {
        return Err("the fraction is finer than its unit can hold".into());
    }
    digits(whole)?
        .checked_mul(scale)
        .map(|whole| whole + part / tenths)
        .ok_or_else(|| "it is too large".into())
}

fn short(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, millis) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("1m", 60_000),
            ("2h", 7_200_000),
            ("1.5s", 1_500),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1e3s",
            "5 parsecs",
            "1..5s",
            "1.s",
            ".5s",
            "99999999999999999999999999s",
            "400d",
            "NaN",
            "inf",
            "5M",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("1MiB", 1 << 20),
            ("64KiB", 1 << 16),
            ("500KB", 500_000),
            ("17", 17),
            ("1.5 KiB", 1536),
            ("2gb", 2_000_000_000),
            ("8B", 8),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in [
            "",
            "lots",
            "-1",
            "1.5",
            "1M",
            "1XB",
            "0.0001KB",
            "999999999999999TiB",
            "NaN",
            "1.5B",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 0_u64..31_536_000_000, bytes: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_them_panic(text in "\\PC*", near in "[0-9.]{0,40}[a-zA-Z]{0,4}") {
            let _ = (parse_duration(&text), parse_size(&text), parse_duration(&near), parse_size(&near));
        }
    }
}
