//! Paths and times as they travel.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::escape::escaped;

/// A path as the bytes that it is.
///
/// On the socket: a byte string. In JSON: a string if the path is UTF-8, else `{"bytes": "<hex>"}`.
/// Displayed, it is escaped (see [`crate::escape`]).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BytePath(pub Vec<u8>);

impl BytePath {
    /// The path for use with the file system.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl From<&Path> for BytePath {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<PathBuf> for BytePath {
    fn from(path: PathBuf) -> Self {
        Self::from(path.as_path())
    }
}

impl From<&[u8]> for BytePath {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<&str> for BytePath {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Display for BytePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escaped(&self.0))
    }
}

impl fmt::Debug for BytePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", escaped(&self.0))
    }
}

impl Serialize for BytePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(&self.0);
        }
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let hex: String = self.0.iter().map(|b| format!("{b:02x}")).collect();
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("bytes", &hex)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for BytePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(PathVisitor)
        } else {
            deserializer.deserialize_byte_buf(PathVisitor)
        }
    }
}

struct PathVisitor;

impl<'de> Visitor<'de> for PathVisitor {
    type Value = BytePath;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path: bytes, a string, or {\"bytes\": hex}")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<BytePath, E> {
        Ok(BytePath(bytes.to_vec()))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<BytePath, E> {
        Ok(BytePath(bytes))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<BytePath, E> {
        Ok(BytePath(text.as_bytes().to_vec()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BytePath, A::Error> {
        let entry: Option<(String, String)> = map.next_entry()?;
        match entry {
            Some((key, hex)) if key == "bytes" => from_hex(&hex)
                .map(BytePath)
                .ok_or_else(|| de::Error::custom("bytes that are not hex")),
            _ => Err(de::Error::custom("a path without its bytes")),
        }
    }
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    digits.len().is_multiple_of(2).then(|| {
        digits
            .chunks(2)
            .map(|pair| (pair[0] << 4) | pair[1])
            .collect()
    })
}

/// A point in time: nanoseconds since 1970-01-01 UTC, negative before.
///
/// On the socket: the integer. In JSON: RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixNanos(pub i64);

impl UnixNanos {
    /// The clock's time now.
    pub fn now() -> Self {
        Self(i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX))
    }

    /// The same point for jiff; every `i64` of nanoseconds is in its range.
    pub fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl Serialize for UnixNanos {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&self.timestamp())
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for UnixNanos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return i64::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(de::Error::custom)?;
        i64::try_from(time.as_nanosecond())
            .map(Self)
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_both_encodings() {
        for bytes in [&b"src/main.rs"[..], b"bad\xff\n", b""] {
            let path = BytePath::from(bytes);
            let packed = rmp_serde::to_vec_named(&path).unwrap();
            assert_eq!(rmp_serde::from_slice::<BytePath>(&packed).unwrap(), path);
            let json = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<BytePath>(&json).unwrap(), path);
        }
        assert_eq!(
            serde_json::to_string(&BytePath::from(&b"\xff"[..])).unwrap(),
            r#"{"bytes":"ff"}"#
        );
        assert!(serde_json::from_str::<BytePath>(r#"{"bytes":"é0"}"#).is_err());
    }

    #[test]
    fn every_time_survives_both_encodings() {
        for nanos in [i64::MIN, -1, 0, 1_700_000_000_123_456_789, i64::MAX] {
            let time = UnixNanos(nanos);
            let packed = rmp_serde::to_vec_named(&time).unwrap();
            assert_eq!(rmp_serde::from_slice::<UnixNanos>(&packed).unwrap(), time);
            let json = serde_json::to_string(&time).unwrap();
            assert_eq!(serde_json::from_str::<UnixNanos>(&json).unwrap(), time);
        }
        assert_eq!(
            serde_json::to_string(&UnixNanos(0)).unwrap(),
            r#""1970-01-01T00:00:00Z""#
        );
    }
}
