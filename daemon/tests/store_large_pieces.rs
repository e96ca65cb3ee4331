//! What is written in large pieces: its checksums are those of what was handed in, whatever is written over it, and the
//! medium's cache lets go of it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod simdisk;

use llfs::store::{BLOCK, HostDisk, LayerId, Store, StoreOptions};
use proptest::prelude::*;
use simdisk::SimDisk;
use simdisk::history::{BOOT, options, superblock};
use simdisk::medium::Step;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DATA: &str = "layers/00000001.data";
/// Blocks of the layer.
const BLOCKS: u64 = 64;

fn made() -> (SimDisk, Store, LayerId) {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).unwrap();
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(BOOT)).unwrap();
    let layer = store.open_layer();
    store.alloc(layer, BLOCKS as u32).unwrap();
    (disk, store, layer)
}

/// Bytes of which no two blocks are the same.
fn bytes(count: usize, fill: u8) -> Vec<u8> {
    (0..count).map(|at| (at / 512) as u8 ^ fill).collect()
}

fn seal(store: &Store, layer: LayerId) {
    store.append(b"sealed").unwrap();
    store.seal_blocks(layer).unwrap();
    store.finish_seals().unwrap();
}

#[derive(Clone, Debug)]
enum Op {
    Write {
        at: u64,
        bytes: usize,
        fill: u8,
        fails: bool,
    },
    Punch(u64, u64),
    Release(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let end = BLOCKS * BLOCK;
    let write = move |sizes: std::ops::Range<usize>| {
        (
            0..end,
            sizes,
            any::<u8>(),
            prop::bool::weighted(0.1),
            any::<bool>(),
        )
            .prop_map(move |(at, bytes, fill, fails, aligned)| {
                let at = if aligned { at / BLOCK * BLOCK } else { at };
                Op::Write {
                    at,
                    bytes: bytes.min((end - at) as usize),
                    fill,
                    fails,
                }
            })
    };
    prop_oneof![
        4 => write(32 << 10..128 << 10),
        3 => write(1..9000),
        1 => (0..BLOCKS, 1..9u64).prop_map(|(from, len)| Op::Punch(from, (from + len).min(BLOCKS))),
        1 => any::<bool>().prop_map(Op::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn checksums_are_those_of_what_is_on_the_medium(ops in prop::collection::vec(op(), 1..12)) {
        let (disk, store, layer) = made();
        store.write_blocks(layer, 0, &vec![0; (BLOCKS * BLOCK) as usize], 0).unwrap();
        for op in &ops {
            match *op {
                Op::Write { at, bytes: count, fill, fails } => {
                    disk.fail_write_after(fails.then_some(0));
                    let (block, within) = ((at / BLOCK) as u32, (at % BLOCK) as u32);
                    let answer = store.write_blocks(layer, block, &bytes(count, fill), within);
                    disk.fail_write_after(None);
                    prop_assert_eq!(answer.is_err(), fails);
                }
                #[allow(clippy::single_range_in_vec_init, reason = "one range of blocks is meant")]
                Op::Punch(from, to) => store.free(layer, &[from as u32..to as u32], 0).unwrap(),
                Op::Release(all) => store.release_cached(all).unwrap(),
            }
        }
        seal(&store, layer);
        let medium = disk.bytes(DATA).unwrap();
        for block in 0..BLOCKS {
            let mut out = [0; BLOCK as usize];
            store.read(layer, block * BLOCK, &mut out, true).unwrap();
            let at = (block * BLOCK) as usize;
            prop_assert_eq!(&out[..], &medium[at..at + BLOCK as usize]);
        }
    }
}

/// A disk that takes bytes and has others later lies unnoticed if checksums are made of what it gives back.
#[test]
fn what_changes_before_it_has_checksums_is_an_error() {
    let (disk, store, layer) = made();
    store
        .write_blocks(layer, 0, &bytes(40 << 12, 0), 0)
        .unwrap();
    store.sync_layers().unwrap();
    disk.tamper(DATA, |bytes| bytes[17 * BLOCK as usize + 5] ^= 1);
    seal(&store, layer);
    for block in 0..40 {
        let answer = store.read(layer, block * BLOCK, &mut [0; BLOCK as usize], true);
        assert_eq!(answer.is_err(), block == 17, "{block}");
    }
}

/// Nobody can write to a file while a part of it is given back.
#[test]
fn much_is_given_back_in_small_pieces() {
    const MUCH: u32 = 2600;
    let (disk, store, layer) = made();
    store.alloc(layer, MUCH).unwrap();
    let all = vec![9; ((BLOCKS as u32 + MUCH) * BLOCK as u32) as usize];
    store.write_blocks(layer, 0, &all, 0).unwrap();
    let before = disk.now();
    let gone = 3..BLOCKS as u32 + MUCH - 1;
    store.free(layer, std::slice::from_ref(&gone), 0).unwrap();
    let steps = &disk.steps()[before..];
    let pieces = steps.iter().filter_map(|step| match step {
        Step::Write { offset, bytes, .. } => Some((*offset, bytes.len() as u64)),
        _ => None,
    });
    let mut end = u64::from(gone.start) * BLOCK;
    for (at, length) in pieces {
        assert_eq!(at, end, "one behind the other");
        assert!(length <= 4 << 20, "{length} bytes at once");
        end += length;
    }
    assert_eq!(end, u64::from(gone.end) * BLOCK);
}

/// The system tells each descriptor once that bytes were lost on their way to the medium.
#[test]
fn who_hears_first_of_a_failed_write_stops_the_store() {
    let (disk, store, layer) = made();
    store
        .write_blocks(layer, 0, &bytes(40 << 12, 0), 0)
        .unwrap();
    disk.fail_drop();
    assert!(store.release_cached(true).is_err());
    assert!(store.is_readonly().is_some());
    assert!(store.append(b"more").is_err());
}

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Which of so many blocks the system's cache has; see mincore(2). Unlike a read it leaves holes as they are.
fn cached_blocks(path: &Path, blocks: u64) -> Vec<u64> {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let length = (blocks * BLOCK) as usize;
    let mut resident = vec![0u8; blocks as usize];
    // SAFETY: a new mapping, which nothing reads, is asked for and taken away again; `resident` has a byte for each page.
    let answer = unsafe {
        let (protection, how) = (libc::PROT_READ, libc::MAP_SHARED);
        let at = libc::mmap(
            std::ptr::null_mut(),
            length,
            protection,
            how,
            file.as_raw_fd(),
            0,
        );
        assert_ne!(at, libc::MAP_FAILED);
        let answer = libc::mincore(at, length, resident.as_mut_ptr());
        libc::munmap(at, length);
        answer
    };
    assert_eq!(answer, 0);
    (0..blocks)
        .filter(|block| resident[*block as usize] & 1 == 1)
        .collect()
}

/// A store in a directory of its own, with a layer of so many blocks.
fn on_disk(what: &str, blocks: u64) -> (Directory, Store, LayerId) {
    // Not in a tmpfs, which has nothing but its cache.
    let name = format!("{what}-{}", std::process::id());
    let place = Directory(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
    std::fs::create_dir_all(&place.0).unwrap();
    let disk = Arc::new(HostDisk::open(&place.0).unwrap());
    Store::create(&*disk, &superblock()).unwrap();
    let options = StoreOptions {
        segment_bytes: 64 << 10,
        reserve_bytes: 64 << 10,
        ..options(BOOT)
    };
    let (store, _) = Store::open(disk, &options).unwrap();
    let layer = store.open_layer();
    store.alloc(layer, blocks as u32).unwrap();
    (place, store, layer)
}

/// A large file that was written and removed again before the snapshot.
#[test]
fn what_was_given_back_is_not_read_for_its_checksums() {
    const MUCH: u64 = 1200;
    let (place, store, layer) = on_disk("given-back", MUCH);
    let all = bytes((MUCH * BLOCK) as usize, 0);
    for (at, part) in all.chunks(BLOCK as usize).enumerate() {
        store.write_blocks(layer, at as u32, part, 0).unwrap();
    }
    store.sync_layers().unwrap();
    let gone = 0..1100;
    store.free(layer, std::slice::from_ref(&gone), 0).unwrap();
    seal(&store, layer);
    // By the page: 511 blocks have their checksums in one, and the last that begins here is not all holes.
    let cached = cached_blocks(&place.0.join(DATA), MUCH);
    assert!(cached.iter().all(|block| *block >= 1022), "{cached:?}");
    let mut out = vec![0; (100 * BLOCK) as usize];
    store.read(layer, 1100 * BLOCK, &mut out, true).unwrap();
    assert_eq!(out, all[(1100 * BLOCK) as usize..]);
    store.read(layer, 700 * BLOCK, &mut out, true).unwrap();
    assert!(out.iter().all(|byte| *byte == 0));
}

#[test]
fn the_cache_keeps_small_pieces_and_lets_go_of_large_ones() {
    let (place, store, layer) = on_disk("large", BLOCKS);
    store.write_blocks(layer, 0, b"small", 0).unwrap();
    store
        .write_blocks(layer, 0, &bytes(32 << 12, 0), 100)
        .unwrap();
    let data = place.0.join(DATA);
    let cached = || cached_blocks(&data, 33);
    assert_eq!(cached().len(), 33);
    store.sync_layers().unwrap();
    store.release_cached(true).unwrap();
    assert_eq!(
        cached(),
        [0, 32],
        "blocks that are not whole are written again soon"
    );
    let mut out = vec![0; 16 << 12];
    store.read(layer, 4 << 12, &mut out, true).unwrap();
    assert!(cached().contains(&4));
    store.release_cached(true).unwrap();
    let kept = cached();
    assert!(!kept.contains(&4) && !kept.contains(&19), "{kept:?}");
}
