//! Chance that can be had again: a seed that is printed, and taken from `DEVOUR_TEST_SEED` where one is given.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A sequence of numbers that its seed decides (SplitMix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

/// The seed of this run, and a word on standard error that says so.
pub fn seed(scenario: &str) -> u64 {
    let given = std::env::var("DEVOUR_TEST_SEED").ok();
    let seed = match given.as_deref().map(str::parse) {
        Some(Ok(seed)) => seed,
        Some(Err(error)) => panic!("DEVOUR_TEST_SEED is no number: {error}"),
        None => RandomState::new().build_hasher().finish() % 1_000_000_000,
    };
    eprintln!("{scenario}: DEVOUR_TEST_SEED={seed} gives the same choices");
    seed
}

// === impl Chance ===

impl Chance {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}
