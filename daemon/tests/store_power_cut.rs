//! The power is cut at every write of the store, and every state that the medium may then show is
//! recovered from. A failing state prints a name that reruns it.

mod simdisk;

use llfs::store::{BootToken, FORMAT_VERSION, OpenError, Store};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use simdisk::choices::{Random, each};
use simdisk::history::{
    BOOT, History, NEXT_BOOT, Op, count_records, make_old, options, superblock,
};
use simdisk::{Image, Medium, SimDisk};
use std::sync::Arc;

/// `LLFS_CUTS=20` looks at twenty times as many states.
fn thoroughness() -> usize {
    let factor = std::env::var("LLFS_CUTS").ok();
    factor.and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// Checks the states behind one cut, and (for some) those behind a cut in their recovery.
fn check_cut(history: &History, medium: &Medium, cut: usize, most: usize) -> usize {
    each(most, cut as u64, |name, choose| {
        let image = medium.crash(choose);
        match history.check(cut, image.clone()) {
            Ok(after) if cut % 4 < thoroughness() && ["newest", "oldest"].contains(&name) => {
                cut_recovery(history, cut, name, &image, &after);
            }
            Ok(_) => {}
            Err(what) => panic!("cut {cut}, state {name}: {what}"),
        }
    })
}

fn cut_recovery(history: &History, cut: usize, name: &str, image: &Image, after: &SimDisk) {
    let mut medium = Medium::new(image);
    let mut random = Random::new(cut as u64);
    // The check itself goes on with one record behind the recovery: those steps are not its own.
    for (index, step) in after.steps().iter().enumerate() {
        medium.apply(step);
        if index >= recovery_steps(after) {
            break;
        }
        let crashed = medium.crash(&mut |n| random.below(n));
        if let Err(what) = history.check(cut, crashed) {
            panic!(
                "cut {cut}, state {name}, then a cut behind step {index} of the recovery: {what}"
            );
        }
    }
}

/// The steps of a recovery end with the sync of the journal's directory.
fn recovery_steps(after: &SimDisk) -> usize {
    let journal = std::path::Path::new("journal");
    after
        .steps()
        .iter()
        .position(|step| matches!(step, simdisk::Step::SyncDir(dir) if dir == journal))
        .unwrap_or(0)
}

/// Cuts behind each step (or behind some).
fn check(ops: &[Op], most: usize, every: impl Fn(&History, usize) -> bool) -> usize {
    let history = History::run(ops);
    let mut medium = Medium::default();
    let mut states = 0;
    for (index, step) in history.disk.steps().iter().enumerate() {
        medium.apply(step);
        let cut = index + 1;
        if cut >= history.made && every(&history, cut) {
            states += check_cut(&history, &medium, cut, most);
        }
    }
    states
}

fn fresh(blocks: u32) -> Op {
    Op::Fresh {
        blocks,
        bytes: blocks as usize * 4096,
    }
}

fn again(bytes: usize) -> Op {
    Op::Again {
        pick: 0,
        offset: 700,
        bytes,
        record: false,
    }
}

#[test]
fn short_histories_survive_every_cut() {
    use Op::{
        Archive, FinishSeals, Image, Kill, Record, Remove, Restart, Seal, SealBlocks,
        StartWriteback, Sync, SyncLayers,
    };
    let histories: [&[Op]; 17] = [
        &[Record(0), Sync, Record(700), Record(0), Sync],
        &[fresh(1), Sync, again(900), Sync, again(10), Record(3)],
        &[
            fresh(1),
            Sync,
            again(900),
            fresh(4),
            SyncLayers,
            again(2000),
            Sync,
        ],
        &[
            fresh(3),
            Sync,
            Record(9),
            fresh(1),
            Sync,
            Kill,
            again(5),
            fresh(1),
            Sync,
        ],
        &[fresh(1), Kill, fresh(1), Sync, Kill, Record(1)],
        &[
            Sync,
            fresh(1),
            StartWriteback,
            SyncLayers,
            Seal,
            fresh(1),
            StartWriteback,
            fresh(1),
            SyncLayers,
        ],
        &[
            fresh(2),
            Seal,
            fresh(1),
            Sync,
            FinishSeals,
            again(100),
            Sync,
        ],
        &[
            fresh(1),
            Sync,
            again(1000),
            Seal,
            Record(1),
            FinishSeals,
            Record(1),
        ],
        &[
            fresh(2),
            Image,
            fresh(1),
            Sync,
            Image,
            again(50),
            Sync,
            Image,
            Record(1),
        ],
        &[fresh(1), Seal, fresh(1), Sync, Remove, fresh(1), Sync],
        // Sums that grow with a layer that goes on.
        &[
            fresh(2),
            SealBlocks,
            fresh(1),
            FinishSeals,
            again(900),
            Sync,
            SealBlocks,
            FinishSeals,
            fresh(1),
            Sync,
        ],
        // Copies in the journal of a block that is sealed afterwards.
        &[
            fresh(1),
            Sync,
            again(900),
            Sync,
            SealBlocks,
            fresh(1),
            again(20),
            Sync,
            FinishSeals,
            Record(1),
            Sync,
        ],
        // A daemon that dies with sums for a part of the layer.
        &[
            fresh(1),
            SealBlocks,
            FinishSeals,
            fresh(2),
            Kill,
            FinishSeals,
            fresh(1),
            SealBlocks,
            fresh(1),
            Sync,
            Kill,
            FinishSeals,
        ],
        // A layer that is big enough is left.
        &[
            fresh(4),
            SealBlocks,
            fresh(9),
            SyncLayers,
            SealBlocks,
            fresh(1),
            FinishSeals,
            Sync,
            Remove,
            Sync,
        ],
        // A layer that is archived while others go on, and goes later; another one after a life of its own.
        &[
            fresh(3),
            Seal,
            fresh(1),
            Sync,
            Archive,
            again(700),
            Record(1),
            Sync,
            Kill,
            Record(2),
            Remove,
            Sync,
        ],
        // Copies in the journal of blocks that are archived right afterwards.
        &[
            fresh(2),
            Sync,
            again(900),
            Sync,
            Seal,
            fresh(1),
            Sync,
            Archive,
            again(20),
            Sync,
            Archive,
            Restart,
            Record(3),
            Sync,
        ],
        &[
            fresh(2),
            again(3000),
            Restart,
            fresh(1),
            Record(5),
            Restart,
            Record(6),
        ],
    ];
    let mut states = 0;
    for (index, ops) in histories.iter().enumerate() {
        eprintln!("history {index}");
        states += check(ops, 12 * thoroughness(), |_, _| true);
    }
    eprintln!("{states} states");
}

#[test]
fn segments_change_at_any_cut() {
    let mut ops = Vec::new();
    for round in 0..14 {
        ops.extend([Op::Record(3000), Op::Sync, fresh(1)]);
        if round % 5 == 4 {
            ops.push(Op::Image);
        }
    }
    check(&ops, 2 * thoroughness(), |_, _| true);
}

#[test]
fn making_a_store_can_be_cut() {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).expect("the disk is empty");
    let mut medium = Medium::default();
    for (index, step) in disk.steps().iter().enumerate() {
        medium.apply(step);
        each(256, 0, |name, choose| {
            let disk = SimDisk::from_image(medium.crash(choose));
            let open = || Store::open(Arc::new(disk.clone()), &options(BOOT));
            match open() {
                Ok(_) => {}
                Err(OpenError::Empty) => {
                    Store::create(&disk, &superblock())
                        .unwrap_or_else(|e| panic!("cut {index}, {name}: making it again: {e}"));
                    open().unwrap_or_else(|e| panic!("cut {index}, {name}: after that: {e}"));
                }
                Err(error) => panic!("cut {index}, state {name}: {error}"),
            }
        });
    }
}

