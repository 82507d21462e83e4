//! A list of integers as a message may hold it, and their least common multiple.

use std::fmt;

use devour::serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// Integers without their signs: a multiple of -4 is one of 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integers(pub Vec<u64>);

/// Why numbers have no least common multiple that could be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMultiple {
    /// There are no numbers.
    Empty,
    /// It is above 2^64 - 1.
    TooLarge,
}

/// The least common multiple; 0 if one of the numbers is 0.
///
/// # Errors
/// See [`NoMultiple`].
pub fn least_common_multiple(numbers: &[u64]) -> Result<u64, NoMultiple> {
    if numbers.is_empty() {
        return Err(NoMultiple::Empty);
    }
    // First, because a product that overflows on the way to a zero is still zero.
    if numbers.contains(&0) {
        return Ok(0);
    }
    numbers.iter().try_fold(1u64, |multiple, number| {
        (multiple / greatest_common_divisor(multiple, *number))
            .checked_mul(*number)
            .ok_or(NoMultiple::TooLarge)
    })
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

// === impl NoMultiple ===

impl fmt::Display for NoMultiple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty list has no least common multiple",
            Self::TooLarge => "the least common multiple does not fit 64 bits",
        })
    }
}

impl std::error::Error for NoMultiple {}

// === impl Integers ===

impl<'de> Deserialize<'de> for Integers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntegersVisitor)
    }
}

struct IntegersVisitor;

impl<'de> Visitor<'de> for IntegersVisitor {
    type Value = Integers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of integers, or a text of integers separated by commas")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Integers, A::Error> {
        let mut numbers = Vec::new();
        while let Some(Integer(number)) = list.next_element()? {
            numbers.push(number);
        }
        Ok(Integers(numbers))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Integers, E> {
        if text.trim().is_empty() {
            return Ok(Integers(Vec::new()));
        }
        let number = |part: &str| match part
            .trim()
            .strip_prefix('-')
            .unwrap_or(part.trim())
            .parse::<u64>()
        {
            Ok(number) => Ok(number),
            Err(error) => Err(E::custom(format_args!(
                "`{}` in \"{text}\": {error}",
                part.trim()
            ))),
        };
        text.split(',')
            .map(number)
            .collect::<Result<_, E>>()
            .map(Integers)
    }
}

/// One integer of a list, without its sign.
struct Integer(u64);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerVisitor;
        impl Visitor<'_> for IntegerVisitor {
            type Value = Integer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Integer, E> {
                Ok(Integer(number))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Integer, E> {
                Ok(Integer(number.unsigned_abs()))
            }
        }
        deserializer.deserialize_any(IntegerVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_common_multiple_is_the_least() {
        assert_eq!(least_common_multiple(&[4, 6, 8]), Ok(24));
        assert_eq!(least_common_multiple(&[7]), Ok(7));
        assert_eq!(least_common_multiple(&[u64::MAX, u64::MAX]), Ok(u64::MAX));
    }

    #[test]
    fn zero_nothing_and_too_much_are_said() {
        assert_eq!(least_common_multiple(&[u64::MAX, 2, 0]), Ok(0));
        assert_eq!(least_common_multiple(&[]), Err(NoMultiple::Empty));
        assert_eq!(least_common_multiple(&[u64::MAX, 2]), Err(NoMultiple::TooLarge));
    }
}
