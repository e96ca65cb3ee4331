//! Places: depth, hard links, forgetting, many threads.

use std::os::fd::OwnedFd;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

use super::super::{DIR_FDS, Place};
use super::*;

/// Makes `depth` directories called `name`, each in the one before, and a file in the last.
fn dig(root: &Path, depth: usize, name: &str) {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut at: OwnedFd = open(root, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&at, name, Mode::S_IRWXU).unwrap();
        at = openat(&at, name, flags, Mode::empty()).unwrap();
    }
    let create = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    openat(&at, "file", create, Mode::S_IRWXU).unwrap();
    assert_eq!(Dir::from_fd(at).unwrap().iter().count(), 3);
}

#[test]
fn chains_longer_than_a_path_may_be() {
    let dir = Scratch::new();
    let name = "a-directory-name-of-some-length";
    let depth = DIR_FDS + 100;
    dig(&dir.0, depth, name);
    let base = dir.base();
    let path = [name].repeat(depth).join("/") + "/file";
    assert!(path.len() > 2 * libc::PATH_MAX as usize);
    let ino = walk(&base, &path);
    assert_eq!(base.dirs.len(), DIR_FDS);
    base.evict();
    let stat = base.stat(ino).unwrap();
    assert_eq!(stat.ino, ino);
    assert_eq!(base.read_at(ino, &mut [0; 4], 0, false), Ok(0));
    assert!(base.listxattr(ino).is_ok());
    assert_eq!(base.path_of(ino), Some(PathBuf::from(path)));
}

#[test]
fn what_was_forgotten_is_stale_until_looked_up_again() {
    let dir = Scratch::new();
    dir.write("a/b/file", b"");
    let base = dir.base();
    let ino = walk(&base, "a/b/file");
    let (a, b) = (walk(&base, "a"), walk(&base, "a/b"));
    base.forget(a);
    base.forget(b);
    assert!(base.stat(ino).is_ok());
    base.forget(ino);
    assert_eq!(base.known(), 1);
    assert_eq!(base.stat(ino), Err(Errno::ESTALE));
    assert_eq!(base.lookup(b, b"file"), Err(Errno::ESTALE));
    base.hold(b, a, b"b").unwrap();
    base.hold(a, ROOT, b"a").unwrap();
    assert_eq!(base.lookup(b, b"file").unwrap().ino, ino);
}

#[test]
fn recorded_places_need_no_lookup() {
    let dir = Scratch::new();
    let path = dir.write("a/file", b"");
    let base = dir.base();
    let (a, file) = (ino_of(&dir.0.join("a")), ino_of(&path));
    let place = |parent, name: &[u8]| Place {
        parent,
        name: name.into(),
    };
    base.learn(file, &place(a, b"file")).unwrap();
    base.learn(a, &place(ROOT, b"a")).unwrap();
    base.forget(file);
    assert_eq!(base.stat(file).unwrap().ino, file);
    assert_eq!(base.place_of(file), Some(place(a, b"file")));
    let bad = base.learn(file, &place(a, b"../../etc/passwd"));
    assert_eq!(bad, Err(Errno::EINVAL));
}

#[test]
fn apply_may_move_things() {
    let dir = Scratch::new();
    dir.write("old/dir/file", b"x");
    let base = dir.base();
    let (sub, file) = (walk(&base, "old/dir"), walk(&base, "old/dir/file"));
    assert_eq!(base.read_at(file, &mut [0; 4], 0, false), Ok(1));
    base.evict();
    fs::rename(dir.0.join("old/dir"), dir.0.join("moved")).unwrap();
    let place = Place {
        parent: ROOT,
        name: (*b"moved").into(),
    };
    base.relocate(sub, &place).unwrap();
    assert_eq!(base.read_at(file, &mut [0; 4], 0, false), Ok(1));
    assert_eq!(base.path_of(file), Some(PathBuf::from("moved/file")));
}

#[test]
fn either_name_of_a_hard_link_will_do() {
    let dir = Scratch::new();
    let first = dir.write("first", b"x");
    fs::hard_link(&first, dir.0.join("second")).unwrap();
    let base = dir.base();
    let one = base.lookup(ROOT, b"first").unwrap();
    let two = base.lookup(ROOT, b"second").unwrap();
    assert_eq!(one, two);
    assert_eq!(one.nlink, 2);
    assert_eq!(base.path_of(one.ino), Some(PathBuf::from("first")));
}

#[test]
fn many_threads_share_it() {
    let dir = Scratch::new();
    let count = 64;
    for i in 0..count {
        dir.write(&format!("d{i}/sub/file"), &[i as u8]);
    }
    let base = dir.base();
    let inos: Vec<_> = (0..count)
        .map(|i| walk(&base, &format!("d{i}/sub/file")))
        .collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (base, inos) = (&base, &inos);
            scope.spawn(move || {
                for round in 0..2000 {
                    let i = (round * 7 + thread * 13) % count;
                    let mut buf = [0xff; 2];
                    assert_eq!(base.read_at(inos[i], &mut buf, 0, false), Ok(1));
                    assert_eq!(buf[0], i as u8);
                    assert_eq!(base.stat(inos[i]).unwrap().size, 1);
                    if round % 50 == thread {
                        base.evict();
                    }
                }
            });
        }
    });
}
