//! Names: of snapshots, which have rules, and of files, which have none and are printed.

use llctl::escape::{escaped, escaped_line};
use llctl::protocol::BytePath;
use llctl::{SnapName, StateRef};

/// The bytes that `escaped` made this text of: no two names print alike.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let (byte, length) = match tail {
            [b'n', ..] => (b'\n', 1),
            [b't', ..] => (b'\t', 1),
            [b'r', ..] => (b'\r', 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', digits @ ..] => {
                let digits = std::str::from_utf8(&digits[..2]).expect("two digits follow");
                (u8::from_str_radix(digits, 16).expect("they are hex"), 3)
            }
            _ => panic!("no such escape in {text}"),
        };
        out.push(byte);
        rest = &tail[length..];
    }
    out
}

/// `data` as a name, a snapshot's or a file's.
pub fn names(data: &[u8]) {
    let text = escaped(data);
    assert!(
        !text.chars().any(char::is_control),
        "{text:?} steers a terminal"
    );
    assert_eq!(unescaped(&text), data);
    let line = escaped_line(data);
    assert!(
        !line
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t')
    );
    let path = BytePath::from(data);
    assert_eq!(path.to_string(), text);
    let json = serde_json::to_string(&path).expect("every path is JSON");
    assert_eq!(
        serde_json::from_str::<BytePath>(&json).expect("and back"),
        path
    );
    if let Ok(path) = serde_json::from_slice::<BytePath>(data) {
        let json = serde_json::to_string(&path).expect("every path is JSON");
        assert_eq!(
            serde_json::from_str::<BytePath>(&json).expect("and back"),
            path
        );
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(name) = SnapName::new(text) {
        assert_eq!(name.as_str(), text);
        assert!((1..=128).contains(&text.len()));
        assert!(!text.contains('/') && !text.chars().any(char::is_control));
        assert!(!text.starts_with(['-', '@', '.']));
        assert_eq!(text.parse(), Ok(StateRef::Snapshot(name)));
    }
    if let Ok(state) = text.parse::<StateRef>() {
        // `@10m` is printed as the moment that it was.
        assert_eq!(state.to_string().parse(), Ok(state));
    }
}