#[test]
fn making_an_old_store_new_can_be_cut() {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).expect("the disk is empty");
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(BOOT)).expect("it was just made");
    store.append(&[0; 4]).expect("there is space");
    store.close().expect("the disk works");
    make_old(&disk);
    let old = disk.image();
    let disk = SimDisk::from_image(old.clone());
    drop(Store::open(Arc::new(disk.clone()), &options(NEXT_BOOT)).expect("old stores are read"));
    let version = |disk: &SimDisk| disk.bytes("superblock").map(|bytes| bytes[8]);
    assert_eq!(version(&disk), Some(FORMAT_VERSION as u8));
    let mut medium = Medium::new(&old);
    let mut seen = [0; FORMAT_VERSION as usize + 1];
    for (index, step) in disk.steps().iter().enumerate() {
        medium.apply(step);
        each(64, index as u64, |name, choose| {
            let disk = SimDisk::from_image(medium.crash(choose));
            seen[usize::from(version(&disk).expect("it is there"))] += 1;
            let (_store, mut recovered) =
                Store::open(Arc::new(disk.clone()), &options(BootToken([3; 16])))
                    .unwrap_or_else(|e| panic!("cut {index}, {name}: {e}"));
            assert_eq!(count_records(&mut recovered), Ok(1), "cut {index}, {name}");
            assert_eq!(version(&disk), Some(FORMAT_VERSION as u8));
        });
    }
    assert!(seen[1] > 0 && seen[FORMAT_VERSION as usize] > 0, "{seen:?}");
}

