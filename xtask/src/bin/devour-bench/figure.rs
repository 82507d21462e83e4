//! A figure: what was measured several times, shown as median, least and greatest.

use serde_json::json;

/// One benchmark's values, in the order in which they were taken.
#[derive(Debug)]
pub(crate) struct Figure {
    pub bench: &'static str,
    pub unit: &'static str,
    /// What it is compared with.
    pub against: Option<&'static str>,
    pub values: Vec<f64>,
}

/// The first line of the table.
pub(crate) const HEAD: &str =
    "benchmark                                value        min        max  unit      runs  against";

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
            "bench": self.bench,
            "value": round(self.median()),
            "unit": self.unit,
            "min": round(min),
            "max": round(max),
            "runs": self.values.len(),
            "against": self.against,
        })
        .to_string()
    }

    /// As one line for people.
    pub(crate) fn row(&self) -> String {
        let (min, max) = self.ends();
        let against = self.against.unwrap_or("-");
        format!(
            "{:36} {:9.3}  {min:9.3}  {max:9.3}  {:8} {:5}  {against}",
            self.bench,
            self.median(),
            self.unit,
            self.values.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_the_median() {
        let figure = |values: &[f64]| Figure {
            bench: "b",
            unit: "ns",
            against: None,
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
}
