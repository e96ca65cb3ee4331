//! Values of metrics: numbers that stay numbers, or text.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// The value of a metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Metric {
    /// A whole number.
    Whole(u64),
    /// A whole number below zero.
    Signed(i64),
    /// Any other number.
    Real(Finite),
    /// What is no number.
    Text(String),
}

/// A floating-point number that is neither infinite nor NaN, so that it equals itself and JSON has a form for it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Finite(f64);

// Sound, for NaN is the only value that does not equal itself.
impl Eq for Finite {}

impl Finite {
    /// The number, if it is finite.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Finite {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        Self::new(value).ok_or_else(|| serde::de::Error::custom("a number that is not finite"))
    }
}

impl Metric {
    /// What a user wrote: a number if JSON would call it one and nothing of it is lost, else text.
    pub fn parse(text: &str) -> Self {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let whole = digits.bytes().all(|b| b.is_ascii_digit());
        match serde_json::from_str::<serde_json::Number>(text) {
            Ok(number) if text.trim() == text => {
                if let Some(value) = number.as_u64() {
                    return Self::Whole(value);
                }
                if let Some(value) = number.as_i64() {
                    return Self::Signed(value);
                }
                // A longer whole number would lose its last digits.
                match number.as_f64().and_then(Finite::new) {
                    Some(value) if !whole => Self::Real(value),
                    _ => Self::Text(text.to_owned()),
                }
            }
            _ => Self::Text(text.to_owned()),
        }
    }

    /// The number as a floating-point one; none for text.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Signed(n) => Some(*n as f64),
            Self::Whole(n) => Some(*n as f64),
            Self::Real(n) => Some(n.get()),
            Self::Text(_) => None,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(n) => n.fmt(f),
            Self::Whole(n) => n.fmt(f),
            Self::Real(n) => n.0.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_numbers_and_nothing_is_lost() {
        let real = |x| Metric::Real(Finite::new(x).unwrap());
        let cases = [
            ("12", Metric::Whole(12)),
            ("-3", Metric::Signed(-3)),
            ("18446744073709551615", Metric::Whole(u64::MAX)),
            ("0.5", real(0.5)),
            ("1e3", real(1000.0)),
        ];
        for (text, value) in cases {
            assert_eq!(Metric::parse(text), value, "{text}");
            let packed = rmp_serde::to_vec_named(&value).unwrap();
            assert_eq!(rmp_serde::from_slice::<Metric>(&packed).unwrap(), value);
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<Metric>(&json).unwrap(), value);
        }
        for text in [
            "",
            "007",
            "1.2.3",
            "NaN",
            "inf",
            "1e999",
            "0x10",
            "18446744073709551616",
            "-9223372036854775809",
            " 1",
            "v1",
        ] {
            assert_eq!(Metric::parse(text), Metric::Text(text.to_owned()));
        }
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for value in [f64::NAN, f64::INFINITY] {
            let packed = rmp_serde::to_vec(&value).unwrap();
            rmp_serde::from_slice::<Metric>(&packed).unwrap_err();
        }
    }
}
