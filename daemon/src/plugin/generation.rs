//! Counts the versions of a route's code: each content that a route is given is a generation, from 1.

use std::{collections::HashMap, fmt, hash::Hash};

use serde::{Deserialize, Serialize};

/// SHA-256 of a library's content, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContentHash(String);

/// The generations of every route. `K` names a route.
#[derive(Clone, Debug)]
pub struct Generations<K> {
    current: HashMap<K, (ContentHash, u64)>,
}

// === impl ContentHash ===

impl ContentHash {
    pub(super) fn of_digest(digest: &[u8]) -> Self {
        use fmt::Write;
        let mut text = String::with_capacity(64);
        for byte in digest {
            write!(text, "{byte:02x}").expect("a String takes whatever is written");
        }
        Self(text)
    }

    /// Whether a text is one, as it is written here.
    pub(super) fn is_written(text: &str) -> bool {
        text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Generations ===

impl<K> Default for Generations<K> {
    fn default() -> Self {
        Self {
            current: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash> Generations<K> {
    /// The generation of `route` when it runs `hash`: 1 at first, one more whenever the content is another than the
    /// last (also when it is one that the route ran before: a person who goes back wants to see that it happened).
    pub fn enter(&mut self, route: K, hash: &ContentHash) -> u64 {
        let current = self.current.entry(route).or_insert_with(|| (hash.clone(), 1));
        if current.0 != *hash {
            *current = (hash.clone(), current.1 + 1);
        }
        current.1
    }

    /// The generation that `route` would be if it ran `hash` next.
    pub fn next(&self, route: &K, hash: &ContentHash) -> u64 {
        match self.current.get(route) {
            None => 1,
            Some((current, generation)) if current == hash => *generation,
            Some((_, generation)) => generation + 1,
        }
    }

    /// The generation that `route` runs.
    pub fn current(&self, route: &K) -> Option<u64> {
        self.current.get(route).map(|(_, generation)| *generation)
    }

    /// Forgets a route that was removed.
    pub fn forget(&mut self, route: &K) {
        self.current.remove(route);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_content_is_another_generation_and_the_same_content_is_not() {
        let (old, new) = (ContentHash::of_digest(&[1; 32]), ContentHash::of_digest(&[2; 32]));
        let mut generations = Generations::default();
        assert_eq!(generations.enter("a", &old), 1);
        assert_eq!(generations.enter("a", &old), 1);
        assert_eq!(
            (generations.next(&"a", &old), generations.next(&"a", &new)),
            (1, 2)
        );
        assert_eq!(generations.enter("a", &new), 2);
        assert_eq!(generations.enter("b", &new), 1);
        assert_eq!(generations.enter("a", &old), 3);
        assert_eq!(generations.current(&"a"), Some(3));
        generations.forget(&"a");
        assert_eq!(generations.current(&"a"), None);
    }
}
