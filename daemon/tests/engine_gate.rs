//! Writes that are under way while the head is exchanged: each is whole on one side of it, and changes no older state.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use llfs::engine::{Engine, OpenOptions, WriteHow};
use llfs::tree::ROOT;

const BLOCKS: usize = 16;
const BLOCK: usize = 4096;

#[test]
fn a_revert_waits_for_writes_that_are_under_way() {
    let place = std::env::temp_dir().join(format!("llfs-gate-{}", std::process::id()));
    fs::create_dir_all(place.join("base")).unwrap();
    fs::write(place.join("base/file"), [b'0'; BLOCKS * BLOCK]).unwrap();
    let options = OpenOptions {
        base: place.join("base"),
        store: place.join("store"),
        fresh: false,
    };
    let e = Engine::open(&options).unwrap();
    let file = e.lookup(ROOT, b"file").unwrap().unwrap().attr.ino;
    let write = |block: usize, byte: u8| {
        let written = e.write(
            file,
            (block * BLOCK) as u64,
            &[byte; BLOCK],
            WriteHow::default(),
        );
        assert_eq!(written, Ok(BLOCK as u32), "block {block}");
    };
    let content = || {
        let mut bytes = vec![0; BLOCKS * BLOCK];
        assert_eq!(e.read(file, 0, &mut bytes, true), Ok(bytes.len()));
        bytes
    };
    (0..BLOCKS).for_each(|block| write(block, b'1'));
    e.snapshot(|_| "s".into(), "").unwrap();
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut n = 0;
            while !enough.load(Ordering::Relaxed) {
                write(n % BLOCKS, b'2');
                n += 1;
            }
        });
        let mut kept = 0;
        // A writer that has seen an error has ended.
        while kept < 60 && !writer.is_finished() {
            // Nothing is kept if nothing was written since.
            if e.revert("s").unwrap().kept.is_some() {
                e.undo(1).unwrap();
                kept += 1;
            }
        }
        enough.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    e.revert("s").unwrap();
    let whole = content() == [b'1'; BLOCKS * BLOCK];
    drop(e);
    fs::remove_dir_all(&place).unwrap();
    assert!(whole, "the snapshot has bytes that were written later");
}
