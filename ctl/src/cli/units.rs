//! Sizes, times and counts for people.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::tz::TimeZone;

use llctl::protocol::{ChangeCounts, UnixNanos};

/// `1.5 KiB`: three digits or so and a binary unit.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded to 1024 of a unit is 1 of the next.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 99.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// `2026-11-21 11:44:02` in the local time zone.
pub fn local(time: UnixNanos) -> String {
    // Looked up once: a list shows thousands.
    static ZONE: LazyLock<TimeZone> = LazyLock::new(TimeZone::system);
    let at = ZONE.to_datetime(time.timestamp());
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        at.year(),
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

/// `1 file`, `2 files`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// `3 added, 1 removed`; `nothing` if all are zero.
pub fn counts(counts: &ChangeCounts) -> String {
    let parts: Vec<String> = [
        (counts.added, "added"),
        (counts.removed, "removed"),
        (counts.modified, "modified"),
        (counts.renamed, "renamed"),
        (counts.attributes, "with other attributes"),
    ]
    .into_iter()
    .filter(|&(number, _)| number > 0)
    .map(|(number, what)| format!("{number} {what}"))
    .collect();
    if parts.is_empty() {
        "nothing".to_owned()
    } else {
        parts.join(", ")
    }
}

/// `850 µs`, `1.2 ms`, `3.4 s`, `2 min 5 s`.
pub fn took(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..=999 => format!("{micros} µs"),
        1_000..=999_949 => format!("{:.1} ms", micros as f64 / 1e3),
        999_950..=59_949_999 => format!("{:.1} s", micros as f64 / 1e6),
        _ => uptime(time.as_secs()),
    }
}

/// `5 s`, `3 min 2 s`, `4 h 5 min`, `2 d 3 h`: the two greatest units.
pub fn uptime(secs: u64) -> String {
    match secs {
        0..=59 => format!("{secs} s"),
        60..=3599 => format!("{} min {} s", secs / 60, secs % 60),
        3600..=86_399 => format!("{} h {} min", secs / 3600, secs / 60 % 60),
        _ => format!("{} d {} h", secs / 86_400, secs / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_into_the_next_unit() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_399, "100 KiB"),
            (1_048_575, "1.0 MiB"),
            (10 << 30, "10.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        assert_eq!(took(Duration::from_micros(850)), "850 µs");
        assert_eq!(took(Duration::from_micros(1_250)), "1.2 ms");
        assert_eq!(took(Duration::from_micros(999_960)), "1.0 s");
        assert_eq!(took(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(uptime(90_000), "1 d 1 h");
        assert_eq!(uptime(3_660), "1 h 1 min");
    }

    #[test]
    fn counts_name_only_what_there_is() {
        assert_eq!(counts(&ChangeCounts::default()), "nothing");
        assert_eq!(
            counts(&ChangeCounts {
                added: 3,
                renamed: 1,
                ..Default::default()
            }),
            "3 added, 1 renamed"
        );
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(0, "file"), "0 files");
    }
}
