//! Which lines differ between two contents.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::Serialize;
use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices_deadline, group_diff_ops};

/// After this long a difference need not be the smallest any more, only right.
const PATIENCE: Duration = Duration::from_secs(2);

/// Equal lines around each hunk.
const CONTEXT: usize = 3;

/// How many lines came and went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Lines only in the newer content.
    pub added: usize,
    /// Lines only in the older content.
    pub removed: usize,
}

/// Lines end at `\n` and nowhere else, as for `git` and `patch`.
fn split(content: &[u8]) -> Vec<&[u8]> {
    content.split_inclusive(|&byte| byte == b'\n').collect()
}

fn compare(old: &[&[u8]], new: &[&[u8]]) -> Vec<DiffOp> {
    capture_diff_slices_deadline(Algorithm::Myers, old, new, Some(Instant::now() + PATIENCE))
}

/// Counts the lines that differ.
pub fn count(old: &[u8], new: &[u8]) -> Counts {
    let mut counts = Counts::default();
    for op in compare(&split(old), &split(new)) {
        if op.tag() != DiffTag::Equal {
            counts.added += op.new_range().len();
            counts.removed += op.old_range().len();
        }
    }
    counts
}

/// Writes the hunks of a unified difference: nothing if both are equal.
pub fn unified(old: &[u8], new: &[u8], out: &mut impl Write) -> io::Result<()> {
    let (old, new) = (split(old), split(new));
    for group in group_diff_ops(compare(&old, &new), CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let old_range = first.old_range().start..last.old_range().end;
        let new_range = first.new_range().start..last.new_range().end;
        writeln!(out, "@@ -{} +{} @@", range(old_range), range(new_range))?;
        for op in group {
            if op.tag() == DiffTag::Equal {
                write_lines(b' ', &old[op.old_range()], out)?;
            } else {
                write_lines(b'-', &old[op.old_range()], out)?;
                write_lines(b'+', &new[op.new_range()], out)?;
            }
        }
    }
    Ok(())
}

/// `first,count` counted from one; an empty range names the line before it.
fn range(range: std::ops::Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => (range.start + 1).to_string(),
        len => format!("{},{len}", range.start + 1),
    }
}

fn write_lines(sign: u8, lines: &[&[u8]], out: &mut impl Write) -> io::Result<()> {
    for line in lines {
        out.write_all(&[sign])?;
        out.write_all(line)?;
        if !line.ends_with(b"\n") {
            out.write_all(b"\n\\ No newline at end of file\n")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(old: &str, new: &str) -> String {
        let mut out = Vec::new();
        unified(old.as_bytes(), new.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hunks_are_as_patch_wants_them() {
        assert_eq!(text("a\nb\n", "a\nc\n"), "@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
        assert_eq!(text("", "x\n"), "@@ -0,0 +1 @@\n+x\n");
        assert_eq!(text("x\n", ""), "@@ -1 +0,0 @@\n-x\n");
        assert_eq!(
            text("x", "x\n"),
            "@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+x\n"
        );
        assert_eq!(text("same\n", "same\n"), "");
    }

    #[test]
    fn a_carriage_return_ends_no_line() {
        assert_eq!(
            text("a\rb", "a\rc"),
            "@@ -1 +1 @@\n-a\rb\n\\ No newline at end of file\n+a\rc\n\\ No newline at end of file\n"
        );
    }

    #[test]
    fn lines_are_counted() {
        assert_eq!(
            count(b"a\nb\nc\n", b"a\nX\nY\nc\n"),
            Counts {
                added: 2,
                removed: 1
            }
        );
    }
}
