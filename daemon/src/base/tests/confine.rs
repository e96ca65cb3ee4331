//! Nothing leads out of the base, and nothing else is taken for an object of it.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::super::resolve::open_beneath;
use super::*;

#[test]
fn a_link_is_no_directory() {
    let dir = Scratch::new();
    dir.write("outside/secret", b"");
    dir.write("base/file", b"");
    symlink("../outside", dir.0.join("base/link")).unwrap();
    let base = Base::open(&dir.0.join("base")).unwrap();
    let link = walk(&base, "link");
    assert_eq!(base.lookup(link, b"secret"), Err(Errno::ENOTDIR));
    assert_eq!(base.list(link), Err(Errno::ENOTDIR));
}

#[test]
fn a_directory_swapped_for_a_link_is_stale() {
    let dir = Scratch::new();
    dir.write("outside/dir/file", b"secret");
    dir.write("base/dir/file", b"mine");
    let base = Base::open(&dir.0.join("base")).unwrap();
    let (sub, file) = (walk(&base, "dir"), walk(&base, "dir/file"));
    fs::rename(dir.0.join("base/dir"), dir.0.join("away")).unwrap();
    symlink("../outside/dir", dir.0.join("base/dir")).unwrap();
    base.evict();
    assert_eq!(base.stat(sub), Err(Errno::ESTALE));
    assert_eq!(base.stat(file), Err(Errno::ESTALE));
    assert_eq!(base.open_file(file).map(drop), Err(Errno::ESTALE));
    assert_eq!(base.lookup(sub, b"file"), Err(Errno::ESTALE));
    assert_eq!(base.getxattr(file, b"user.x"), Err(Errno::ESTALE));
}

#[test]
fn another_object_of_the_same_name_is_stale() {
    let dir = Scratch::new();
    let path = dir.write("dir/file", b"old");
    let base = dir.base();
    let (sub, file) = (walk(&base, "dir"), walk(&base, "dir/file"));
    // The old one stays in existence: its inode number must not be given out again.
    fs::rename(&path, dir.0.join("kept")).unwrap();
    fs::write(&path, b"new").unwrap();
    assert_eq!(base.stat(file), Err(Errno::ESTALE));
    assert_eq!(base.open_file(file).map(drop), Err(Errno::ESTALE));
    assert_eq!(base.readlink(file), Err(Errno::ESTALE));
    fs::rename(dir.0.join("dir"), dir.0.join("kept-dir")).unwrap();
    fs::create_dir(dir.0.join("dir")).unwrap();
    base.evict();
    assert_eq!(base.list(sub).map(drop), Err(Errno::ESTALE));
    fs::remove_dir(dir.0.join("dir")).unwrap();
    assert_eq!(base.stat(sub), Err(Errno::ESTALE));
    assert_eq!(base.lookup(sub, b"x"), Err(Errno::ESTALE));
}

/// Both ways to see the base, while another filesystem gets mounted in it after it was opened.
#[test]
fn a_mount_made_below_later_is_not_entered() {
    if !is_root() {
        return;
    }
    let dir = Scratch::new();
    dir.write("sub/file", b"below");
    let base = dir.base();
    let plain = Base::through(
        Arc::clone(&base.root),
        Arc::clone(&base.root),
        base.identity().clone(),
    );
    let known = walk(&plain, "sub");
    let scope = std::thread::scope(|scope| {
        let attempt = scope.spawn(|| {
            // A mount namespace of this thread's own, which ends with it.
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let fresh = Base::open(&dir.0).unwrap();
            let own = Base::through(
                Arc::clone(&fresh.root),
                Arc::clone(&fresh.root),
                fresh.identity().clone(),
            );
            let sub = walk(&own, "sub");
            mount(
                Some("none"),
                &dir.0.join("sub"),
                Some("tmpfs"),
                MsFlags::empty(),
                none,
            )
            .unwrap();
            own.evict();
            assert_eq!(own.lookup(ROOT, b"sub"), Err(Errno::EXDEV));
            assert_eq!(own.stat(sub), Err(Errno::ESTALE));
            assert_eq!(own.list(sub).map(drop), Err(Errno::ESTALE));
            let sub = walk(&fresh, "sub");
            assert_eq!(fresh.list(sub).unwrap().len(), 1);
            assert!(fresh.lookup(sub, b"file").is_ok());
        });
        attempt.join()
    });
    assert!(scope.is_ok());
    assert!(plain.list(known).is_ok());
}

/// Each flag by itself, whatever else looks at names and numbers before and after.
#[test]
fn an_open_leads_neither_up_nor_through_links_or_mounts() {
    let dir = Scratch::new();
    dir.write("outside/secret", b"");
    dir.write("base/sub/file", b"");
    symlink("sub", dir.0.join("base/link")).unwrap();
    let base = Base::open(&dir.0.join("base")).unwrap();
    let open = |name| open_beneath(base.root_fd(), name, OFlag::O_PATH).map(drop);
    assert_eq!(open(c"sub/file"), Ok(()));
    for up in [c"..", c"../outside/secret", c"sub/../../outside", c"/"] {
        assert_eq!(open(up), Err(Errno::EXDEV), "{up:?}");
    }
    assert_eq!(open(c"link/file"), Err(Errno::ELOOP));
    if !is_root() {
        return;
    }
    let mounted = std::thread::scope(|scope| {
        let attempt = scope.spawn(|| {
            // A mount namespace of this thread's own, which ends with it.
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let own = Base::open(&dir.0.join("base")).unwrap();
            let at = dir.0.join("base/sub");
            mount(Some(&at), &at, none, MsFlags::MS_BIND, none).unwrap();
            // The same file system, so that no number tells.
            open_beneath(own.root_fd(), c"sub", OFlag::O_PATH).map(drop)
        });
        attempt.join().unwrap()
    });
    assert_eq!(mounted, Err(Errno::EXDEV));
}

/// Numbers that llfs gives to what it makes are no objects of the base.
#[test]
fn numbers_that_are_given_to_others_are_refused() {
    let dir = Scratch::new();
    let base = dir.base();
    let mut stat = nix::sys::stat::fstat(base.root_fd()).unwrap();
    assert_eq!(base.number(&stat), Ok(ROOT));
    for taken in [0, ROOT, super::super::FIRST_NEW, u64::MAX] {
        stat.st_ino = taken;
        assert_eq!(base.number(&stat), Err(Errno::EOVERFLOW), "{taken}");
    }
}
