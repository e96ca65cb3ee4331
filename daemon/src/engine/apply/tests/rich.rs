//! A tree with everything in it, and changes of every kind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::super::super::{Engine, SetAttr, SetTime};
use super::ground::{Paths, me};
use crate::tree::{Kind, ROOT, Time};

const EXCHANGE: u32 = 2;

/// Bytes that tell where they belong.
pub fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i / 97) as u8 ^ (i as u8).wrapping_mul(seed | 1))
        .collect()
}

/// An ACL with an entry for user 1234 (`linux/posix_acl_xattr.h`).
pub fn acl(named: u16, mask: u16) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in [
        (1u16, 7u16, !0u32),
        (2, named, 1234),
        (4, 5, !0),
        (16, mask, !0),
        (32, 4, !0),
    ] {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

/// Fills an empty directory.
pub fn build(base: &Path) {
    let dir = |p: &str| fs::create_dir_all(base.join(p)).unwrap();
    let file = |p: &str, len, seed| fs::write(base.join(p), bytes(len, seed)).unwrap();
    for d in [
        "a/deep/x/y",
        "b",
        "ro",
        "sw1/in",
        "sw2",
        "xd/in",
        "parent/child/grand",
        "dead/one/two/three",
        "dead2/keepd/in",
        "dead2/inner/also",
        "emptied",
        "todir-not",
        "tofile/in",
        "plain",
        "quiet/deeper",
    ] {
        dir(d);
    }
    for (i, f) in [
        "a/f1",
        "a/f2",
        "a/f3",
        "a/punch",
        "a/h1",
        "a/deep/x/y/z",
        "a/deep/keep",
        "b/other",
        "ro/file",
        "sw1/in/f",
        "sw2/g",
        "xf",
        "xd/in/f",
        "parent/child/f",
        "parent/child/grand/g",
        "parent/p",
        "dead/one/two/three/f",
        "dead/one/f",
        "dead2/keepf",
        "dead2/keepd/in/f",
        "dead2/inner/also/f",
        "dead2/inner/linked",
        "emptied/e",
        "todir",
        "tofile/in/f",
        "over",
        "o1",
        "o2",
        "rb",
        "c1",
        "c2",
        "c3",
        "e1",
        "attrs",
        "suid",
        "grow",
        "shrink",
        "plain/untouched",
        "quiet/deeper/f",
        "times",
        "mode",
    ]
    .iter()
    .enumerate()
    {
        file(f, 9000 + i * 700, i as u8);
    }
    let sparse = fs::File::create(base.join("sparse")).unwrap();
    sparse.set_len(200 << 10).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, &bytes(8192, 9), 100 << 10).unwrap();
    for (from, to) in [
        ("a/h1", "b/h2"),
        ("e1", "e2"),
        ("dead2/inner/linked", "plain/linked"),
    ] {
        fs::hard_link(base.join(from), base.join(to)).unwrap();
    }
    symlink("a/f1", base.join("sym")).unwrap();
    symlink("gone", base.join("dead/sym")).unwrap();
    mkfifo(&base.join("fifo"), Mode::S_IRWXU).unwrap();
    let mode =
        |p: &str, m| fs::set_permissions(base.join(p), fs::Permissions::from_mode(m)).unwrap();
    mode("ro", 0o555);
    mode("suid", 0o4755);
    mode("plain", 0o2775);
    let xattr = |p: &str, name: &str, value: &[u8]| {
        use super::super::hand::{Hand, Spot};
        let dir = fs::File::open(base).unwrap();
        let spot = Spot::new(&std::rc::Rc::new(dir.into()), p.as_bytes()).unwrap();
        Hand::new(&|_| Ok(()))
            .set_xattr(&spot, name.as_bytes(), value)
            .unwrap();
    };
    xattr("attrs", "user.old", b"old");
    xattr("attrs", "user.gone", b"gone");
    xattr("attrs", "system.posix_acl_access", &acl(7, 7));
    xattr("plain", "system.posix_acl_default", &acl(5, 5));
}

/// Changes of every kind.
pub fn change(e: &Engine) {
    change_data(e);
    change_names(e);
    e.snapshot(|_| "middle".into(), "").unwrap();
    change_attributes(e);
    // More of the same in another layer.
    e.write_at("a/f1", 4000, &bytes(5000, 77));
    e.write_at("new/n2/file", 100, b"again");
    e.new_file("new/late", &bytes(12_000, 3));
}

fn change_data(e: &Engine) {
    e.write_at("a/f1", 5000, b"changed");
    e.write_at("a/h1", 0, b"through one of two links");
    e.write_at("grow", 44_000, b"far beyond the end");
    let size = |n| SetAttr {
        size: Some(n),
        ..SetAttr::default()
    };
    e.set("shrink", size(5001));
    e.set("a/f2", size(100));
    e.set("a/f2", size(20_000));
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    e.fallocate(e.ino("a/punch"), 3000, 7000, punch, &me())
        .unwrap();
    e.write_at("sparse", 150 << 10, &bytes(100, 8));
    e.write_at("ro/file", 1, b"in a directory that cannot be written");
    e.write_at(
        "quiet/deeper/f",
        0,
        b"below directories that nothing else is about",
    );
}

