//! Stores of every format version that ever was are read as they were meant. `store_v1/` was written
//! by the first version; a change of the format adds a directory and never changes one.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(
    clippy::single_range_in_vec_init,
    reason = "one range of blocks is meant"
)]

mod fixture;

use fixture::{checked_in, copy, scratch};
use llfs::store::{
    BLOCK, BootToken, FORMAT_VERSION, HostDisk, LayerId, Store, StoreOptions, Superblock,
};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn options() -> StoreOptions {
    StoreOptions {
        boot: Some(BootToken([1; 16])),
        prepare_bytes: 64,
        kept_bytes: 64,
        reserve_bytes: 0,
        ..StoreOptions::default()
    }
}

fn superblock() -> Superblock {
    Superblock {
        uuid: *b"a store, 16 byte",
        base_path: PathBuf::from("/some/where"),
        base_dev: 66,
        base_ino: 77,
        created: 1_700_000_000,
    }
}

/// Two images, a sealed layer with checksums, a head with a block that only the journal has synced, and a layer that
/// went on when part of it had checksums.
fn write_store(dir: &Path) {
    let disk = Arc::new(HostDisk::open(dir).unwrap());
    Store::create(&*disk, &superblock()).unwrap();
    let (store, _) = Store::open(disk, &options()).unwrap();
    let sealed = store.open_layer();
    store.alloc(sealed, 2).unwrap();
    store.write_blocks(sealed, 0, &[1; 4096 + 10], 0).unwrap();
    for image in ["first", "second"] {
        store.append(b"before").unwrap();
        store
            .write_image(store.last_seq(), &mut |out| out.write_all(image.as_bytes()))
            .unwrap();
    }
    store.seal(sealed).unwrap();
    store.finish_seals().unwrap();
    store.append(b"behind").unwrap();
    let head = store.open_layer();
    store.alloc(head, 1).unwrap();
    store.write_blocks(head, 0, &[2; 4096], 0).unwrap();
    store.sync().unwrap();
    let partly = store.open_layer();
    store.alloc(partly, 2).unwrap();
    store.write_blocks(partly, 0, &[3; 8192], 0).unwrap();
    assert_eq!(store.seal_blocks(partly).unwrap(), Some(2));
    store.finish_seals().unwrap();
    store.alloc(partly, 1).unwrap();
    store.write_blocks(partly, 2, &[4; 4096], 0).unwrap();
    store.write_blocks(head, 0, &[2; 4096], 0).unwrap();
    store.sync().unwrap();
    store.append(b"and not synced").unwrap();
}

/// With `LLFS_FIXTURE=DIR` (empty) the store is written there and stays: for a new version's fixture.
#[test]
fn a_store_of_this_version_is_read() {
    let kept = std::env::var_os("LLFS_FIXTURE").map(PathBuf::from);
    let dir = kept.clone().unwrap_or_else(|| scratch("new"));
    std::fs::create_dir_all(&dir).unwrap();
    write_store(&dir);
    // As the power would have left it.
    std::fs::write(dir.join("layers/00000002.data"), []).unwrap();
    let partly = std::fs::File::options()
        .write(true)
        .open(dir.join("layers/00000003.data"));
    partly.unwrap().set_len(8192).unwrap();
    std::fs::remove_file(dir.join("lock")).unwrap();
    let copied = scratch("copy");
    copy(&dir, &copied);
    check(&copied, true);
    if kept.is_none() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_store_of_an_older_version_is_read_and_becomes_one_of_this_version() {
    for (version, partly) in [(1, false), (2, true), (3, true)] {
        let name = format!("store_v{version}");
        let dir = checked_in(&name);
        let says = |dir: &Path| std::fs::read(dir.join("superblock")).unwrap()[8];
        assert_eq!(says(&dir), version);
        let looking = StoreOptions {
            read_only: true,
            ..options()
        };
        let disk = Arc::new(HostDisk::open(&dir).unwrap());
        drop(Store::open(disk, &looking).unwrap());
        assert_eq!(says(&dir), version);
        let other = checked_in(&name);
        check(&other, partly);
        let disk = Arc::new(HostDisk::open(&dir).unwrap());
        drop(Store::open(disk, &options()).unwrap());
        let renewed = Superblock::decode(&std::fs::read(dir.join("superblock")).unwrap());
        assert_eq!(renewed.unwrap(), superblock());
        assert_eq!(u32::from(says(&dir)), FORMAT_VERSION);
        std::fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn a_store_of_version_4_is_read() {
    check(&checked_in("store_v4"), true);
}

/// Checks what [`write_store`] wrote, and deletes it. `partly`: with the layer that version 1 did not have.
fn check(dir: &Path, partly: bool) {
    let disk = Arc::new(HostDisk::open(dir).unwrap());
    let options = StoreOptions {
        boot: Some(BootToken([2; 16])),
        ..options()
    };
    let (store, mut recovered) = Store::open(disk, &options).unwrap();
    assert_eq!(store.superblock(), superblock());
    let mut body = String::new();
    let mut image = recovered.image().unwrap();
    image.read_to_string(&mut body).unwrap();
    assert_eq!(body, "second");
    let mut records = Vec::new();
    recovered
        .replay(&mut |_, payload| {
            records.push(payload.to_vec());
            Ok(())
        })
        .unwrap();
    assert_eq!(records, [b"behind"]);
    let mut bytes = vec![0; 4096];
    store
        .read(LayerId(2), 0, &mut bytes, true)
        .expect("the journal had it");
    assert_eq!(bytes, [2; 4096]);
    store.read(LayerId(1), BLOCK, &mut bytes, true).unwrap();
    assert_eq!(&bytes[..11], &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    let layers = store.layers().unwrap();
    assert_eq!((layers[0].summed, layers[1].summed), (2, 0));
    let damaged = store.verify_layer(LayerId(1), &[0..2], &mut |_| true);
    assert_eq!(damaged.unwrap(), [0u32; 0]);
    assert_eq!(store.sums_are_whole(LayerId(1)).unwrap(), Some(true));
    assert_eq!(store.verify_history().unwrap(), Default::default());
    if partly {
        assert_eq!((layers[2].summed, layers[2].blocks), (2, 3));
        for (block, fill) in [(1, 3), (2, 4)] {
            store
                .read(LayerId(3), block * BLOCK, &mut bytes, true)
                .unwrap();
            assert_eq!(bytes, [fill; 4096]);
        }
        store.seal(LayerId(3)).unwrap();
        store.finish_seals().unwrap();
        assert_eq!(store.layers().unwrap()[2].summed, 3);
        assert_eq!(store.sums_are_whole(LayerId(3)).unwrap(), Some(true));
        let damaged = store.verify_layer(LayerId(3), &[0..3], &mut |_| true);
        assert_eq!(damaged.unwrap(), [0u32; 0]);
    }
    drop(store);
    std::fs::remove_dir_all(dir).unwrap();
}
