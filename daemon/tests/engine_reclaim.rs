//! Space is taken back while files are written and snapshots come and go: nothing that is reachable is ever freed.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use llfs::engine::{Caller, Engine, Make, OpenOptions, SetAttr, WriteHow};
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

#[test]
fn what_is_written_while_space_is_taken_back_stays() {
    // In memory, where a flush costs nothing, so that much happens.
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    let dir = Dir(place.join(format!("llfs-reclaim-{}", std::process::id())));
    fs::create_dir_all(dir.0.join("base")).unwrap();
    let options = OpenOptions {
        base: dir.0.join("base"),
        store: dir.0.join("store"),
        fresh: false,
    };
    let e = Engine::open(&options).unwrap();
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
