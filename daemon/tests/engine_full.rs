//! A disk that is full, or fails, at any point of a history, seen through the engine: the caller gets the errno, what was there is
//! there, reading, reverting, undoing and deleting need no byte, and writing goes on when there is space again.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod simdisk;
mod told;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use llfs::base::Base;
use llfs::engine::snapshot::Refusal;
use llfs::engine::{Caller, Engine, Make, OpenError, SetAttr, WriteHow};
use llfs::store::{self, BootToken};
use llfs::tree::{Ino, Kind, ROOT};
use nix::errno::Errno;
use simdisk::SimDisk;
use simdisk::history::{BOOT, NEXT_BOOT, options};
use told::Told;

const WHO: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};

struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("llfs-full-{}-{n}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("base"), [b'B'; 9000]).unwrap();
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {e}", self.0.display());
        }
    }
}

fn open(dir: &Dir, disk: &SimDisk, boot: BootToken) -> Arc<Engine> {
    let begun = Instant::now();
    loop {
        let base = Base::open(&dir.0).unwrap();
        let (disk, path) = (Arc::new(disk.clone()), Path::new("simulated"));
        match Engine::open_on(base, disk, path, &options(boot)) {
            // The engine before it goes when its own thread lets go of it.
            Err(OpenError::Store {
                error: store::OpenError::Locked { .. },
                ..
            }) if begun.elapsed() < Duration::from_secs(60) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// Name to content.
type Tree = BTreeMap<String, Vec<u8>>;

fn tree(e: &Engine) -> Tree {
    let mut found = Vec::new();
    e.readdir(ROOT, 0, true, &mut |l| {
        if let Some(entry) = l.entry {
            found.push((String::from_utf8_lossy(l.name).into_owned(), entry.attr));
        }
        false
    })
    .unwrap();
    let content = |(name, attr): (String, llfs::engine::Attr)| {
        let mut bytes = vec![0; attr.size as usize];
        assert_eq!(e.read(attr.ino, 0, &mut bytes, true).unwrap(), bytes.len());
        (name, bytes)
    };
    found.into_iter().map(content).collect()
}

fn ino(e: &Engine, name: &str) -> Option<Ino> {
    e.lookup(ROOT, name.as_bytes()).unwrap().map(|f| f.attr.ino)
}

fn errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::Failed { errno, .. } => errno,
        other => panic!("{other}"),
    }
}

const PLAIN: Make<'static> = Make {
    kind: Kind::File,
    perm: 0o644,
    umask: 0,
    rdev: 0,
    target: b"",
};

fn create(e: &Engine, name: &str) -> Result<Ino, Errno> {
    Ok(e.make(ROOT, name.as_bytes(), &PLAIN, &WHO)?.attr.ino)
}

/// One step of the history: each changes nothing when it fails, or, of a file that was written since the last snapshot, leaves
/// old and new bytes; so content is only ever written to fresh blocks here.
fn step(e: &Engine, n: u32) -> Result<(), Errno> {
    let name = format!("f{}", n / 8 % 5);
    let write = |off: u64, len: usize| -> Result<(), Errno> {
        let Some(ino) = ino(e, &name) else {
            return Ok(());
        };
        e.write(ino, off, &vec![n as u8 + 1; len], WriteHow::default())
            .map(drop)
    };
    match n % 8 {
        0 => match create(e, &name) {
            Ok(_) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        },
        1 => write(0, 5000),
        2 => match e.snapshot(|_| format!("s{n:03}"), "") {
            Ok(_) | Err(Refusal::Exists(_)) => Ok(()),
            Err(refusal) => Err(errno(refusal)),
        },
        3 => write(4096, 6000),
        4 => e.fsync(ROOT, false),
        5 => {
            let base = ino(e, "base").unwrap();
            let set = SetAttr {
                size: Some(u64::from(n) * 10),
                ..SetAttr::default()
            };
            e.setattr(base, &set, &WHO).map(drop)
        }
        6 => match (ino(e, &name), ino(e, "moved")) {
            (Some(_), None) => e.rename(ROOT, name.as_bytes(), ROOT, b"moved", 0),
            (_, Some(moved)) => {
                e.unlink(ROOT, b"moved")?;
                e.forget(moved, 1000);
                Ok(())
            }
            _ => Ok(()),
        },
        _ => e
            .checkpoint()
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap())),
    }
}

