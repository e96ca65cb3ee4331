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

/// Takes an export in.
fn import(b: &Bench, blocks: &[Vec<u8>]) -> Result<(), llctl::protocol::Failure> {
    b.host.import_begin(1, &[])?;
    let mut sum = 0;
    for (nth, block) in (0..).zip(blocks) {
        b.host.import_block(1, (nth, sum), block)?;
        sum = xxh3_64_with_seed(block, sum);
    }
    (b.host.import_end(1, (blocks.len() as u64, sum))).map(drop)
}

/// The last block of what the base has is not the last one of the file any more.
#[test]
fn a_file_of_the_base_that_has_grown_is_imported() {
    let place = Place::new();
    place.put("f", &[b'f'; 4896]);
    let here = place.open();
    here.set_len("f", 20_000);
    here.snap("s");
    let there = Place::new().open();
    import(&there, &exported(&here, "s")).unwrap();
    there.host_revert("s");
    let mut found = vec![1; 20_001];
    let read = there.engine.read(there.ino("f"), 0, &mut found, true);
    assert_eq!(read, Ok(20_000));
    assert!(found[..4896].iter().all(|byte| *byte == b'f'));
    assert!(found[4896..20_000].iter().all(|byte| *byte == 0));
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
        let imported = import(&there, &blocks);
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
