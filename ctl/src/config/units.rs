//! Times and sizes as a file has them: `"90s"`, `"20G"`, and `"off"` for none.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time in whole seconds: `45s`, `10m`, `1h30m`, `7d`, `2w`. At least a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub(super) Duration);

/// A number of bytes with a unit of 1024: `500M`, `20G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SECONDS: [(char, u64); 5] = [
    ('w', 7 * 24 * 3600),
    ('d', 24 * 3600),
    ('h', 3600),
    ('m', 60),
    ('s', 1),
];
const BYTES: [(char, u64); 4] = [
    ('T', 1 << 40),
    ('G', 1 << 30),
    ('M', 1 << 20),
    ('K', 1 << 10),
];

/// A hundred years, so that no time overflows.
const SECONDS_MAX: u64 = 100 * 366 * 24 * 3600;

impl Span {
    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The same as the library has it.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a time such as 45s, 10m, 1h30m or 7d, not {text:?}");
        let mut seconds: u64 = 0;
        let mut rest = text;
        let mut units = SECONDS.as_slice();
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let unit = rest[digits..].chars().next().ok_or_else(wrong)?;
            // Each unit once, the greater ones first.
            let at = units.iter().position(|(name, _)| *name == unit);
            let at = at.ok_or_else(wrong)?;
            seconds = (number.checked_mul(units[at].1))
                .and_then(|n| n.checked_add(seconds))
                .filter(|n| *n <= SECONDS_MAX)
                .ok_or_else(wrong)?;
            units = &units[at + 1..];
            rest = &rest[digits + unit.len_utf8()..];
        }
        match seconds {
            0 => Err(wrong()),
            n => Ok(Self::from_secs(n)),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_secs();
        for (name, seconds) in SECONDS {
            if left >= seconds {
                write!(f, "{}{name}", left / seconds)?;
                left %= seconds;
            }
        }
        Ok(())
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a size such as 500M or 20G, not {text:?}");
        let plain = text.trim_end_matches('B').trim_end_matches('i');
        let digits = plain.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = plain.split_at(digits.unwrap_or(plain.len()));
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let factor = match unit {
            "" => 1,
            unit => {
                BYTES
                    .iter()
                    .find(|(name, _)| unit.eq_ignore_ascii_case(&name.to_string()))
                    .ok_or_else(wrong)?
                    .1
            }
        };
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = BYTES
            .iter()
            .find(|(_, n)| self.0 > 0 && self.0.is_multiple_of(*n));
        match whole {
            Some((name, n)) => write!(f, "{}{name}", self.0 / n),
            None => write!(f, "{}", self.0),
        }
    }
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

as_text!(Span);
as_text!(Size);

/// Something, or `"off"`.
pub(super) mod or_off {
    use super::{Deserialize, Deserializer, FromStr, Serializer, de, fmt};

    pub fn serialize<T: fmt::Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_str("off"),
        }
    }

    pub fn deserialize<'de, T: FromStr<Err = String>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "off" => Ok(None),
            text => text.parse().map(Some).map_err(|error: String| {
                de::Error::custom(format!("{error}; \"off\" is for none"))
            }),
        }
    }
}
