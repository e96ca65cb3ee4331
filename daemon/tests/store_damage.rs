//! Bytes change behind the store's back: what is damaged is told, never served, and nothing is written.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(
    clippy::single_range_in_vec_init,
    reason = "one range of blocks is meant"
)]

mod simdisk;

use llfs::store::{
    BLOCK, BootToken, LayerId, OpenError, Recovered, Store, StoreOptions, Superblock,
};
use simdisk::SimDisk;
use simdisk::history::{BOOT, NEXT_BOOT, count_records, options, superblock};
use std::sync::Arc;

fn open(disk: &SimDisk, boot: BootToken) -> Result<(Store, Recovered), OpenError> {
    Store::open(Arc::new(disk.clone()), &options(boot))
}

fn read_only(disk: &SimDisk, boot: BootToken) -> Result<(Store, Recovered), OpenError> {
    let options = StoreOptions {
        read_only: true,
        ..options(boot)
    };
    Store::open(Arc::new(disk.clone()), &options)
}

fn made() -> SimDisk {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).unwrap();
    disk
}

fn append(store: &Store, range: std::ops::Range<u32>) {
    for index in range {
        store.append(&index.to_le_bytes()).unwrap();
    }
}

/// The segment that an opened store writes.
const SEGMENT: &str = "journal/00000002.log";
/// Bytes of a header.
const HEADER: usize = 128;

#[test]
fn every_flipped_byte_of_the_superblock_is_told() {
    let disk = made();
    let whole = disk.bytes("superblock").unwrap();
    for at in 0..whole.len() {
        disk.tamper("superblock", |bytes| bytes[at] ^= 0x10);
        let error = open(&disk, BOOT).err().unwrap();
        let told = matches!(error, OpenError::Foreign | OpenError::BadSuperblock(_));
        assert!(told, "byte {at}: {error}");
        disk.tamper("superblock", |bytes| bytes[at] ^= 0x10);
    }
    for length in 0..whole.len() {
        disk.tamper("superblock", |bytes| bytes.truncate(length));
        let error = open(&disk, BOOT).err().unwrap();
        assert!(
            matches!(error, OpenError::BadSuperblock(_)),
            "{length} bytes: {error}"
        );
        disk.tamper("superblock", |bytes| *bytes = whole.clone());
    }
    open(&disk, BOOT).unwrap();
}

#[test]
fn a_newer_version_is_refused_with_both_versions() {
    let mut bytes = superblock().encode();
    bytes[8] = 9;
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..16]);
    bytes[16..24].copy_from_slice(&sum.to_le_bytes());
    let error = Superblock::decode(&bytes).unwrap_err().to_string();
    assert_eq!(
        error,
        "the store has format version 9, this llfs knows up to version 4"
    );
}

#[test]
fn data_without_a_superblock_is_not_started_over() {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    append(&store, 0..1);
    store.close().unwrap();
    llfs::store::Disk::remove(&disk, std::path::Path::new("superblock")).unwrap();
    assert!(matches!(open(&disk, BOOT), Err(OpenError::NoSuperblock)));
    assert!(matches!(
        Store::create(&disk, &superblock()),
        Err(OpenError::NotEmpty)
    ));
}

#[test]
fn a_second_daemon_is_refused() {
    let disk = made();
    let first = open(&disk, BOOT).unwrap();
    assert!(matches!(
        open(&disk, BOOT),
        Err(OpenError::Locked { pid: Some(pid) }) if pid == std::process::id()
    ));
    drop(first);
    open(&disk, BOOT).unwrap();
}

