//! Attributes, listings, links and extended attributes of every kind of object.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use super::super::BaseError;
use super::*;
use crate::tree::Kind;
use nix::errno::Errno;

/// One object of each kind (device nodes where we may make them), by name.
fn zoo() -> (Scratch, BTreeMap<&'static str, Kind>) {
    let dir = Scratch::new();
    let mut kinds = BTreeMap::from([
        ("file", Kind::File),
        ("dir", Kind::Dir),
        ("link", Kind::Symlink),
        ("fifo", Kind::Fifo),
        ("socket", Kind::Socket),
    ]);
    let file = dir.write("file", b"hello");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
    dir.write("dir/inner", b"");
    symlink("file", dir.0.join("link")).unwrap();
    mkfifo(&dir.0.join("fifo"), Mode::from_bits_truncate(0o640)).unwrap();
    drop(UnixListener::bind(dir.0.join("socket")).unwrap());
    if is_root() {
        for (name, kind, flag) in [
            ("char", Kind::Char, SFlag::S_IFCHR),
            ("block", Kind::Block, SFlag::S_IFBLK),
        ] {
            // Numbers that need the high bits of both fields.
            mknod(
                &dir.0.join(name),
                flag,
                Mode::S_IRUSR,
                makedev(0x123, 0x4_5678),
            )
            .unwrap();
            kinds.insert(name, kind);
        }
    }
    (dir, kinds)
}

#[test]
fn attributes_are_those_of_the_disk() {
    let (dir, kinds) = zoo();
    let base = dir.base();
    for (name, kind) in kinds {
        let stat = base.lookup(ROOT, name.as_bytes()).unwrap();
        let real = fs::symlink_metadata(dir.0.join(name)).unwrap();
        assert_eq!(stat.kind, kind, "{name}");
        assert_eq!(stat.ino, real.ino());
        assert_eq!(stat.kind.to_mode() | u32::from(stat.perm), real.mode());
        assert_eq!((stat.uid, stat.gid), (real.uid(), real.gid()));
        assert_eq!((stat.size, stat.blocks), (real.size(), real.blocks()));
        assert_eq!(u64::from(stat.nlink), real.nlink());
        assert_eq!(u64::from(stat.rdev), real.rdev());
        assert_eq!(stat.mtime, (real.mtime(), real.mtime_nsec() as u32));
        assert_eq!(stat.ctime, (real.ctime(), real.ctime_nsec() as u32));
        assert_eq!(stat.atime, (real.atime(), real.atime_nsec() as u32));
        assert_eq!(base.stat(stat.ino).unwrap(), stat);
        assert!(!real.file_type().is_char_device() || stat.rdev == 0x4561_2378);
    }
}

#[test]
fn the_root_is_number_one() {
    let dir = Scratch::new();
    let base = dir.base();
    let stat = base.stat(ROOT).unwrap();
    assert_eq!((stat.ino, stat.kind), (ROOT, Kind::Dir));
    assert_eq!(base.identity().ino, ino_of(&dir.0));
    assert_eq!(base.identity().path, dir.0);
    assert_eq!(base.path_of(ROOT), Some(PathBuf::from(".")));
    assert_eq!(base.place_of(ROOT), None);
    assert_eq!(base.readlink(ROOT), Err(Errno::EINVAL));
}

#[test]
fn listings_name_everything_once_with_its_kind() {
    let (dir, kinds) = zoo();
    let base = dir.base();
    let listed = base.list(ROOT).unwrap();
    assert_eq!(listed.len(), kinds.len());
    for entry in listed {
        let name = std::str::from_utf8(&entry.name).unwrap();
        assert_eq!(kinds[name], entry.kind, "{name}");
        assert_eq!(entry.ino, ino_of(&dir.0.join(name)));
    }
    assert_eq!(base.known(), 1, "listing learns nothing");
    let sub = walk(&base, "dir");
    assert_eq!(base.list(sub).unwrap().len(), 1);
    let file = walk(&base, "file");
    assert_eq!(base.list(file), Err(Errno::ENOTDIR));
    let link = walk(&base, "link");
    assert_eq!(base.list(link), Err(Errno::ENOTDIR));
}

