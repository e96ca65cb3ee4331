//! The superblock, with and without the right checksums.

use llfs::store::Superblock;
use xxhash_rust::xxh3::xxh3_64;

use crate::forge;
use crate::input::Input;

/// `data` as a superblock, then with its checksums put right, then as damage to a good one.
pub fn superblock(data: &[u8]) {
    decode(data);
    let mut right = data.to_vec();
    if right.len() >= 32 {
        let length = right.len() as u32;
        if right[0] & 1 == 0 {
            right[..8].copy_from_slice(b"LLFSTORE");
            right[8..12].copy_from_slice(&1u32.to_le_bytes());
            right[12..16].copy_from_slice(&length.to_le_bytes());
        }
        let sum = xxh3_64(&right[..16]);
        right[16..24].copy_from_slice(&sum.to_le_bytes());
        let end = right.len() - 8;
        let sum = xxh3_64(&right[..end]);
        right[end..].copy_from_slice(&sum.to_le_bytes());
        decode(&right);
    }
    let mut bytes = forge::superblock().encode();
    if Input(data).damage(&mut bytes) {
        assert!(
            Superblock::decode(&bytes).is_err(),
            "damage went unnoticed: {bytes:?}"
        );
    }
}

fn decode(bytes: &[u8]) {
    if let Ok(found) = Superblock::decode(bytes) {
        let again = found.encode();
        assert_eq!(again.len(), bytes.len());
        assert_eq!(
            Superblock::decode(&again).expect("what was encoded can be decoded"),
            found
        );
    }
}
