//! What is wrong with a file, and where.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The first thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigError {
    /// The line, from 1 on; none if it is nowhere in particular.
    pub line: Option<u32>,
    /// The column, from 1 on, in characters.
    pub column: Option<u32>,
    /// What is wrong, in one line.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// Something about the whole file.
    pub fn whole(message: String) -> Self {
        Self {
            line: None,
            column: None,
            message,
        }
    }

    /// What the parser says of `text`.
    pub(super) fn of(error: &toml::de::Error, text: &str) -> Self {
        let message = error.message().trim_end().replace('\n', "; ");
        match error.span() {
            Some(span) => Self::at(text, span.start, message),
            None => Self::whole(message),
        }
    }

    /// Something about a key, where it is first named.
    pub(super) fn at_key(text: &str, key: &str, message: String) -> Self {
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            let start = line.len() - line.trim_start().len();
            let named = line[start..].trim_start_matches(['"', '\'']);
            if let Some(rest) = named.strip_prefix(key)
                && rest
                    .trim_start_matches(['"', '\''])
                    .trim_start()
                    .starts_with('=')
            {
                return Self::at(text, offset + start, message);
            }
            offset += line.len();
        }
        Self::whole(message)
    }

    fn at(text: &str, offset: usize, message: String) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before[start..].chars().count() + 1;
        let number = |n: usize| u32::try_from(n).ok();
        Self {
            line: number(line),
            column: number(column),
            message,
        }
    }
}
