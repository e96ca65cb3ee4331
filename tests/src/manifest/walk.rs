//! Reading a tree.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::{Digest, Entry, Manifest};
use crate::sys;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Files above this size are read by their data segments only.
const SPARSE: u64 = 64 << 20;

/// Writes down everything at and below `root`. Nothing may change meanwhile.
///
/// # Panics
/// When something cannot be read: in these tests that is a failure.
#[track_caller]
pub fn walk(root: &Path) -> Manifest {
    let mut manifest = Manifest::default();
    // The root may be given as a link, such as /proc/self/fd/N.
    let root = root.join(".");
    let mut waiting = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let full = root.join(std::ffi::OsStr::from_bytes(&path));
        let entry = match read_entry(&full) {
            Ok(entry) => entry,
            Err(error) => panic!("{}: {error}", full.display()),
        };
        if entry.is_dir() {
            waiting.extend(names(&full).into_iter().map(|name| join(&path, &name)));
        }
        manifest.0.insert(path, entry);
    }
    manifest
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        name.to_vec()
    } else {
        [path, b"/", name].concat()
    }
}

/// The names in a directory. Each is there once, or the test fails.
fn names(directory: &Path) -> Vec<Vec<u8>> {
    let listed = std::fs::read_dir(directory).and_then(|entries| {
        entries
            .map(|e| e.map(|e| e.file_name().into_vec()))
            .collect()
    });
    let mut names: Vec<Vec<u8>> = match listed {
        Ok(names) => names,
        Err(error) => panic!("listing {}: {error}", directory.display()),
    };
    let listed = names.len();
    names.sort();
    names.dedup();
    assert_eq!(
        listed,
        names.len(),
        "{}: a name is listed twice",
        directory.display()
    );
    names
}

fn read_entry(path: &Path) -> io::Result<Entry> {
    let found = path.symlink_metadata()?;
    let kind = found.mode() & libc::S_IFMT;
    let mut xattrs = BTreeMap::new();
    for name in sys::list_xattr(path)? {
        let value = sys::get_xattr(path, &name)?;
        xattrs.insert(name, value);
    }
    let target = match kind {
        libc::S_IFLNK => std::fs::read_link(path)?.into_os_string().into_vec(),
        _ => Vec::new(),
    };
    let content = if kind == libc::S_IFREG {
        read_content(path, found.size())?
    } else {
        0
    };
    Ok(Entry {
        kind,
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
        nlink: found.nlink(),
        size: found.size(),
        mtime: (found.mtime(), found.mtime_nsec()),
        rdev: found.rdev(),
        ino: found.ino(),
        target,
        xattrs,
        content,
    })
}

fn read_content(path: &Path, size: u64) -> io::Result<u128> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NOATIME)
        .open(path)
        .or_else(|_| File::open(path))?;
    let mut digest = Digest::default();
    if size > SPARSE {
        let mut at = 0;
        while let Some((start, end)) = next_data(&file, at)? {
            // Whole blocks, wherever the filesystem says that the data begins.
            add_range(
                &file,
                &mut digest,
                start / 4096 * 4096,
                end.div_ceil(4096) * 4096,
            )?;
            at = end.div_ceil(4096) * 4096;
        }
    } else {
        add_range(&file, &mut digest, 0, u64::MAX)?;
    }
    Ok(digest.finish(size))
}

/// Adds the bytes from `start` to `end` or the end of the file.
fn add_range(file: &File, digest: &mut Digest, start: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = start;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        let mut filled = 0;
        while filled < wanted {
            match file.read_at(&mut buffer[filled..wanted], at + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        digest.add(at, &buffer[..filled]);
        if filled < wanted {
            return Ok(());
        }
        at += filled as u64;
    }
    Ok(())
}

/// The next data segment at or after `at`.
fn next_data(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    let offset = i64::try_from(at).map_err(io::Error::other)?;
    let start = match nix::unistd::lseek(file, offset, nix::unistd::Whence::SeekData) {
        Ok(start) => start,
        Err(nix::errno::Errno::ENXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = nix::unistd::lseek(file, start, nix::unistd::Whence::SeekHole)?;
    Ok(Some((start.cast_unsigned(), end.cast_unsigned())))
}
