//! A full disk and a failing disk: the caller gets the errno, and the state stays whole.

#![allow(clippy::unwrap_used, reason = "a test")]

mod simdisk;

use llfs::store::{BLOCK, FORMAT_VERSION, NoteKind, Store, StoreOptions};
use simdisk::history::{BOOT, NEXT_BOOT, count_records, make_old, options, superblock};
use simdisk::{SimDisk, Syncing};
use std::io::ErrorKind;
use std::sync::Arc;

fn made() -> (SimDisk, Store) {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).unwrap();
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(BOOT)).unwrap();
    (disk, store)
}

/// Appends numbered records until there is no space; how many there are then.
fn fill(store: &Store, mut count: u32, size: usize) -> u32 {
    loop {
        let mut payload = count.to_le_bytes().to_vec();
        payload.resize(size, 0);
        match store.append(&payload) {
            Ok(_) => count += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull);
                return count;
            }
        }
    }
}

fn recovered(disk: &SimDisk, boot: llfs::store::BootToken) -> usize {
    let (_store, mut recovered) =
        Store::open(Arc::new(disk.clone()), &options(boot)).expect("the store is whole");
    count_records(&mut recovered).expect("the records are in order")
}

#[test]
fn records_that_do_not_fit_leave_the_journal_as_it_was() {
    for size in [4, 30, 200, 1500, 5000] {
        let (disk, store) = made();
        disk.set_capacity(Some(disk.used() + 20_000));
        let count = fill(&store, 0, size);
        store.sync().expect("a barrier always fits");
        drop(store);
        disk.set_capacity(None);
        assert_eq!(
            recovered(&disk, NEXT_BOOT),
            count as usize,
            "records of {size} bytes"
        );
    }
}

#[test]
fn what_frees_space_can_be_recorded_with_no_byte_free() {
    let (disk, store) = made();
    disk.set_capacity(Some(disk.used() + 9000));
    let layer = store.open_layer();
    store.alloc(layer, 1).unwrap();
    store.write_blocks(layer, 0, &[1; 4096], 0).unwrap();
    let mut count = fill(&store, 0, 100);
    let block = store.alloc(layer, 1).unwrap();
    let refused = store.write_blocks(layer, block, &[1; 4096], 0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    // Many more than the room kept in the journal: these live on the reserve.
    let kept = (0..20)
        .take_while(|_| store.append_kept(&count_up(&mut count)).is_ok())
        .count();
    assert!(kept >= 20, "{kept} records fitted");
    let seq = store.append_kept(&count_up(&mut count)).unwrap();
    store.remove_layer(layer, seq).unwrap();
    // Space has come back, the reserve too.
    assert!(store.refill_reserve().unwrap());
    store.append(&count_up(&mut count)).unwrap();
    store.sync().unwrap();
    drop(store);
    disk.set_capacity(None);
    assert_eq!(recovered(&disk, NEXT_BOOT), count as usize);
}

/// What was acknowledged can be made durable, though the room that is kept for that has been used up by then.
#[test]
fn a_sync_takes_the_reserve_when_nothing_else_is_left() {
    // So that in some of them the room ends between a record and its barrier.
    for length in (4..240).step_by(8) {
        let (disk, store) = made();
        disk.set_capacity(Some(disk.used() + 2000));
        let mut count = fill(&store, 0, 4);
        disk.set_capacity(Some(disk.used()));
        let mut payload = count_up(&mut count).to_vec();
        payload.resize(length, 0);
        store.append_kept(&payload).unwrap();
        for round in 0..4 {
            let synced = store.sync();
            synced.unwrap_or_else(|error| panic!("{length} bytes, {round}: {error}"));
            store.append_kept(&count_up(&mut count)).unwrap();
        }
        store.sync().unwrap();
        drop(store);
        disk.set_capacity(None);
        assert_eq!(recovered(&disk, NEXT_BOOT), count as usize, "{length}");
    }
}

/// Records that free space and wait for the next write find room as those that are written at once do.
#[test]
fn what_waits_may_take_what_is_kept_and_the_reserve() {
    let (disk, store) = made();
    disk.set_capacity(Some(disk.used() + 2000));
    let mut count = fill(&store, 0, 4);
    disk.set_capacity(Some(disk.used()));
    assert!(store.append_later(&count.to_le_bytes()).is_err());
    // Twice as much as the journal keeps.
    for _ in 0..16 {
        store.append_later_kept(&count_up(&mut count)).unwrap();
    }
    store.sync().unwrap();
    drop(store);
    assert_eq!(recovered(&disk, NEXT_BOOT), count as usize);
}

fn count_up(count: &mut u32) -> [u8; 4] {
    *count += 1;
    (*count - 1).to_le_bytes()
}

#[test]
fn a_store_opens_with_no_byte_free() {
    for old in [false, true] {
        let (disk, store) = made();
        disk.set_capacity(Some(disk.used() + 3000));
        let count = fill(&store, 0, 10);
        drop(store);
        if old {
            make_old(&disk);
        }
        disk.set_capacity(Some(disk.used()));
        let (store, mut found) = Store::open(Arc::new(disk.clone()), &options(BOOT)).unwrap();
        assert_eq!(count_records(&mut found).unwrap(), count as usize);
        let version = u32::from(disk.bytes("superblock").unwrap()[8]);
        assert_eq!(version, FORMAT_VERSION);
        store.append_kept(&count.to_le_bytes()).unwrap();
    }
}

/// Every write of a history fails once, half done.
/// Lives that follow each other on a disk that stays full: the first takes the reserve, and what it gives back is used up by others.
#[test]
fn a_store_opens_again_and_again_with_no_byte_free() {
    let options = StoreOptions {
        kept_bytes: 8192,
        ..options(BOOT)
    };
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).unwrap();
    let mut count = 0;
    for life in 0..6 {
        let opened = Store::open(Arc::new(disk.clone()), &options);
        let (store, mut found) = opened.unwrap_or_else(|error| panic!("life {life}: {error}"));
        assert_eq!(count_records(&mut found).unwrap(), count as usize);
        if life == 0 {
            disk.set_capacity(Some(disk.used() + 9000));
        }
        count = fill(&store, count, 10);
        // What frees space can still be recorded.
        store.append_kept(&count_up(&mut count)).unwrap();
        disk.set_capacity(Some(disk.used()));
    }
    disk.set_capacity(None);
    assert_eq!(recovered(&disk, BOOT), count as usize);
}

