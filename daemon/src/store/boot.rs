//! Which life of the machine wrote a journal segment: whether the page cache that a dead daemon left
//! is still there.

use super::disk::Disk;
use std::io::{self, Read};
use xxhash_rust::xxh3::xxh3_128;

/// A token of this boot of this kernel and of the medium. While it is the same, whatever a killed
/// daemon wrote can be read, synced or not; once it differs only what was synced counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootToken(pub [u8; 16]);

impl BootToken {
    /// The token of now. A kernel without a boot id gives one that never matches (safe: it only means
    /// that unsynced records are dropped).
    pub fn current(disk: &dyn Disk) -> io::Result<Self> {
        let mut bytes = match std::fs::read("/proc/sys/kernel/random/boot_id") {
            Ok(id) => id,
            Err(_) => random_bytes()?.to_vec(),
        };
        // A copy of the medium mounted beside the original has another device number; it holds what
        // was synced, not what the page cache holds.
        bytes.extend_from_slice(&disk.medium()?.to_le_bytes());
        Ok(Self(xxh3_128(&bytes).to_le_bytes()))
    }
}

/// 16 random bytes from the kernel.
pub(super) fn random_bytes() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
