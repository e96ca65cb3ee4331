//! Exports and imports, block by block, while something else goes on.

use std::sync::atomic::AtomicBool;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::*;

/// The blocks of an export.
fn exported(b: &Bench, name: &str) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    let names = [SnapName::new(name).unwrap()];
    let mut keep = |block| {
        blocks.push(block);
        Ok(())
    };
    b.host.export(&names, None, (0, 0), &mut keep).unwrap();
    blocks
}

/// What an import has is in no state that a search for unused blocks could know.
#[test]
fn an_import_loses_no_block_to_space_that_is_taken_back() {
    let here = Place::new().open();
    for n in 0..60_u8 {
        here.file(format!("f{n}"), &vec![n + 1; 100_000]);
    }
    here.snap("one");
    let blocks = exported(&here, "one");
    let there = Place::new().open();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                there.engine.reclaim().unwrap();
            }
        });
        let import = || {
            there.host.import_begin(1, &[])?;
            let mut sum = 0;
            for (nth, block) in (0..).zip(&blocks) {
                there.host.import_block(1, (nth, sum), block)?;
                sum = xxh3_64_with_seed(block, sum);
            }
            there.host.import_end(1, (blocks.len() as u64, sum))
        };
        let imported = import();
        done.store(true, Ordering::Relaxed);
        imported.unwrap();
    });
    there.engine.reclaim().unwrap();
    there.engine.revert("one").unwrap();
    for n in 0..60_u8 {
        let mut found = vec![0; 100_000];
        let ino = there.ino(format!("f{n}"));
        there.engine.read(ino, 0, &mut found, true).unwrap();
        assert!(found.iter().all(|byte| *byte == n + 1), "f{n}");
    }
}
