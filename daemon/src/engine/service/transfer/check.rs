//! What nobody who has a file system would tell: refused before anything is made of it.

use llctl::transfer::DATA_MAX;
use llctl::transfer::item::{Entry, Time};

use crate::engine::io::SIZE_MAX;
use crate::tree::{BLOCK, Kind, NAME_MAX};

/// The longest target of a symbolic link (`PATH_MAX`, `linux/limits.h`, without its NUL).
const TARGET_MAX: usize = 4095;
/// The longest name and value of an extended attribute (`XATTR_NAME_MAX`, `XATTR_SIZE_MAX`, `linux/limits.h`).
const XATTR_NAME_MAX: usize = 255;
const XATTR_SIZE_MAX: usize = 64 << 10;

/// What is wrong, in a sentence.
pub(super) type Wrong = String;

/// The names of a path from the root on.
pub(super) fn names(path: &[u8]) -> Result<Vec<&[u8]>, Wrong> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    for name in &names {
        let fine = !matches!(*name, b"" | b"." | b"..");
        if !fine || name.len() > NAME_MAX || name.contains(&0) {
            return Err("no file can have this path".to_owned());
        }
    }
    Ok(names)
}

/// The type of an entry of which everything else can be as it says.
pub(super) fn entry(entry: &Entry) -> Result<Kind, Wrong> {
    let wrong = |what: &str| Err(what.to_owned());
    let Ok(kind) = Kind::try_from(entry.kind) else {
        return wrong("there is no such type");
    };
    let is_device = matches!(kind, Kind::Char | Kind::Block);
    if entry.perm > 0o7777 {
        return wrong("there are no such permissions");
    }
    if [entry.atime, entry.mtime, entry.ctime]
        .iter()
        .any(|time: &Time| time.1 >= 1_000_000_000)
    {
        return wrong("there is no such time");
    }
    if entry.size > SIZE_MAX || (kind != Kind::File && entry.size != 0) {
        return wrong("it cannot have that size");
    }
    if (entry.device != 0 && !is_device) || (entry.links == 0) != (kind == Kind::Dir) {
        return wrong("its type has no such attributes");
    }
    if entry.link.is_some() && entry.links < 2 {
        return wrong("it has one name and is told twice");
    }
    match (&entry.target, kind) {
        (None, Kind::Symlink) => return wrong("it leads nowhere"),
        (Some(target), Kind::Symlink)
            if (1..=TARGET_MAX).contains(&target.len()) && !target.contains(&0) => {}
        (None, _) => {}
        (Some(_), _) => return wrong("it cannot lead there"),
    }
    let mut before: &[u8] = b"";
    for (name, value) in &entry.xattrs {
        let fine = name.as_slice() > before && name.len() <= XATTR_NAME_MAX && !name.contains(&0);
        if !fine || value.len() > XATTR_SIZE_MAX {
            return wrong("it cannot have that extended attribute");
        }
        before = name;
    }
    Ok(kind)
}

/// Whether a file of `size` bytes, of which those before `next` were told, can go on with these.
pub(super) fn data(at: u64, bytes: &[u8], next: u64, size: u64) -> Result<(), Wrong> {
    let len = bytes.len() as u64;
    let end = at.checked_add(len).filter(|end| *end <= size);
    let fits = end.is_some_and(|end| len.is_multiple_of(BLOCK) || end == size);
    match at >= next && at.is_multiple_of(BLOCK) && (1..=DATA_MAX).contains(&bytes.len()) && fits {
        true => Ok(()),
        false => Err("it cannot have bytes there".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_no_file_has_are_refused() {
        assert_eq!(names(b"a/b").unwrap(), [b"a", b"b"]);
        assert!(names(b"").unwrap().is_empty());
        let long = vec![b'x'; NAME_MAX + 1];
        for wrong in [
            b"/a".as_slice(),
            b"a/",
            b"a//b",
            b"..",
            b"a/../b",
            b"./a",
            b"a\0b",
            &long,
        ] {
            assert!(names(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn bytes_lie_within_the_file_and_behind_those_before() {
        let block = [1; BLOCK as usize];
        assert!(data(0, &block, 0, BLOCK).is_ok());
        assert!(data(BLOCK, b"x", BLOCK, BLOCK + 1).is_ok());
        for (at, bytes, next, size) in [
            (0, &block[..], 1, 2 * BLOCK),
            (1, &block[..], 0, 2 * BLOCK),
            (0, &block[..5], 0, 6),
            (0, &block[..], 0, 5),
            (0, b"", 0, 5),
            (u64::MAX - 4095, &block[..], 0, u64::MAX),
        ] {
            assert!(data(at, bytes, next, size).is_err(), "{at} {next} {size}");
        }
    }
}