/// A killed daemon's journal: any byte but those of the last frame proves itself damaged.
#[test]
fn every_flipped_byte_in_the_middle_of_the_journal_is_told() {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    append(&store, 0..8);
    drop(store);
    let frame = 32;
    let last = HEADER + 7 * frame;
    for at in 0..last + frame {
        disk.tamper(SEGMENT, |bytes| bytes[at] ^= 0x04);
        let before = disk.image();
        let result = open(&disk, BOOT);
        if at < last {
            let Err(OpenError::Damaged(damage)) = result else {
                panic!("byte {at} was not noticed");
            };
            let offset = if at < HEADER {
                0
            } else {
                HEADER + (at - HEADER) / frame * frame
            };
            assert_eq!((damage.segment, damage.offset), (2, offset as u64));
            let mut after = disk.image();
            let lock = std::path::Path::new("lock");
            assert_eq!(after.names.remove(lock), before.names.get(lock).copied());
            assert_eq!(after.files, before.files, "nothing is written over damage");
            let (store, mut recovered) = read_only(&disk, BOOT).unwrap();
            assert!(recovered.damage().is_some());
            let readable = at.saturating_sub(HEADER) / frame;
            assert_eq!(count_records(&mut recovered).unwrap(), readable);
            assert!(store.append(b"no").is_err());
            assert_eq!(disk.image().files, after.files);
        } else {
            // The last frame cannot be told from one that a dying daemon did not finish.
            let (_, mut recovered) = result.unwrap();
            assert_eq!(count_records(&mut recovered).unwrap(), 7);
            break;
        }
        disk.tamper(SEGMENT, |bytes| bytes[at] ^= 0x04);
    }
}

/// After a power cut only what was synced must be whole; a later barrier says what that is.
#[test]
fn damage_before_a_synced_point_is_no_torn_tail() {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    append(&store, 0..3);
    store.sync().unwrap();
    append(&store, 3..4);
    store.sync().unwrap();
    append(&store, 4..5);
    drop(store);
    let barrier = 24 + 32;
    let synced = HEADER + 3 * 32 + barrier;
    let written = synced + 32 + barrier + 32;
    for at in HEADER..written {
        disk.tamper(SEGMENT, |bytes| bytes[at] ^= 0x80);
        let scratch = SimDisk::from_image(disk.image());
        match open(&scratch, NEXT_BOOT) {
            Err(OpenError::Damaged(damage)) => {
                assert!(
                    at < synced,
                    "byte {at} was perhaps never on the medium: {damage}"
                );
            }
            Err(error) => panic!("byte {at}: {error}"),
            Ok((_, mut recovered)) => {
                assert!(at >= synced, "byte {at} was on the medium");
                let count = count_records(&mut recovered).unwrap();
                let expected = if at < synced + 32 + barrier { 3 } else { 4 };
                assert_eq!(count, expected, "byte {at}");
            }
        }
        disk.tamper(SEGMENT, |bytes| bytes[at] ^= 0x80);
    }
}

#[test]
fn a_closed_store_knows_its_end() {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    append(&store, 0..3);
    store.close().unwrap();
    disk.tamper(SEGMENT, |bytes| bytes[HEADER + 70] ^= 1);
    assert!(matches!(open(&disk, NEXT_BOOT), Err(OpenError::Damaged(_))));
}

#[test]
fn an_older_segment_that_is_cut_or_missing_is_damage() {
    let disk = made();
    for round in 0..3 {
        let (store, mut recovered) = open(&disk, BOOT).unwrap();
        assert_eq!(count_records(&mut recovered).unwrap() as u32, round * 4);
        append(&store, round * 4..round * 4 + 4);
    }
    let whole = disk.bytes(SEGMENT).unwrap();
    for length in [0, 100, HEADER, HEADER + 32, HEADER + 127] {
        disk.tamper(SEGMENT, |bytes| bytes.truncate(length));
        let error = open(&disk, BOOT).err().unwrap();
        assert!(
            matches!(error, OpenError::Damaged(ref d) if d.segment == 2),
            "{length}: {error}"
        );
        disk.tamper(SEGMENT, |bytes| *bytes = whole.clone());
    }
    llfs::store::Disk::remove(&disk, std::path::Path::new("journal/00000003.log")).unwrap();
    let error = open(&disk, BOOT).err().unwrap().to_string();
    assert_eq!(
        error,
        "journal segment 00000003 is damaged at byte 0: it is missing"
    );
    let (_, mut recovered) = repair(&disk, BOOT).unwrap();
    assert_eq!(count_records(&mut recovered).unwrap(), 4);
}

/// A frame at another place than its own (in a copy of the journal that somebody keeps in a file, say)
/// is no frame, and proves nothing.
#[test]
fn a_frame_in_another_place_is_only_bytes() {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    append(&store, 0..5);
    drop(store);
    let last = HEADER + 4 * 32;
    disk.tamper(SEGMENT, |bytes| {
        bytes.copy_within(last..last + 32, last + 64);
        bytes[last] ^= 1;
    });
    let (_, mut recovered) = open(&disk, BOOT).unwrap();
    assert_eq!(count_records(&mut recovered).unwrap(), 4);
}

