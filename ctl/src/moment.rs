//! Points in time as users name them: `10m` for ten minutes ago, `2026-11-21T10:00` in the local time zone.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned, civil};
use serde::{Deserialize, Serialize};

use crate::protocol::UnixNanos;

/// A point in time that a user named. Displayed in UTC, so that it means the same in every time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(pub UnixNanos);

impl Moment {
    /// What `text` means: an age such as `90s`, `10m`, `1h30m`, `2d`; a date, with or without a time, in the local time
    /// zone; or a time with a zone, such as `2026-11-21T10:00:00Z`. `None` if it is none of these.
    pub fn parse(text: &str) -> Option<Self> {
        // What else jiff takes for a span or a time (signs, spaces, words) is not meant here.
        let begins = text.starts_with(|c: char| c.is_ascii_digit());
        if !begins || text.contains(char::is_whitespace) {
            return None;
        }
        let time = absolute(text).or_else(|| ago(text))?;
        let nanos = i64::try_from(time.as_nanosecond()).ok()?;
        Some(Self(UnixNanos(nanos)))
    }
}

fn absolute(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let time: civil::DateTime = text.parse().ok()?;
    let zoned = time.to_zoned(TimeZone::system()).ok()?;
    Some(zoned.timestamp())
}

fn ago(text: &str) -> Option<Timestamp> {
    if !text.ends_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let span: Span = text.parse().ok()?;
    let then = Zoned::now().checked_sub(span).ok()?;
    Some(then.timestamp())
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_count_back_from_now() {
        let now = UnixNanos::now().0;
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2h", 7200)] {
            let then = Moment::parse(text).unwrap().0.0;
            let off = now - then - seconds * 1_000_000_000;
            assert!(off.abs() < 60_000_000_000, "{text}: {off}");
        }
        for text in ["2d", "1w", "3mo"] {
            assert!(Moment::parse(text).unwrap().0.0 < now, "{text}");
        }
    }

    #[test]
    fn dates_and_times_are_local_unless_they_say_otherwise() {
        let utc = Moment::parse("2026-11-21T10:00:00Z").unwrap();
        assert_eq!(utc.to_string(), "2026-11-21T10:00:00Z");
        assert_eq!(Moment::parse(&utc.to_string()), Some(utc));
        let local = Moment::parse("2026-11-21T10:00").unwrap();
        let zoned = local.0.timestamp().to_zoned(TimeZone::system());
        assert_eq!(zoned.strftime("%F %T").to_string(), "2026-11-21 10:00:00");
        let day = Moment::parse("2026-11-21").unwrap();
        assert!(day < local);
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "10",
            "m",
            "-10m",
            "10m ago",
            "base",
            "1x",
            "2026-13-01",
            "+1h",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }
}
