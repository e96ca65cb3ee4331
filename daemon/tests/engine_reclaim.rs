//! Space is taken back while files are written and snapshots come and go: nothing that is reachable is ever freed.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use llfs::base::Base;
use llfs::engine::{Caller, Engine, Make, OpenOptions, SetAttr, WriteHow};
use llfs::store::{HostDisk, StoreOptions};
use llfs::tree::{Ino, Kind, ROOT};

const WHO: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {e}", self.0.display());
        }
    }
}

fn file(e: &Engine, name: &str) -> Ino {
    let make = Make {
        kind: Kind::File,
        perm: 0o600,
        umask: 0,
        rdev: 0,
        target: b"",
    };
    let entry = e.make(ROOT, name.as_bytes(), &make, &WHO).unwrap();
    entry.attr.ino
}

/// A base and the place for a store.
fn directories(name: &str) -> (Dir, OpenOptions) {
    let dir = Dir(std::env::temp_dir().join(format!("llfs-{name}-{}", std::process::id())));
    fs::create_dir_all(dir.0.join("base")).unwrap();
    let options = OpenOptions {
        base: dir.0.join("base"),
        store: dir.0.join("store"),
        fresh: false,
    };
    (dir, options)
}

/// The files with layers' data.
fn layers(dir: &Dir) -> Vec<fs::DirEntry> {
    let all = fs::read_dir(dir.0.join("store/layers")).unwrap();
    all.map(|e| e.unwrap())
        .filter(|e| e.path().extension().is_some_and(|e| e == "data"))
        .collect()
}

/// What they take on the disk, in bytes.
fn taken(dir: &Dir) -> u64 {
    let files = layers(dir);
    files
        .iter()
        .map(|e| e.metadata().unwrap().blocks() * 512)
        .sum()
}

#[test]
fn what_is_written_while_space_is_taken_back_stays() {
    churn("share", 16 << 10);
}

/// Layers that are left at every snapshot, and may then be empty.
#[test]
fn what_is_written_to_a_new_layer_while_space_is_taken_back_stays() {
    churn("own", 1);
}

fn churn(name: &str, layer_blocks: u32) {
    // In memory, where a flush costs nothing, so that much happens.
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    let dir = Dir(place.join(format!("llfs-reclaim-{name}-{}", std::process::id())));
    fs::create_dir_all(dir.0.join("base")).unwrap();
    fs::create_dir(dir.0.join("store")).unwrap();
    let options = StoreOptions {
        layer_blocks,
        ..StoreOptions::default()
    };
    let e = Engine::open_on(
        Base::open(&dir.0.join("base")).unwrap(),
        Arc::new(HostDisk::open(&dir.0.join("store")).unwrap()),
        &dir.0.join("store"),
        &options,
    )
    .unwrap();
    // Many extents, so that finding out what is reachable takes long enough for things to happen meanwhile.
    let big = file(&e, "big");
    for n in 0..5_000 {
        e.write(big, n * 8192, b"x", WriteHow::default()).unwrap();
    }
    let ended = Arc::new(AtomicBool::new(false));
    let checkpoints = {
        let (e, ended) = (e.clone(), ended.clone());
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                e.checkpoint().unwrap();
            }
        })
    };
    let ino = file(&e, "one");
    let until = Instant::now() + Duration::from_secs(4);
    let mut round = 0u32;
    while Instant::now() < until {
        round += 1;
        // For a moment the newest layer holds nothing that anybody reaches.
        let empty = SetAttr {
            size: Some(0),
            ..SetAttr::default()
        };
        let data = vec![(round % 250) as u8 + 1; 20_000];
        e.write(ino, 0, &data, WriteHow::default()).unwrap();
        e.setattr(ino, &empty, &WHO).unwrap();
        // Long enough for the other thread to find it so.
        let emptied = Instant::now();
        while emptied.elapsed() < Duration::from_micros(u64::from(round % 8) * 200) {
            std::hint::spin_loop();
        }
        e.write(ino, 0, &data, WriteHow::default()).unwrap();
        let name = format!("s{round}");
        e.snapshot(|_| name.clone(), "").unwrap();
        let mut found = vec![0; data.len()];
        let n = e.read(ino, 0, &mut found, true).unwrap();
        assert!(
            n == data.len() && found == data,
            "round {round}: other bytes"
        );
        if round > 3 {
            e.delete(&[format!("s{}", round - 3)]).unwrap();
        }
    }
    ended.store(true, Ordering::Relaxed);
    checkpoints.join().unwrap();
    assert!(round > 10, "only {round} rounds");
    for kept in [round - 2, round - 1, round] {
        e.revert(&format!("s{kept}")).unwrap();
        let mut found = vec![0; 20_000];
        assert_eq!(e.read(ino, 0, &mut found, true).unwrap(), 20_000);
        assert!(
            found.iter().all(|b| *b == (kept % 250) as u8 + 1),
            "snapshot {kept}"
        );
    }
    e.close().unwrap();
}