fn change_names(e: &Engine) {
    e.new_dir("new");
    e.new_dir("new/n2");
    e.new_file("new/n2/file", &bytes(20_000, 1));
    e.new_file("top", b"");
    e.ln("new/n2/file", "a/newlink");
    e.new_file("new/sparse", b"start");
    e.write_at("new/sparse", 150 << 10, b"end");
    e.make_at("new/sym", Kind::Symlink, 0, b"../a/f1");
    e.make_at("new/fifo", Kind::Fifo, 0, b"");
    e.make_at("new/sock", Kind::Socket, 0, b"");
    if nix::unistd::Uid::effective().is_root() {
        e.make_at("new/null", Kind::Char, 0x103, b"");
    }
    let long: Vec<u8> = (0..255u8)
        .map(|i| if i == b'/' || i == 0 { 0xff } else { i })
        .collect();
    let make = super::super::super::Make {
        kind: Kind::File,
        perm: 0o600,
        umask: 0,
        rdev: 0,
        target: b"",
    };
    e.make(ROOT, &long, &make, &me()).unwrap();
    e.new_file("plain/inherits", b"a default ACL");
    // Links and names of base files.
    e.ln("a/f3", "new/f3link");
    e.mv("b/h2", "b/h2renamed", 0);
    e.set(
        "e1",
        SetAttr {
            perm: Some(0o640),
            ..SetAttr::default()
        },
    );
    e.rm("e1");
    // A whole directory elsewhere, with changes in it.
    e.mv("a/deep", "new/moved", 0);
    e.rm("new/moved/x/y/z");
    e.new_file("new/moved/x/fresh", b"fresh");
    e.write_at("new/moved/keep", 10, b"and its bytes");
    // Swaps of every kind.
    e.mv("sw1", "sw2", EXCHANGE);
    e.mv("xf", "xd", EXCHANGE);
    e.mv("parent/child", "child", 0);
    e.mv("parent", "child/parent", 0);
    for (from, to) in [
        ("c1", "tmp"),
        ("c2", "c1"),
        ("c3", "c2"),
        ("tmp", "c3"),
        ("rb", "rb2"),
        ("rb2", "rb"),
    ] {
        e.mv(from, to, 0);
    }
    // Removals, and what is taken out of a directory that goes.
    e.rm_r("dead");
    e.mv("dead2/keepf", "new/keepf", 0);
    e.mv("dead2/keepd", "keepd", 0);
    e.mv("dead2/inner/also", "new/also", 0);
    e.ln("dead2/inner/linked", "new/third");
    e.rm_r("dead2");
    e.rm("emptied/e");
    e.rm_r("tofile");
    e.new_file("tofile", b"a file now");
    e.rm("todir");
    e.new_dir("todir");
    e.new_file("todir/child", b"in a directory now");
    e.new_file("winner", b"replaces");
    e.mv("winner", "over", 0);
    e.mv("o1", "o2", 0);
    // Open and without a name.
    e.new_file("orphan", b"nobody sees this");
    e.rm("orphan");
    e.rm("sym");
    e.make_at("sym", Kind::Symlink, 0, b"elsewhere");
}

fn change_attributes(e: &Engine) {
    let some = SetAttr::default();
    e.set(
        "mode",
        SetAttr {
            perm: Some(0),
            ..some
        },
    );
    e.set(
        "ro",
        SetAttr {
            perm: Some(0o500),
            ..some
        },
    );
    e.set(
        "new/n2",
        SetAttr {
            perm: Some(0o1777),
            ..some
        },
    );
    let time = |sec, nsec| Some(SetTime::To(Time { sec, nsec }));
    e.set(
        "times",
        SetAttr {
            atime: time(5, 6),
            mtime: time(-7, 999_999_999),
            ..some
        },
    );
    e.set(
        "new/moved/x",
        SetAttr {
            mtime: time(1_000_000, 1),
            ..some
        },
    );
    e.set(
        "",
        SetAttr {
            mtime: time(2_000_000, 2),
            ..some
        },
    );
    // What keeps its owner out, though what is in it changes.
    e.set(
        "quiet",
        SetAttr {
            perm: Some(0),
            ..some
        },
    );
    let root = nix::unistd::Uid::effective().is_root();
    if root {
        e.set(
            "suid",
            SetAttr {
                uid: Some(1),
                gid: Some(2),
                ..some
            },
        );
        e.set(
            "suid",
            SetAttr {
                perm: Some(0o6755),
                ..some
            },
        );
        e.set(
            "new",
            SetAttr {
                uid: Some(7),
                ..some
            },
        );
    }
    let attrs = e.ino("attrs");
    e.setxattr(attrs, b"user.new", b"new", 0, &me()).unwrap();
    e.setxattr(attrs, b"user.old", b"other", 0, &me()).unwrap();
    e.removexattr(attrs, b"user.gone").unwrap();
    e.setxattr(attrs, b"system.posix_acl_access", &acl(4, 6), 0, &me())
        .unwrap();
    let dir = e.ino("new");
    e.setxattr(dir, b"system.posix_acl_default", &acl(1, 7), 0, &me())
        .unwrap();
    e.setxattr(e.ino("new/n2/file"), b"user.x", &[0, 1, 255], 0, &me())
        .unwrap();
}
