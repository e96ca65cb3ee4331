//! Printing names that may hold anything: names are bytes, terminals obey escape sequences.

use std::fmt::Write as _;
use std::path::Path;

/// The text of `bytes` with everything escaped that could steer a terminal or mislead a reader:
/// control characters, invisible and direction-changing characters, bytes that are not UTF-8, and
/// the backslash itself, so that two different names never print alike.
///
/// `\n`, `\t` and `\r` get their usual names, every other escaped byte is `\xNN`.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_char(&mut text, c);
        }
        for &byte in chunk.invalid() {
            push_byte(&mut text, byte);
        }
    }
    text
}

/// How paths are told to people, in errors and logs too. `Path::display` would let a name break or steer lines.
pub trait Shown {
    /// The path as [`escaped`] does it.
    fn shown(&self) -> String;
}

impl Shown for Path {
    fn shown(&self) -> String {
        escaped(self.as_os_str().as_encoded_bytes())
    }
}

/// A command as it would be typed in a shell: words that hold more than plain characters are quoted. Not for a terminal as it is:
/// see [`escaped`].
pub fn command_line<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./@:,=+%".contains(c);
    let mut line = String::new();
    for word in words {
        let word = word.as_ref();
        if !line.is_empty() {
            line.push(' ');
        }
        match !word.is_empty() && word.chars().all(plain) {
            true => line.push_str(word),
            false => {
                line.push('\'');
                line.push_str(&word.replace('\'', "'\\''"));
                line.push('\'');
            }
        }
    }
    line
}

/// The words of a `/proc/PID/cmdline`, as one would type them.
pub fn command_line_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    // Some programs put what they do there, behind many zeros.
    let text = text.trim_end_matches('\0');
    match text.is_empty() {
        true => String::new(),
        false => command_line(text.split('\0')),
    }
}

fn push_char(text: &mut String, c: char) {
    match c {
        '\\' => text.push_str("\\\\"),
        '\n' => text.push_str("\\n"),
        '\t' => text.push_str("\\t"),
        '\r' => text.push_str("\\r"),
        c if c.is_control() || misleading(c) => {
            let mut buffer = [0; 4];
            for &byte in c.encode_utf8(&mut buffer).as_bytes() {
                push_byte(text, byte);
            }
        }
        c => text.push(c),
    }
}

fn push_byte(text: &mut String, byte: u8) {
    write!(text, "\\x{byte:02x}").expect("writing to a String cannot fail");
}

/// Characters that print nothing or reorder what is around them.
fn misleading(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// `text` over several lines with control characters other than newline and tab escaped.
pub fn escaped_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' | '\\' => out.push(c),
            c => push_char(&mut out, c),
        }
    }
    out
}

/// A line of a file for a terminal: as [`escaped`], but tabs and backslashes stay, for it is read and not compared.
pub fn escaped_line(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&escaped_text(chunk.valid()));
        for &byte in chunk.invalid() {
            push_byte(&mut text, byte);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_typed_again() {
        let line = command_line(["sh", "-c", "echo 'a b' > f; exit 3", "", "über=1", "$HOME"]);
        assert_eq!(
            line,
            r"sh -c 'echo '\''a b'\'' > f; exit 3' '' über=1 '$HOME'"
        );
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        assert_eq!(escaped(b"a\x1b[31mred\nb"), "a\\x1b[31mred\\nb");
        assert_eq!(escaped(b"caf\xc3\xa9 \xff\\"), "café \\xff\\\\");
        assert_eq!(
            escaped("x\u{202e}y\u{9b}".as_bytes()),
            "x\\xe2\\x80\\xaey\\xc2\\x9b"
        );
    }

    #[test]
    fn a_path_is_one_line() {
        assert_eq!(Path::new("/a\nb\u{1b}[31m").shown(), r"/a\nb\x1b[31m");
    }

    #[test]
    fn text_keeps_its_lines() {
        assert_eq!(escaped_text("one\n\ttwo\x07\\"), "one\n\ttwo\\x07\\");
    }
}
