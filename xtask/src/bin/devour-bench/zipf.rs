//! Keys of which few are frequent and many are rare, as customers and devices are: the n-th most frequent of them is as
//! likely as 1 / n ^ exponent. Pure.

/// A distribution of ranks.
pub(crate) struct Zipf {
    /// For each rank: how likely it or a lower one is.
    up_to: Vec<f64>,
}

// === impl Zipf ===

impl Zipf {
    pub(crate) fn new(ranks: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut up_to: Vec<f64> = (1..=ranks)
            .map(|rank| {
                sum += f64::from(rank).powf(-exponent);
                sum
            })
            .collect();
        for each in &mut up_to {
            *each /= sum;
        }
        Self { up_to }
    }

    /// The rank, from 0, for a number that is random.
    pub(crate) fn rank(&self, random: u64) -> u32 {
        let at = (random >> 11) as f64 / (1u64 << 53) as f64;
        let rank = self.up_to.partition_point(|up_to| *up_to <= at);
        rank.min(self.up_to.len() - 1) as u32
    }

    /// How likely the most frequent one is.
    #[cfg(test)]
    pub(crate) fn first(&self) -> f64 {
        self.up_to[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_as_likely_as_they_should_be() {
        let zipf = Zipf::new(4, 1.0);
        // 1 + 1/2 + 1/3 + 1/4 = 25/12
        assert!((zipf.first() - 12.0 / 25.0).abs() < 1e-9);
        let mut seen = [0; 4];
        for n in 0..10_000u64 {
            seen[zipf.rank(n * (u64::MAX / 10_000)) as usize] += 1;
        }
        assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
        assert_eq!(zipf.rank(0), 0);
        assert_eq!(zipf.rank(u64::MAX), 3);
        assert_eq!(zipf.rank((0.5 * u64::MAX as f64) as u64), 1);
    }
}
