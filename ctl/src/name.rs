//! Snapshot names and references to states: one validation for the client and the daemon.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// The longest snapshot name, in bytes of UTF-8.
pub const NAME_MAX: usize = 128;

/// A valid snapshot name.
///
/// 1 to 128 bytes of UTF-8; no control character, no `/`; no space at either end; not beginning with `-` (an
/// option), `@` (a [`StateRef`]) or `.` (hidden, and `..`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapName(String);

/// Why a text is no snapshot name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a snapshot name cannot be empty")]
    Empty,
    /// The text has more than [`NAME_MAX`] bytes.
    #[error("a snapshot name has at most {NAME_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// The text begins with a character that has another meaning.
    #[error("a snapshot name cannot begin with {0:?}")]
    Start(char),
    /// The text begins or ends with white space.
    #[error("a snapshot name cannot begin or end with a space")]
    Space,
    /// The text holds `/` or a control character.
    #[error("a snapshot name cannot contain {0:?}")]
    Character(char),
    /// A reference that begins with `@` but is none of those that exist.
    #[error(
        "there is no such state; after @ come live, base, undo, redo, an age such as 10m, or a time such as 2026-11-21T10:00"
    )]
    Reference,
}

impl SnapName {
    /// Checks `text` against the rules above.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let Some(first) = text.chars().next() else {
            return Err(NameError::Empty);
        };
        if text.len() > NAME_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        if matches!(first, '-' | '@' | '.') {
            return Err(NameError::Start(first));
        }
        if let Some(bad) = text.chars().find(|&c| c.is_control() || c == '/') {
            return Err(NameError::Character(bad));
        }
        if text.trim() != text {
            return Err(NameError::Space);
        }
        Ok(Self(text))
    }

    /// A readable name from the local time, such as `2026-11-21-114402`; with `-2`, `-3`, … behind
    /// it for as long as `taken` says that the name exists.
    pub fn from_local_time(taken: impl FnMut(&str) -> bool) -> Self {
        let now = jiff::Zoned::now();
        Self::from_time_text(now.strftime("%Y-%m-%d-%H%M%S").to_string(), taken)
    }

    /// The same for a snapshot that nobody asked for, such as `auto-2026-11-21-114402`.
    pub fn automatic(taken: impl FnMut(&str) -> bool) -> Self {
        let now = jiff::Zoned::now();
        Self::from_time_text(now.strftime("auto-%Y-%m-%d-%H%M%S").to_string(), taken)
    }

    fn from_time_text(base: String, mut taken: impl FnMut(&str) -> bool) -> Self {
        let mut name = base.clone();
        let mut count: u64 = 1;
        while taken(&name) {
            count += 1;
            name = format!("{base}-{count}");
        }
        Self(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SnapName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl FromStr for SnapName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<SnapName> for String {
    fn from(name: SnapName) -> Self {
        name.0
    }
}

impl AsRef<str> for SnapName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A state of the tree that a user can name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StateRef {
    /// `@live`: the tree as it is now.
    #[default]
    Live,
    /// `@base`: the directory below the mount, as it was before any change.
    Base,
    /// `@undo`: what the last revert discarded, the state that `undo` brings back.
    Undo,
    /// `@10m`, `@2026-11-21T10:00`: the newest snapshot that is as old as that, or older.
    At(Moment),
    /// `@redo`: what the last undo discarded, the state that `redo` brings back.
    Redo,
    /// A snapshot by its name.
    Snapshot(SnapName),
}

impl FromStr for StateRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "@live" => Ok(Self::Live),
            "@base" => Ok(Self::Base),
            "@undo" => Ok(Self::Undo),
            "@redo" => Ok(Self::Redo),
            _ => match text.strip_prefix('@') {
                Some(time) => Moment::parse(time)
                    .map(Self::At)
                    .ok_or(NameError::Reference),
                None => SnapName::new(text).map(Self::Snapshot),
            },
        }
    }
}

impl TryFrom<String> for StateRef {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<StateRef> for String {
    fn from(state: StateRef) -> Self {
        state.to_string()
    }
}

impl From<SnapName> for StateRef {
    fn from(name: SnapName) -> Self {
        Self::Snapshot(name)
    }
}

impl fmt::Display for StateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("@live"),
            Self::Base => f.write_str("@base"),
            Self::Undo => f.write_str("@undo"),
            Self::At(moment) => write!(f, "@{moment}"),
            Self::Redo => f.write_str("@redo"),
            Self::Snapshot(name) => f.write_str(name.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_fine() {
        for good in [
            "a",
            "pre-refactor",
            "2026-11-21-114402",
            "vor dem Umbau",
            "日本",
            "a.b",
            "x@y",
            "42",
        ] {
            assert_eq!(SnapName::new(good).map(String::from), Ok(good.to_owned()));
        }
        assert!(SnapName::new("n".repeat(NAME_MAX)).is_ok());
    }

    #[test]
    fn names_that_would_confuse_are_refused() {
        assert_eq!(SnapName::new(""), Err(NameError::Empty));
        assert_eq!(SnapName::new("n".repeat(129)), Err(NameError::TooLong(129)));
        assert_eq!(SnapName::new("-rf"), Err(NameError::Start('-')));
        assert_eq!(SnapName::new("@live"), Err(NameError::Start('@')));
        assert_eq!(SnapName::new(".."), Err(NameError::Start('.')));
        assert_eq!(SnapName::new("a/b"), Err(NameError::Character('/')));
        assert_eq!(SnapName::new("a\nb"), Err(NameError::Character('\n')));
        assert_eq!(
            SnapName::new("a\u{9b}b"),
            Err(NameError::Character('\u{9b}'))
        );
        assert_eq!(SnapName::new(" a"), Err(NameError::Space));
        assert_eq!(SnapName::new("a "), Err(NameError::Space));
    }

    #[test]
    fn references_survive_their_text() {
        for text in [
            "@live",
            "@base",
            "@undo",
            "@redo",
            "@2026-11-21T10:00:00Z",
            "release",
        ] {
            let state: StateRef = text.parse().unwrap();
            assert_eq!(state.to_string(), text);
        }
        assert_eq!("@head".parse::<StateRef>(), Err(NameError::Reference));
    }

    #[test]
    fn a_name_from_the_time_counts_up_while_it_is_taken() {
        let taken = ["t".to_owned(), "t-2".to_owned()];
        let name = SnapName::from_time_text("t".to_owned(), |n| taken.iter().any(|t| t == n));
        assert_eq!(name.as_str(), "t-3");
        let name = SnapName::from_local_time(|_| false);
        assert_eq!(SnapName::new(name.as_str()), Ok(name.clone()));
        assert_eq!(name.as_str().len(), "2026-11-21-114402".len());
    }
}
