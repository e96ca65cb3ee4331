//! Changes as a patch for `git apply`, `patch -p1` and readers.

use std::io::{self, Write};

use llctl::escape::escaped_line;
use llctl::protocol::{Change, ChangeKind, Content, FileType, Side};

use super::lines;
use super::names;
use crate::cli::output::{Output, Style};

/// Prints one change. On a terminal, control characters of the content are escaped.
pub fn print(change: &Change, out: &mut Output) -> io::Result<()> {
    let text = git(change);
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let style = match line.first() {
            Some(b'@') => Style::Place,
            Some(b'+') if !line.starts_with(b"+++ ") => Style::Good,
            Some(b'-') if !line.starts_with(b"--- ") => Style::Bad,
            Some(b' ' | b'\\') => Style::Plain,
            Some(b'#') => Style::Dim,
            _ => Style::Bold,
        };
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if out.terminal {
            out.styled(style, escaped_line(line).as_bytes())?;
        } else {
            out.styled(style, line)?;
        }
    }
    Ok(())
}

/// The patch of one change. What a patch cannot say is a line that begins with `#`.
pub fn git(change: &Change) -> Vec<u8> {
    let mut text = Vec::new();
    write(change, &mut text).expect("writing to memory cannot fail");
    text
}

fn write(change: &Change, out: &mut Vec<u8>) -> io::Result<()> {
    let old = change.old.as_ref().filter(|side| has_content(side));
    let new = change.new.as_ref().filter(|side| has_content(side));
    match (old, new) {
        (None, None) => return remark(change, out),
        // Patches cannot change a type: one goes, the other comes.
        (Some(before), Some(after)) if before.file_type != after.file_type => {
            let gone = Change {
                kind: ChangeKind::Removed,
                new: None,
                from: None,
                path: from(change),
                ..change.clone()
            };
            let came = Change {
                kind: ChangeKind::Added,
                old: None,
                from: None,
                ..change.clone()
            };
            write(&half(gone, true), out)?;
            return write(&half(came, false), out);
        }
        _ => {}
    }
    if let (Some(before), Some(after)) = (old, new) {
        let unsaid = before.mode & !0o100 != after.mode & !0o100
            || (before.uid, before.gid) != (after.uid, after.gid);
        let only = matches!(
            change.kind,
            ChangeKind::Mode | ChangeKind::Xattrs | ChangeKind::Times
        );
        if unsaid || only {
            remark(change, out)?;
        }
        if only && git_mode(before) == git_mode(after) {
            return Ok(());
        }
    }
    let (a, b) = (
        quoted(b"a/", &from(change).0),
        quoted(b"b/", &change.path.0),
    );
    writeln!(out, "diff --git {a} {b}")?;
    match (old, new) {
        (None, Some(after)) => writeln!(out, "new file mode {}", git_mode(after))?,
        (Some(before), None) => writeln!(out, "deleted file mode {}", git_mode(before))?,
        (Some(before), Some(after)) if git_mode(before) != git_mode(after) => {
            writeln!(
                out,
                "old mode {}\nnew mode {}",
                git_mode(before),
                git_mode(after)
            )?;
        }
        _ => {}
    }
    if let (Some(before), Some(_)) = (&change.from, new) {
        writeln!(
            out,
            "rename from {}\nrename to {}",
            quoted(b"", &before.0),
            quoted(b"", &change.path.0)
        )?;
    }
    let Some(patch) = &change.patch else {
        return Ok(());
    };
    let (a, b) = (
        if old.is_some() { &a } else { "/dev/null" },
        if new.is_some() { &b } else { "/dev/null" },
    );
    match (&patch.old, &patch.new) {
        (Content::TooLarge, _) | (_, Content::TooLarge) => {
            writeln!(out, "# {a} and {b} differ, too large to compare")
        }
        (Content::Binary, _) | (_, Content::Binary) => {
            writeln!(out, "Binary files {a} and {b} differ")
        }
        (before, after) => {
            let mut hunks = Vec::new();
            lines::unified(bytes(before), bytes(after), &mut hunks)?;
            if !hunks.is_empty() {
                writeln!(out, "--- {a}\n+++ {b}")?;
                out.extend(hunks);
            }
            Ok(())
        }
    }
}

/// The change with the content of one side only.
fn half(mut change: Change, old: bool) -> Change {
    if let Some(patch) = &mut change.patch {
        *(if old { &mut patch.new } else { &mut patch.old }) = Content::Absent;
    }
    change
}

fn from(change: &Change) -> llctl::protocol::BytePath {
    change.from.clone().unwrap_or_else(|| change.path.clone())
}

fn remark(change: &Change, out: &mut Vec<u8>) -> io::Result<()> {
    writeln!(out, "# {}", names::plain_summary(change))
}

fn bytes(content: &Content) -> &[u8] {
    match content {
        Content::Bytes(bytes) => bytes,
        _ => b"",
    }
}

/// Whether a patch knows such objects.
fn has_content(side: &Side) -> bool {
    matches!(side.file_type, FileType::File | FileType::Symlink)
}

/// The mode as git has it: of the permissions only whether the owner may execute.
fn git_mode(side: &Side) -> &'static str {
    match side.file_type {
        FileType::Symlink => "120000",
        _ if side.mode & 0o100 != 0 => "100755",
        _ => "100644",
    }
}

/// The name with its prefix, in double quotes and escaped like a C string if git would.
fn quoted(prefix: &[u8], name: &[u8]) -> String {
    let plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
    let full = [prefix, name].concat();
    if full.iter().all(|&b| plain(b)) {
        return full.iter().map(|&b| char::from(b)).collect();
    }
    let inner: String = full
        .iter()
        .map(|&b| match b {
            b'"' => "\\\"".to_owned(),
            b'\\' => "\\\\".to_owned(),
            b'\n' => "\\n".to_owned(),
            b'\t' => "\\t".to_owned(),
            b if plain(b) => char::from(b).to_string(),
            b => format!("\\{b:03o}"),
        })
        .collect();
    format!("\"{inner}\"")
}
