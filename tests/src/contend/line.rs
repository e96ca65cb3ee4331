//! Lines that describe themselves, and the log to which everybody appends them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::ledger::{Ledger, What};
use super::{Past, SLOTS};
use crate::dice::Random;

/// Bytes of a page.
const PAGE: usize = 4096;
/// The file.
pub const LOG: &str = "log";

/// Makes an empty log.
pub(super) fn prepare(dir: &Path) -> io::Result<()> {
    fs::write(dir.join(LOG), "")
}

/// Line `number` of a slot, `length` bytes with its newline (at least 64).
#[must_use]
pub fn line(slot: usize, number: u64, length: usize) -> Vec<u8> {
    let mut text = format!("{slot} {number} {length} ").into_bytes();
    let mut random = Random::new((slot as u64) << 48 ^ number);
    while text.len() < length - 18 {
        text.push(b'a' + random.below(26) as u8);
    }
    text.extend(format!(" {:016x}\n", xxh3_64(&text)).bytes());
    text
}

/// The slot and the number of a line (without its newline), if it is whole.
#[must_use]
pub fn parse(text: &[u8]) -> Option<(usize, u64)> {
    let (body, sum) = text.split_at_checked(text.len().checked_sub(17)?)?;
    if !body.first()?.is_ascii_digit() {
        return None;
    }
    let sum = std::str::from_utf8(sum.strip_prefix(b" ")?).ok()?;
    if u64::from_str_radix(sum, 16).ok()? != xxh3_64(body) {
        return None;
    }
    let mut words = body.split(|b| *b == b' ').map(std::str::from_utf8);
    let slot = words.next()?.ok()?.parse().ok()?;
    let number = words.next()?.ok()?.parse().ok()?;
    let length: usize = words.next()?.ok()?.parse().ok()?;
    (length == text.len() + 1 && slot < SLOTS).then_some((slot, number))
}

/// What a file of lines holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The slot and the number of every whole line.
    pub whole: Vec<(usize, u64)>,
    /// Where something else is, from byte to byte.
    pub torn: Vec<(usize, usize)>,
}

/// Reads a file of lines.
#[must_use]
pub fn lines(content: &[u8]) -> Lines {
    let mut found = Lines::default();
    let mut at = 0;
    while at < content.len() {
        let end = content[at..]
            .iter()
            .position(|b| *b == b'\n')
            .map(|end| at + end);
        let text = &content[at..end.unwrap_or(content.len())];
        // A whole line may follow what is left of another one.
        let line = end.and_then(|_| (0..text.len()).find_map(|n| Some((n, parse(&text[n..])?))));
        let next = end.map_or(content.len(), |end| end + 1);
        match line {
            None => found.torn.push((at, next)),
            Some((before, known)) => {
                if before > 0 {
                    found.torn.push((at, at + before));
                }
                found.whole.push(known);
            }
        }
        at = next;
    }
    found
}

/// One thread's open log.
#[derive(Debug)]
pub struct Appender(File);

impl Appender {
    /// Opens the log for appending.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn open(dir: &Path) -> io::Result<Appender> {
        Ok(Appender(File::options().append(true).open(dir.join(LOG))?))
    }

    /// Appends the slot's next line in one call.
    ///
    /// # Errors
    /// What the filesystem says, and a short write.
    pub fn step(&mut self, ledger: &Ledger, slot: usize, random: &mut Random) -> io::Result<()> {
        let number = ledger.begin(slot, What::Line);
        // Some are longer than a page, and most cross the end of one now and then.
        let length = match random.below(8) {
            0 => 4000 + random.below(5000),
            _ => 64 + random.below(400),
        };
        let text = line(slot, number, length);
        let count = self.0.write(&text)?;
        if count != length {
            return Err(io::Error::other(format!(
                "{count} of {length} bytes written"
            )));
        }
        ledger.finish(slot, What::Line);
        Ok(())
    }
}

/// What is wrong with the log: `floor` and `ceiling` say what must and what may be in it.
///
/// The kernel hands a write that crosses the end of a page to a FUSE filesystem in parts. So the last line
/// of a snapshot may be the beginning of one that was being written, up to the end of a page, and a
/// revert leaves such a beginning, or the other part of a line, in the middle.
#[must_use]
pub fn problems(dir: &Path, floor: &Ledger, ceiling: &Ledger, past: Past) -> Vec<String> {
    let content = match fs::read(dir.join(LOG)) {
        Ok(content) => content,
        Err(error) => return vec![format!("log: {error}")],
    };
    let Lines { whole, torn } = lines(&content);
    let mut problems = Vec::new();
    let bearable = match past {
        Past::Quiet => torn.is_empty(),
        Past::Snapshot => {
            let cut = |end: usize| end == content.len() && end.is_multiple_of(PAGE);
            torn.len() <= 1 && torn.iter().all(|(_, end)| cut(*end))
        }
        Past::Reverts(count) => torn.len() <= 2 * count + 1,
    };
    if !bearable {
        problems.push(format!(
            "log: {} bytes with torn lines {torn:?}",
            content.len()
        ));
    }
    let exact = past.is_exact();
    let mut last = [0u64; SLOTS];
    for (slot, number) in whole {
        if number <= last[slot] {
            problems.push(format!(
                "log: line {number} of slot {slot} after {}",
                last[slot]
            ));
        } else if exact && number != last[slot] + 1 {
            let first = last[slot] + 1;
            problems.push(format!(
                "log: slot {slot}: lines {first} to {} are lost",
                number - 1
            ));
        }
        last[slot] = number;
    }
    for (slot, number) in last.into_iter().enumerate() {
        let (low, high) = (
            floor.finished(slot, What::Line),
            ceiling.begun(slot, What::Line),
        );
        if number > high || exact && number < low {
            problems.push(format!(
                "log: slot {slot} ends with line {number}, and {low} to {high} were written"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Torn, mixed and moved lines are told from whole ones.
    #[test]
    fn only_whole_lines_are_lines() {
        let (one, two) = (line(3, 7, 64), line(31, 1 << 40, 5000));
        let read = |parts: &[&[u8]]| {
            let found = lines(&parts.concat());
            (found.whole, found.torn)
        };
        let both = vec![(3, 7), (31, 1 << 40)];
        assert_eq!(read(&[&one, &two]), (both.clone(), vec![]));
        assert_eq!(
            read(&[&one[1..], &two]),
            (both[1..].to_vec(), vec![(0, 63)])
        );
        assert_eq!(
            read(&[&one, &two[..4999]]),
            (both[..1].to_vec(), vec![(64, 5063)])
        );
        // What is left of a line, before one and in one.
        assert_eq!(
            read(&[&two[..100], &one]),
            (both[..1].to_vec(), vec![(0, 100)])
        );
        let mixed = read(&[&two[..1000], &one, &two[1064..]]);
        assert_eq!(mixed, (both[..1].to_vec(), vec![(0, 1000), (1064, 5000)]));
        assert_eq!(
            read(&[&two[..1000], &[0; 64], &two[1064..]]),
            (vec![], vec![(0, 5000)])
        );
    }
}
