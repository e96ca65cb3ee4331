//! Layers that are compressed in place: the same bytes, proved by the same checksums, whatever is read, lost or full meanwhile.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(
    clippy::single_range_in_vec_init,
    reason = "one range of blocks is meant"
)]

mod simdisk;

use llfs::store::{BLOCK, BootToken, LayerId, Store, StoreOptions};
use simdisk::SimDisk;
use simdisk::choices::Random;
use simdisk::history::{BOOT, options, superblock};
use std::sync::Arc;

const PACK: &str = "layers/00000001.pack";
const DATA: &str = "layers/00000001.data";
const BLOCKS: u32 = 69;

fn open(disk: &SimDisk) -> Store {
    let options = StoreOptions {
        layer_blocks: 16 << 10,
        ..options(BOOT)
    };
    let store = Store::open(Arc::new(disk.clone()), &options).unwrap().0;
    // As a mount does: no layer of an earlier life is written again.
    for info in store.layers().unwrap() {
        store.seal(info.id).unwrap();
    }
    store
}

/// Text, noise, and blocks that were never written.
fn block(number: u32) -> Vec<u8> {
    let mut random = Random::new(u64::from(number));
    match number % 7 {
        6 => vec![0; BLOCK as usize],
        0 if number < 20 => (0..BLOCK).map(|_| random.below(256) as u8).collect(),
        _ => format!("block {number} has some text, ")
            .into_bytes()
            .into_iter()
            .cycle()
            .take(BLOCK as usize)
            .collect(),
    }
}

/// A store with a layer that takes no more blocks, and has the checksums of all.
fn sealed() -> (SimDisk, Store, LayerId) {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).unwrap();
    let store = open(&disk);
    let layer = store.open_layer();
    store.alloc(layer, BLOCKS).unwrap();
    for number in (0..BLOCKS).filter(|n| n % 7 != 6) {
        store
            .write_blocks(layer, number, &block(number), 0)
            .unwrap();
    }
    store.append(&0u32.to_le_bytes()).unwrap();
    store.seal(layer).unwrap();
    store.finish_seals().unwrap();
    (disk, store, layer)
}

fn check(store: &Store, layer: LayerId, numbers: impl Iterator<Item = u32>) {
    for number in numbers {
        let mut bytes = vec![1; BLOCK as usize];
        let at = u64::from(number) * BLOCK;
        store.read(layer, at, &mut bytes, true).unwrap();
        assert!(bytes == block(number), "block {number}");
    }
}

fn check_all(store: &Store, layer: LayerId) {
    check(store, layer, 0..BLOCKS);
    // Across chunks, and from within a block.
    let all: Vec<u8> = (0..BLOCKS).flat_map(block).collect();
    for (at, len) in [
        (0, all.len()),
        (1, 70_000),
        (65_000, 1000),
        (131_072, 65_536),
    ] {
        let mut bytes = vec![1; len];
        store.read(layer, at as u64, &mut bytes, true).unwrap();
        assert!(bytes == all[at..at + len], "{len} bytes at {at}");
    }
    let behind = u64::from(BLOCKS) * BLOCK;
    assert!(store.read(layer, behind, &mut [0; 10], true).is_err());
    let damaged = store.verify_layer(layer, &[0..BLOCKS], &mut |_| true);
    assert_eq!(damaged.unwrap(), [0u32; 0]);
}

fn archive(store: &Store, layer: LayerId) -> (u64, u64) {
    let done = store
        .archive_layer(layer, &mut |_| true, || ())
        .unwrap()
        .unwrap();
    (done.before, done.after)
}

