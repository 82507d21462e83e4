//! Words about words: quoting a user's text safely, the nearest valid name, and which keys hold secrets.

/// Whether the value of a key (or of a librdkafka property) of this name must never be shown.
#[must_use]
pub fn is_secret_key(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    ends(&[
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "api_key",
        "apikey",
        "private_key",
        "credential",
    ]) || matches!(
        name.as_str(),
        "ssl.key.pem"
            | "ssl.certificate.pem"
            | "sasl.oauthbearer.config"
            | "sasl.oauthbearer.assertion.private.key.pem"
    )
}

/// `text` between backticks, cut to a length that fits a line, with control characters made visible.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    format!("`{}`", escaped(&short))
}

/// `text` with control characters made visible, so that no file can paint on a terminal.
pub(super) fn escaped(text: &str) -> String {
    let visible = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.chars().all(visible) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| {
            if visible(c) {
                c.to_string()
            } else {
                c.escape_default().to_string()
            }
        })
        .collect()
}

/// The valid name that is nearest to `name`, if any is near enough to be what was meant.
pub(super) fn nearest<'a>(name: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // longer than any key: nothing to suggest, and the distance would take a while
    if name.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '.', ' '], "_");
    let wanted = plain(name);
    let allowed = |candidate: &str| (candidate.len().max(name.len()) / 3).max(1);
    valid
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= allowed(candidate))
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "a, b or c".
pub(super) fn any_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|name| format!("`{name}`")).collect();
            format!("{} or `{last}`", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name_that_was_meant() {
        let names = ["consumer_routes", "hosts", "log", "ssl_config"];
        assert_eq!(nearest("consumer_routs", names), Some("consumer_routes"));
        assert_eq!(nearest("Hosts", names), Some("hosts"));
        assert_eq!(nearest("ssl-config", names), Some("ssl_config"));
        assert_eq!(nearest("weather", names), None);
        assert_eq!(nearest(&"x".repeat(100_000), names), None);
    }

    #[test]
    fn a_users_text_cannot_paint_on_the_terminal() {
        assert_eq!(quoted("a\u{1b}[31m"), "`a\\u{1b}[31m`");
        assert!(quoted(&"é".repeat(1000)).len() < 150);
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "password",
            "sasl.password",
            "KEY_PASSWORD",
            "ssl.key.pem",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.config",
        ] {
            assert!(is_secret_key(name), "{name}");
        }
        assert!(!is_secret_key("hosts"));
    }
}