/// The history until a step fails: how many were done, the tree after them, and the errno.
fn until_it_fails(e: &Engine, steps: u32) -> (u32, Tree, Option<Errno>) {
    let mut now = tree(e);
    for n in 0..steps {
        if let Err(errno) = step(e, n) {
            return (n, now, Some(errno));
        }
        now = tree(e);
    }
    (steps, now, None)
}

const STEPS: u32 = 48;

#[test]
fn wherever_the_disk_gets_full_all_but_writing_works() {
    let mut full = 0;
    for room in (0..60).map(|n| n * 1531) {
        let (dir, disk) = (Dir::new(), SimDisk::new());
        let e = open(&dir, &disk, BOOT);
        e.snapshot(|_| "first".into(), "").unwrap();
        let first = tree(&e);
        disk.set_capacity(Some(disk.used() + room));
        let (done, before, failed) = until_it_fails(&e, STEPS);
        let Some(errno) = failed else {
            continue;
        };
        full += 1;
        let what = format!("room {room}, step {done}");
        assert_eq!(errno, Errno::ENOSPC, "{what}");
        assert_eq!(
            tree(&e),
            before,
            "{what}: a step that failed changed something"
        );
        // Not one byte from here on.
        disk.set_capacity(Some(disk.used()));
        e.revert("first").unwrap_or_else(|r| panic!("{what}: {r}"));
        assert_eq!(tree(&e), first, "{what}");
        e.undo(1).unwrap_or_else(|r| panic!("{what}: {r}"));
        assert_eq!(tree(&e), before, "{what}");
        for name in e.snapshot_names() {
            e.delete(&[name]).unwrap_or_else(|r| panic!("{what}: {r}"));
        }
        assert_eq!(tree(&e), before, "{what}");
        disk.set_capacity(None);
        for n in done..STEPS {
            step(&e, n).unwrap_or_else(|errno| panic!("{what}, then {n}: {errno}"));
        }
        let after = tree(&e);
        drop(e);
        assert_eq!(tree(&open(&dir, &disk, BOOT)), after, "{what}");
    }
    assert!(full > 30, "the disk was full {full} times only");
}

#[test]
fn a_write_that_fails_is_as_if_it_had_not_been() {
    let mut failures = 0;
    for failing in 0..150 {
        let (dir, disk) = (Dir::new(), SimDisk::new());
        let e = open(&dir, &disk, BOOT);
        disk.fail_write_after(Some(failing));
        let mut now = tree(&e);
        for n in 0..STEPS {
            match step(&e, n) {
                Ok(()) => now = tree(&e),
                Err(errno) => {
                    assert_eq!(errno, Errno::EIO, "write {failing}, step {n}");
                    assert_eq!(tree(&e), now, "write {failing}, step {n}");
                    failures += 1;
                    step(&e, n).unwrap_or_else(|e| panic!("write {failing}, {n} again: {e}"));
                    now = tree(&e);
                }
            }
        }
        disk.fail_write_after(None);
        drop(e);
        assert_eq!(tree(&open(&dir, &disk, BOOT)), now, "write {failing}");
    }
    assert!(failures > 50, "only {failures} steps failed");
}