/// A frame that is whole and at its place counts if it is the next one: what an older write left behind the end is not.
#[test]
fn a_whole_frame_that_is_not_the_next_one_is_not_replayed() {
    let last = HEADER + 4 * 32;
    let with_number = |change: i64| {
        let disk = made();
        let (store, _) = open(&disk, BOOT).unwrap();
        append(&store, 0..5);
        drop(store);
        disk.tamper(SEGMENT, |bytes| {
            let frame = &mut bytes[last..last + 32];
            let number = i64::from_le_bytes(frame[16..24].try_into().unwrap()) + change;
            frame[16..24].copy_from_slice(&number.to_le_bytes());
            let mut own = superblock().uuid.to_vec();
            own.extend_from_slice(&2u32.to_le_bytes());
            let seed = xxhash_rust::xxh3::xxh3_64(&own).wrapping_add(last as u64);
            let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&frame[8..], seed);
            frame[..8].copy_from_slice(&sum.to_le_bytes());
        });
        let (_, mut found) = open(&disk, BOOT).unwrap();
        count_records(&mut found).unwrap()
    };
    assert_eq!(with_number(0), 5);
    for change in [-4, -1, 1, 1000] {
        assert_eq!(with_number(change), 4, "{change}");
    }
}

fn repair(disk: &SimDisk, boot: BootToken) -> Result<(Store, Recovered), OpenError> {
    let options = StoreOptions {
        repair: true,
        ..options(boot)
    };
    Store::open(Arc::new(disk.clone()), &options)
}

/// What lies before the damage counts, and the store can be written again; the rest is set aside.
/// None of its frames is one of ours, and that is no torn tail.
#[test]
fn a_segment_of_another_store_is_damage() {
    let [disk, other] = [7, 8].map(|number| {
        let disk = SimDisk::new();
        let superblock = Superblock {
            uuid: [number; 16],
            ..superblock()
        };
        Store::create(&disk, &superblock).unwrap();
        let (store, _) = open(&disk, BOOT).unwrap();
        append(&store, 0..5);
        drop(store);
        disk
    });
    let foreign = other.bytes(SEGMENT).unwrap();
    disk.tamper(SEGMENT, |bytes| *bytes = foreign);
    assert!(matches!(open(&disk, BOOT), Err(OpenError::Damaged(_))));
}

#[test]
fn a_repair_goes_on_before_the_damage() {
    for (segment, at) in [
        (2, 40),
        (2, 70),
        (2, HEADER + 40),
        (3, 20),
        (3, HEADER + 70),
        (4, 9),
    ] {
        let disk = made();
        for round in 0..3 {
            let (store, _) = open(&disk, BOOT).unwrap();
            append(&store, round * 4..round * 4 + 4);
        }
        let path = format!("journal/{segment:08}.log");
        disk.tamper(&path, |bytes| bytes[at] ^= 1);
        assert!(matches!(open(&disk, BOOT), Err(OpenError::Damaged(_))));
        let (store, mut recovered) = repair(&disk, BOOT).unwrap();
        let damage = recovered.damage().unwrap().clone();
        assert_eq!(damage.segment, segment);
        let count = count_records(&mut recovered).unwrap();
        let whole = (segment as usize - 2) * 4 + at.saturating_sub(HEADER) / 32;
        assert_eq!(count, whole, "segment {segment}, byte {at}");
        if segment < 4 {
            assert!(disk.bytes("journal/00000004.log.damaged").is_some());
        }
        append(&store, count as u32..count as u32 + 3);
        store.sync().unwrap();
        drop(store);
        for boot in [BOOT, NEXT_BOOT] {
            let (_, mut recovered) = open(&disk, boot).unwrap();
            assert_eq!(count_records(&mut recovered).unwrap(), count + 3);
        }
    }
}

