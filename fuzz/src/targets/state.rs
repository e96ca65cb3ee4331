//! Records, and the state that they make.

use std::ops::Range;

use llfs::tree::{Delta, Record, State, diff, extent, image};
use llfs::tree::{Ino, Root, Src};

use crate::input::Input;
use crate::records;

/// Records of any content, decoded from bytes or made from them, applied one after the other.
pub fn state(data: &[u8]) {
    let mut input = Input(data);
    let encoded = input.u8() % 2 == 0;
    let mut state = State::default();
    if !encoded {
        let file = records::file();
        state.apply(&file).expect("a new file contradicts nothing");
    }
    while !input.is_empty() {
        let record = if encoded {
            let length = usize::from(input.u16());
            match rmp_serde::from_slice(input.bytes(length)) {
                Ok(record) => record,
                Err(_) => continue,
            }
        } else {
            records::record(&mut input)
        };
        let bytes = rmp_serde::to_vec(&record).expect("a record can be encoded");
        let again: Record = rmp_serde::from_slice(&bytes).expect("and decoded");
        assert_eq!(again, record);
        let before = state.head.clone();
        if state.apply(&record).is_err() {
            return;
        }
        if diff::Changes::between(&before, &before).is_empty() {
            drop(diff::Changes::between(&before, &state.head));
        }
        whole(&state);
        if let Record::Change(deltas) = &record
            && let [Delta::Map { ino, from, len, to }] = &deltas[..]
        {
            mapped(&before, &state.head, *ino, *from..from + len, *to);
        }
    }
    writes_as_it_reads(&state);
}

/// After one map its blocks are where it says, and those beside it where they were.
fn mapped(before: &Root, after: &Root, ino: Ino, range: Range<u64>, to: Option<Src>) {
    let place = |root: &Root, block: u64| {
        let found = extent::find(&root.extents, ino, block);
        found.map(|(first, extent)| extent.src().advance(block - first))
    };
    let Range { start, end } = range;
    for block in [
        0,
        start.saturating_sub(1),
        start,
        end.saturating_sub(1),
        end,
        end + 1,
    ] {
        let expected = if (start..end).contains(&block) {
            to.map(|src| src.advance(block - start))
        } else {
            place(before, block)
        };
        assert_eq!(
            place(after, block),
            expected,
            "block {block} after {start}..{end}"
        );
    }
}

/// Extents of one file are not empty and don't overlap, and cutting a file into pieces leaves no gap.
fn whole(state: &State) {
    let mut before: Option<(u64, u64)> = None;
    for (at, extent) in &state.head.extents {
        let (ino, from) = (at.ino(), at.block());
        assert!(extent.len > 0, "an extent without blocks");
        if let Some((file, end)) = before {
            assert!(
                file < ino || end <= from,
                "extents of {ino} overlap at {from}"
            );
        }
        before = Some((ino, from + u64::from(extent.len)));
    }
    if let Some((first, _)) = state.head.extents.get_min() {
        let ino = first.ino();
        let mut at = 0;
        for piece in extent::pieces(&state.head.extents, ino, 0, 1 << 33) {
            assert_eq!(piece.from, at);
            at += piece.len;
        }
        assert_eq!(at, 1 << 33);
    }
}

/// An image of the state is read as a state whose image is the same.
pub fn writes_as_it_reads(state: &State) {
    let written = |state: &State| {
        let mut bytes = Vec::new();
        image::write(state, &mut bytes).expect("memory takes it");
        bytes
    };
    let first = written(state);
    let again = image::read(&mut &*first).expect("what was written can be read");
    assert!(written(&again) == first, "an image became another");
    assert_eq!(state.snapshots.len(), again.snapshots.len());
    assert!(diff::Changes::between(&state.head, &again.head).is_empty());
    assert!(state.head.orphans == again.head.orphans, "other orphans");
}
