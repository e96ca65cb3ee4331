//! An archived layer as it lies in a store of format version 4 is read as it was meant. `store_v4_archived/` was written by the first
//! program that archived; a change of the format adds a directory and never changes one.

#![allow(clippy::unwrap_used, reason = "a test")]

mod fixture;

use fixture::{checked_in, copy, scratch};
use llfs::store::{
    BLOCK, BootToken, Disk, HostDisk, LayerId, OpenHow, Store, StoreOptions, Superblock,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BLOCKS: u32 = 40;
const LAYER: LayerId = LayerId(1);

fn options() -> StoreOptions {
    StoreOptions {
        boot: Some(BootToken([1; 16])),
        prepare_bytes: 64,
        kept_bytes: 64,
        reserve_bytes: 0,
        ..StoreOptions::default()
    }
}

/// Text, 16 blocks of noise (a chunk that stays as it is), and zeros: all kinds of chunks that there are.
fn block(number: u32) -> Vec<u8> {
    let mut state = u64::from(number) + 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    match number {
        0..16 => format!("this is block {number:2}, ")
            .into_bytes()
            .repeat(300)[..4096]
            .to_vec(),
        16..32 => (0..BLOCK).map(|_| noise()).collect(),
        _ => vec![0; BLOCK as usize],
    }
}

fn write_store(dir: &Path) {
    let disk = Arc::new(HostDisk::open(dir).unwrap());
    let superblock = Superblock {
        uuid: *b"a store, 16 byte",
        base_path: PathBuf::from("/some/where"),
        base_dev: 66,
        base_ino: 77,
        created: 1_700_000_000,
    };
    Store::create(&*disk, &superblock).unwrap();
    let (store, _) = Store::open(disk, &options()).unwrap();
    assert_eq!(store.open_layer(), LAYER);
    store.alloc(LAYER, BLOCKS).unwrap();
    let bytes: Vec<u8> = (0..BLOCKS).flat_map(block).collect();
    store.write_blocks(LAYER, 0, &bytes, 0).unwrap();
    store.append(b"a record").unwrap();
    store.seal(LAYER).unwrap();
    store.finish_seals().unwrap();
    let archived = store.archive_layer(LAYER, &mut |_| true, || ()).unwrap();
    assert!(archived.is_some_and(|done| done.after < done.before));
    store.close().unwrap();
    std::fs::remove_file(dir.join("lock")).unwrap();
}

fn check(dir: &Path) {
    assert!(dir.join("layers/00000001.pack").exists());
    assert!(!dir.join("layers/00000001.data").exists());
    let disk = Arc::new(HostDisk::open(dir).unwrap());
    disk.open(Path::new("superblock"), OpenHow::Read).unwrap();
    let (store, _) = Store::open(disk, &options()).unwrap();
    let info = store.layers().unwrap()[0];
    assert_eq!((info.blocks, info.summed), (BLOCKS, BLOCKS));
    assert!(info.archived > Some(info.data_bytes), "{info:?}");
    for number in 0..BLOCKS {
        let mut bytes = vec![7; BLOCK as usize];
        let at = u64::from(number) * BLOCK;
        store.read(LAYER, at, &mut bytes, true).unwrap();
        assert!(bytes == block(number), "block {number}");
    }
    let all = std::iter::once(0..BLOCKS).collect::<Vec<_>>();
    let damaged = store.verify_layer(LAYER, &all, &mut |_| true).unwrap();
    assert_eq!(damaged, [0u32; 0]);
    drop(store);
    std::fs::remove_dir_all(dir).unwrap();
}

/// With `LLFS_FIXTURE=DIR` (empty) the store is written there and stays: for a new version's fixture.
#[test]
fn an_archived_layer_of_this_version_is_read() {
    let kept = std::env::var_os("LLFS_FIXTURE").map(PathBuf::from);
    let dir = kept.clone().unwrap_or_else(|| scratch("new"));
    std::fs::create_dir_all(&dir).unwrap();
    write_store(&dir);
    let copied = scratch("copy");
    copy(&dir, &copied);
    check(&copied);
    if kept.is_none() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn an_archived_layer_of_version_4_is_read() {
    let dir = checked_in("store_v4_archived");
    // Empty, which git does not keep.
    std::fs::create_dir_all(dir.join("images")).unwrap();
    check(&dir);
}