/// A whole image stands in for everything before it.
#[test]
fn damage_that_an_image_makes_good_is_none() {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    append(&store, 0..5);
    image_of(&store, 5);
    append(&store, 5..7);
    image_of(&store, 7);
    append(&store, 7..8);
    drop(store);
    disk.tamper(SEGMENT, |bytes| bytes[HEADER + 40] ^= 1);
    for boot in [BOOT, BOOT] {
        let (_, mut recovered) = open(&disk, boot).unwrap();
        assert_eq!(count_records(&mut recovered).unwrap(), 8);
    }
    // What comes behind the image is needed.
    disk.tamper("journal/00000004.log", |bytes| bytes[HEADER + 5] ^= 1);
    assert!(matches!(open(&disk, BOOT), Err(OpenError::Damaged(_))));
    let (store, mut recovered) = repair(&disk, BOOT).unwrap();
    assert_eq!(count_records(&mut recovered).unwrap(), 7);
    append(&store, 7..9);
    drop(store);
    let (_, mut recovered) = open(&disk, BOOT).unwrap();
    assert_eq!(count_records(&mut recovered).unwrap(), 9);
}

#[test]
fn a_journal_that_ends_before_its_image_is_damaged() {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    append(&store, 0..5);
    image_of(&store, 5);
    drop(store);
    llfs::store::Disk::remove(&disk, std::path::Path::new("journal/00000003.log")).unwrap();
    disk.tamper(SEGMENT, |bytes| bytes.truncate(HEADER + 3 * 32));
    assert!(matches!(open(&disk, BOOT), Err(OpenError::Damaged(_))));
    let (store, mut recovered) = repair(&disk, BOOT).unwrap();
    assert_eq!(count_records(&mut recovered).unwrap(), 5);
    append(&store, 5..6);
    drop(store);
    let (_, mut recovered) = open(&disk, BOOT).unwrap();
    assert_eq!(count_records(&mut recovered).unwrap(), 6);
}

/// An open store finds damage in its history before a restart would.
#[test]
fn the_history_of_an_open_store_can_be_verified() {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    append(&store, 0..5);
    image_of(&store, 5);
    append(&store, 5..9);
    let whole = store.verify_history().unwrap();
    assert_eq!((whole.images, whole.journal), (vec![], None));
    let image = "images/00000001.img";
    disk.tamper(image, |bytes| bytes[66] ^= 1);
    assert_eq!(store.verify_history().unwrap().images, [1]);
    disk.tamper(image, |bytes| bytes[66] ^= 1);
    for (segment, at) in [(3, HEADER + 3), (3, HEADER + 100), (3, 100)] {
        let path = format!("journal/{segment:08}.log");
        disk.tamper(&path, |bytes| bytes[at] ^= 1);
        let damage = store.verify_history().unwrap().journal.unwrap();
        assert_eq!(damage.segment, segment, "byte {at}: {damage}");
        disk.tamper(&path, |bytes| bytes[at] ^= 1);
    }
}

#[test]
fn without_any_state_there_is_nothing_to_repair() {
    let disk = made();
    llfs::store::Disk::remove(&disk, std::path::Path::new("journal/00000001.log")).unwrap();
    assert!(matches!(repair(&disk, BOOT), Err(OpenError::Damaged(_))));
}

fn image_of(store: &Store, count: u32) {
    store
        .write_image(store.last_seq(), &mut |out| {
            out.write_all(&count.to_le_bytes())
        })
        .unwrap();
}

#[test]
fn a_damaged_image_gives_way_to_the_one_before() {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    let mut count = 0;
    for _ in 0..4 {
        append(&store, count..count + 5);
        count += 5;
        image_of(&store, count);
    }
    append(&store, count..count + 2);
    drop(store);
    assert!(
        disk.bytes("images/00000002.img").is_none(),
        "two images are kept"
    );
    assert!(
        disk.bytes(SEGMENT).is_none(),
        "the journal before them is not"
    );
    let path = "images/00000004.img";
    for at in 0..disk.bytes(path).unwrap().len() {
        disk.tamper(path, |bytes| bytes[at] ^= 1);
        let scratch = SimDisk::from_image(disk.image());
        let (_, mut recovered) = open(&scratch, BOOT).unwrap();
        assert_eq!(recovered.damaged_images(), [4], "byte {at}");
        assert_eq!(count_records(&mut recovered).unwrap() as u32, count + 2);
        disk.tamper(path, |bytes| bytes[at] ^= 1);
    }
    disk.tamper(path, |bytes| bytes[70] ^= 1);
    disk.tamper("images/00000003.img", |bytes| bytes.truncate(20));
    assert!(matches!(open(&disk, BOOT), Err(OpenError::Damaged(_))));
}