#[test]
fn a_failed_write_is_as_if_it_had_not_been() {
    for failing in 0..60 {
        let (disk, store) = made();
        let layer = store.open_layer();
        disk.fail_write_after(Some(failing));
        let mut count = 0u32;
        for round in 0..20 {
            let mut payload = count.to_le_bytes().to_vec();
            payload.resize(4 + round * 150, 0x77);
            match store.append(&payload) {
                Ok(_) => count += 1,
                Err(error) => assert_eq!(error.raw_os_error(), Some(5)),
            }
            let block = store.alloc(layer, 1).unwrap();
            // Whether this one fails does not matter here, only that the journal goes on.
            drop(store.write_blocks(layer, block, &[round as u8; 4096], 0));
        }
        disk.fail_write_after(None);
        drop(store);
        assert_eq!(
            recovered(&disk, BOOT),
            count as usize,
            "write {failing} failed"
        );
        assert_eq!(recovered(&disk, NEXT_BOOT), 0, "nothing was synced");
    }
}

/// Copies of blocks are written together with their barrier; if that write fails half done, whole
/// frames may lie where shorter ones come next, and must not be taken for the remains of a damage.
#[test]
fn half_a_group_of_frames_leaves_nothing_behind() {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).unwrap();
    let options = llfs::store::StoreOptions {
        inline_blocks: 8,
        prepare_bytes: 64 << 10,
        segment_bytes: 1 << 20,
        ..options(BOOT)
    };
    let (store, _) = Store::open(Arc::new(disk.clone()), &options).unwrap();
    let layer = store.open_layer();
    store.alloc(layer, 8).unwrap();
    store.append(&0u32.to_le_bytes()).unwrap();
    store.sync().unwrap();
    for block in 0..8 {
        store.write_blocks(layer, block, &[3; 4096], 0).unwrap();
    }
    store.append(&1u32.to_le_bytes()).unwrap();
    disk.fail_write_after(Some(0));
    store.sync().expect("the layers are synced instead");
    drop(store);
    assert_eq!(recovered(&disk, BOOT), 2);
    assert_eq!(recovered(&disk, NEXT_BOOT), 2);
}