#[test]
fn an_archived_layer_is_what_it_was() {
    let (disk, store, layer) = sealed();
    let mut told = 0;
    let count = &mut |bytes| {
        told += bytes;
        true
    };
    let done = store.archive_layer(layer, count, || ());
    let done = done.unwrap().unwrap();
    assert_eq!(told, u64::from(BLOCKS) * BLOCK);
    assert!(done.after < done.before / 4, "{done:?}");
    assert!(disk.bytes(DATA).is_none());
    assert_eq!(disk.bytes(PACK).unwrap().len() as u64, done.after);
    check_all(&store, layer);
    assert!(store.has_layer(layer));
    let info = store.layers().unwrap()[0];
    assert_eq!(info.archived, Some(done.before));
    assert_eq!((info.blocks, info.summed), (BLOCKS, BLOCKS));
    let sizes = store.sizes().unwrap();
    assert_eq!((sizes.archived, sizes.layer_files), (1, 1));
    assert_eq!(sizes.saved, done.before - done.after);
    // Once is enough, and nothing is written to it.
    assert!(
        store
            .archive_layer(layer, &mut |_| true, || ())
            .unwrap()
            .is_none()
    );
    assert!(store.write_blocks(layer, 0, b"x", 0).is_err());
    for boot in [BOOT, BootToken([9; 16])] {
        let options = StoreOptions {
            read_only: boot != BOOT,
            ..options(boot)
        };
        let disk = SimDisk::from_image(disk.image());
        let (store, _) = Store::open(Arc::new(disk), &options).unwrap();
        check_all(&store, layer);
        assert_eq!(store.layers().unwrap()[0].archived, Some(done.before));
    }
    let seq = store.append(&1u32.to_le_bytes()).unwrap();
    store.remove_layer(layer, seq).unwrap();
    assert!(disk.bytes(PACK).is_none());
}

/// What takes blocks yet, has no checksums, or becomes no smaller, stays as it is.
#[test]
fn what_cannot_be_archived_stays_as_it_is() {
    let (disk, store, layer) = sealed();
    let other = store.open_layer();
    store.alloc(other, 2).unwrap();
    let noise: Vec<u8> = (7..9).flat_map(|n| block(n * 7 % 14)).collect();
    store.write_blocks(other, 0, &noise, 0).unwrap();
    store.append(&1u32.to_le_bytes()).unwrap();
    let no = |store: &Store| {
        store
            .archive_layer(other, &mut |_| true, || ())
            .unwrap()
            .is_none()
    };
    assert!(no(&store));
    assert_eq!(store.seal_blocks(other).unwrap(), Some(2));
    store.finish_seals().unwrap();
    assert!(no(&store));
    let only_noise = store.open_layer();
    store.alloc(only_noise, 1).unwrap();
    store.write_blocks(only_noise, 0, &block(7), 0).unwrap();
    store.append(&2u32.to_le_bytes()).unwrap();
    store.seal(only_noise).unwrap();
    let unsummed = store.archive_layer(only_noise, &mut |_| true, || ());
    assert!(unsummed.unwrap().is_none());
    store.finish_seals().unwrap();
    let (before, after) = archive(&store, only_noise);
    assert_eq!(before, after);
    assert!(disk.bytes("layers/00000003.data").is_some());
    assert!(disk.bytes("layers/00000003.pack").is_none());
    // Somebody says no in the middle.
    let mut steps = 0;
    let stop = &mut |_| {
        steps += 1;
        steps < 3
    };
    let stopped = store.archive_layer(layer, stop, || ());
    stopped.unwrap();
    assert!(disk.bytes(DATA).is_some() && disk.bytes(PACK).is_none());
    assert!(disk.bytes("layers/00000001.pack.tmp").is_none());
    check_all(&store, layer);
}

