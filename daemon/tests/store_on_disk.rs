//! The store in a real directory.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(
    clippy::single_range_in_vec_init,
    reason = "one range of blocks is meant"
)]

use llfs::store::{BLOCK, BootToken, HostDisk, OpenError, Store, StoreOptions, Superblock};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A fresh directory, deleted at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("llfs-store-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn disk(&self) -> Arc<HostDisk> {
        Arc::new(HostDisk::open(&self.0).unwrap())
    }

    fn make(&self) {
        let superblock = Superblock::new(PathBuf::from("/base"), 1, 2).unwrap();
        Store::create(&*self.disk(), &superblock).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn small() -> StoreOptions {
    StoreOptions {
        segment_bytes: 64 << 10,
        reserve_bytes: 64 << 10,
        ..StoreOptions::default()
    }
}

fn records(recovered: &llfs::store::Recovered) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    recovered
        .replay(&mut |_, payload| {
            records.push(payload.to_vec());
            Ok(())
        })
        .unwrap();
    records
}

#[test]
fn a_store_is_made_closed_and_opened() {
    let directory = Directory::new();
    assert!(matches!(
        Store::open(directory.disk(), &small()),
        Err(OpenError::Empty)
    ));
    directory.make();
    let (store, recovered) = Store::open(directory.disk(), &small()).unwrap();
    assert!(records(&recovered).is_empty());
    assert!(matches!(
        Store::open(directory.disk(), &small()),
        Err(OpenError::Locked { pid: Some(pid) }) if pid == std::process::id()
    ));
    let layer = store.open_layer();
    let block = store.alloc(layer, 2).unwrap();
    store.write_blocks(layer, block, b"hello", 4094).unwrap();
    let mut sent = Vec::new();
    for index in 0..300usize {
        let payload = vec![index as u8; index * 3];
        store.append(&payload).unwrap();
        sent.push(payload);
    }
    let sizes = store.sizes().unwrap();
    assert!(sizes.journal > 0 && sizes.layers > 0 && sizes.free > 0);
    assert_eq!(sizes.reserve, 64 << 10);
    store.relink(PathBuf::from("/moved"), 3, 4).unwrap();
    store.close().unwrap();
    let (store, recovered) = Store::open(directory.disk(), &small()).unwrap();
    assert_eq!(records(&recovered), sent);
    assert_eq!(store.superblock().base_path, PathBuf::from("/moved"));
    let mut read = [0; 5];
    store.read(layer, 4094, &mut read, true).unwrap();
    assert_eq!(&read, b"hello");
    assert!(
        store.alloc(layer, 1).unwrap() >= 2,
        "blocks are handed out once"
    );
    assert!(store.open_layer() > layer);
}

#[test]
fn a_store_is_not_made_among_other_files() {
    let directory = Directory::new();
    std::fs::write(
        directory.0.join("llfs.log"),
        "the daemon begins its log first",
    )
    .unwrap();
    assert!(matches!(
        Store::open(directory.disk(), &small()),
        Err(OpenError::Empty)
    ));
    std::fs::write(directory.0.join("notes.txt"), "somebody's").unwrap();
    assert!(matches!(
        Store::open(directory.disk(), &small()),
        Err(OpenError::NoSuperblock)
    ));
    let superblock = Superblock::new(PathBuf::from("/base"), 1, 2).unwrap();
    assert!(matches!(
        Store::create(&*directory.disk(), &superblock),
        Err(OpenError::NotEmpty)
    ));
    std::fs::remove_file(directory.0.join("notes.txt")).unwrap();
    directory.make();
    Store::open(directory.disk(), &small()).unwrap();
}

#[test]
fn another_boot_keeps_what_was_synced() {
    let directory = Directory::new();
    directory.make();
    let boot = |n| StoreOptions {
        boot: Some(BootToken([n; 16])),
        ..small()
    };
    let (store, _) = Store::open(directory.disk(), &boot(1)).unwrap();
    store.append(b"one").unwrap();
    store.sync().unwrap();
    store.append(b"two").unwrap();
    drop(store);
    let (store, recovered) = Store::open(directory.disk(), &boot(1)).unwrap();
    assert!(!recovered.power_was_lost());
    assert_eq!(records(&recovered), [b"one", b"two"]);
    drop(store);
    let (_store, recovered) = Store::open(directory.disk(), &boot(2)).unwrap();
    assert!(recovered.power_was_lost());
    assert_eq!(records(&recovered), [b"one"]);
}

