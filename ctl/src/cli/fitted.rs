//! Lines that fit the terminal: broken between their pieces, and never within a name.
//!
//! What is longer than a line by itself is left to the terminal, which wraps it so that it can be copied whole.

use std::borrow::Cow;
use std::io;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::output::{Output, Style};

/// Text of which less would be left is left out.
pub const CUT_MIN: usize = 8;

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// A text of that width at most.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if width(text) <= most {
        return text.into();
    }
    let mut kept = String::new();
    let mut left = most.saturating_sub(1);
    for c in text.chars() {
        let Some(rest) = left.checked_sub(c.width().unwrap_or(0)) else {
            break;
        };
        left = rest;
        kept.push(c);
    }
    (kept + "…").into()
}

struct Piece {
    /// What is between it and the one before, on the same line.
    before: &'static str,
    style: Style,
    text: String,
    /// Free text, which may be cut.
    free: bool,
}

/// A line to be.
#[derive(Default)]
pub struct Line {
    pieces: Vec<Piece>,
}

impl Line {
    /// Adds something that stays whole, behind `before`.
    pub fn add(&mut self, before: &'static str, style: Style, text: impl Into<String>) {
        self.push(before, style, text.into(), false);
    }

    /// Adds free text, which is cut where there is no room for it.
    pub fn text(&mut self, before: &'static str, style: Style, text: impl Into<String>) {
        self.push(before, style, text.into(), true);
    }

    fn push(&mut self, before: &'static str, style: Style, text: String, free: bool) {
        self.pieces.push(Piece {
            before,
            style,
            text,
            free,
        });
    }

    /// The line as it is printed, without its end: of several lines on a terminal that is too narrow, all but the first of
    /// which begin with so many spaces.
    pub fn shown(&self, indent: usize, out: &Output) -> String {
        self.broken(out.width, indent, &|style, text| out.paint(style, text))
    }

    /// Without colors, and as long as it is.
    pub fn plain(&self) -> String {
        self.broken(None, 0, &|_, text| text.to_owned())
    }

    /// Prints it.
    pub fn print(&self, indent: usize, out: &mut Output) -> io::Result<()> {
        let shown = self.shown(indent, out);
        out.line(shown)
    }

    fn broken(
        &self,
        room: Option<usize>,
        indent: usize,
        paint: &dyn Fn(Style, &str) -> String,
    ) -> String {
        let room = room.unwrap_or(usize::MAX);
        let mut line = String::new();
        let mut at = 0;
        for piece in &self.pieces {
            let before = width(piece.before);
            let mut text = Cow::from(&piece.text);
            let fits = |at: usize| at + before + width(&piece.text) <= room;
            if !fits(at) && piece.free && at + before + CUT_MIN <= room {
                text = cut(&piece.text, room - at - before);
            } else if !fits(at) && at > indent {
                // A bracket that opens before it goes with it.
                line.truncate(line.trim_end_matches(' ').len());
                line.push('\n');
                line.push_str(&" ".repeat(indent));
                line.push_str(piece.before.trim_start());
                at = indent + width(piece.before.trim_start());
                if piece.free {
                    text = cut(&piece.text, room.saturating_sub(at).max(CUT_MIN));
                }
                line.push_str(&paint(piece.style, &text));
                at += width(&text);
                continue;
            }
            line.push_str(piece.before);
            line.push_str(&paint(piece.style, &text));
            at += before + width(&text);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        let mut line = Line::default();
        line.add("", Style::Good, "A");
        line.add("  ", Style::Bold, "a name of 20 columns");
        line.add("  ", Style::Plain, "(12.0 KiB)");
        line.text("  ", Style::Dim, "what somebody said of it");
        line
    }

    fn at(room: usize) -> String {
        line().broken(Some(room), 2, &|_, text| text.to_owned())
    }

    #[test]
    fn lines_are_broken_between_pieces() {
        let whole = "A  a name of 20 columns  (12.0 KiB)  what somebody said of it";
        assert_eq!(line().plain(), whole);
        assert_eq!(at(61), whole);
        assert_eq!(at(50), "A  a name of 20 columns  (12.0 KiB)  what somebod…");
        assert_eq!(
            at(40),
            "A  a name of 20 columns  (12.0 KiB)\n  what somebody said of it"
        );
        assert_eq!(at(24), "A  a name of 20 columns\n  (12.0 KiB)  what some…");
        // A name that is longer than the line is whole.
        assert!(
            at(10).starts_with("A  a name of 20 columns\n  (12.0"),
            "{}",
            at(10)
        );
    }

    #[test]
    fn what_is_cut_says_so_in_columns() {
        assert_eq!(cut("größer", 6), "größer");
        assert_eq!(cut("größer", 4), "grö…");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 4), "日…");
    }
}