/// A sync that could not write its barrier has promised nothing, and the next one must not forget
/// what this one had begun to take care of.
#[test]
fn a_sync_that_could_not_write_is_made_up_for() {
    for blocks in [1, 9] {
        let (disk, store) = made();
        let layer = store.open_layer();
        store.alloc(layer, blocks).unwrap();
        store.sync().unwrap();
        for block in 0..blocks {
            store.write_blocks(layer, block, &[4; 4096], 0).unwrap();
        }
        store.append(&0u32.to_le_bytes()).unwrap();
        disk.refuse_writes(true);
        assert_eq!(store.sync().unwrap_err().raw_os_error(), Some(5));
        assert_eq!(store.is_readonly(), None);
        disk.refuse_writes(false);
        store.sync().unwrap();
        let mut medium = simdisk::Medium::default();
        for step in &disk.steps() {
            medium.apply(step);
        }
        let after = SimDisk::from_image(medium.crash(&mut |_| 0));
        let (store, mut found) = Store::open(Arc::new(after), &options(NEXT_BOOT)).unwrap();
        assert_eq!(count_records(&mut found).unwrap(), 1);
        for block in 0..u64::from(blocks) {
            let mut bytes = [0; 4096];
            store.read(layer, block * BLOCK, &mut bytes, true).unwrap();
            assert_eq!(bytes, [4; 4096]);
        }
    }
}

/// A killed daemon's layers must be synced; one that cannot be opened now is synced later.
#[test]
fn a_layer_that_could_not_be_opened_is_synced_later() {
    let (disk, store) = made();
    let layer = store.open_layer();
    store.alloc(layer, 1).unwrap();
    store.write_blocks(layer, 0, &[6; 4096], 0).unwrap();
    store.append(&0u32.to_le_bytes()).unwrap();
    drop(store);
    let (store, _) = Store::open(Arc::new(disk.clone()), &options(BOOT)).unwrap();
    disk.refuse_opens(true);
    assert_eq!(store.sync().unwrap_err().raw_os_error(), Some(24));
    disk.refuse_opens(false);
    store.sync().unwrap();
    let mut medium = simdisk::Medium::default();
    for step in &disk.steps() {
        medium.apply(step);
    }
    let after = SimDisk::from_image(medium.crash(&mut |_| 0));
    let (store, mut found) = Store::open(Arc::new(after), &options(NEXT_BOOT)).unwrap();
    assert_eq!(count_records(&mut found).unwrap(), 1);
    let mut bytes = [0; 4096];
    store.read(layer, 0, &mut bytes, true).unwrap();
    assert_eq!(bytes, [6; 4096]);
}

/// Every sync of a history fails once: after that nothing is written, and nothing promised is lost.
/// Notes are bounded, and count for the limit of a store: when they are written, when it is opened again, and when they go.
#[test]
fn notes_count_and_are_bounded() {
    let (disk, store) = made();
    drop(store);
    let limited = StoreOptions {
        max_bytes: Some(1 << 20),
        ..options(BOOT)
    };
    let open = || Store::open(Arc::new(disk.clone()), &limited).unwrap().0;
    let store = open();
    let taken = |store: &Store| store.limit().unwrap().1;
    let before = taken(&store);
    for kind in [NoteKind::Who, NoteKind::History, NoteKind::Rules] {
        let room = store.note_room(kind);
        assert!(room > 0 && room <= (1 << 20) / 16, "{kind:?}: {room}");
        for number in 1..100 {
            store.append_note(kind, number, &[1; 4096]).unwrap();
            store.trim_notes(kind).unwrap();
            assert!(store.notes_bytes(kind).unwrap() <= room, "{kind:?}");
        }
        let left = store.notes(kind).unwrap();
        assert_eq!(left.last(), Some(&99), "the newest stays");
        assert_eq!(left.len() as u64, room / 4096);
    }
    let notes = store.sizes().unwrap().notes;
    assert_eq!(taken(&store), before + notes);
    drop(store);
    assert!(
        taken(&open()) >= before + notes,
        "they count when it is opened"
    );
    // They take no more than the limit allows.
    let store = open();
    let mut refused = None;
    for number in 1..1000 {
        if let Err(error) = store.append_note(NoteKind::Contents, number, &[1; 4096]) {
            refused = Some(error.kind());
            break;
        }
    }
    assert_eq!(refused, Some(ErrorKind::StorageFull));
    assert!(taken(&store) <= 1 << 20);
    store.remove_note(NoteKind::Contents, 1).unwrap();
    store
        .append_note(NoteKind::Contents, 1, &[1; 4096])
        .unwrap();
}