/// Threads that share flushes: whatever any of them was told is there, and its block with it.
#[test]
fn shared_flushes_keep_their_word() {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).expect("the disk is empty");
    let made = disk.now();
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(BOOT)).expect("it was just made");
    let layer = store.open_layer();
    let told = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (store, disk, told) = (&store, &disk, &told);
            scope.spawn(move || {
                for round in 0..25 {
                    let block = store.alloc(layer, 1).expect("there are numbers");
                    let fill = thread * 25 + round + 1;
                    store
                        .write_blocks(layer, block, &[fill; 4096], 0)
                        .and_then(|()| store.append(&[fill, block as u8]))
                        .and_then(|_| store.sync())
                        .expect("the disk works");
                    let now = disk.now();
                    told.lock().expect("no thread panics").push((now, fill));
                }
            });
        }
    });
    let told = told.into_inner().expect("no thread panics");
    let mut medium = Medium::default();
    let mut random = Random::new(5);
    for (index, step) in disk.steps().iter().enumerate() {
        medium.apply(step);
        let cut = index + 1;
        if cut < made || random.below(6) > 0 {
            continue;
        }
        each(2 * thoroughness(), cut as u64, |name, choose| {
            let disk = SimDisk::from_image(medium.crash(choose));
            let (store, recovered) = Store::open(Arc::new(disk), &options(NEXT_BOOT))
                .unwrap_or_else(|error| panic!("cut {cut}, {name}: {error}"));
            let mut fills = Vec::new();
            recovered
                .replay(&mut |_, payload| {
                    let mut bytes = [0; 4096];
                    store.read(layer, u64::from(payload[1]) * 4096, &mut bytes, true)?;
                    assert_eq!(bytes, [payload[0]; 4096], "cut {cut}, {name}");
                    fills.push(payload[0]);
                    Ok(())
                })
                .unwrap_or_else(|error| panic!("cut {cut}, {name}: {error}"));
            for (_, fill) in told.iter().filter(|(when, _)| *when <= cut) {
                assert!(fills.contains(fill), "cut {cut}, {name}: {fill} is lost");
            }
        });
    }
}

/// A record that comes while a flush runs is not covered by it: its block may be anywhere. One without a block (a rename)
/// neither, even if the flush writes its barrier behind it.
#[test]
fn what_comes_during_a_flush_waits_for_the_next() {
    for (blocks, alone) in [(1, false), (9, false), (1, true), (9, true)] {
        let disk = SimDisk::new();
        Store::create(&disk, &superblock()).expect("the disk is empty");
        let (store, _) =
            Store::open(Arc::new(disk.clone()), &options(BOOT)).expect("it was just made");
        let store = Arc::new(store);
        let layers = [store.open_layer(), store.open_layer()];
        store.sync().expect("the disk works");
        for block in 0..blocks {
            store
                .write_blocks(layers[0], block, &[1; 4096], 0)
                .expect("there is space");
        }
        store.append(b"before").expect("there is space");
        let other = store.clone();
        disk.meanwhile(move || {
            if !alone {
                other
                    .write_blocks(layers[1], 0, &[2; 4096], 0)
                    .expect("there is space");
            }
            other.append(b"during").expect("there is space");
        });
        store.sync().expect("the disk works");
        let mut medium = Medium::default();
        let crash = |from: usize, medium: &mut Medium| {
            for step in &disk.steps()[from..] {
                medium.apply(step);
            }
            let after = SimDisk::from_image(medium.crash(&mut |_| 0));
            let (store, recovered) = Store::open(Arc::new(after), &options(NEXT_BOOT))
                .unwrap_or_else(|error| panic!("{blocks} blocks: {error}"));
            let mut records = Vec::new();
            recovered
                .replay(&mut |_, payload| {
                    let layer = layers[usize::from(payload == b"during" && !alone)];
                    store.read(layer, 0, &mut [0; 4096], true)?;
                    records.push(payload.to_vec());
                    Ok(())
                })
                .unwrap_or_else(|error| panic!("{blocks} blocks: {error}"));
            records
        };
        assert_eq!(crash(0, &mut medium), [b"before"], "{blocks} blocks");
        let synced = disk.now();
        store.sync().expect("the disk works");
        let both = [b"before", b"during"];
        assert_eq!(
            crash(synced, &mut medium),
            both,
            "{blocks} blocks, alone: {alone}"
        );
    }
}

