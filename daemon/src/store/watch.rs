//! Who wants to know of records as they are written.

/// Told of each record by the thread that writes it, for what must be known if the process dies in between.
pub trait Watch: Send + Sync {
    /// The record goes into the journal now, with a number above `after`.
    fn appending(&self, after: u64, record: &[u8]);
    /// The record of the last [`Watch::appending`] of this thread is in the journal: it survives the process.
    fn appended(&self);
    /// The store is read-only from now on.
    fn latched(&self);
}
