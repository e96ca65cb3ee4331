//! The journal, as a start reads it.

use llfs::store::{Store, StoreOptions};

use crate::disk::MemDisk;
use crate::forge::{self, BOOT, Header, NEXT_BOOT};
use crate::input::Input;

/// What is known of a journal whose reading is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Its headers and barriers are the store's own: what is recovered stays.
    Whole,
    /// They have right checksums and claim what is not so, such as that more was synced than there is. No llfs writes
    /// that: nothing is promised but to come to an end.
    Anyhow,
}

/// A journal with right headers and checksums and any content, or a good one that was damaged.
pub fn journal(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 3 {
        0 => raw(input),
        1 => forged(input),
        _ => damaged(input),
    }
}

/// Arbitrary bytes as segments, with no header of their own or behind a right one.
fn raw(mut input: Input<'_>) {
    let disk = forge::made();
    let with_header = input.u8();
    for number in 1..=2u32 {
        let bytes = if number == 1 {
            let half = usize::from(input.u16());
            input.bytes(half).to_vec()
        } else {
            input.0.to_vec()
        };
        let mut segment = Vec::new();
        if with_header >> number & 1 == 1 {
            segment = forge::header(&plain_header(number));
        } else if number == 2 && bytes.is_empty() {
            continue;
        }
        segment.extend_from_slice(&bytes);
        disk.put(&path(number), segment);
    }
    check(&disk, None, Kept::Whole);
}

fn plain_header(number: u32) -> Header {
    Header {
        number,
        boot: BOOT,
        first_seq: 1,
        previous_end: 128,
        covers: 0,
        data_seq: 0,
    }
}

fn path(number: u32) -> String {
    format!("journal/{number:08}.log")
}

/// Segments whose headers and frames all have right checksums and say what the input says.
fn forged(mut input: Input<'_>) {
    let disk = forge::made();
    let (mut seq, mut end, mut payloads) = (1u64, 128u64, Vec::new());
    for number in 1..=1 + u32::from(input.u8() % 3) {
        let odd = input.u8();
        let mut say = |bit: u8, usual: u64| {
            if odd >> bit & 1 == 1 {
                input.number()
            } else {
                usual
            }
        };
        let header = Header {
            number: if odd == 255 { 7 } else { number },
            boot: if odd & 128 == 0 { BOOT } else { NEXT_BOOT },
            first_seq: say(0, seq),
            previous_end: say(1, end),
            covers: say(2, 0),
            data_seq: say(3, 0),
        };
        let mut segment = forge::header(&header);
        seq = header.first_seq;
        for _ in 0..input.u8() % 24 {
            let kind = input.u8();
            if kind > 250 {
                segment.extend_from_slice(input.string());
                continue;
            }
            let at = if kind > 240 { input.number() } else { seq };
            let payload = match kind % 4 {
                0 | 1 => input.string().to_vec(),
                2 => {
                    let mut place = (input.number() as u32).to_le_bytes().to_vec();
                    place.extend_from_slice(&(input.number() as u32).to_le_bytes());
                    place.resize(8 + 4096, input.u8());
                    place
                }
                _ => {
                    let mut barrier = input.number().to_le_bytes().to_vec();
                    barrier.extend_from_slice(&input.number().to_le_bytes());
                    barrier.extend_from_slice(&(input.number() as u32).to_le_bytes());
                    barrier.extend_from_slice(&input.number().to_le_bytes());
                    barrier
                }
            };
            if kind % 4 < 2 {
                payloads.push(payload.clone());
            }
            forge::frame(&mut segment, number, (kind % 4).max(1), at, &payload);
            seq = seq.wrapping_add(1);
        }
        end = segment.len() as u64;
        segment.resize(segment.len() + usize::from(input.u8()), 0);
        disk.put(&path(number), segment);
    }
    check(&disk, Some(&payloads), Kept::Anyhow);
}

/// A store's own journal, damaged.
fn damaged(mut input: Input<'_>) {
    let disk = forge::made();
    let mut written = Vec::new();
    for _ in 0..=input.u8() % 2 {
        let (store, _) = forge::open(&disk, &forge::options(BOOT)).expect("a good store opens");
        for _ in 0..input.u8() % 16 {
            let record = input.string().to_vec();
            store.append(&record).expect("there is room");
            written.push(record);
            if input.u8() % 4 == 0 {
                store.sync().expect("nothing fails");
            }
        }
    }
    for _ in 0..=input.u8() % 2 {
        let number = 1 + u32::from(input.u8() % 3);
        if let Some(mut bytes) = disk.get(&path(number)) {
            input.damage(&mut bytes);
            disk.put(&path(number), bytes);
        }
    }
    for boot in [BOOT, NEXT_BOOT] {
        for repair in [false, true] {
            let options = StoreOptions {
                repair,
                ..forge::options(boot)
            };
            let Ok((_store, recovered)) = forge::open(&disk.copied(), &options) else {
                continue;
            };
            let found = forge::records(&recovered).expect("what was scanned can be read");
            assert!(
                written.starts_with(&found),
                "not what was written: {found:?}, {written:?}"
            );
        }
    }
    check(&disk, Some(&written), Kept::Whole);
}

/// What holds of every store: looking at it changes nothing, what is read are records that are there, and what was
/// recovered is recovered again, in this life of the machine and in the next (unless the headers lie).
fn check(disk: &MemDisk, known: Option<&[Vec<u8>]>, kept: Kept) {
    let before = disk.files();
    for boot in [BOOT, NEXT_BOOT] {
        let look = StoreOptions {
            read_only: true,
            ..forge::options(boot)
        };
        if let Ok((store, recovered)) = forge::open(disk, &look) {
            let read = forge::records(&recovered);
            assert!(read.is_ok(), "scanned and then not read: {:?}", read.err());
            drop(store.verify_history());
            assert!(
                store.append(b"x").is_err(),
                "a store to look at was written"
            );
        }
        assert!(disk.files() == before, "looking changed something");
        for repair in [false, true] {
            let options = StoreOptions {
                repair,
                ..forge::options(boot)
            };
            let copy = disk.copied();
            match forge::open(&copy, &options) {
                Ok((store, recovered)) => goes_on(&copy, store, &recovered, known, kept),
                // What is refused is left as it is; a repair sets segments aside, and a recovery may fail in its middle.
                Err(llfs::store::OpenError::Damaged(_)) if !repair => {
                    assert!(copy.files() == before, "a store was refused and changed");
                }
                Err(_) => {}
            }
        }
    }
}

fn goes_on(
    disk: &MemDisk,
    store: Store,
    recovered: &llfs::store::Recovered,
    known: Option<&[Vec<u8>]>,
    kept: Kept,
) {
    let mut found = forge::records(recovered).expect("what was scanned can be read");
    if let Some(known) = known {
        assert!(
            found.iter().all(|record| known.contains(record)),
            "a record that nobody wrote: {found:?}"
        );
    }
    if store.append(b"one more").is_err() {
        assert!(kept == Kept::Anyhow, "no room in a store of one's own");
        return;
    }
    found.push(b"one more".to_vec());
    store.sync().expect("nothing fails");
    drop(store);
    if kept == Kept::Anyhow {
        drop(forge::open(disk, &forge::options(NEXT_BOOT)));
        return;
    }
    for boot in [BOOT, NEXT_BOOT] {
        let (_store, recovered) =
            forge::open(&disk.copied(), &forge::options(boot)).expect("it was opened before");
        let again = forge::records(&recovered).expect("what was scanned can be read");
        assert!(again == found, "{found:?} became {again:?}");
    }
}
