//! On what terms a store is served.

/// What whoever mounts a store allows. The same for all workers of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Nothing is written, neither to the store nor to the base; a store whose journal is damaged is shown as it was
    /// before the damage.
    pub read_only: bool,
    /// The store may take at most so many bytes; `None`: as many as its disk has.
    pub max_store: Option<u64>,
    /// The base need not be what it was when changes to it were made: only for looking at the store.
    pub any_base: bool,
    /// The base may be at another path than it was.
    pub moved: bool,
}
