//! `llctl cat`: a file as it is in a state.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use llctl::escape::{escaped, escaped_line};
use llctl::protocol::BytePath;
use llctl::{Client, StateRef, exit};
use serde::Serialize;

use super::Outcome;
use super::args::Global;
use super::fail::Fail;
use super::log::below_mount;
use super::output::Output;

#[derive(Serialize)]
struct File {
    state: String,
    path: BytePath,
    size: u64,
    content: BytePath,
}

/// `llctl cat`
pub fn run(
    client: &mut Client,
    global: &Global,
    what: &OsStr,
    path: Option<PathBuf>,
    out: &mut Output,
) -> Outcome {
    let (state, path) = match path {
        Some(path) => (whole(what)?, path),
        None => parts(what)?,
    };
    let path = below_mount(client, global, path)?;
    // A terminal is not sent control characters of others, and escapes are of whole lines.
    if !out.json && !out.terminal {
        client.cat(state, path, |bytes| out.raw(bytes))?;
        return Ok(exit::OK);
    }
    let mut content = Vec::new();
    let size = client.cat(state.clone(), path.clone(), |bytes| {
        content.extend_from_slice(bytes);
        Ok(())
    })?;
    if out.json {
        out.object(&File {
            state: state.to_string(),
            path,
            size,
            content: BytePath(content),
        })?;
        return Ok(exit::OK);
    }
    out.page();
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => out.line(escaped_line(line))?,
            None => out.raw(escaped_line(line).as_bytes())?,
        }
    }
    Ok(exit::OK)
}

fn whole(state: &OsStr) -> Result<StateRef, Fail> {
    let text = state.to_str();
    text.and_then(|t| t.parse().ok()).ok_or_else(|| {
        let shown = escaped(state.as_bytes());
        refused(format!("{shown} is not the name of a state"))
    })
}

/// `NAME:PATH` as its two parts. Times have colons: after `@` the state is as much as can be one.
fn parts(text: &OsStr) -> Result<(StateRef, PathBuf), Fail> {
    let bytes = text.as_bytes();
    let colons = bytes.iter().enumerate().filter(|(_, b)| **b == b':');
    let mut splits = colons.filter_map(|(at, _)| {
        let state: StateRef = std::str::from_utf8(&bytes[..at]).ok()?.parse().ok()?;
        Some((state, at + 1))
    });
    let found = match bytes.first() {
        Some(b'@') => splits.next_back(),
        _ => splits.next(),
    };
    let (state, at) = found.ok_or_else(|| {
        let shown = escaped(bytes);
        refused(format!("{shown} is not a state, a colon and a path"))
    })?;
    let path = OsString::from(OsStr::from_bytes(&bytes[at..]));
    Ok((state, path.into()))
}

fn refused(message: String) -> Fail {
    Fail::Refused {
        code: exit::USAGE,
        kind: "invalid",
        message,
        hint: Some("for example `llctl cat before-upgrade:src/main.rs`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Option<(String, String)> {
        let (state, path) = parts(OsStr::new(text)).ok()?;
        Some((state.to_string(), path.to_str().unwrap().to_owned()))
    }

    #[test]
    fn the_state_ends_at_its_colon() {
        let both = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(split("before:a/b"), both("before", "a/b"));
        assert_eq!(split("before:a:b"), both("before", "a:b"));
        assert_eq!(split("@base:a:b"), both("@base", "a:b"));
        assert_eq!(
            split("@2026-11-21T10:00:00Z:a:b"),
            both("@2026-11-21T10:00:00Z", "a:b")
        );
        for wrong in ["before", ":a", "@nonsense:a", "-x:a", ""] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }
}
