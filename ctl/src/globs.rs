//! Patterns that choose paths.
//!
//! `*` and `?` match within a name, `**` across directories, `[ab]` one of several characters, `{a,b}` one of several
//! texts; a backslash takes the meaning of the character behind it. Paths are relative to the mount's root. A pattern that
//! matches a directory chooses everything below it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns, of which one must match. Without any, everything is chosen.
#[derive(Debug, Clone)]
pub struct Globs {
    set: GlobSet,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no pattern: {why}")]
pub struct GlobError {
    /// The text.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

impl Globs {
    /// Checks and compiles patterns.
    ///
    /// # Errors
    /// The first one that is none.
    pub fn new(patterns: &[String]) -> Result<Self, GlobError> {
        let mut builder = GlobSetBuilder::new();
        for pattern in patterns {
            let wrong = |why: String| GlobError {
                pattern: pattern.clone(),
                why,
            };
            let plain = pattern.trim_start_matches('/').trim_end_matches('/');
            let plain = plain.strip_prefix("./").unwrap_or(plain);
            let glob = GlobBuilder::new(plain)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|e| wrong(e.kind().to_string()))?;
            builder.add(glob);
        }
        let set = builder.build().map_err(|e| GlobError {
            pattern: patterns.join(" "),
            why: e.to_string(),
        })?;
        Ok(Self { set })
    }

    /// Whether everything is chosen, whatever it is.
    pub fn is_all(&self) -> bool {
        self.set.is_empty()
    }

    /// Whether a path is chosen, by itself or by a directory above it. The root's path is empty.
    pub fn matches(&self, path: &[u8]) -> bool {
        if self.is_all() {
            return true;
        }
        let ends = (path.iter().enumerate())
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at)
            .chain([path.len()]);
        ends.into_iter()
            .any(|end| self.set.is_match(OsStr::from_bytes(&path[..end])))
    }
}

/// The text as a pattern that means just itself.
pub fn literal(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '!') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(pattern: &str, path: &str) -> bool {
        let globs = Globs::new(&[pattern.to_owned()]).unwrap();
        globs.matches(path.as_bytes())
    }

    #[test]
    fn a_directory_takes_what_is_below_it() {
        for (pattern, path, expected) in [
            ("src", "src", true),
            ("src", "src/a/b", true),
            ("src/", "src/a", true),
            ("/src", "src/a", true),
            ("./src", "src/a", true),
            ("src", "srcs", false),
            ("src", "a/src", false),
            ("*.rs", "a.rs", true),
            ("*.rs", "src/a.rs", false),
            ("**/*.rs", "src/a.rs", true),
            ("**/*.rs", "a.rs", true),
            ("src/**", "src/a/b", true),
            ("src/**", "src", false),
            ("src/*", "src/a/b", true),
            ("{a,b}/c", "b/c", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("**", "", true),
            ("a", "", false),
        ] {
            assert_eq!(chosen(pattern, path), expected, "{pattern} {path}");
        }
        assert!(Globs::new(&[]).unwrap().matches(b"any/thing"));
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        let error = Globs::new(&["ok".to_owned(), "[a".to_owned()]).unwrap_err();
        assert_eq!(error.pattern, "[a");
    }
}