#[test]
fn blocks_are_freed_and_layers_removed() {
    let directory = Directory::new();
    directory.make();
    let (store, _) = Store::open(directory.disk(), &small()).unwrap();
    let layer = store.open_layer();
    store.alloc(layer, 64).unwrap();
    store
        .write_blocks(layer, 0, &vec![9; 64 * BLOCK as usize], 0)
        .unwrap();
    let seq = store.append(b"sealed").unwrap();
    store.seal(layer).unwrap();
    store.finish_seals().unwrap();
    let before = store.layers().unwrap();
    assert_eq!(
        (before[0].blocks, before[0].sealed, before[0].summed),
        (64, 64, 64)
    );
    store.free(layer, &[0..10, 20..64], seq).unwrap();
    let after = store.layers().unwrap();
    assert!(after[0].disk_bytes < before[0].disk_bytes);
    let mut kept = vec![0; 10 * BLOCK as usize];
    store.read(layer, 10 * BLOCK, &mut kept, true).unwrap();
    assert!(kept.iter().all(|&byte| byte == 9));
    assert!(
        store.read(layer, 0, &mut kept, true).is_err(),
        "what was freed is not served"
    );
    assert!(
        store
            .verify_layer(layer, &[10..20], &mut |_| true)
            .unwrap()
            .is_empty()
    );
    store.remove_layer(layer, seq).unwrap();
    assert!(store.layers().unwrap().is_empty());
    assert_eq!(
        std::fs::read_dir(directory.0.join("layers"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn many_threads_write_and_sync() {
    let directory = Directory::new();
    directory.make();
    let (store, _) = Store::open(directory.disk(), &small()).unwrap();
    let layers: Vec<_> = (0..80).map(|_| store.open_layer()).collect();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (store, layers) = (&store, &layers);
            scope.spawn(move || {
                for round in 0..50u8 {
                    let layer = layers[(usize::from(round) * 7 + usize::from(thread)) % 80];
                    let block = store.alloc(layer, 1).unwrap();
                    store
                        .write_blocks(layer, block, &[thread + 1; 4096], 0)
                        .unwrap();
                    store.append(&[thread, round]).unwrap();
                    if round % 10 == thread {
                        store.sync().unwrap();
                    }
                    let mut bytes = [0; 4096];
                    store
                        .read(layer, u64::from(block) * BLOCK, &mut bytes, true)
                        .unwrap();
                    assert_eq!(bytes, [thread + 1; 4096]);
                }
            });
        }
    });
    store.close().unwrap();
    let other = StoreOptions {
        boot: Some(BootToken([9; 16])),
        ..small()
    };
    let (_store, recovered) = Store::open(directory.disk(), &other).unwrap();
    let records = records(&recovered);
    assert_eq!(records.len(), 200);
    for thread in 0..4 {
        let rounds = records.iter().filter(|r| r[0] == thread).map(|r| r[1]);
        assert!(rounds.eq(0..50), "a thread's records stay in order");
    }
}

#[test]
fn a_layer_that_was_looked_for_takes_writes_and_gives_blocks_back() {
    let directory = Directory::new();
    directory.make();
    let (store, _) = Store::open(directory.disk(), &small()).unwrap();
    let layer = store.open_layer();
    store.alloc(layer, 64).unwrap();
    let bytes = vec![9; 64 * BLOCK as usize];
    store.write_blocks(layer, 0, &bytes, 0).unwrap();
    drop(store);

    let (store, _) = Store::open(directory.disk(), &small()).unwrap();
    assert!(store.has_layer(layer));
    store.write_blocks(layer, 0, &bytes[..10], 0).unwrap();
    let seq = store.append(b"given up").unwrap();
    store.free(layer, &[20..64], seq).unwrap();
    let kept = store.layers().unwrap()[0].disk_bytes;
    assert!(kept < 64 * BLOCK, "{kept} bytes are left");
}