#[test]
fn damage_of_an_archived_layer_is_told_and_never_served() {
    let (disk, store, layer) = sealed();
    archive(&store, layer);
    drop(store);
    let whole = disk.bytes(PACK).unwrap();
    let mut wrong = 0;
    // All bits of the first frame's header are among them: there is one that a decoder does not look at.
    let header = (84..92).flat_map(|at| (0..8).map(move |bit| (at, 1 << bit)));
    let some = (0..whole.len()).step_by(71).chain(0..84).map(|at| (at, 4));
    for (at, bit) in some.chain(header) {
        disk.tamper(PACK, |bytes| bytes[at] ^= bit);
        let store = open(&disk);
        for number in 0..BLOCKS {
            let mut bytes = vec![1; BLOCK as usize];
            match store.read(layer, u64::from(number) * BLOCK, &mut bytes, true) {
                Ok(()) => assert!(bytes == block(number), "byte {at}, block {number}"),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(5), "byte {at}, block {number}");
                    wrong += 1;
                }
            }
        }
        let damaged = store.verify_layer(layer, &[0..BLOCKS], &mut |_| true);
        assert!(!damaged.unwrap().is_empty(), "byte {at}");
        drop(store);
        disk.tamper(PACK, |bytes| bytes[at] ^= bit);
    }
    assert!(wrong > 0);
    for length in [0, 30, 70, whole.len() / 2, whole.len() - 1] {
        disk.tamper(PACK, |bytes| bytes.truncate(length));
        let store = open(&disk);
        let damaged = store.verify_layer(layer, &[0..BLOCKS], &mut |_| true);
        assert!(!damaged.unwrap().is_empty(), "{length} bytes");
        drop(store);
        disk.tamper(PACK, |bytes| *bytes = whole.clone());
    }
    check_all(&open(&disk), layer);
}

/// What was read before, and what is kept of it in memory, proves nothing: the medium is asked.
#[test]
fn a_running_daemon_is_told_of_damage_too() {
    let (disk, store, layer) = sealed();
    archive(&store, layer);
    let whole = disk.bytes(PACK).unwrap();
    let damaged = || {
        let damaged = store.verify_layer(layer, &[0..BLOCKS], &mut |_| true);
        damaged.unwrap()
    };
    for at in [9, 66, whole.len() - 20] {
        check(&store, layer, 0..BLOCKS);
        disk.tamper(PACK, |bytes| bytes[at] ^= 4);
        assert!(!damaged().is_empty(), "byte {at}");
        disk.tamper(PACK, |bytes| bytes[at] ^= 4);
        assert_eq!(damaged(), [0u32; 0]);
    }
}

/// The original stays where it is not what was written: what is wrong of it may be right when it is read again.
#[test]
fn a_damaged_layer_is_not_archived() {
    let (disk, store, layer) = sealed();
    disk.tamper(DATA, |bytes| bytes[5 * BLOCK as usize + 3] ^= 1);
    let refused = store.archive_layer(layer, &mut |_| true, || ());
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(5));
    assert!(disk.bytes(DATA).is_some() && disk.bytes(PACK).is_none());
    assert!(disk.bytes("layers/00000001.pack.tmp").is_none());
    assert!(store.is_readonly().is_none());
    disk.tamper(DATA, |bytes| bytes[5 * BLOCK as usize + 3] ^= 1);
    archive(&store, layer);
    check_all(&store, layer);
}

/// Space is taken back while a layer is archived: some blocks of it, and then all.
#[test]
fn what_goes_meanwhile_does_not_come_back() {
    let (disk, store, layer) = sealed();
    let seq = store.append(&1u32.to_le_bytes()).unwrap();
    let mut steps = 0;
    let punch = &mut |_| {
        steps += 1;
        if steps == 3 {
            store.free(layer, &[0..20, 36..BLOCKS], seq).unwrap();
        }
        true
    };
    let done = store.archive_layer(layer, punch, || ());
    assert!(done.unwrap().is_some());
    check(&store, layer, 20..36);
    let (gone, store, layer) = sealed();
    let seq = store.append(&1u32.to_le_bytes()).unwrap();
    let remove = || store.remove_layer(layer, seq).unwrap();
    let done = store.archive_layer(layer, &mut |_| true, remove);
    assert_eq!(done.unwrap(), None);
    for disk in [disk.image(), gone.image()] {
        let packs = disk
            .names
            .keys()
            .filter(|name| name.to_string_lossy().contains("pack"));
        assert_eq!(
            packs.count(),
            usize::from(disk.names.contains_key(std::path::Path::new(PACK)))
        );
    }
    assert!(gone.bytes(PACK).is_none() && gone.bytes(DATA).is_none());
    assert!(!store.has_layer(layer));
    let done = store.archive_layer(layer, &mut |_| true, || ());
    assert_eq!(done.unwrap(), None);
}

