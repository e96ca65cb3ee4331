//! An export: as a file, and as a file that was written of blocks, which the checksums let pass.

use llctl::transfer::item;
use llctl::transfer::{BLOCK_MAX, Reader, Writer};

use crate::bounds;

/// `data` as a file; as its blocks, two bytes of length before each; and as one block of items.
pub fn export(data: &[u8]) {
    bounds::memory((16 << 20) + 400 * data.len(), || {
        if let Ok(mut reader) = Reader::new(data) {
            let mut end = reader.end();
            while let Ok(Some(block)) = reader.block() {
                assert!(!block.is_empty() && block.len() <= BLOCK_MAX);
                assert!(end < reader.end() && reader.end() <= data.len() as u64);
                end = reader.end();
                drop(item::decode(&block));
            }
        }
        let blocks = blocks(data);
        let mut writer = Writer::new(Vec::new()).expect("a vector takes all");
        for block in &blocks {
            writer.block(block).expect("a vector takes all");
        }
        let file = writer.finish().expect("a vector takes all").0;
        let mut reader = Reader::new(&file[..]).expect("what was written is an export");
        for block in &blocks {
            let read = reader.block().expect("what was written is whole");
            assert_eq!(read.as_deref(), Some(*block));
        }
        assert!(reader.block().is_ok_and(|end| end.is_none()));
    });
    bounds::memory((4 << 20) + 400 * data.len(), || {
        let Ok(items) = item::decode(data) else {
            return;
        };
        let mut again = Vec::new();
        for item in &items {
            item::encode(item, &mut again).expect("what was decoded can be encoded");
        }
        let read = item::decode(&again).map(|read| format!("{read:?}"));
        if again.len() <= BLOCK_MAX {
            assert_eq!(read.ok(), Some(format!("{items:?}")));
        }
    });
}

fn blocks(mut data: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let [low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (block, left) = rest.split_at(length);
        if !block.is_empty() {
            all.push(block);
        }
        data = left;
    }
    all
}
