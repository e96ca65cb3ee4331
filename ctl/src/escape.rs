//! Printing names that may hold anything: names are bytes, terminals obey escape sequences.

use std::fmt::Write as _;

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
    fn nothing_that_steers_a_terminal_is_left() {
        assert_eq!(escaped(b"a\x1b[31mred\nb"), "a\\x1b[31mred\\nb");
        assert_eq!(escaped(b"caf\xc3\xa9 \xff\\"), "café \\xff\\\\");
        assert_eq!(
            escaped("x\u{202e}y\u{9b}".as_bytes()),
            "x\\xe2\\x80\\xaey\\xc2\\x9b"
        );
    }

    #[test]
    fn text_keeps_its_lines() {
        assert_eq!(escaped_text("one\n\ttwo\x07\\"), "one\n\ttwo\\x07\\");
    }
}
