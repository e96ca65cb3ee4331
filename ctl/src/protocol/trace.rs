//! Trace identifiers of W3C Trace Context (<https://www.w3.org/TR/trace-context/>).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A trace: its id (32 hexadecimal digits), or the whole `traceparent` of which it is a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Trace(String);

/// A text is neither a trace id nor a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a trace is 32 lower-case hexadecimal digits that are not all 0, or a W3C traceparent such as \
     00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
)]
pub struct TraceError;

/// Bytes of a `traceparent` of version 00.
const WHOLE: usize = 55;

impl Trace {
    /// Checks `text` against the standard's rules.
    pub fn new(text: impl Into<String>) -> Result<Self, TraceError> {
        let text = text.into();
        let good = if text.len() == 32 {
            id(&text)
        } else {
            traceparent(&text)
        };
        good.then_some(Self(text)).ok_or(TraceError)
    }

    /// The trace's id.
    pub fn id(&self) -> &str {
        if self.0.len() == 32 {
            &self.0
        } else {
            &self.0[3..35]
        }
    }

    /// What was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Version, trace id, parent id, flags; a later version may have more behind them, and 255 is none.
fn traceparent(text: &str) -> bool {
    let known = text.len() == WHOLE
        || text.len() > WHOLE
            && text.len() <= super::meta::FIELD_MAX
            && !text.starts_with("00")
            && text.as_bytes()[WHOLE] == b'-';
    if !known || !text.is_ascii() || text.bytes().any(|b| b.is_ascii_control()) {
        return false;
    }
    let parts: Vec<&str> = text[..WHOLE].split('-').collect();
    match parts[..] {
        [version, trace, parent, flags] => {
            version.len() == 2
                && trace.len() == 32
                && parent.len() == 16
                && hex(version)
                && version != "ff"
                && id(trace)
                && id(parent)
                && hex(flags)
        }
        _ => false,
    }
}

fn hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn id(text: &str) -> bool {
    hex(text) && text.bytes().any(|b| b != b'0')
}

impl TryFrom<String> for Trace {
    type Error = TraceError;

    fn try_from(text: String) -> Result<Self, TraceError> {
        Self::new(text)
    }
}

impl FromStr for Trace {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        Self::new(text)
    }
}

impl From<Trace> for String {
    fn from(trace: Trace) -> Self {
        trace.0
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_follow_the_standard() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for good in [
            id.to_owned(),
            format!("00-{id}-00f067aa0ba902b7-01"),
            format!("01-{id}-00f067aa0ba902b7-01-more"),
        ] {
            assert_eq!(Trace::new(good).unwrap().id(), id);
        }
        let zeros = "0".repeat(32);
        for bad in [
            String::new(),
            zeros.clone(),
            id.to_uppercase(),
            format!("00-{zeros}-00f067aa0ba902b7-01"),
            format!("00-{id}-0000000000000000-01"),
            format!("ff-{id}-00f067aa0ba902b7-01"),
            format!("00-{id}-00f067aa0ba902b7-01-more"),
            format!("01-{id}-00f067aa0ba902b7-01more"),
            format!("00-{id}-00f067aa0ba902b7-0"),
            format!("00-{id}-00f067aa0ba902b7-é"),
            format!("01-{id}-00f067aa0ba902b7-01-{}", "x".repeat(300)),
            format!("0-{id}-00f067aa0ba902b7-001"),
        ] {
            assert_eq!(Trace::new(bad), Err(TraceError));
        }
    }
}