/// A layer's file is made by the first write to it. Another write may come as soon as it is there: what that one acknowledges
/// is durable only with the file's name.
#[test]
fn the_name_of_a_layer_is_durable_with_what_anybody_wrote_to_it() {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).expect("the disk is empty");
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(BOOT)).expect("it was just made");
    let store = Arc::new(store);
    store.sync().expect("the disk works");
    let layer = store.open_layer();
    let other = store.clone();
    let image = Arc::new(std::sync::Mutex::new(None));
    let (after, inner) = (image.clone(), disk.clone());
    disk.once_made(move || {
        // More than the journal takes copies of.
        other
            .write_blocks(layer, 1, &[1; 3 * 4096], 0)
            .and_then(|()| other.append(&0u32.to_le_bytes()))
            .and_then(|_| other.sync())
            .expect("the disk works");
        let mut medium = Medium::default();
        inner.steps().iter().for_each(|step| medium.apply(step));
        *after.lock().expect("no thread panics") = Some(medium.crash(&mut |_| 0));
    });
    store
        .write_blocks(layer, 0, &[2; 4096], 0)
        .expect("there is space");
    let image = image.lock().expect("no thread panics").take();
    let after = SimDisk::from_image(image.expect("the layer was made"));
    let (store, mut recovered) =
        Store::open(Arc::new(after), &options(NEXT_BOOT)).expect("nothing is damaged");
    assert_eq!(count_records(&mut recovered), Ok(1));
    let mut bytes = [0; 3 * 4096];
    store
        .read(layer, 4096, &mut bytes, true)
        .expect("what was synced is there");
    assert_eq!(bytes, [1; 3 * 4096]);
}

/// Two threads take the state for an image, and the one that took the older state writes last: the journal that its image would
/// need is gone.
#[test]
fn an_image_of_an_older_state_does_not_take_the_place_of_a_newer_one() {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).expect("the disk is empty");
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(BOOT)).expect("it was just made");
    let append = |count: u32| {
        let mut payload = count.to_le_bytes().to_vec();
        payload.resize(20_000, 0);
        (store.append(&payload).expect("there is space"), count + 1)
    };
    let write = |(seq, count): (u64, u32)| {
        store
            .write_image(seq, &mut |out| out.write_all(&count.to_le_bytes()))
            .expect("the disk works");
    };
    write(append(0));
    let older = append(1);
    append(2);
    // In another segment.
    let newer = append(3);
    write(newer);
    write(older);
    append(4);
    store.sync().expect("the disk works");
    drop(store);
    for boot in [BOOT, NEXT_BOOT] {
        let (_store, mut recovered) =
            Store::open(Arc::new(disk.clone()), &options(boot)).expect("nothing is damaged");
        assert_eq!(count_records(&mut recovered), Ok(5));
    }
}

/// A block goes after the record that gave it up is on the medium: whatever comes up, a state that has the block can read it.
#[test]
fn blocks_go_after_what_gave_them_up_is_durable() {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).expect("the disk is empty");
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(BOOT)).expect("it was just made");
    let layer = store.open_layer();
    store.alloc(layer, 3).expect("there are numbers");
    store
        .write_blocks(layer, 0, &[1; 3 * 4096], 0)
        .and_then(|()| store.append(&0u32.to_le_bytes()))
        .and_then(|_| store.sync())
        .expect("the disk works");
    let given_up = store.append(&1u32.to_le_bytes()).expect("there is space");
    let blocks = 0..3;
    store
        .free(layer, std::slice::from_ref(&blocks), given_up)
        .expect("the disk works");
    let mut medium = Medium::default();
    for step in &disk.steps() {
        medium.apply(step);
    }
    each(200, 3, |name, choose| {
        let disk = SimDisk::from_image(medium.crash(choose));
        let (store, mut recovered) = Store::open(Arc::new(disk), &options(NEXT_BOOT))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        if count_records(&mut recovered).expect("they are in order") == 1 {
            let mut bytes = [0; 3 * 4096];
            let read = store.read(layer, 0, &mut bytes, true);
            assert!(read.is_ok() && bytes == [1; 3 * 4096], "{name}");
        }
    });
}

