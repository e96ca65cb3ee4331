//! How to open a store.

use super::boot::BootToken;

/// How to open a store. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Write nothing: for looking at a store that is damaged or on a medium that cannot be written.
    pub read_only: bool,
    /// Go on with what lies before a damaged place of the journal, and set the rest aside.
    pub repair: bool,
    /// This life of the machine; `None` asks the kernel.
    pub boot: Option<BootToken>,
    /// A journal segment is left for a new one beyond this.
    pub segment_bytes: u64,
    /// The journal is filled with zeros ahead in steps of this.
    pub prepare_bytes: u64,
    /// Of these, so many are left to what must be written with no space left.
    pub kept_bytes: u64,
    /// The size of the reserve.
    pub reserve_bytes: u64,
    /// The store may take so many bytes; beyond that it is like a full disk.
    pub max_bytes: Option<u64>,
    /// A sync copies at most so many blocks to the journal.
    pub inline_blocks: usize,
    /// Most layer files open at a time.
    pub open_files: usize,
    /// A layer of so many blocks does not go on after a seal.
    pub layer_blocks: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            repair: false,
            boot: None,
            segment_bytes: 64 << 20,
            prepare_bytes: 1 << 20,
            kept_bytes: 128 << 10,
            reserve_bytes: 4 << 20,
            max_bytes: None,
            inline_blocks: 16,
            open_files: 64,
            layer_blocks: 16 << 10,
        }
    }
}
