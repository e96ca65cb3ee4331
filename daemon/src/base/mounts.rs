//! Other mounts below a directory.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mount points strictly below `path` (absolute, without symbolic links), in the order of the kernel's list.
///
/// # Errors
/// `/proc/self/mountinfo` cannot be read.
pub fn mounts_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(below(path, &std::fs::read("/proc/self/mountinfo")?))
}

/// [`mounts_below`] on the contents of a mountinfo file, whose fifth field is the mount point, see proc(5).
fn below(path: &Path, mountinfo: &[u8]) -> Vec<PathBuf> {
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .filter(|point| point != path && point.starts_with(path))
        .collect()
}

/// Undoes the kernel's escapes: a backslash and three octal digits for blank, tab, newline, backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        if let (
            b'\\',
            [
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ],
        ) = (first, tail)
        {
            out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = after;
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    const INFO: &[u8] = b"\
22 1 0:20 / / rw - ext4 /dev/vda rw
30 22 0:30 / /srv/base rw shared:5 - tmpfs tmpfs rw
31 30 0:31 / /srv/base/deep/mount rw - tmpfs tmpfs rw
32 30 0:32 / /srv/base/with\\040blank\\134and\\012newline rw - tmpfs tmpfs rw
33 22 0:33 / /srv/baseline rw - tmpfs tmpfs rw
";

    #[test]
    fn only_what_is_strictly_below_counts() {
        let found = below(Path::new("/srv/base"), INFO);
        let odd = OsStr::from_bytes(b"/srv/base/with blank\\and\nnewline");
        assert_eq!(found, [Path::new("/srv/base/deep/mount"), Path::new(odd)]);
        assert!(below(Path::new("/srv/base/deep/mount"), INFO).is_empty());
        assert_eq!(below(Path::new("/"), INFO).len(), 4);
    }

    #[test]
    fn a_lone_backslash_stays() {
        assert_eq!(unescape(b"a\\b\\04"), b"a\\b\\04");
        assert_eq!(unescape(b"\\377\\000"), [0xff, 0]);
    }

    #[test]
    fn the_real_list_is_readable() {
        assert!(
            mounts_below(Path::new("/"))
                .unwrap()
                .contains(&PathBuf::from("/proc"))
        );
    }
}