/// After a failed sync nothing is written, everything can be read, and the next mount has what was acknowledged.
#[test]
fn a_sync_that_fails_stops_all_writing() {
    let mut failures = 0;
    for failing in 0..60 {
        let (dir, disk) = (Dir::new(), SimDisk::new());
        let e = open(&dir, &disk, BOOT);
        disk.fail_sync_after(Some(failing));
        let (done, before, failed) = until_it_fails(&e, STEPS);
        let Some(errno) = failed else {
            continue;
        };
        failures += 1;
        let what = format!("sync {failing}, step {done}");
        // The engine's own thread may have met it first.
        assert!(
            matches!(errno, Errno::EIO | Errno::EROFS),
            "{what}: {errno}"
        );
        // A snapshot may be there and not acknowledged; the tree is the same.
        assert_eq!(tree(&e), before, "{what}");
        if done % 8 == 7 && e.fsync(ROOT, false).is_ok() {
            // An image's own file: it is thrown away, and nobody relied on it.
            (done..STEPS).for_each(|n| step(&e, n).unwrap());
            continue;
        }
        assert_eq!(e.fsync(ROOT, false), Err(Errno::EROFS), "{what}");
        assert!(e.relay().latched(), "{what}: the next worker is not told");
        let base = ino(&e, "base").unwrap();
        let set = SetAttr {
            size: Some(1),
            ..SetAttr::default()
        };
        let truncated = e.setattr(base, &set, &WHO).map(drop);
        assert_eq!(truncated, Err(Errno::EROFS), "{what}");
        assert!(e.snapshot(|_| "new".into(), "").is_err(), "{what}");
        assert!(e.revert_base().is_err(), "{what}");
        assert_eq!(tree(&e), before, "{what}");
        drop(e);
        // The machine goes on: what was written is there.
        let e = open(&dir, &disk, BOOT);
        assert_eq!(tree(&e), before, "{what}");
        (0..STEPS).for_each(|n| step(&e, n).unwrap());
    }
    assert!(failures > 20, "only {failures} syncs failed");
    assert_ne!(BOOT, NEXT_BOOT);
}

fn make(e: &Engine, name: &str, len: usize) -> Result<Ino, Errno> {
    let ino = create(e, name)?;
    e.write(ino, 0, &vec![1; len], WriteHow::default())?;
    Ok(ino)
}

/// The file `big`, of `len` bytes, in a layer that takes no more and goes with it; what there is to take back so far is taken back.
fn make_big(e: &Engine, len: usize) -> Ino {
    let big = make(e, "big", len).unwrap();
    e.snapshot(|_| "s".into(), "").unwrap();
    e.delete(&["s".into()]).unwrap();
    e.checkpoint().unwrap();
    big
}

/// Who writes to a full disk need not wait until what others gave up is taken back behind the scenes.
#[test]
fn a_write_takes_back_what_was_given_up() {
    let (dir, disk) = (Dir::new(), SimDisk::new());
    let e = open(&dir, &disk, BOOT);
    let big = make_big(&e, 4 << 20);
    disk.set_capacity(Some(disk.used() + (64 << 10)));
    assert_eq!(make(&e, "more", 200 << 10), Err(Errno::ENOSPC));
    e.unlink(ROOT, b"big").unwrap();
    e.forget(big, 1000);
    make(&e, "again", 200 << 10).unwrap();
}

#[test]
fn what_is_punched_is_taken_back_by_who_needs_it() {
    let (dir, disk) = (Dir::new(), SimDisk::new());
    let e = open(&dir, &disk, BOOT);
    let big = make_big(&e, 4 << 20);
    disk.set_capacity(Some(disk.used() + (64 << 10)));
    assert_eq!(make(&e, "more", 200 << 10), Err(Errno::ENOSPC));
    e.fallocate(big, 0, 4 << 20, PUNCH, &WHO).unwrap();
    make(&e, "again", 200 << 10).unwrap();
}

const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;