#[test]
fn a_failed_sync_latches_the_store() {
    let mut failures = 0;
    for failing in 0.. {
        let (disk, store) = made();
        let layer = store.open_layer();
        disk.fail_sync_after(Some(failing));
        let mut promised = 0;
        let mut failed = false;
        for index in 0..6u32 {
            let block = store.alloc(layer, 4).unwrap();
            let data = vec![index as u8 + 1; 4 * BLOCK as usize];
            let blocks = if index % 2 == 0 { 4 } else { 1 };
            let written = store
                .write_blocks(layer, block, &data[..blocks * BLOCK as usize], 0)
                .and_then(|()| store.append(&index.to_le_bytes()));
            if failed {
                assert_eq!(written.unwrap_err().raw_os_error(), Some(30), "EROFS");
                assert_eq!(store.sync().unwrap_err().raw_os_error(), Some(30), "EROFS");
                continue;
            }
            written.unwrap();
            match store.sync() {
                Ok(()) => promised = index + 1,
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(5), "EIO");
                    failed = true;
                }
            }
        }
        if !failed {
            assert!(failures > 6);
            return;
        }
        failures += 1;
        assert!(store.is_readonly().is_some());
        let mut bytes = [0; 10];
        store
            .read(layer, 0, &mut bytes, true)
            .expect("reading goes on");
        drop(store);
        assert!(recovered(&disk, NEXT_BOOT) >= promised as usize);
    }
}

/// An error is told to one who asks. A flush whose journal was left for a new segment meanwhile is not told it.
#[test]
fn what_a_rotation_was_told_fails_the_flush_as_well() {
    let (disk, store) = made();
    let store = Arc::new(store);
    store.sync().unwrap();
    store.append(&0u32.to_le_bytes()).unwrap();
    let (other, inner) = (store.clone(), disk.clone());
    disk.meanwhile(move || {
        inner.fail_sync_after(Some(0));
        let long = vec![0; options(BOOT).segment_bytes as usize];
        assert_eq!(other.append(&long).unwrap_err().raw_os_error(), Some(30));
        assert!(!inner.is_failing(), "it was no rotation");
    });
    let synced = store.sync().map_err(|error| error.raw_os_error());
    assert_eq!(synced, Err(Some(5)), "EIO");
    assert_eq!(store.sync().unwrap_err().raw_os_error(), Some(30), "EROFS");
}

/// Nor is a flush told what was told to who lets the medium's cache go, if that asks through the same descriptor.
#[test]
fn what_a_drop_from_the_cache_was_told_fails_the_flush_as_well() {
    let (disk, store) = made();
    let store = Arc::new(store);
    let layer = store.open_layer();
    let block = store.alloc(layer, 9).unwrap();
    store
        .write_blocks(layer, block, &[1; 9 * BLOCK as usize], 0)
        .and_then(|()| store.append(&0u32.to_le_bytes()))
        .unwrap();
    disk.lose("layers/00000001.data");
    let synced = Arc::new(std::sync::Mutex::new(None));
    let (other, answer) = (store.clone(), synced.clone());
    disk.once_told(move || {
        *answer.lock().unwrap() = Some(other.sync().map_err(|error| error.raw_os_error()));
    });
    let dropped = store.release_cached(true);
    assert_eq!(dropped.unwrap_err().raw_os_error(), Some(5), "EIO");
    assert_eq!(*synced.lock().unwrap(), Some(Err(Some(5))), "EIO");
}

/// Few blocks are copied to the journal, and their layer is not synced: what of them the medium could not write must not be copied as
/// it was before.
#[test]
fn blocks_that_were_written_back_in_vain_fail_the_flush() {
    let (disk, store) = made();
    let layer = store.open_layer();
    let block = store.alloc(layer, 1).unwrap();
    let write = |fill: u8, count: u32| {
        store
            .write_blocks(layer, block, &[fill; BLOCK as usize], 0)
            .and_then(|()| store.append(&count.to_le_bytes()))
            .unwrap()
    };
    write(1, 0);
    store.sync_layers().unwrap();
    write(2, 1);
    // The medium has the old bytes, and the system's memory of the new ones is gone.
    disk.tamper("layers/00000001.data", |bytes| bytes.fill(1));
    disk.lose("layers/00000001.data");
    assert_eq!(store.sync().unwrap_err().raw_os_error(), Some(5), "EIO");
    assert!(store.is_readonly().is_some());
}

