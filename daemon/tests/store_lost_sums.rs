//! A layer whose checksum file is gone is not taken for one that never had any, and gets no fresh checksums.

#![allow(clippy::unwrap_used, reason = "a test")]

mod simdisk;

use llfs::store::{BLOCK, Disk, LayerId, OpenHow, Store};
use simdisk::history::{BOOT, NEXT_BOOT, options, superblock};
use simdisk::{SimDisk, Syncing};
use std::path::Path;
use std::sync::Arc;

const SUMS: &str = "layers/00000001.sum";
const LIST: &str = "layers/summed";

fn open(disk: &SimDisk) -> Store {
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(NEXT_BOOT)).unwrap();
    for layer in store.layers().unwrap() {
        store.seal(layer.id).unwrap();
    }
    store
}

/// Two blocks with checksums, as an image knows; then one without.
fn made() -> (SimDisk, LayerId) {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).unwrap();
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(BOOT)).unwrap();
    let layer = store.open_layer();
    let write = |fill: u8| {
        let block = store.alloc(layer, 1).unwrap();
        let bytes = [fill; BLOCK as usize];
        store.write_blocks(layer, block, &bytes, 0).unwrap();
    };
    write(1);
    write(2);
    store.append(b"s").unwrap();
    assert_eq!(store.seal_blocks(layer).unwrap(), Some(2));
    store.finish_seals().unwrap();
    store.write_image(1, &mut |_| Ok(())).unwrap();
    write(3);
    store.append(b"w").unwrap();
    store.close().unwrap();
    (disk, layer)
}

fn read(store: &Store, layer: LayerId, block: u64) -> std::io::Result<u8> {
    let mut bytes = [0; BLOCK as usize];
    store.read(layer, block * BLOCK, &mut bytes, true)?;
    Ok(bytes[77])
}

#[test]
fn blocks_whose_checksums_are_gone_are_errors_and_stay_so() {
    let (disk, layer) = made();
    assert_eq!(read(&open(&disk), layer, 1).unwrap(), 2);
    disk.remove(Path::new(SUMS)).unwrap();
    for _ in 0..2 {
        let store = open(&disk);
        // Nothing makes them good, in this life or the next.
        store.finish_seals().unwrap();
        store.list_sums().unwrap();
        assert!(disk.bytes(SUMS).is_none(), "there are fresh checksums");
        assert!(store.sums_are_whole(layer).is_err());
        for block in 0..2 {
            let error = read(&store, layer, block).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(5), "block {block}");
        }
        // What never had one is as it was.
        assert_eq!(read(&store, layer, 2).unwrap(), 3);
        let damaged = store.verify_layer(layer, &[0..1, 1..3], &mut |_| true);
        assert_eq!(damaged.unwrap(), [0, 1]);
        store.close().unwrap();
    }
}

/// The list only adds what is known: without it, or with a damaged one, the store is as it was before there were lists.
#[test]
fn a_list_that_is_damaged_or_gone_hurts_nothing() {
    let (disk, layer) = made();
    let whole = disk.bytes(LIST).unwrap();
    for at in 0..whole.len() {
        disk.tamper(LIST, |bytes| bytes[at] ^= 4);
        assert_eq!(read(&open(&disk), layer, 0).unwrap(), 1);
        disk.tamper(LIST, |bytes| bytes[at] ^= 4);
    }
    for length in 0..whole.len() {
        disk.tamper(LIST, |bytes| bytes.truncate(length));
        assert_eq!(read(&open(&disk), layer, 0).unwrap(), 1);
        disk.tamper(LIST, |bytes| *bytes = whole.clone());
    }
    disk.remove(Path::new(LIST)).unwrap();
    assert_eq!(read(&open(&disk), layer, 0).unwrap(), 1);
}

#[test]
fn a_layer_that_was_taken_back_is_not_missed() {
    let (disk, layer) = made();
    let store = open(&disk);
    let seq = store.append(b"drop").unwrap();
    store.remove_layer(layer, seq).unwrap();
    drop(store);
    assert!(disk.bytes(LIST).is_some());
    assert_eq!(open(&disk).layers().unwrap(), []);
}

/// What is known of a layer that is gone (which blocks have checksums, perhaps the checksums themselves) is not that of a new one.
#[test]
fn the_number_of_a_layer_that_was_taken_back_is_not_given_again() {
    for keep_sums in [false, true] {
        let (disk, layer) = made();
        let sums = disk.bytes(SUMS).unwrap();
        let store = open(&disk);
        let seq = store.append(b"drop").unwrap();
        store.remove_layer(layer, seq).unwrap();
        drop(store);
        if keep_sums {
            // Both names were removed, and a power cut brought one of them back.
            let file = disk.open(Path::new(SUMS), OpenHow::Create).unwrap();
            file.write_at(&sums, 0).unwrap();
            disk.remove(Path::new(LIST)).unwrap();
        }
        let store = open(&disk);
        let new = store.open_layer();
        store.alloc(new, 1).unwrap();
        store
            .write_blocks(new, 0, &[7; BLOCK as usize], 0)
            .and_then(|()| store.append(b"new"))
            .and_then(|_| store.sync())
            .unwrap();
        drop(store);
        assert_eq!(read(&open(&disk), new, 0).unwrap(), 7, "{keep_sums}");
    }
}

/// A layer is removed by one thread while another one makes its checksums.
#[test]
fn checksums_of_a_layer_that_is_taken_back_meanwhile_go_with_it() {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).unwrap();
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(BOOT)).unwrap();
    let store = Arc::new(store);
    let layer = store.open_layer();
    store.alloc(layer, 1).unwrap();
    store
        .write_blocks(layer, 0, &[1; BLOCK as usize], 0)
        .and_then(|()| store.append(b"w"))
        .unwrap();
    store.seal(layer).unwrap();
    let other = store.clone();
    disk.between(move |syncing| {
        if syncing == Syncing::Sums {
            let seq = other.append(b"drop").unwrap();
            other.remove_layer(layer, seq).unwrap();
        }
    });
    store.finish_seals().unwrap();
    disk.undisturbed();
    assert!(!store.has_layer(layer));
    assert_eq!(disk.list(Path::new("layers")).unwrap(), [""; 0]);
    assert_eq!(disk.nameless(), 0, "something keeps its space");
}

/// What was opened just before it went keeps no space.
#[test]
fn a_layer_that_goes_while_it_is_opened_keeps_no_space() {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).unwrap();
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(BOOT)).unwrap();
    let store = Arc::new(store);
    // More layers than files may be open.
    let layers = [(); 4].map(|()| store.open_layer());
    for layer in layers {
        store.alloc(layer, 1).unwrap();
        store.write_blocks(layer, 0, &[7; 4096], 0).unwrap();
    }
    store.sync_layers().unwrap();
    let (other, seq) = (store.clone(), store.last_seq());
    disk.once_opened(move || other.remove_layer(layers[0], seq).unwrap());
    let mut bytes = [0; 4096];
    store.read(layers[0], 0, &mut bytes, true).unwrap();
    assert_eq!(bytes, [7; 4096], "it was read before it went");
    assert_eq!(disk.nameless(), 0);
    store.read(layers[1], 0, &mut bytes, true).unwrap();
}
