//! The kernel's list of mounts.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Minor device number, which names a FUSE connection.
    pub minor: u32,
    /// Where it is mounted.
    pub at: PathBuf,
    /// The filesystem's type, such as `ext4` or `fuse.llfs`.
    pub kind: String,
}

/// All mounts that this process sees, in the order they were made.
pub fn all() -> Vec<Mount> {
    let table = std::fs::read("/proc/self/mountinfo").expect("/proc is mounted");
    table.split(|&b| b == b'\n').filter_map(parse).collect()
}

/// The topmost mount at exactly `path`.
pub fn at(path: &Path) -> Option<Mount> {
    all().into_iter().rfind(|mount| mount.at == path)
}

/// How many mounts are stacked at exactly `path`.
pub fn stacked(path: &Path) -> usize {
    all().iter().filter(|mount| mount.at == path).count()
}

/// All mounts at or below `path`, the last made first.
pub fn below(path: &Path) -> Vec<Mount> {
    let mut found: Vec<_> = all()
        .into_iter()
        .filter(|m| m.at.starts_with(path))
        .collect();
    found.reverse();
    found
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&b| b == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let minor = device.split_once(':')?.1.parse().ok()?;
    let at = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount {
        minor,
        at,
        kind: String::from_utf8_lossy(kind).into_owned(),
    })
}

/// Decodes `\040` and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_an_escaped_blank_is_read() {
        let line = b"36 35 0:98 / /mnt/a\\040b rw,noatime shared:1 - fuse.llfs llfs rw";
        let mount = parse(line).unwrap();
        assert_eq!(mount.minor, 98);
        assert_eq!(mount.at, Path::new("/mnt/a b"));
        assert_eq!(mount.kind, "fuse.llfs");
    }
}
