//! Times for people, and for what outlives the daemon.

use std::time::SystemTime;

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970 as a date and time of UTC; `-` for none.
pub(crate) fn utc(ms: i64) -> String {
    if ms < 0 {
        return "-".to_owned();
    }
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    // Days since 0000-03-01 in eras of 400 years, whose years begin in March: February's end moves no other month.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (seconds, millis) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

/// What [`utc`] made; `None` for any other text.
pub(crate) fn from_utc(text: &str) -> Option<i64> {
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
        part.parse().ok()
    };
    let form: Vec<char> = text.chars().filter(|c| !c.is_ascii_digit()).collect();
    if text.len() != 24 || form != ['-', '-', 'T', ':', ':', '.', 'Z'] {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    // The inverse of what `utc` does: years begin in March.
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = (days * 24 + digits(11, 13)?) * 3600 + digits(14, 16)? * 60 + digits(17, 19)?;
    Some(seconds * 1000 + digits(20, 23)?)
}

/// Milliseconds in few characters: `17s`, `13m`, `2h13m`, `3d4h`.
pub(crate) fn short_span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..600 => format!("{minutes}m{:02}s", seconds % 60),
        600..3600 => format!("{minutes}m"),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "-"),
        ] {
            assert_eq!(utc(ms), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_date_is_read_as_it_was_written(ms in 0_i64..253_402_300_800_000) {
            proptest::prop_assert_eq!(from_utc(&utc(ms)), Some(ms));
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "-",
            "2026-11-28",
            "2026-11-28T21:00:00Z",
            "2026-11-28T21:00:00.0x0Z",
            "ä026-11-28T21:00:00.000Z",
        ] {
            assert_eq!(from_utc(text), None, "{text}");
        }
    }

    #[test]
    fn spans_are_short() {
        let spans = [
            -5,
            0,
            59_999,
            61_000,
            600_000,
            7_980_000,
            86_400_000 * 3 + 3_600_000 * 4,
        ];
        let texts = ["0s", "0s", "59s", "1m01s", "10m", "2h13m", "3d04h"];
        assert_eq!(spans.map(short_span), texts);
    }
}