/// Blocks that nobody needs any more are given back, and the others stay.
#[test]
fn holes_are_made_in_an_archived_layer() {
    let (disk, store, layer) = sealed();
    archive(&store, layer);
    let before = disk.bytes(PACK).unwrap();
    let seq = store.append(&1u32.to_le_bytes()).unwrap();
    store.free(layer, &[3..20, 40..BLOCKS], seq).unwrap();
    let after = disk.bytes(PACK).unwrap();
    assert_eq!(before.len(), after.len());
    let gone = before.iter().zip(&after).filter(|(b, a)| b != a).count();
    assert!(gone > 10, "{gone} bytes");
    check(&store, layer, (0..3).chain(20..40));
    drop(store);
    let store = open(&disk);
    check(&store, layer, (0..3).chain(20..40));
    let live = [0..3, 20..40];
    let damaged = store.verify_layer(layer, &live, &mut |_| true).unwrap();
    assert_eq!(damaged, [0u32; 0]);
}

/// Every write on the way fails once, half done; then every byte of the disk is taken.
#[test]
fn a_failed_archive_leaves_the_layer_as_it_was() {
    let mut failures = 0;
    for failing in 0.. {
        let (disk, store, layer) = sealed();
        disk.fail_write_after(Some(failing));
        let done = store.archive_layer(layer, &mut |_| true, || ());
        disk.fail_write_after(None);
        if done.is_ok() {
            break;
        }
        failures += 1;
        assert!(disk.bytes(DATA).is_some() && disk.bytes(PACK).is_none());
        check_all(&store, layer);
        archive(&store, layer);
        check_all(&store, layer);
    }
    assert!(failures > 4, "{failures} writes failed");
    let (disk, store, layer) = sealed();
    disk.set_capacity(Some(disk.used() + 100));
    let full = store
        .archive_layer(layer, &mut |_| true, || ())
        .unwrap_err();
    assert_eq!(full.raw_os_error(), Some(28));
    assert!(disk.bytes("layers/00000001.pack.tmp").is_none());
    check_all(&store, layer);
    for failing in 0..2 {
        let (disk, store, layer) = sealed();
        disk.fail_sync_after(Some(failing));
        assert!(store.archive_layer(layer, &mut |_| true, || ()).is_err());
        // As after every sync that failed.
        assert!(store.is_readonly().is_some());
        check_all(&store, layer);
        drop(store);
        disk.fail_sync_after(None);
        check_all(&open(&disk), layer);
    }
}

/// A daemon that was killed between the two leaves both: the pack serves, and the data goes. A damaged pack has no say.
#[test]
fn of_both_files_the_whole_pack_serves() {
    let (disk, store, layer) = sealed();
    drop(store);
    let data = disk.bytes(DATA).unwrap();
    let before = disk.image();
    let store = open(&disk);
    archive(&store, layer);
    drop(store);
    let pack = disk.bytes(PACK).unwrap();
    let both = |damaged: bool| {
        let disk = SimDisk::from_image(before.clone());
        let file = llfs::store::Disk::open(
            &disk,
            std::path::Path::new(PACK),
            llfs::store::OpenHow::Create,
        );
        let mut pack = pack.clone();
        pack[60] ^= u8::from(damaged);
        file.unwrap().write_at(&pack, 0).unwrap();
        disk
    };
    let disk = both(false);
    check_all(&open(&disk), layer);
    assert!(disk.bytes(DATA).is_none());
    let disk = both(true);
    let store = open(&disk);
    check_all(&store, layer);
    assert_eq!(disk.bytes(DATA), Some(data));
    archive(&store, layer);
    assert_eq!(disk.bytes(PACK), Some(pack.clone()));
    check_all(&store, layer);
}

#[test]
fn readers_go_on_while_a_layer_is_archived() {
    for _ in 0..20 {
        let (disk, store, layer) = sealed();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut rounds = 0;
                    while !done.load(std::sync::atomic::Ordering::Acquire) || rounds == 0 {
                        check(&store, layer, 0..BLOCKS);
                        rounds += 1;
                    }
                });
            }
            archive(&store, layer);
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        // Nor does anybody hold on to the space that this was to give.
        assert_eq!(disk.nameless(), 0);
    }
}
