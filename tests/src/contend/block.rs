//! Blocks that describe themselves, and the three files that they are written to.
//!
//! `cut` is written, truncated and punched by everybody. `fixed` and `mapped` keep their sizes, and each
//! slot has blocks of its own in them: what it wrote last is what it reads.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::fcntl::FallocateFlags;
use xxhash_rust::xxh3::xxh3_64;

use super::ledger::{Ledger, What};
use super::{Past, SLOTS};
use crate::dice::Random;
use crate::sys::Mapping;

/// Bytes of a block.
const BLOCK: usize = 4096;
/// Blocks of `cut`, at most.
const BLOCKS: usize = 48;
/// Blocks that each slot has in `fixed`, which it writes in turn.
const TURN: usize = 4;
/// A file is never cut so near to the beginning of a block, bytes.
const HEAD: usize = 64;

/// Makes the three files.
pub(super) fn prepare(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("cut"), "")?;
    fs::write(dir.join("fixed"), vec![0; SLOTS * TURN * BLOCK])?;
    fs::write(dir.join("mapped"), vec![0; SLOTS * BLOCK])
}

/// What slot `slot` writes at block `place` as its block `number`.
fn block(place: usize, slot: usize, number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK);
    for field in [place as u64 + 1, slot as u64, number] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    let mut random = Random::new(number << 16 ^ (place as u64) << 8 ^ slot as u64);
    while bytes.len() < BLOCK {
        // No zeros: what was cut off can be told from what was written.
        bytes.extend(random.next_u64().to_le_bytes().map(|b| b | 1));
    }
    bytes
}

/// Who wrote the block found at `place`, or `None` for zeros. It may be cut off, with zeros from there on.
fn writer(place: usize, bytes: &[u8], whole: bool) -> Result<Option<(usize, u64)>, String> {
    if bytes.iter().all(|b| *b == 0) {
        return Ok(None);
    }
    let field = |n: usize| {
        let field = bytes.get(n * 8..n * 8 + 8)?;
        Some(u64::from_le_bytes(field.try_into().ok()?))
    };
    let fields = (field(0), field(1), field(2));
    let (Some(at), Some(slot), Some(number)) = fields else {
        return Err(format!("block {place}: {} bytes", bytes.len()));
    };
    let slot = usize::try_from(slot).unwrap_or(SLOTS);
    if at != place as u64 + 1 || slot >= SLOTS {
        return Err(format!(
            "block {place}: nobody wrote this here: {at:x} {slot:x} {number:x}"
        ));
    }
    let wanted = block(place, slot, number);
    let wrong = bytes.iter().zip(&wanted).position(|(a, b)| a != b);
    match wrong {
        None => Ok(Some((slot, number))),
        Some(wrong) if !whole && wrong >= HEAD && bytes[wrong..].iter().all(|b| *b == 0) => {
            Ok(Some((slot, number)))
        }
        Some(wrong) => Err(format!(
            "block {place}: number {number} of slot {slot}, but another from byte {wrong} on"
        )),
    }
}

/// One thread's open files.
#[derive(Debug)]
pub struct Writer {
    slot: usize,
    exact: bool,
    cut: File,
    fixed: File,
    mapped: File,
    mapping: Mapping,
}

impl Writer {
    /// Opens the files. `exact`: nothing will go back, so that every read can be compared.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn open(dir: &Path, slot: usize, exact: bool) -> io::Result<Writer> {
        let open = |name| File::options().read(true).write(true).open(dir.join(name));
        let mapped = open("mapped")?;
        Ok(Writer {
            slot,
            exact,
            cut: open("cut")?,
            fixed: open("fixed")?,
            mapping: Mapping::new(&mapped, SLOTS * BLOCK, true)?,
            mapped,
        })
    }

    /// Writes one or two blocks of the file that everybody cuts, or cuts it.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn cut(&self, ledger: &Ledger, random: &mut Random) -> io::Result<()> {
        let place = random.below(BLOCKS);
        let at = (place * BLOCK) as u64;
        match random.below(8) {
            0 => {
                let inside = HEAD + random.below(BLOCK - HEAD + 1);
                self.cut.set_len(at + inside as u64)
            }
            1 => {
                let flags =
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                let length = (BLOCK * (1 + random.below(3))) as i64;
                Ok(nix::fcntl::fallocate(
                    &self.cut,
                    flags,
                    at.cast_signed(),
                    length,
                )?)
            }
            kind => {
                let number = ledger.begin(self.slot, What::Cut);
                let mut bytes = block(place, self.slot, number);
                if kind == 2 {
                    bytes.extend(block(place + 1, self.slot, number));
                }
                self.cut.write_all_at(&bytes, at)
            }
        }
    }

    /// Writes the slot's next block of its own, and reads it back.
    ///
    /// # Errors
    /// What the filesystem says, and a block that is not what was written.
    pub fn fixed(&self, ledger: &Ledger) -> io::Result<()> {
        let number = ledger.begin(self.slot, What::Block);
        let place = own_place(self.slot, number);
        let bytes = block(place, self.slot, number);
        let at = (place * BLOCK) as u64;
        self.fixed.write_all_at(&bytes, at)?;
        ledger.finish(self.slot, What::Block);
        let mut found = vec![0; BLOCK];
        self.fixed.read_exact_at(&mut found, at)?;
        if self.exact && found != bytes {
            return Err(io::Error::other(format!(
                "fixed: block {place} is not {number}"
            )));
        }
        Ok(())
    }

    /// Stores the slot's next number through the mapping, and reads it back through the file.
    ///
    /// # Errors
    /// What the filesystem says, and a number that is not what was stored.
    pub fn mapped(&self, ledger: &Ledger) -> io::Result<()> {
        let at = self.slot * BLOCK;
        let number = ledger.begin(self.slot, What::Store);
        self.mapping.store(at, number);
        ledger.finish(self.slot, What::Store);
        let mut found = [0; 8];
        self.mapped.read_exact_at(&mut found, at as u64)?;
        if self.exact && u64::from_le_bytes(found) != number {
            return Err(io::Error::other(format!(
                "mapped: {number} was stored and {} is there",
                u64::from_le_bytes(found)
            )));
        }
        Ok(())
    }
}

