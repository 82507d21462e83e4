//! The static membership id of a route: the same after every restart, different for every other route, settings
//! file and host, so that a restart of the daemon makes no rebalance.

use std::path::Path;

use sha2::{Digest, Sha256};

/// Kafka allows 249 characters of `[A-Za-z0-9._-]`; this keeps well below.
const READABLE: usize = 80;

/// The `group.instance.id` of `route` in `settings_file` (an absolute path) on `host`.
///
/// Host and route stay readable for those who look at the group; a digest of all three makes it exact.
pub fn group_instance_id(host: &str, settings_file: &Path, route: &str) -> String {
    let mut digest = Sha256::new();
    for part in [
        host.as_bytes(),
        settings_file.as_os_str().as_encoded_bytes(),
        route.as_bytes(),
    ] {
        // the length keeps ("ab", "c") apart from ("a", "bc")
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let digest: String = digest
        .finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("devourd-{}-{}-{digest}", legal(host), legal(route))
}

fn legal(text: &str) -> String {
    text.chars()
        .take(READABLE)
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(host: &str, file: &str, route: &str) -> String {
        group_instance_id(host, Path::new(file), route)
    }

    #[test]
    fn the_same_route_has_the_same_id_for_ever() {
        assert_eq!(
            id("web1", "/etc/devour.yaml", "orders"),
            "devourd-web1-orders-be6e70df4ad7"
        );
    }

    #[test]
    fn host_file_and_route_each_make_a_difference() {
        let base = id("web1", "/etc/devour.yaml", "orders");
        assert_ne!(base, id("web2", "/etc/devour.yaml", "orders"));
        assert_ne!(base, id("web1", "/etc/other.yaml", "orders"));
        assert_ne!(base, id("web1", "/etc/devour.yaml", "order"));
        assert_ne!(id("a", "/f", "b-c"), id("a-b", "/f", "c"));
    }

    #[test]
    fn only_what_kafka_allows_is_in_it() {
        let id = id(&"hö st/".repeat(100), "/ü", &"r".repeat(64));
        assert!(id.len() <= 249, "{}", id.len());
        assert!(
            id.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')),
            "{id}"
        );
    }
}
