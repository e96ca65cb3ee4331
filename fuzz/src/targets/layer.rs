//! Sealed layers: what is read is what was written, or an error.

use llfs::store::{BLOCK, LayerId, StoreOptions};

use crate::forge::{self, BOOT, NEXT_BOOT};
use crate::input::Input;

const DATA: &str = "layers/00000001.data";
const SUMS: &str = "layers/00000001.sum";

/// A sealed layer of a few blocks whose data or checksums are damaged, or whose checksums are anything.
pub fn layer(data: &[u8]) {
    let mut input = Input(data);
    let disk = forge::made();
    let (store, _) = forge::open(&disk, &forge::options(BOOT)).expect("a good store opens");
    let id = store.open_layer();
    let blocks = 1 + u32::from(input.u8() % 5);
    store.alloc(id, blocks).expect("a layer has more blocks");
    for block in 0..blocks {
        let mut bytes = input.string().to_vec();
        bytes.push(1);
        bytes.resize(
            if input.u8() % 4 == 0 {
                4096
            } else {
                bytes.len()
            },
            input.u8(),
        );
        store
            .write_blocks(id, block, &bytes, 0)
            .expect("there is room");
    }
    store.seal(id).expect("nothing fails");
    assert_eq!(store.finish_seals().expect("nothing fails"), 1);
    store.close().expect("nothing fails");
    let whole = disk.get(DATA).expect("it was written");
    let sums = disk.get(SUMS).expect("it was sealed");
    let what = input.u8();
    if what & 1 == 1 {
        let mut bytes = whole.clone();
        input.damage(&mut bytes);
        disk.put(DATA, bytes);
    }
    match what >> 1 & 3 {
        1 | 2 => {
            let mut bytes = sums.clone();
            input.damage(&mut bytes);
            disk.put(SUMS, bytes);
        }
        3 => disk.put(SUMS, input.0.to_vec()),
        _ => {}
    }
    let boot = if what & 8 == 0 { BOOT } else { NEXT_BOOT };
    let look = StoreOptions {
        read_only: true,
        ..forge::options(boot)
    };
    let Ok((store, _)) = forge::open(&disk, &look) else {
        panic!("a layer is no reason to refuse a store");
    };
    let id = LayerId(1);
    let mut right = whole;
    right.resize((u64::from(blocks) * BLOCK) as usize, 0);
    let mut lost = Vec::new();
    for (block, right) in (0..blocks).zip(right.chunks(BLOCK as usize)) {
        let mut bytes = [0; BLOCK as usize];
        match store.read(id, u64::from(block) * BLOCK, &mut bytes, true) {
            Ok(()) => assert!(bytes == right, "wrong bytes in block {block}"),
            Err(_) => lost.push(block),
        }
    }
    if disk.get(DATA).as_deref() == Some(&right[..]) && disk.get(SUMS) == Some(sums) {
        assert!(lost.is_empty(), "whole blocks are refused: {lost:?}");
    }
    if let Ok(told) = store.verify_layer(id, std::slice::from_ref(&(0..blocks)), &mut |_| true) {
        assert!(
            lost.iter().all(|block| told.contains(block)),
            "refused {lost:?}, told {told:?}"
        );
    }
}
