//! Contents: reads, holes, and that reading leaves no trace.

use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, PosixFadviseAdvice, posix_fadvise};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::super::{FILE_FDS, Seek};
use super::*;

#[test]
fn reads_fill_the_buffer_up_to_the_end() {
    let dir = Scratch::new();
    let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    dir.write("file", &bytes);
    let base = dir.base();
    let ino = walk(&base, "file");
    let mut buf = vec![0; 60_000];
    assert_eq!(base.read_at(ino, &mut buf, 1000, false), Ok(60_000));
    assert_eq!(buf, &bytes[1000..61_000]);
    assert_eq!(base.read_at(ino, &mut buf, 90_000, false), Ok(10_000));
    assert_eq!(buf[..10_000], bytes[90_000..]);
    assert_eq!(base.read_at(ino, &mut buf, 100_000, false), Ok(0));
    assert_eq!(
        base.read_at(ino, &mut buf, u64::MAX, false),
        Err(Errno::EINVAL)
    );
}

#[test]
fn without_waiting_it_is_all_or_eagain() {
    let dir = Scratch::new();
    let bytes = vec![3; 1 << 20];
    let path = dir.write("file", &bytes);
    let file = fs::File::open(&path).unwrap();
    file.sync_all().unwrap();
    let base = dir.base();
    let ino = walk(&base, "file");
    // Throw out the second half only, so that a plain preadv2 would come back short.
    posix_fadvise(&file, 1 << 19, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
    let mut buf = vec![0; 1 << 20];
    match base.read_at(ino, &mut buf, 0, true) {
        Ok(count) => assert_eq!(count, bytes.len()),
        Err(error) => assert_eq!(error, Errno::EAGAIN),
    }
    assert_eq!(base.read_at(ino, &mut buf, 0, false), Ok(1 << 20));
    assert_eq!(buf, bytes);
}

#[test]
fn holes_are_found() {
    let dir = Scratch::new();
    let file = fs::File::create(dir.0.join("sparse")).unwrap();
    file.write_all_at(&[1; 4096], 1 << 20).unwrap();
    file.set_len(4 << 20).unwrap();
    let base = dir.base();
    let ino = walk(&base, "sparse");
    assert_eq!(base.seek_data_hole(ino, 0, Seek::Data), Ok(1 << 20));
    assert_eq!(base.seek_data_hole(ino, 0, Seek::Hole), Ok(0));
    assert_eq!(
        base.seek_data_hole(ino, 1 << 20, Seek::Hole),
        Ok((1 << 20) + 4096)
    );
    assert_eq!(
        base.seek_data_hole(ino, 2 << 20, Seek::Data),
        Err(Errno::ENXIO)
    );
    assert_eq!(
        base.seek_data_hole(ino, 4 << 20, Seek::Hole),
        Err(Errno::ENXIO)
    );
    assert_eq!(
        base.seek_data_hole(ino, u64::MAX, Seek::Hole),
        Err(Errno::ENXIO)
    );
}

#[test]
fn only_regular_files_open() {
    let dir = Scratch::new();
    dir.write("dir/file", b"");
    symlink("dir/file", dir.0.join("link")).unwrap();
    nix::unistd::mkfifo(&dir.0.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let base = dir.base();
    let error = |ino| base.open_file(ino).map(drop).unwrap_err();
    assert_eq!(error(ROOT), Errno::EISDIR);
    assert_eq!(error(walk(&base, "dir")), Errno::EISDIR);
    assert_eq!(error(walk(&base, "link")), Errno::EINVAL);
    // Opening this one would wait for a writer.
    assert_eq!(error(walk(&base, "fifo")), Errno::EINVAL);
    assert_eq!(error(999_999_999), Errno::ESTALE);
}

#[test]
fn descriptors_are_bounded_and_evicted() {
    let dir = Scratch::new();
    let count = FILE_FDS + 20;
    for i in 0..count {
        dir.write(&format!("{i}/file"), i.to_string().as_bytes());
    }
    let base = dir.base();
    let inos: Vec<_> = (0..count)
        .map(|i| walk(&base, &format!("{i}/file")))
        .collect();
    for round in 0..2 {
        for (i, ino) in inos.iter().enumerate() {
            let mut buf = [0; 8];
            let len = base.read_at(*ino, &mut buf, 0, false).unwrap();
            assert_eq!(buf[..len], *i.to_string().as_bytes(), "round {round}");
        }
        assert_eq!(base.files.len(), FILE_FDS);
        assert_eq!(base.dirs.len(), count);
    }
    let kept = base.open_file(inos[0]).unwrap();
    base.evict();
    assert_eq!((base.files.len(), base.dirs.len()), (0, 0));
    assert_eq!(
        kept.file.read_at(&mut [0; 8], 0).unwrap(),
        1,
        "a user keeps what it has"
    );
}

/// Makes a change of the access time due at the next read, even with `relatime`.
fn age(path: &Path) {
    let old = TimeSpec::new(1_000_000_000, 123);
    let flag = UtimensatFlags::NoFollowSymlink;
    utimensat(AT_FDCWD, path, &old, &TimeSpec::new(1_500_000_000, 0), flag).unwrap();
}

#[test]
fn reading_leaves_no_access_time() {
    let dir = Scratch::new();
    dir.write("dir/file", b"contents");
    symlink("target", dir.0.join("dir/link")).unwrap();
    let base = dir.base();
    let (sub, file, link) = (
        walk(&base, "dir"),
        walk(&base, "dir/file"),
        walk(&base, "dir/link"),
    );
    let mut paths = vec![dir.0.join("dir"), dir.0.join("dir/file"), dir.0.clone()];
    if is_root() {
        // Without the read-only clone of the mount, readlink leaves its mark.
        paths.push(dir.0.join("dir/link"));
    }
    paths.iter().for_each(|path| age(path));
    base.list(ROOT).unwrap();
    base.list(sub).unwrap();
    base.read_at(file, &mut [0; 8], 0, false).unwrap();
    base.readlink(link).unwrap();
    base.listxattr(file).unwrap();
    for path in paths {
        let meta = fs::symlink_metadata(&path).unwrap();
        assert_eq!(
            (meta.atime(), meta.atime_nsec()),
            (1_000_000_000, 123),
            "{path:?}"
        );
    }
}

#[test]
fn as_root_the_kernel_refuses_writes_through_the_view() {
    if !is_root() {
        return;
    }
    let dir = Scratch::new();
    dir.write("file", b"");
    let base = dir.base();
    let name = c"file";
    let open = super::super::resolve::open_beneath;
    let refused = open(base.view.as_fd(), name, OFlag::O_WRONLY).unwrap_err();
    assert_eq!(refused, Errno::EROFS);
    assert!(open(base.root_fd(), name, OFlag::O_WRONLY).is_ok());
}

#[test]
fn as_root_no_device_of_the_base_can_be_opened() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    if !is_root() {
        return;
    }
    let dir = Scratch::new();
    let node = dir.0.join("null");
    mknod(&node, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3)).unwrap();
    let base = dir.base();
    let open = super::super::resolve::open_beneath;
    let refused = open(base.view.as_fd(), c"null", OFlag::O_RDONLY);
    assert_eq!(refused.map(drop), Err(Errno::EACCES));
}
