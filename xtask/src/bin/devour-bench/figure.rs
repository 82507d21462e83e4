//! A figure: what was measured several times, shown as median, least and greatest, beside what is asked of it.

use std::fmt;

use serde_json::json;

/// What a figure is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bench {
    pub name: &'static str,
    pub unit: &'static str,
    /// What it is compared with.
    pub against: Option<&'static str>,
    pub asked: Asked,
}

/// What the median of a figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    AtLeast(f64),
    AtMost(f64),
    /// It is shown, and nothing is asked of it.
    Nothing,
}

/// One benchmark's values, in the order in which they were taken.
#[derive(Debug)]
pub(crate) struct Figure {
    pub bench: Bench,
    pub values: Vec<f64>,
}

/// The first line of the table.
pub(crate) const HEAD: &str = "benchmark                                value        min        max  unit      runs  \
                               asked    against";

// === impl Bench ===

impl Bench {
    /// One that is a part of what it is compared with; more is better.
    pub(crate) const fn ratio(name: &'static str, against: &'static str, asked: Asked) -> Self {
        Self {
            name,
            unit: "ratio",
            against: Some(against),
            asked,
        }
    }

    pub(crate) const fn alone(name: &'static str, unit: &'static str) -> Self {
        Self {
            name,
            unit,
            against: None,
            asked: Asked::Nothing,
        }
    }
}

// === impl Asked ===

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => f.pad(&format!(">= {least}")),
            Self::AtMost(most) => f.pad(&format!("<= {most}")),
            Self::Nothing => f.pad("-"),
        }
    }
}

// === impl Figure ===

impl Figure {
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    fn ends(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (
            sorted.first().copied().unwrap_or(f64::NAN),
            sorted.last().copied().unwrap_or(f64::NAN),
        )
    }

    /// As one line for programs.
    pub(crate) fn json(&self) -> String {
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        let (min, max) = self.ends();
        json!({
            "bench": self.bench.name,
            "value": round(self.median()),
            "unit": self.bench.unit,
            "min": round(min),
            "max": round(max),
            "runs": self.values.len(),
            "against": self.bench.against,
        })
        .to_string()
    }

    /// As one line for people.
    pub(crate) fn row(&self) -> String {
        let (min, max) = self.ends();
        let Bench {
            name,
            unit,
            against,
            asked,
        } = self.bench;
        format!(
            "{name:36} {:9.3}  {min:9.3}  {max:9.3}  {unit:8} {:5}  {asked:7}  {}",
            self.median(),
            self.values.len(),
            against.unwrap_or("-"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_the_median() {
        let figure = |values: &[f64]| Figure {
            bench: Bench::alone("b", "ns"),
            values: values.to_vec(),
        };
        assert!((figure(&[3.0, 1.0, 100.0]).median() - 3.0).abs() < 1e-9);
        assert!((figure(&[3.0, 1.0]).median() - 2.0).abs() < 1e-9);
        let line = figure(&[2.0, 0.12345]).json();
        assert!(
            line.contains(r#""min":0.123"#) && line.contains(r#""against":null"#),
            "{line}"
        );
    }

    #[test]
    fn a_row_says_what_is_asked() {
        let figure = Figure {
            bench: Bench::ratio("b", "loop", Asked::AtLeast(0.9)),
            values: vec![0.95],
        };
        assert!(figure.row().contains(">= 0.9 "), "{}", figure.row());
    }
}
