//! Images of the state.

use std::io::Read;

use llfs::store::StoreOptions;
use llfs::tree::{State, image as body};

use crate::disk::MemDisk;
use crate::forge::{self, BOOT, Header};
use crate::input::Input;
use crate::targets::state;

const PATH: &str = "images/00000001.img";

/// Arbitrary bytes as an image's body, as an image's file, and as damage to a good image.
pub fn image(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 4 {
        0 => read(input.0),
        1 => file(input.0.to_vec()),
        2 => {
            let covers = input.number();
            let length = if input.u8() > 250 {
                input.number()
            } else {
                input.0.len() as u64
            };
            file(forge::image(1, covers, length, input.0));
        }
        _ => damaged(input),
    }
}

/// What is read as a state is written, and read again as the same.
fn read(bytes: &[u8]) {
    if let Ok(state) = body::read(&mut &*bytes) {
        state::writes_as_it_reads(&state);
    }
}

/// A store with this image and a journal that begins behind it.
fn store(image: Vec<u8>) -> MemDisk {
    let disk = forge::made();
    let mut covers = [0; 8];
    covers.copy_from_slice(&image.get(32..40).unwrap_or(&[0; 8])[..8]);
    let header = Header {
        number: 1,
        boot: BOOT,
        first_seq: u64::from_le_bytes(covers).saturating_add(1),
        previous_end: 0,
        covers: 0,
        data_seq: 0,
    };
    disk.put("journal/00000001.log", forge::header(&header));
    disk.put(PATH, image);
    disk
}

/// The body that a start finds, or none.
fn found(disk: &MemDisk) -> Option<Vec<u8>> {
    let options = StoreOptions {
        read_only: true,
        ..forge::options(BOOT)
    };
    let (_store, mut recovered) = forge::open(disk, &options).ok()?;
    let mut bytes = Vec::new();
    let image = recovered.image()?;
    image
        .take(1 << 24)
        .read_to_end(&mut bytes)
        .expect("a checked image can be read");
    Some(bytes)
}

fn file(bytes: Vec<u8>) {
    let disk = store(bytes);
    if let Some(body) = found(&disk) {
        read(&body);
    }
    if let Ok((store, _)) = forge::open(&disk, &forge::options(BOOT)) {
        drop(store.verify_history());
    }
}

fn damaged(mut input: Input<'_>) {
    let mut whole = Vec::new();
    let mut state = State::default();
    let count = input.u8() % 8;
    for record in (0..count).map(|_| crate::records::record(&mut input)) {
        if state.apply(&record).is_err() {
            return;
        }
    }
    body::write(&state, &mut whole).expect("memory takes it");
    let mut bytes = forge::image(1, 5, whole.len() as u64, &whole);
    assert_eq!(found(&store(bytes.clone())), Some(whole));
    if input.damage(&mut bytes) {
        assert_eq!(found(&store(bytes)), None, "damage went unnoticed");
    }
}