/// What is sealed while a flush runs was perhaps not flushed: sums of it wait for the next.
#[test]
fn what_is_sealed_during_a_flush_gets_its_sums_later() {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).expect("the disk is empty");
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(BOOT)).expect("it was just made");
    let store = Arc::new(store);
    let layer = store.open_layer();
    let write = move |store: &Store, block, fill| {
        store
            .write_blocks(layer, block, &[fill; 4096], 0)
            .expect("there is space");
    };
    // The first sync of a store's life is one of the layers. The next leaves the layer unsynced, with copies in the journal.
    store.sync().expect("the disk works");
    assert_eq!(store.alloc(layer, 1).expect("there are numbers"), 0);
    write(&store, 0, 1);
    store.seal_blocks(layer).expect("it exists");
    assert_eq!(store.alloc(layer, 1).expect("there are numbers"), 1);
    write(&store, 1, 2);
    store.append(b"block 1").expect("there is space");
    store.sync().expect("the disk works");
    // The layer is synced first, then the journal: what comes between is in memory only.
    let (other, inner) = (store.clone(), disk.clone());
    disk.meanwhile(move || {
        inner.meanwhile(move || {
            write(&other, 1, 3);
            assert_eq!(other.seal_blocks(layer).expect("it exists"), Some(2));
        });
    });
    let crash = || {
        let mut medium = Medium::default();
        for step in &disk.steps() {
            medium.apply(step);
        }
        let after = SimDisk::from_image(medium.crash(&mut |_| 0));
        let (store, _) =
            Store::open(Arc::new(after), &options(NEXT_BOOT)).expect("nothing is damaged");
        let mut bytes = [[0; 4096]; 2];
        for (block, bytes) in (0..).zip(&mut bytes) {
            store
                .read(layer, block * 4096, bytes, true)
                .expect("no sum speaks of what was not synced");
        }
        let summed = store.layers().expect("the disk works")[0].summed;
        (bytes[0][0], bytes[1][0], summed)
    };
    store.finish_seals().expect("the disk works");
    assert_eq!(crash(), (1, 2, 1));
    store.finish_seals().expect("the disk works");
    assert_eq!(crash(), (1, 3, 2));
}

/// Any operation, alone or in the middle of another one.
fn any_op() -> impl Strategy<Value = Op> {
    let amid = (syncing_op(), 0usize..3, one_op()).prop_map(|(outer, at, inner)| Op::Amid {
        outer: Box::new(outer),
        at,
        inner: Box::new(inner),
    });
    prop_oneof![3 => one_op(), 1 => amid]
}

/// An operation in the middle of which there is a sync.
fn syncing_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Sync),
        2 => Just(Op::SyncLayers),
        1 => Just(Op::StartWriteback),
        1 => Just(Op::Image),
        1 => Just(Op::FinishSeals),
        1 => Just(Op::Archive),
        1 => Just(Op::Remove),
    ]
}

fn one_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0usize..2000).prop_map(Op::Record),
        4 => (1u32..5, 1usize..20000).prop_map(|(blocks, bytes)| Op::Fresh { blocks, bytes }),
        4 => (any::<usize>(), 0usize..4096, 1usize..4096, any::<bool>()).prop_map(
            |(pick, offset, bytes, record)| Op::Again { pick, offset, bytes, record }
        ),
        1 => Just(Op::StartWriteback),
        4 => Just(Op::Sync),
        1 => Just(Op::SyncLayers),
        1 => Just(Op::Image),
        1 => Just(Op::Seal),
        3 => Just(Op::SealBlocks),
        2 => Just(Op::FinishSeals),
        2 => Just(Op::Archive),
        1 => Just(Op::Remove),
        1 => Just(Op::Kill),
        1 => Just(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16 * thoroughness() as u32,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn long_histories_survive_random_cuts(
        ops in proptest::collection::vec(any_op(), 10..60),
        phase in 0usize..23,
    ) {
        // Where something was promised too, most of all in the most forgetful state.
        check(&ops, 4, |history, cut| cut % 23 == phase || history.promised_at(cut));
    }
}
