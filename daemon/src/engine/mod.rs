//! Operations: validate, append to the journal, apply, answer.
//!
//! # Locks, in the order in which they are taken
//! 1. `gate`: every operation holds it shared, a snapshot or a revert exclusively; nothing that the kernel must answer
//!    happens while it is held exclusively.
//! 2. `names`: an operation that changes names. What it finds stays true until it is done, except for sizes and times.
//! 3. `stripes`: one of them, by inode number, for an operation on a file's data.
//! 4. `state`: shared to look, exclusively to change. No system call on data or on the base happens under it: what
//!    the base says is fetched before, which is sound because the base is immutable. The journal is appended under it, so that
//!    the journal's order is the order of application.
//! 5. `authors`: its notes before `state`, what it gathers after it. `views`, then `held`; `listings`; the store's and the base's own locks; each for a moment.

mod acl;
mod alloc;
pub mod api;
mod apply;
mod attr;
mod authors;
mod blocks;
mod browse;
mod bulk;
mod change;
mod checkpoint;
mod circle;
mod events;
mod held;
mod history;
mod house;
mod io;
mod lookup;
pub mod metrics;
mod namespace;
mod open;
mod readdir;
mod recall;
mod reclaim;
mod rename;
mod rules;
mod seed;
pub mod service;
pub mod snapshot;
mod space;
mod terms;
mod unchanged;
mod underway;
mod untold;
mod xattr;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use nix::errno::Errno;
use parking_lot::{Mutex, RwLock};

pub use api::{
    Answer, Attr, Caller, Entry, Kernel, Listed, Make, SetAttr, SetTime, Space, WriteHow,
};
pub use apply::{ApplyDone, ApplyError, ApplyPlan};
pub use authors::on_behalf;
pub(crate) use open::check_private;
pub(crate) use open::read_state;
pub use open::{OpenError, OpenOptions};
pub use terms::Terms;

use crate::base::Base;
use crate::relay::Relay;
use crate::store::Store;
use crate::tree::{Ino, State};

/// Number of locks that files' data share.
const STRIPES: usize = 64;

/// One mounted overlay.
pub struct Engine {
    store: Store,
    base: Base,
    gate: RwLock<()>,
    /// Changes of names come one after the other.
    names: Mutex<()>,
    stripes: [Mutex<()>; STRIPES],
    state: RwLock<State>,
    /// What the kernel holds.
    held: Mutex<held::Held>,
    /// What the next worker gets of this one.
    relay: Arc<Relay>,
    /// The slots of states that the kernel was shown below `.llfs`.
    views: Mutex<browse::Slots>,
    listings: Mutex<readdir::Listings>,
    kernel: OnceLock<Box<dyn Kernel>>,
    /// The layer that takes the writes; 0 until the first write of a new one.
    layer: AtomicU32,
    /// Blocks of that layer below this are final. Changes only while the gate is held exclusively.
    sealed: AtomicU32,
    /// A layer is opened by one at a time.
    opening: Mutex<()>,
    /// A revert that the kernel was not told of to the end.
    reverting: RwLock<Option<snapshot::Reverting>>,
    /// Names that a revert changed and of which the kernel was not told yet.
    untold: RwLock<Option<untold::Untold>>,
    /// Which programs changed what.
    authors: authors::Authors,
    /// Snapshots and reverts come one after the other.
    turn: Mutex<()>,
    /// Bytes that no root reaches any more since the last reclaim, about.
    garbage: AtomicU64,
    /// Inodes without a name that nobody holds may still be there, for there was no room to say that they go.
    orphans_stayed: AtomicBool,
    /// `State::changes` when the last image was written.
    imaged: AtomicU64,
    /// Who reads an old state without the gate holds this shared; space is taken back only without such readers.
    pins: RwLock<()>,
    /// Roots whose blocks stay although no state has them any more, for who is shown something made of them; a leaf lock.
    lent: Mutex<reclaim::Roots>,
    /// Held while space is taken back, before the gate; whoever waits for it holds nothing of the above. When the disk refused it,
    /// if that was the last time.
    reclaiming: Mutex<Option<Instant>>,
    /// Space is scarce, and that was told.
    warned: AtomicBool,
    /// The store is read-only, and that was told.
    told_read_only: AtomicBool,
    /// Holes that were punched into layers already.
    punched: Mutex<std::collections::HashMap<crate::tree::LayerId, Vec<std::ops::Range<u32>>>>,
    house: house::House,
    /// About how many paths differ between two snapshots, which stays true: neither ever changes. A leaf lock.
    counted: Mutex<std::collections::HashMap<(crate::tree::StateId, crate::tree::StateId), u64>>,
    /// What was found of the blocks that states hold alone, see `service/alone.rs`. A leaf lock.
    spans: Mutex<service::Walk>,
    digests: service::Digests,
    /// Files of the base that have several names there, once somebody had to know; a leaf lock.
    linked: Mutex<Option<Arc<service::Linked>>>,
    /// Removals, and the mark before them. A leaf lock.
    bulk: bulk::Bulk,
    /// A leaf lock, as that of the history.
    rules: rules::Rules,
    /// The import that is under way; taken before all others.
    import: Mutex<Option<service::Import>>,
    /// What it has so far, for which blocks are in use; a leaf lock.
    built: Mutex<Vec<crate::tree::Root>>,
    /// A leaf lock: nothing is taken under it but the store's own.
    history: Mutex<history::History>,
    metrics: metrics::Metrics,
    /// Who watches; a leaf lock.
    events: events::Events,
    place: PathBuf,
    store_place: PathBuf,
    started: std::time::Instant,
}

impl Engine {
    /// Gives the engine the kernel's caches to keep coherent. Later calls change nothing.
    pub fn attach(&self, kernel: Box<dyn Kernel>) {
        if self.kernel.set(kernel).is_err() {
            tracing::warn!("the kernel was attached before");
        }
    }

    /// Computes the checksums of the snapshots' states behind the scenes from here on, until [`Engine::close`].
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn compute_digests(self: &Arc<Engine>) -> std::io::Result<()> {
        match self.store.opened_read_only() {
            true => Ok(()),
            false => self.digests.start(self),
        }
    }

    /// The directory that is overlaid.
    pub fn base_path(&self) -> &Path {
        &self.place
    }

    /// The store's directory.
    pub fn store_path(&self) -> &Path {
        &self.store_place
    }

    /// What the next worker gets of this one.
    pub fn relay(&self) -> &Arc<Relay> {
        &self.relay
    }

    /// What is counted.
    pub fn metrics(&self) -> &metrics::Metrics {
        &self.metrics
    }

    /// Makes everything durable that was acknowledged, for a clean end.
    ///
    /// # Errors
    /// What the disk says.
    pub fn close(&self) -> std::io::Result<()> {
        self.digests.stop();
        self.house.stop();
        self.write_authors();
        if self.store.opened_read_only() {
            return Ok(());
        }
        self.store.finish_seals()?;
        self.write_image()?;
        if let Err(error) = self.store.list_sums() {
            tracing::warn!(%error, "the list of checksums was not written");
        }
        self.store.sync()
    }

    fn stripe(&self, ino: Ino) -> &Mutex<()> {
        &self.stripes[(ino % STRIPES as u64) as usize]
    }
}

/// The errno of an I/O error; EIO where it has none.
fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
