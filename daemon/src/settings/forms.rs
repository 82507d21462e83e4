//! The forms that texts must have: hosts, addresses, names of topics, libraries and symbols.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::route::RateLimit;
use super::text::{escaped, quoted};

pub(super) fn not_empty(text: &str) -> Result<(), String> {
    if text.is_empty() {
        Err("it is empty".into())
    } else {
        Ok(())
    }
}

/// Kafka's rule for names; a pattern is librdkafka's to judge.
pub(super) fn check_topic(name: &str) -> Result<(), String> {
    let quoted = quoted(name);
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => Err("the name of a topic is empty".into()),
        "^" => Err("the pattern `^` is empty".into()),
        "." | ".." => Err(format!("{quoted} cannot be the name of a topic")),
        _ if name.starts_with('^') => Ok(()),
        _ if name.len() > 249 => Err(format!(
            "a topic's name has at most 249 characters, {quoted} has {}",
            name.len()
        )),
        _ => match name.chars().find(|c| !legal(*c)) {
            Some(',') => Err(format!(
                "{quoted} is not the name of a topic: several are a list, [a, b]"
            )),
            Some(c) => Err(format!(
                "{quoted} is not the name of a topic: `{}` is not allowed (a pattern begins with `^`)",
                escaped(&c.to_string())
            )),
            None => Ok(()),
        },
    }
}

/// Dead letters go to one topic: a pattern is none.
pub(super) fn check_dead_letter_topic(name: &str) -> Result<(), String> {
    if name.starts_with('^') {
        return Err("dead letters go to one topic; a pattern names many".into());
    }
    check_topic(name)
}

/// The URL of a schema registry.
pub(super) fn check_registry_url(url: &str) -> Result<(), String> {
    let host = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let Some(host) = host else {
        return Err("it begins with `http://` or `https://`".to_owned());
    };
    if host.split('/').next().is_none_or(str::is_empty) || host.contains(char::is_whitespace) {
        return Err("it names no host".to_owned());
    }
    if host.split('/').next().is_some_and(|host| host.contains('@')) {
        return Err("user and password are `credentials`".to_owned());
    }
    Ok(())
}

pub(super) fn check_host(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("a host is empty".into());
    }
    if host.contains("://") {
        return Err("a host has no scheme: write `host:port`, and `ssl_config` for TLS".into());
    }
    if host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | ';')) {
        return Err("a host is written `host:port`".into());
    }
    let (name, port) = match host.strip_prefix('[') {
        // an IPv6 address, whose colons are its own
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("a `[` has no `]`")?;
            address
                .parse::<Ipv6Addr>()
                .map_err(|_| "between `[` and `]` stands an IPv6 address")?;
            match after {
                "" => (address, None),
                _ => (
                    address,
                    Some(after.strip_prefix(':').ok_or("after `]` comes `:port`")?),
                ),
            }
        }
        None => match host.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address stands in brackets, as in `[::1]:9092`".into());
            }
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    if name.is_empty() {
        return Err("a host has no name before its port".into());
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        Some(_) => Err("its port is not a number from 1 to 65535".into()),
    }
}

pub(super) fn check_source_address(address: &str) -> Result<(), String> {
    if address.is_empty() || address.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if address.parse::<SocketAddr>().is_ok() {
        return Err("it has a port, which several connections cannot share: give the address alone".into());
    }
    Err("expected an IP address such as `192.0.2.7`".into())
}

pub(super) fn check_rate(rate: &str) -> Result<(), String> {
    parse_rate(rate).map(|_| ())
}

/// `200/s`, `30/m`, `5/h`.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_rate(rate: &str) -> Result<RateLimit, String> {
    let form = || "a rate is a number of messages and a time, as in `200/s`, `30/m` or `5/h`".to_owned();
    let (messages, time) = rate.split_once('/').ok_or_else(form)?;
    let messages: u32 = messages.trim().parse().map_err(|_| form())?;
    let seconds = match time.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(form()),
    };
    if messages == 0 {
        return Err("a rate of 0 would never digest anything; leave the route out instead".into());
    }
    Ok(RateLimit {
        messages,
        per: std::time::Duration::from_secs(seconds),
    })
}

pub(super) fn check_library(path: &str) -> Result<(), String> {
    match path {
        "" => Err("the library has no name".into()),
        _ if path.contains('\0') => Err("a path has no NUL character".into()),
        _ if path.contains("::") => Err("in the long form the symbol is a key of its own, `symbol:`".into()),
        _ if path.ends_with('/') => Err("it is a directory; name the library in it".into()),
        _ => Ok(()),
    }
}

/// What useradd takes, and numbers.
pub(super) fn check_user(name: &str) -> Result<(), String> {
    not_empty(name)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '@');
    match name.chars().find(|c| !legal(*c)) {
        Some(c) => Err(format!("`{}` is not allowed in it", escaped(&c.to_string()))),
        None => Ok(()),
    }
}

pub(super) fn check_sha256(hash: &str) -> Result<(), String> {
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash {
        Ok(())
    } else {
        Err("a SHA-256 has 64 hexadecimal digits, as `sha256sum FILE` prints them".into())
    }
}

pub(super) fn check_symbol(symbol: &str) -> Result<(), String> {
    let mut chars = symbol.chars();
    let start = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if start && chars.all(|c| c.is_ascii_alphanumeric() || c == '_') && symbol.len() <= 255 {
        Ok(())
    } else {
        Err("expected letters, digits and `_`, as in `OrderConsumer`".into())
    }
}
