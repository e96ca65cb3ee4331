//! What the engines of older versions wrote is read as it was meant: records and images of real mounts, which
//! `state_vN/` has with the store in which they were; a change of the format adds a directory and never changes one.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llctl::protocol::{Metric, SnapMeta};
use llfs::store::{BootToken, HostDisk, Store, StoreOptions};
use llfs::tree::{Record, State, image, piles};

/// The state that a store holds.
fn state(fixture: &str) -> State {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(fixture);
    let dir = std::env::temp_dir().join(format!(
        "llfs-state-{}-{}",
        fixture.replace('/', "-"),
        std::process::id()
    ));
    copy(&from, &dir);
    // Version control keeps no empty directories.
    fs::create_dir_all(dir.join("images")).unwrap();
    // Of the boot that wrote it: the daemon was killed, and every record counts.
    let newest = fs::read_dir(dir.join("journal")).unwrap();
    let newest = newest.map(|entry| entry.unwrap().path()).max().unwrap();
    let header = fs::read(newest).unwrap();
    let options = StoreOptions {
        boot: Some(BootToken(header[32..48].try_into().unwrap())),
        reserve_bytes: 0,
        ..StoreOptions::default()
    };
    let disk = Arc::new(HostDisk::open(&dir).unwrap());
    let (store, mut recovered) = Store::open(disk, &options).unwrap();
    let mut state = match recovered.image() {
        Some(bytes) => image::read(&mut BufReader::new(bytes)).unwrap(),
        None => State::default(),
    };
    recovered
        .replay(&mut |_, bytes| {
            let record: Record = rmp_serde::from_slice(bytes).map_err(std::io::Error::other)?;
            state.apply(&record).map_err(std::io::Error::other)
        })
        .unwrap();
    drop(store);
    fs::remove_dir_all(dir).unwrap();
    state
}

fn copy(from: &PathBuf, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => fs::copy(entry.path(), target).map(drop).unwrap(),
        }
    }
}

/// What version 2 knew of: names, messages, and one pile.
fn check(state: &State) {
    let names: Vec<(u64, &str, &str)> = (state.snapshots.iter())
        .map(|(id, s)| (*id, s.name.as_str(), s.message.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            (1, "first", "the message"),
            (2, "second", ""),
            (5, "renamed", "")
        ]
    );
    for (id, name, _) in names {
        assert_eq!(state.snapshot(name).unwrap().0, id);
    }
    assert!(state.snapshot("third").is_none() && state.snapshot("gone").is_none());
    assert_eq!(state.root(1).unwrap().inodes.len(), 0);
    assert!(state.root(2).unwrap().inodes.len() > 2);
    assert_eq!((state.discarded.len(), state.next_state), (1, 7));
}

#[test]
fn snapshots_and_discarded_states_of_version_2_are_read() {
    for fixture in ["state_v2/live", "state_v2/closed"] {
        let state = state(fixture);
        check(&state);
        assert!(state.snapshots.values().all(|s| s.meta.is_empty()));
        // Its undo was a revert: what it discarded is what undo goes back to, as it did then.
        assert_eq!(piles::top(&state.discarded, false), Some(4));
        assert_eq!(piles::top(&state.discarded, true), None);
    }
}

#[test]
fn metadata_and_both_piles_of_version_3_are_read() {
    for fixture in ["state_v3/live", "state_v3/closed"] {
        let state = state(fixture);
        check(&state);
        let meta = &state.snapshot("second").unwrap().1.meta;
        let expected = SnapMeta {
            session: Some("s".to_owned()),
            tags: ["green".to_owned()].into(),
            metrics: [("tests".to_owned(), Metric::Whole(13))].into(),
            pinned: true,
            ..SnapMeta::default()
        };
        assert_eq!(**meta, expected);
        assert_eq!(piles::top(&state.discarded, false), None);
        assert_eq!(piles::top(&state.discarded, true), Some(4));
    }
}

/// A part was reverted, and the checksums of the states were known.
#[test]
fn merges_and_checksums_of_version_3_are_read() {
    for fixture in ["state_v3/merged-live", "state_v3/merged-closed"] {
        let state = state(fixture);
        let hash = |name: &str| state.snapshot(name).unwrap().1.digest.unwrap().to_string();
        assert_eq!(
            [hash("first"), hash("second")],
            [
                "f918ed1e6c6b64cf7154e508e64f373d8d74b0ce1f19e2b5983a266e6744f9a1",
                "0a69c9f91557875f20a3e342f71b0f9dc048cc14858b9fc15ed55a6d14a10db1"
            ]
        );
        // Images of that version have no lines: the numbers tell.
        assert_eq!((state.came_from(1), state.came_from(2)), (0, 1));
        assert_eq!(state.led_to(4), [3, 4]);
        // What was discarded was discarded for no other state, but for parts of one.
        assert_eq!(piles::top(&state.discarded, false), Some(3));
        assert_eq!((state.discarded[&3].became, state.next_state), (3, 4));
        // `a` and `d` are the base's again, `b` and `n` stayed with both names of what is in it.
        let named = |root: &llfs::tree::Root| {
            let here = root.dentries.iter().map(|(slot, dentry)| {
                let here = matches!(dentry.get(), llfs::tree::Dentry::Here(..));
                (
                    String::from_utf8_lossy(slot.name.as_bytes()).into_owned(),
                    here,
                )
            });
            here.collect::<std::collections::BTreeMap<_, _>>()
        };
        let names = |list: &[(&str, bool)]| {
            let list = list.iter().map(|(name, here)| ((*name).to_owned(), *here));
            list.collect::<std::collections::BTreeMap<_, _>>()
        };
        let discarded = named(&state.discarded[&3].root);
        let made = [("d", false), ("n", true), ("x", true), ("y", true)];
        assert_eq!(discarded, names(&made));
        assert_eq!(named(&state.head), names(&made[1..]));
        assert_eq!(
            state.head.inodes.len(),
            state.discarded[&3].root.inodes.len() - 1
        );
    }
}

/// Two snapshots, a revert to the first, an undo, a third snapshot, the redo of the revert; then a part of a directory was brought back
/// that had been removed.
#[test]
fn lines_and_hidden_names_of_version_4_are_read() {
    for fixture in ["state_v4/live", "state_v4/closed"] {
        let state = state(fixture);
        let line = |id: u64| {
            let line = state.line(id).unwrap();
            (line.from, line.by.clone())
        };
        assert_eq!(line(1), (0, vec![1]));
        assert_eq!(line(2), (1, vec![2]));
        assert_eq!(line(5), (2, vec![3, 5]));
        assert_eq!(line(6), (5, vec![6]));
        assert_eq!(line(7), (1, vec![4, 7]));
        assert_eq!(state.line(8), state.line(7), "the head");
        let whiteouts = (state.head.dentries.iter())
            .filter(|(_, dentry)| matches!(dentry.get(), llfs::tree::Dentry::Whiteout));
        let names: Vec<_> = whiteouts
            .map(|(slot, _)| slot.name.as_bytes().to_vec())
            .collect();
        assert_eq!(names, [b"b"]);
    }
}