/// The kernel has pages of the file and keeps them when it is told of an error.
#[test]
fn a_hole_for_which_there_is_no_space_leaves_every_byte() {
    let mut refused = 0;
    for (mode, room) in [PUNCH, libc::FALLOC_FL_ZERO_RANGE]
        .into_iter()
        .flat_map(|mode| (0..24).map(move |n| (mode, n * 700)))
    {
        let (dir, disk) = (Dir::new(), SimDisk::new());
        let e = open(&dir, &disk, BOOT);
        let file = make(&e, "file", 5 * 4096).unwrap();
        e.snapshot(|_| "kept".to_owned(), "").unwrap();
        // The first block may be written where it is, and no other.
        e.write(file, 0, &[b'y'; 4096], WriteHow::default())
            .unwrap();
        disk.set_capacity(Some(disk.used() + room));
        let before = tree(&e);
        let (from, to) = (100, 2 * 4096 + 100);
        let done = e.fallocate(file, from, to - from, mode, &WHO);
        let mut expected = before.clone();
        match done {
            Ok(()) => expected.get_mut("file").unwrap()[from as usize..to as usize].fill(0),
            Err(errno) => {
                assert_eq!(errno, Errno::ENOSPC);
                refused += 1;
            }
        }
        assert!(tree(&e) == expected, "mode {mode}, room {room}: {done:?}");
    }
    assert!((8..40).contains(&refused), "refused {refused} times");
}

/// A copy writes without the kernel's pages. Where it ends early some more of it may be there than was told.
#[test]
fn the_kernel_forgets_what_a_copy_may_have_left_for_which_there_is_no_space() {
    let (dir, disk) = (Dir::new(), SimDisk::new());
    let e = open(&dir, &disk, BOOT);
    let told = Told::default();
    e.attach(Box::new(told.clone()));
    let from = make(&e, "from", 5 * 4096).unwrap();
    let to = make(&e, "to", 5 * 4096).unwrap();
    e.snapshot(|_| "kept".to_owned(), "").unwrap();
    disk.set_capacity(Some(disk.used()));
    let copied = e.copy_file_range(from, 0, to, 0, 5 * 4096, &WHO);
    assert_eq!(copied, Err(Errno::ENOSPC));
    let begun = Instant::now();
    while !told.0.lock().unwrap().1.contains(&to) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it keeps them");
        std::thread::yield_now();
    }
}

/// The removal of a file may fit where the record does not that gives its blocks up once the kernel forgets it: that is made up
/// for by who needs the space.
#[test]
fn what_is_removed_gives_its_space_wherever_the_journal_is_full() {
    let mut removed = 0;
    // So that the room ends in some of them between the two.
    for length in (1..1200).step_by(8) {
        let (dir, disk) = (Dir::new(), SimDisk::new());
        let e = open(&dir, &disk, BOOT);
        let big = make_big(&e, 1 << 20);
        let link = Make {
            kind: Kind::Symlink,
            target: &vec![b'x'; length],
            ..PLAIN
        };
        e.make(ROOT, b"link", &link, &WHO).unwrap();
        disk.set_capacity(Some(disk.used()));
        match e.unlink(ROOT, b"big") {
            Ok(()) => removed += 1,
            Err(errno) => {
                assert_eq!(errno, Errno::ENOSPC);
                continue;
            }
        }
        e.forget(big, 1000);
        make(&e, "again", 200 << 10).unwrap_or_else(|errno| panic!("{length}: {errno}"));
    }
    assert!(removed > 50, "a file could be removed {removed} times only");
}

/// The reserve, of which a revert on a full disk lived, is there again when space is.
#[test]
fn the_reserve_comes_back() {
    let (dir, disk) = (Dir::new(), SimDisk::new());
    let e = open(&dir, &disk, BOOT);
    make(&e, "file", 5000).unwrap();
    let reserve = || disk.bytes("reserve").unwrap().len();
    let whole = reserve();
    disk.set_capacity(Some(disk.used()));
    for reverts in 0.. {
        assert!(reverts < 1000, "they need nothing");
        e.revert_base().unwrap();
        e.undo(1).unwrap();
        if reserve() < whole {
            break;
        }
    }
    disk.set_capacity(None);
    let begun = Instant::now();
    while reserve() < whole {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is gone");
        std::thread::sleep(Duration::from_millis(20));
    }
}
