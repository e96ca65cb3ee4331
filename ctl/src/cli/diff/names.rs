//! One line about one change.

use llctl::protocol::{BytePath, Change, ChangeKind, FileType, Side};

use crate::cli::fitted::Line;
use crate::cli::output::Style;
use crate::cli::units;

/// `M src/main.rs (1.0 KiB -> 1.2 KiB)`, behind what the line begins with.
pub fn summary(mut line: Line, change: &Change) -> Line {
    let (letter, style) = letter(change.kind);
    line.add("", style, letter);
    if let Some(from) = &change.from {
        line.add("  ", Style::Plain, shown(from, change.old.as_ref()));
        line.add(" ", Style::Plain, "->");
        line.add(" ", Style::Plain, new_name(change));
    } else {
        line.add("  ", Style::Plain, new_name(change));
    }
    let details = details(change);
    if !details.is_empty() {
        line.add("  ", Style::Dim, format!("({})", details.join(", ")));
    }
    line
}

/// The same as it is, without colors.
pub fn plain_summary(change: &Change) -> String {
    summary(Line::default(), change).plain()
}

fn new_name(change: &Change) -> String {
    shown(&change.path, change.new.as_ref().or(change.old.as_ref()))
}

/// The letter of a kind of change, and how it looks.
pub fn letter(kind: ChangeKind) -> (&'static str, Style) {
    match kind {
        ChangeKind::Added => ("A", Style::Good),
        ChangeKind::Removed => ("D", Style::Bad),
        ChangeKind::Renamed => ("R", Style::Place),
        ChangeKind::TypeChanged => ("T", Style::Notice),
        ChangeKind::Modified => ("M", Style::Notice),
        ChangeKind::Mode => ("m", Style::Dim),
        ChangeKind::Xattrs => ("x", Style::Dim),
        ChangeKind::Times => ("t", Style::Dim),
    }
}

/// The path; directories end in a slash, the root of the mount is a dot.
fn shown(path: &BytePath, side: Option<&Side>) -> String {
    let slash = if side.is_some_and(|side| side.file_type == FileType::Directory) {
        "/"
    } else {
        ""
    };
    if path.0.is_empty() {
        ".".to_owned()
    } else {
        format!("{path}{slash}")
    }
}

fn details(change: &Change) -> Vec<String> {
    let mut details = Vec::new();
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            if old.file_type != new.file_type {
                details.push(format!(
                    "{} -> {}",
                    type_name(old.file_type),
                    type_name(new.file_type)
                ));
            } else if change.kind == ChangeKind::Modified
                || has_size(new.file_type) && old.size != new.size
            {
                details.push(match (units::size(old.size), units::size(new.size)) {
                    (old, new) if old == new => new,
                    (old, new) => format!("{old} -> {new}"),
                });
            }
            details.extend(permissions(old, new));
        }
        (Some(side), None) | (None, Some(side)) => match side.file_type {
            FileType::File => details.push(units::size(side.size)),
            FileType::Directory => {}
            other => details.push(type_name(other).to_owned()),
        },
        (None, None) => {}
    }
    details
}

fn has_size(file_type: FileType) -> bool {
    matches!(file_type, FileType::File | FileType::Symlink)
}

/// What differs in mode and owner.
pub fn permissions(old: &Side, new: &Side) -> Vec<String> {
    let mut details = Vec::new();
    if old.mode != new.mode {
        details.push(format!("mode {:04o} -> {:04o}", old.mode, new.mode));
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        details.push(format!(
            "owner {}:{} -> {}:{}",
            old.uid, old.gid, new.uid, new.gid
        ));
    }
    details
}

/// The type in words.
pub fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::File => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharDevice => "character device",
        FileType::BlockDevice => "block device",
    }
}