/// Where block `number` of the slot's own goes.
fn own_place(slot: usize, number: u64) -> usize {
    slot * TURN + (number % TURN as u64) as usize
}

/// What is wrong with the three files; the arguments are those of [`line::problems`](super::line::problems).
#[must_use]
pub fn problems(dir: &Path, floor: &Ledger, ceiling: &Ledger, past: Past) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, check) in [
        (
            "cut",
            cut_problems as fn(&[u8], &Ledger, &Ledger, bool) -> Vec<String>,
        ),
        ("fixed", fixed_problems),
        ("mapped", mapped_problems),
    ] {
        match fs::read(dir.join(name)) {
            Ok(bytes) => problems.extend(
                check(&bytes, floor, ceiling, past.is_exact())
                    .into_iter()
                    .map(|why| format!("{name}: {why}")),
            ),
            Err(error) => problems.push(format!("{name}: {error}")),
        }
    }
    problems
}

fn cut_problems(bytes: &[u8], _: &Ledger, ceiling: &Ledger, _: bool) -> Vec<String> {
    let mut problems = Vec::new();
    for (place, bytes) in bytes.chunks(BLOCK).enumerate() {
        match writer(place, bytes, false) {
            Ok(Some((slot, number))) if number > ceiling.begun(slot, What::Cut) => {
                problems.push(format!(
                    "block {place}: number {number} of slot {slot} is to come"
                ));
            }
            Ok(_) => {}
            Err(why) => problems.push(why),
        }
    }
    problems
}

fn fixed_problems(bytes: &[u8], floor: &Ledger, ceiling: &Ledger, exact: bool) -> Vec<String> {
    if bytes.len() != SLOTS * TURN * BLOCK {
        return vec![format!("{} bytes", bytes.len())];
    }
    let mut problems = Vec::new();
    for slot in 0..SLOTS {
        let mut numbers = Vec::new();
        for place in slot * TURN..(slot + 1) * TURN {
            match writer(place, &bytes[place * BLOCK..(place + 1) * BLOCK], true) {
                Ok(None) => {}
                Ok(Some((by, number))) if by == slot && own_place(slot, number) == place => {
                    numbers.push(number);
                }
                Ok(Some((by, number))) => {
                    problems.push(format!("block {place}: number {number} of slot {by}"));
                }
                Err(why) => problems.push(why),
            }
        }
        numbers.sort_unstable();
        let last = numbers.last().copied().unwrap_or(0);
        let (low, high) = (
            floor.finished(slot, What::Block),
            ceiling.begun(slot, What::Block),
        );
        if last > high || exact && last < low {
            problems.push(format!(
                "slot {slot} ends with {last}, and {low} to {high} were written"
            ));
        }
        // They are written in turn: all of the last ones are there.
        let first = (last + 1).saturating_sub(TURN as u64).max(1);
        if exact && problems.is_empty() && numbers != (first..=last).collect::<Vec<_>>() {
            problems.push(format!("slot {slot} has the numbers {numbers:?}"));
        }
    }
    problems
}

fn mapped_problems(bytes: &[u8], floor: &Ledger, ceiling: &Ledger, exact: bool) -> Vec<String> {
    if bytes.len() != SLOTS * BLOCK {
        return vec![format!("{} bytes", bytes.len())];
    }
    let mut problems = Vec::new();
    for (slot, page) in bytes.chunks(BLOCK).enumerate() {
        let (number, rest) = page.split_at(8);
        let number = number
            .iter()
            .rev()
            .fold(0, |sum, b| sum << 8 | u64::from(*b));
        let (low, high) = (
            floor.finished(slot, What::Store),
            ceiling.begun(slot, What::Store),
        );
        if number > high || exact && number < low {
            problems.push(format!(
                "slot {slot} has {number}, and {low} to {high} were stored"
            ));
        }
        if rest.iter().any(|b| *b != 0) {
            problems.push(format!("slot {slot}: bytes that nobody stored"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks that are torn, at another place, or cut off are told apart.
    #[test]
    fn only_what_was_written_there_is_a_block() {
        let one = block(5, 2, 900);
        assert_eq!(writer(5, &one, true), Ok(Some((2, 900))));
        assert!(writer(6, &one, true).is_err());
        let mut torn = one.clone();
        torn[2048..].copy_from_slice(&block(5, 2, 901)[2048..]);
        assert!(writer(5, &torn, false).is_err());
        torn[2048..].fill(0);
        assert!(writer(5, &torn, true).is_err());
        assert_eq!(writer(5, &torn, false), Ok(Some((2, 900))));
        assert_eq!(writer(5, &torn[..3000], false), Ok(Some((2, 900))));
        assert_eq!(writer(5, &[0; BLOCK], true), Ok(None));
    }
}