#[test]
fn names_are_bytes() {
    let dir = Scratch::new();
    let long: Vec<u8> = (1..=255)
        .map(|b| if b == b'/' { 0xfe } else { b })
        .collect();
    fs::write(dir.0.join(OsStr::from_bytes(&long)), b"").unwrap();
    let base = dir.base();
    let stat = base.lookup(ROOT, &long).unwrap();
    assert_eq!(&*base.list(ROOT).unwrap()[0].name, &long[..]);
    assert_eq!(&*base.place_of(stat.ino).unwrap().name, &long[..]);
    assert_eq!(base.lookup(ROOT, &[b'x'; 256]), Err(Errno::ENAMETOOLONG));
    assert_eq!(base.lookup(ROOT, b"missing"), Err(Errno::ENOENT));
    for name in ["", ".", "..", "a/b", "../etc"] {
        assert_eq!(
            base.lookup(ROOT, name.as_bytes()),
            Err(Errno::EINVAL),
            "{name:?}"
        );
    }
}

#[test]
fn link_targets_come_whole() {
    let dir = Scratch::new();
    let target = "t/".repeat(2000);
    symlink(&target, dir.0.join("long")).unwrap();
    dir.write("file", b"");
    let base = dir.base();
    assert_eq!(
        base.readlink(walk(&base, "long")).unwrap(),
        target.as_bytes()
    );
    assert_eq!(base.readlink(walk(&base, "file")), Err(Errno::EINVAL));
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Result<(), Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = CString::new(name).unwrap();
    // SAFETY: both strings are NUL-terminated and `value` is as long as its length says.
    let set = unsafe {
        libc::lsetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Errno::result(set).map(drop)
}

#[test]
fn extended_attributes_of_every_kind() {
    let (dir, kinds) = zoo();
    // Only root has attributes on what is neither a file nor a directory.
    let (prefix, on_all) = if is_root() {
        ("trusted", true)
    } else {
        ("user", false)
    };
    let name = format!("{prefix}.llfs-test");
    let long = [7; 2000];
    let base = dir.base();
    for (path, kind) in kinds {
        if !on_all && !matches!(kind, Kind::File | Kind::Dir) {
            continue;
        }
        let ino = walk(&base, path);
        assert_eq!(
            base.getxattr(ino, name.as_bytes()),
            Err(Errno::ENODATA),
            "{path}"
        );
        for value in [&b""[..], path.as_bytes(), &long] {
            set_xattr(&dir.0.join(path), &name, value).unwrap();
            assert_eq!(
                base.getxattr(ino, name.as_bytes()).unwrap(),
                value,
                "{path}"
            );
        }
        let names = base.listxattr(ino).unwrap();
        assert!(names.contains(&name.clone().into_bytes()), "{path}");
        assert_eq!(base.getxattr(ino, b"a\0b"), Err(Errno::EINVAL));
    }
    set_xattr(&dir.0, "user.on-root", b"x").unwrap();
    assert_eq!(base.getxattr(ROOT, b"user.on-root").unwrap(), b"x");
    assert!(
        base.listxattr(ROOT)
            .unwrap()
            .contains(&b"user.on-root".to_vec())
    );
}

#[test]
fn a_description_is_what_the_single_questions_say() {
    let (dir, kinds) = zoo();
    if is_root() {
        set_xattr(&dir.0.join("file"), "trusted.one", b"1").unwrap();
    }
    set_xattr(&dir.0.join("file"), "user.two", b"22").unwrap();
    set_xattr(&dir.0.join("dir"), "user.long", &[7; 3000]).unwrap();
    set_xattr(&dir.0, "user.on-root", b"x").unwrap();
    let base = dir.base();
    let mut inos: Vec<u64> = kinds.keys().map(|path| walk(&base, path)).collect();
    inos.push(ROOT);
    // Unasked, after the question that comes before a write, and after another description.
    for asked in [false, true, true] {
        for ino in &inos {
            if asked {
                let capability = base.getxattr(*ino, b"security.capability");
                assert_eq!(capability, Err(Errno::ENODATA));
            }
            let (stat, mut xattrs) = base.describe(*ino).unwrap();
            assert_eq!(stat, base.stat(*ino).unwrap());
            let mut single: Vec<_> = base.listxattr(*ino).unwrap();
            single.sort();
            xattrs.sort();
            let names: Vec<_> = xattrs.iter().map(|(name, _)| name.clone()).collect();
            assert_eq!(names, single);
            for (name, value) in xattrs {
                assert_eq!(base.getxattr(*ino, &name).unwrap(), value);
            }
        }
        if !asked {
            base.evict();
        }
    }
    let file = walk(&base, "file");
    assert!(!base.describe(file).unwrap().1.is_empty());
}

#[test]
fn looking_at_entries_of_a_directory_learns_nothing_until_they_are_held() {
    let (dir, kinds) = zoo();
    let base = dir.base();
    let stats: Vec<_> = {
        let root = base.dir(ROOT).unwrap();
        assert_eq!(root.peek(b"missing"), Err(Errno::ENOENT));
        assert_eq!(root.peek(b"dir/inner"), Err(Errno::EINVAL));
        assert_eq!(root.peek(b".."), Err(Errno::EINVAL));
        let names = kinds.keys();
        names
            .map(|n| (*n, root.peek(n.as_bytes()).unwrap()))
            .collect()
    };
    assert_eq!(base.known(), 1);
    let entries = stats.iter().map(|(name, stat)| (stat.ino, name.as_bytes()));
    base.hold_all(ROOT, entries).unwrap();
    assert_eq!(base.known(), 1 + kinds.len());
    for (_, stat) in &stats {
        assert_eq!(base.stat(stat.ino).unwrap(), *stat);
        base.forget(stat.ino);
    }
    assert_eq!(base.known(), 1);
}

#[test]
fn long_listings_are_whole() {
    let dir = Scratch::new();
    let names: Vec<String> = (0..3000).map(|i| format!("{i:0100}")).collect();
    for name in &names {
        dir.write(&format!("many/{name}"), b"");
    }
    let base = dir.base();
    let many = walk(&base, "many");
    // The first time with a descriptor opened for it, then through the one that is kept, then anew.
    for round in 0..3 {
        let listed = base.list(many).unwrap();
        let mut found: Vec<_> = listed.iter().map(|e| e.name.to_vec()).collect();
        found.sort();
        assert!(
            found
                .iter()
                .map(|n| &n[..])
                .eq(names.iter().map(|n| n.as_bytes())),
            "{round}"
        );
        if round == 1 {
            base.evict();
        }
    }
}

#[test]
fn a_name_that_was_not_there_is_asked_for_again() {
    let dir = Scratch::new();
    let base = dir.base();
    for _ in 0..3 {
        assert_eq!(base.lookup(ROOT, b"new"), Err(Errno::ENOENT));
        assert_eq!(base.lookup(ROOT, b"other"), Err(Errno::ENOENT));
    }
    base.evict();
    dir.write("other", b"");
    assert!(base.lookup(ROOT, b"other").is_ok(), "an apply made it");
}

#[test]
fn what_cannot_be_a_base_says_why() {
    let dir = Scratch::new();
    let file = dir.write("file", b"");
    symlink("loop", dir.0.join("loop")).unwrap();
    let error = |path: &str| Base::open(&dir.0.join(path)).map(drop).unwrap_err();
    assert!(
        matches!(error("nothing"), BaseError::Missing { path } if path == dir.0.join("nothing"))
    );
    assert!(matches!(error("file"), BaseError::NotADirectory { path } if path == file));
    assert!(matches!(
        error("file/below"),
        BaseError::NotADirectory { .. }
    ));
    assert!(matches!(
        error("loop"),
        BaseError::Unreadable {
            source: Errno::ELOOP,
            ..
        }
    ));
    assert!(
        error("nothing")
            .to_string()
            .ends_with("/nothing: no such directory")
    );
}

#[test]
fn a_base_reached_through_a_link_is_named_by_its_own_path() {
    let dir = Scratch::new();
    dir.write("real/file", b"");
    symlink("real", dir.0.join("alias")).unwrap();
    let base = Base::open(&dir.0.join("alias")).unwrap();
    assert_eq!(base.identity().path, dir.0.join("real"));
    assert!(base.lookup(ROOT, b"file").is_ok());
}

#[test]
fn figures_of_the_filesystem() {
    let dir = Scratch::new();
    let figures = dir.base().statfs().unwrap();
    assert!(figures.blocks() > 0 && figures.fragment_size() > 0);
}