/// A sync that fails while an image lets go of what it makes superfluous latches too: the name of a new segment may be lost with it.
#[test]
fn a_failed_sync_of_the_journals_directory_latches_the_store() {
    let mut held = 0;
    for failing in 0.. {
        let (disk, store) = made();
        let last = Arc::new(std::sync::Mutex::new(None));
        let syncing = last.clone();
        disk.between(move |what| *syncing.lock().unwrap() = Some(what));
        disk.fail_sync_after(Some(failing));
        let mut images = (0..4u32).map(|count| {
            let seq = store.append(&count.to_le_bytes())?;
            store.write_image(seq, &mut |to| to.write_all(&(count + 1).to_le_bytes()))
        });
        let failed = images.find_map(Result::err);
        disk.undisturbed();
        let Some(error) = failed else {
            assert!(held > 8, "only {held} syncs of the journal failed");
            return;
        };
        let last = *last.lock().unwrap();
        // A new segment that could not be written has no name, and nobody relied on it.
        let begun = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "tmp");
        let unfinished = disk.image().names.keys().any(begun);
        if last == Some(Syncing::Held) && !unfinished {
            held += 1;
            assert_eq!(error.raw_os_error(), Some(5), "EIO");
            assert!(store.is_readonly().is_some(), "sync {failing}");
        }
    }
}

/// Who found the disk full before another one gave the reserve up has not tried what there is since.
#[test]
fn the_reserve_that_another_one_gave_up_counts() {
    let disk = SimDisk::new();
    Store::create(&disk, &superblock()).unwrap();
    let options = StoreOptions {
        kept_bytes: 0,
        reserve_bytes: 8 << 10,
        ..options(BOOT)
    };
    let (store, _) = Store::open(Arc::new(disk.clone()), &options).unwrap();
    let store = Arc::new(store);
    disk.set_capacity(Some(disk.used() + 2000));
    let count = fill(&store, 0, 4);
    let (other, mut left) = (store.clone(), 1);
    // It tries twice: for much, and for as little as it needs.
    disk.when_full(move || match left {
        0 => drop(other.release_reserve()),
        _ => left -= 1,
    });
    store.append_kept(&count.to_le_bytes()).unwrap();
    assert!(!store.release_reserve().unwrap(), "it is given up");
}

/// Sums that could not be written leave those that were, and are made up for.
#[test]
fn sums_that_do_not_fit_come_later() {
    let (disk, store) = made();
    let layer = store.open_layer();
    let write = |fill: u8| {
        let block = store.alloc(layer, 1).unwrap();
        store.write_blocks(layer, block, &[fill; 4096], 0).unwrap();
        store.seal_blocks(layer).unwrap();
    };
    write(1);
    store.finish_seals().unwrap();
    write(2);
    store.sync_layers().unwrap();
    let summed = || store.layers().unwrap()[0].summed;
    for spare in [0, 4095, 4096] {
        disk.set_capacity(Some(disk.used() + spare));
        let error = store.finish_seals().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(summed(), 1);
        let mut bytes = [0; 8192];
        store.read(layer, 0, &mut bytes, true).unwrap();
        assert_eq!((bytes[0], bytes[8191]), (1, 2));
        let unfinished = disk.bytes("layers/00000001.tmp");
        assert!(unfinished.is_none(), "its space is free again");
    }
    disk.set_capacity(None);
    assert_eq!(store.finish_seals().unwrap(), 1);
    assert_eq!(summed(), 2);
}

#[test]
fn an_image_that_does_not_fit_changes_nothing() {
    let (disk, store) = made();
    store.append(&0u32.to_le_bytes()).unwrap();
    store.sync().unwrap();
    disk.set_capacity(Some(disk.used() + 2000));
    let error = store
        .write_image(store.last_seq(), &mut |out| out.write_all(&[1; 60_000]))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    store.append_kept(&1u32.to_le_bytes()).unwrap();
    store.sync().unwrap();
    drop(store);
    assert!(
        disk.bytes("images/00000001.tmp").is_none(),
        "its space is free again"
    );
    assert_eq!(recovered(&disk, NEXT_BOOT), 2);
}

#[test]
fn what_waits_for_the_next_write_keeps_its_place_whatever_fails() {
    let (disk, store) = made();
    let mut count = 0;
    store.append(&count_up(&mut count)).unwrap();
    store.append_later(&count_up(&mut count)).unwrap();
    // Too much for the disk: refused, and neither in the journal nor in the way of what waits.
    disk.set_capacity(Some(disk.used()));
    assert!(store.append(&vec![0; 1 << 20]).is_err());
    disk.set_capacity(None);
    store.append(&count_up(&mut count)).unwrap();
    store.append_later(&count_up(&mut count)).unwrap();
    // Enough of them are written without anybody asking, and a sync writes the rest.
    for _ in 0..1000 {
        store.append_later(&count_up(&mut count)).unwrap();
    }
    store.sync().unwrap();
    let written = count;
    store.append_later(&count_up(&mut count)).unwrap();
    drop(store);
    assert_eq!(recovered(&disk, NEXT_BOOT), written as usize);
}
