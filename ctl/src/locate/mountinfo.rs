//! The table of mounts, see proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The file system type of an llfs mount.
pub const FSTYPE: &str = "fuse.llfs";

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The file system type, such as `fuse.llfs`.
    pub fstype: String,
    /// The user whose daemon serves it, for FUSE mounts.
    pub uid: Option<u32>,
}

/// The mounts of `table`, in its order. Lines that are not understood are left out.
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table
        .split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// `36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,user_id=0`: behind the sixth field any number of
/// optional ones, then `-`.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mountpoint = fields.nth(4)?;
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let fstype = rest.next()?;
    let options = rest.nth(1).unwrap_or_default();
    let uid = options.split(|&byte| byte == b',').find_map(|option| {
        std::str::from_utf8(option.strip_prefix(b"user_id=")?)
            .ok()?
            .parse()
            .ok()
    });
    Some(Mount {
        mountpoint: PathBuf::from(OsString::from_vec(unescape(mountpoint))),
        fstype: String::from_utf8_lossy(&unescape(fstype)).into_owned(),
        uid,
    })
}

/// Undoes the octal escapes for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match tail {
            [
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] if first == b'\\' => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_with_everything_in_it() {
        let table = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
            90 22 0:44 / /home/a\\040b/r\\134x\\012y rw,nosuid,nodev master:3 propagate_from:2 - fuse.llfs llfs rw,user_id=1000,group_id=1000\n\
            91 22 0:45 / /mnt/\xff rw - fuse.llfs llfs rw,user_id=0\n\
            broken line\n";
        let mounts = parse(table);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].fstype, "ext4");
        assert_eq!(mounts[0].uid, None);
        assert_eq!(mounts[1].mountpoint, PathBuf::from("/home/a b/r\\x\ny"));
        assert_eq!(
            (mounts[1].fstype.as_str(), mounts[1].uid),
            (FSTYPE, Some(1000))
        );
        assert_eq!(
            mounts[2].mountpoint.as_os_str().as_encoded_bytes(),
            b"/mnt/\xff"
        );
    }

    #[test]
    fn no_line_makes_it_panic() {
        for line in [
            "",
            "-",
            "1 2 3 4 5 6 -",
            "1 2 3 4 \\0 6 - \\04",
            "1 2 3 4 \\777 6 7 - x y",
        ] {
            parse(line.as_bytes());
        }
    }
}