/// What an image covers is let go of when that image was found whole once more.
#[test]
fn what_a_damaged_image_covers_stays() {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    append(&store, 0..5);
    image_of(&store, 5);
    append(&store, 5..10);
    disk.tamper("images/00000001.img", |bytes| bytes[66] ^= 1);
    let image = store.write_image(store.last_seq(), &mut |out| {
        out.write_all(&10u32.to_le_bytes())
    });
    image.unwrap_err();
    append(&store, 10..12);
    drop(store);
    let (_, mut recovered) = open(&disk, BOOT).unwrap();
    assert_eq!(count_records(&mut recovered).unwrap(), 12);
    drop(recovered);
    // Without the other image, the journal still has everything.
    disk.tamper("images/00000002.img", |bytes| bytes[66] ^= 1);
    let (_, mut recovered) = open(&disk, BOOT).unwrap();
    assert_eq!(recovered.damaged_images(), [2, 1]);
    assert_eq!(count_records(&mut recovered).unwrap(), 12);
}

fn with_sealed_layer() -> (SimDisk, Store, LayerId) {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    let layer = store.open_layer();
    let first = store.alloc(layer, 3).unwrap();
    assert_eq!(first, 0);
    store
        .write_blocks(layer, 0, &[5; 3 * BLOCK as usize - 100], 0)
        .unwrap();
    store.seal(layer).unwrap();
    assert_eq!(store.finish_seals().unwrap(), 1);
    assert!(
        store.write_blocks(layer, 0, b"x", 0).is_err(),
        "a sealed layer is final"
    );
    (disk, store, layer)
}

#[test]
fn a_flipped_bit_in_a_sealed_layer_is_never_served() {
    let (disk, store, layer) = with_sealed_layer();
    let data = "layers/00000001.data";
    let length = disk.bytes(data).unwrap().len();
    let mut bytes = vec![0; 3 * BLOCK as usize];
    for at in (0..length).step_by(997) {
        disk.tamper(data, |bytes| bytes[at] ^= 2);
        let block = at as u64 / BLOCK;
        for other in 0..3 {
            let mut part = [0; 10];
            let read = store.read(layer, other * BLOCK + 17, &mut part, true);
            assert_eq!(read.is_err(), other == block, "byte {at}, block {other}");
            let whole = &mut bytes[..BLOCK as usize];
            let read = store.read(layer, other * BLOCK, whole, true);
            assert_eq!(read.is_err(), other == block, "byte {at}, block {other}");
        }
        let verified = store.verify_layer(layer, &[0..3], &mut |_| true).unwrap();
        assert_eq!(verified, [block as u32]);
        disk.tamper(data, |bytes| bytes[at] ^= 2);
    }
    store.read(layer, 0, &mut bytes, true).unwrap();
    assert!(
        bytes[3 * BLOCK as usize - 100..]
            .iter()
            .all(|&byte| byte == 0)
    );
}

/// A program that reads a file must not be told that there is none.
#[test]
fn a_file_of_a_layer_that_vanishes_is_an_error_of_the_disk() {
    let (disk, store, layer) = with_sealed_layer();
    drop(store);
    let number = format!("{:08}", layer.0);
    for vanishes in ["data", "sum"] {
        let path = format!("layers/{number}.{vanishes}");
        let (store, _) = open(&disk, BOOT).unwrap();
        let whole = disk.bytes(&path).unwrap();
        llfs::store::Disk::remove(&disk, path.as_ref()).unwrap();
        let mut block = [0; BLOCK as usize];
        let error = store.read(layer, 0, &mut block, true).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{path}: {error}");
        drop(store);
        let back = llfs::store::Disk::open(&disk, path.as_ref(), llfs::store::OpenHow::Create);
        back.unwrap().write_at(&whole, 0).unwrap();
    }
}