/// Many snapshots with a small change each share a layer, and its space comes back when they go.
#[test]
fn snapshots_share_a_layer_and_give_their_part_of_it_back() {
    let (dir, options) = directories("share");
    let e = Engine::open(&options).unwrap();
    let ino = file(&e, "one");
    let name = |n: u32| format!("s{n:03}");
    let fill = |n: u32| vec![(n % 250) as u8 + 1; 4096];
    for n in 0..400 {
        // Two blocks, of which the second was changed twice: once in the block that a snapshot has, once in place.
        e.write(ino, 0, &fill(n), WriteHow::default()).unwrap();
        e.write(ino, 4000, &fill(n), WriteHow::default()).unwrap();
        e.write(ino, 4096, &fill(n), WriteHow::default()).unwrap();
        e.snapshot(|_| name(n), "").unwrap();
        if n % 50 == 0 {
            e.checkpoint().unwrap();
        }
    }
    assert_eq!(layers(&dir).len(), 1);
    let exact = |e: &Engine, n: u32| {
        e.revert(&name(n)).unwrap();
        let mut found = vec![0; 8192];
        assert_eq!(e.read(ino, 0, &mut found, true).unwrap(), 8192);
        assert_eq!(found, [fill(n), fill(n)].concat(), "snapshot {n}");
    };
    let before = taken(&dir);
    let odd: Vec<String> = (0..400).filter(|n| n % 2 == 1).map(name).collect();
    e.delete(&odd).unwrap();
    e.checkpoint().unwrap();
    let after = taken(&dir);
    assert!(after <= before * 6 / 10, "{before} bytes, then {after}");
    (0..400).step_by(2).for_each(|n| exact(&e, n));
    e.close().unwrap();
    drop(e);
    let e = Engine::open(&options).unwrap();
    (0..400).step_by(38).for_each(|n| exact(&e, n));
    e.close().unwrap();
}

/// A layer that was left, and of which no state has anything any more, goes with its file.
#[test]
fn layers_that_nobody_reaches_go() {
    let (dir, options) = directories("layers");
    fs::create_dir(&options.store).unwrap();
    let small = StoreOptions {
        layer_blocks: 1,
        ..StoreOptions::default()
    };
    let e = Engine::open_on(
        Base::open(&options.base).unwrap(),
        Arc::new(HostDisk::open(&options.store).unwrap()),
        &options.store,
        &small,
    )
    .unwrap();
    let ino = file(&e, "one");
    let name = |n: u8| format!("s{n}");
    for n in 0..20 {
        e.write(ino, 0, &[n; 4096], WriteHow::default()).unwrap();
        e.snapshot(|_| name(n), "").unwrap();
    }
    assert!(layers(&dir).len() >= 20, "{}", layers(&dir).len());
    e.delete(&(0..19).map(name).collect::<Vec<_>>()).unwrap();
    e.checkpoint().unwrap();
    // That of the snapshot that is left, and the one that takes writes.
    assert!(layers(&dir).len() <= 2, "{}", layers(&dir).len());
    let mut found = vec![0; 4096];
    e.read(ino, 0, &mut found, true).unwrap();
    assert_eq!(found, [19; 4096]);
    e.close().unwrap();
}

/// Less than what is taken back at once comes back too, when nothing more is given up.
#[test]
fn a_little_that_was_given_up_comes_back_by_itself() {
    let (dir, options) = directories("resting");
    let e = Engine::open(&options).unwrap();
    let ino = file(&e, "one");
    let bytes = vec![7; 8 << 20];
    e.write(ino, 0, &bytes, WriteHow::default()).unwrap();
    assert!(taken(&dir) >= 8 << 20);
    let empty = SetAttr {
        size: Some(0),
        ..SetAttr::default()
    };
    e.setattr(ino, &empty, &WHO).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while taken(&dir) > 1 << 20 {
        assert!(Instant::now() < until, "{} bytes are left", taken(&dir));
        thread::sleep(Duration::from_millis(100));
    }
    e.close().unwrap();
}