/// Nor is a layer begun anew of which something was written: what else was in it would be zeros.
#[test]
fn a_layer_whose_file_vanishes_takes_no_more_writes() {
    for known in [false, true] {
        let disk = made();
        let (store, _) = open(&disk, BOOT).unwrap();
        let layer = store.open_layer();
        store.alloc(layer, 3).unwrap();
        store
            .write_blocks(layer, 0, &[1; 3 * BLOCK as usize], 0)
            .unwrap();
        drop(store);
        let path = format!("layers/{:08}.data", layer.0);
        let vanish = || llfs::store::Disk::remove(&disk, path.as_ref()).unwrap();
        // While it is in use, or before it is.
        if known {
            vanish();
        }
        let (store, _) = open(&disk, BOOT).unwrap();
        store.set_next(layer, 3);
        if !known {
            vanish();
        }
        let error = store.write_blocks(layer, 1, &[2; 8], 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
        let mut block = [0; BLOCK as usize];
        let error = store.read(layer, 0, &mut block, true).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
    }
}

#[test]
fn a_cut_layer_and_damaged_sums_are_told() {
    let (disk, store, layer) = with_sealed_layer();
    let sums = "layers/00000001.sum";
    let whole = disk.bytes(sums).unwrap();
    assert_eq!(whole.len(), 2 * 4096);
    let mut part = [0; 10];
    for at in (0..whole.len()).step_by(251) {
        disk.tamper(sums, |bytes| bytes[at] ^= 2);
        let damaged = store.verify_layer(layer, &[0..2], &mut |_| true).unwrap();
        if at < 4096 {
            assert_eq!(
                store.sums_are_whole(layer).unwrap(),
                Some(false),
                "byte {at}"
            );
            assert!(damaged.is_empty());
        } else {
            assert_eq!(damaged, [0, 1], "byte {at}");
            assert!(store.read(layer, 3, &mut part, true).is_err());
        }
        disk.tamper(sums, |bytes| bytes[at] ^= 2);
    }
    assert_eq!(store.sums_are_whole(layer).unwrap(), Some(true));
    disk.tamper("layers/00000001.data", |bytes| bytes.truncate(5000));
    store.read(layer, 0, &mut part, true).unwrap();
    assert!(store.read(layer, BLOCK, &mut part, true).is_err());
    assert!(store.read(layer, 2 * BLOCK, &mut part, true).is_err());
    assert!(store.read(layer, 2 * BLOCK, &mut part, false).is_err());
    assert_eq!(
        store.verify_layer(layer, &[0..3], &mut |_| true).unwrap(),
        [1, 2]
    );
}

/// A layer of four blocks, three of which have sums; it goes on.
fn with_partly_sealed_layer() -> (SimDisk, Store, LayerId) {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    let layer = store.open_layer();
    store.alloc(layer, 3).unwrap();
    store
        .write_blocks(layer, 0, &[5; 3 * BLOCK as usize], 0)
        .unwrap();
    assert_eq!(store.seal_blocks(layer).unwrap(), Some(3));
    assert_eq!(store.finish_seals().unwrap(), 1);
    assert_eq!(store.alloc(layer, 1).unwrap(), 3);
    store.write_blocks(layer, 3, &[6; 4096], 0).unwrap();
    (disk, store, layer)
}

#[test]
fn sums_grow_with_a_layer_that_goes_on() {
    let (disk, store, layer) = with_partly_sealed_layer();
    let data = "layers/00000001.data";
    let mut all = vec![0; 4 * BLOCK as usize];
    // Damaged blocks, and what a read over all of them then says.
    let check = |all: &mut Vec<u8>, block: u64, told: bool| {
        let at = block as usize * BLOCK as usize + 9;
        disk.tamper(data, |bytes| bytes[at] ^= 2);
        assert_eq!(store.read(layer, 0, all, true).is_err(), told);
        let part = &mut all[..100];
        let read = store.read(layer, block * BLOCK + 5, part, true);
        assert_eq!(read.is_err(), told, "block {block}");
        let damaged = store.verify_layer(layer, &[0..4], &mut |_| true).unwrap();
        assert_eq!(damaged, if told { vec![block as u32] } else { vec![] });
        disk.tamper(data, |bytes| bytes[at] ^= 2);
        store.read(layer, 0, all, true).unwrap();
    };
    check(&mut all, 1, true);
    check(&mut all, 3, false);
    assert!(store.write_blocks(layer, 2, b"x", 0).is_err());
    store.write_blocks(layer, 3, b"x", 0).unwrap();
    assert_eq!(store.seal_blocks(layer).unwrap(), Some(4));
    assert!(store.write_blocks(layer, 3, b"y", 0).is_err());
    // What has sums is not read again: damage is not made good by new sums.
    disk.tamper(data, |bytes| bytes[9] ^= 2);
    assert_eq!(store.finish_seals().unwrap(), 1);
    assert!(store.read(layer, 0, &mut all[..10], true).is_err());
    disk.tamper(data, |bytes| bytes[9] ^= 2);
    for block in 0..4 {
        check(&mut all, block, true);
    }
    assert_eq!(store.sums_are_whole(layer).unwrap(), Some(true));
    assert_eq!(store.finish_seals().unwrap(), 0, "nothing is left to do");
}

/// A write that failed leaves a block that nothing refers to. It is sealed with the others, and stays so.
#[test]
fn a_block_that_was_handed_out_and_not_written_is_final_too() {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    let layer = store.open_layer();
    store.alloc(layer, 2).unwrap();
    store.write_blocks(layer, 0, &[5; 4096], 0).unwrap();
    assert_eq!(store.seal_blocks(layer).unwrap(), Some(2));
    store.finish_seals().unwrap();
    drop(store);
    let (store, _) = open(&disk, BOOT).unwrap();
    assert!(store.write_blocks(layer, 1, b"x", 0).is_err());
    assert_eq!(store.alloc(layer, 1).unwrap(), 2);
    store.write_blocks(layer, 2, &[6; 4096], 0).unwrap();
    store.seal(layer).unwrap();
    store.finish_seals().unwrap();
    let mut bytes = [0; 4096];
    for (block, fill) in [(0, 5), (1, 0), (2, 6)] {
        store.read(layer, block * BLOCK, &mut bytes, true).unwrap();
        assert_eq!(bytes, [fill; 4096]);
    }
}

/// More sums than fit into a page, in steps that end before, at and behind its end.
#[test]
fn sums_grow_over_pages() {
    let disk = made();
    let many = StoreOptions {
        layer_blocks: 10_000,
        ..options(BOOT)
    };
    let (store, _) = Store::open(Arc::new(disk.clone()), &many).unwrap();
    let layer = store.open_layer();
    let mut blocks = 0;
    for step in [500, 11, 1, 600, 421, 3] {
        let first = store.alloc(layer, step).unwrap();
        for block in first..first + step {
            let data = block.to_le_bytes().repeat(1024);
            store.write_blocks(layer, block, &data, 0).unwrap();
        }
        blocks += step;
        assert_eq!(store.seal_blocks(layer).unwrap(), Some(blocks));
        store.finish_seals().unwrap();
        assert_eq!(store.layers().unwrap()[0].summed, blocks);
        let damaged = store.verify_layer(layer, &[0..blocks], &mut |_| true);
        assert_eq!(damaged.unwrap(), [0u32; 0], "{blocks} blocks");
    }
    for at in [0, 510, 511, 512, 1021, 1022, 1535] {
        disk.tamper("layers/00000001.data", |bytes| bytes[at * 4096] ^= 1);
        let damaged = store.verify_layer(layer, &[0..blocks], &mut |_| true);
        assert_eq!(damaged.unwrap(), [at as u32]);
        disk.tamper("layers/00000001.data", |bytes| bytes[at * 4096] ^= 1);
    }
}

#[test]
fn damaged_sums_are_not_continued() {
    let (disk, store, layer) = with_partly_sealed_layer();
    let sums = "layers/00000001.sum";
    disk.tamper(sums, |bytes| bytes[4096 + 1000] ^= 1);
    store.seal_blocks(layer).unwrap();
    store.finish_seals().unwrap();
    let mut part = [0; 10];
    assert!(store.read(layer, BLOCK, &mut part, true).is_err());
    store.read(layer, 3 * BLOCK, &mut part, true).unwrap();
    assert_eq!(part, [6; 10]);
    drop(store);
    // The next mount tries again, and finds the same.
    let (store, _) = open(&disk, BOOT).unwrap();
    store.seal(layer).unwrap();
    assert_eq!(store.finish_seals().unwrap(), 1);
    assert!(store.read(layer, BLOCK, &mut part, true).is_err());
    store.read(layer, 3 * BLOCK, &mut part, true).unwrap();
    let damaged = store.verify_layer(layer, &[0..4], &mut |_| true).unwrap();
    assert_eq!(damaged, [0, 1, 2]);
    drop(store);
    // Nothing tells how much a file covers whose first page is damaged: what has no sum is not served.
    disk.tamper(sums, |bytes| bytes[4096 + 1000] ^= 1);
    disk.tamper(sums, |bytes| bytes[36] ^= 2);
    let (store, _) = open(&disk, BOOT).unwrap();
    store.seal(layer).unwrap();
    assert_eq!(store.finish_seals().unwrap(), 0);
    assert_eq!(store.sums_are_whole(layer).unwrap(), Some(false));
    store.read(layer, BLOCK, &mut part, true).unwrap();
    assert!(store.read(layer, 3 * BLOCK, &mut part, true).is_err());
}

/// Looking at a store after a power cut, without writing, shows what recovery would write.
#[test]
fn reading_only_sees_blocks_that_only_the_journal_holds() {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    let layer = store.open_layer();
    store.alloc(layer, 1).unwrap();
    store.write_blocks(layer, 0, &[1; 4096], 0).unwrap();
    store.sync_layers().unwrap();
    store.write_blocks(layer, 0, &[2; 4096], 0).unwrap();
    store.sync().unwrap();
    drop(store);
    disk.tamper("layers/00000001.data", |bytes| bytes.fill(1));
    let files = disk.image().files;
    let (store, _) = read_only(&disk, NEXT_BOOT).unwrap();
    let mut bytes = [0; 4096];
    store.read(layer, 0, &mut bytes, true).unwrap();
    assert_eq!(bytes, [2; 4096]);
    drop(store);
    let mut after = disk.image().files;
    // The lock file alone tells who looks.
    after.retain(|id, bytes| files.get(id).is_some_and(|b| b.len() == bytes.len()));
    assert!(after.iter().all(|(id, bytes)| files.get(id) == Some(bytes)));
}

/// A journal of so many records, which `change` changes, and behind them what looks like many long frames with the number `seq`.
fn forged(records: u32, seq: u64, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
    let disk = made();
    let (store, _) = open(&disk, BOOT).unwrap();
    append(&store, 0..records);
    drop(store);
    let mut claim = [0; 24];
    claim[8..12].copy_from_slice(b"LjF\x01");
    claim[12..16].copy_from_slice(&(1u32 << 20).to_le_bytes());
    claim[16..24].copy_from_slice(&seq.to_le_bytes());
    disk.tamper(SEGMENT, |bytes| {
        bytes.truncate(HEADER + records as usize * 32);
        change(bytes);
        bytes.extend(claim.iter().copied().cycle().take(2 << 20));
    });
    disk
}

/// Bytes made to look like many long frames do not keep a start busy for hours.
#[test]
fn what_looks_like_frames_is_looked_at_within_bounds() {
    let disk = forged(2, 1000, |bytes| bytes.extend_from_slice(&[0; 8]));
    let error = open(&disk, BOOT).err().unwrap().to_string();
    assert!(error.contains("made to look like frames"), "{error}");
}

/// The same, for what is told of what lies behind a damage.
#[test]
fn what_is_left_behind_a_damage_is_looked_for_within_bounds() {
    let disk = forged(8, 0, |bytes| bytes[HEADER + 2 * 32] ^= 1);
    let (_store, found) = read_only(&disk, BOOT).unwrap();
    let mut there = Vec::new();
    let mut note = |_, payload: &[u8]| there.push(payload[0]);
    found.behind_damage(&mut note).unwrap();
    assert_eq!(there, [3, 4, 5, 6, 7]);
}

/// Headers with right checksums and numbers at the end of their range: damage like any other.
#[test]
fn numbers_that_were_never_given_are_damage() {
    for (at, number) in [(48, 0), (48, u64::MAX), (64, u64::MAX), (72, u64::MAX)] {
        let disk = made();
        disk.tamper("journal/00000001.log", |bytes| {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..120]);
            bytes[120..128].copy_from_slice(&sum.to_le_bytes());
        });
        let error = open(&disk, BOOT).err().unwrap();
        assert!(matches!(error, OpenError::Damaged(_)), "{at}: {error}");
    }
}
