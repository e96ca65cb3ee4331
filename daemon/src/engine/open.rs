//! Bringing an overlay up: the store, its state, and whether the base is still what that relies on.

use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::thread;

use llctl::escape::Shown;
use parking_lot::{Mutex, RwLock};

use super::house::House;
use super::{Engine, Terms, held, readdir};
use crate::base::{Base, BaseError, Drift, Fact, Place};
use crate::relay::Relay;
use crate::store::{self, Disk, HostDisk, ImageReader, Recovered, Store, StoreOptions, Superblock};
use crate::tree::{Apply, Ino, Record, State, image};

/// What to bring up.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The directory to overlay.
    pub base: PathBuf,
    /// The store's directory; made if missing.
    pub store: PathBuf,
    /// Set the store that is there aside, under another name, and begin with a new one.
    pub fresh: bool,
}

/// Why an overlay was not brought up. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The store.
    #[error("the store {path}: {error}", path = .path.shown())]
    Store {
        /// Its directory.
        path: PathBuf,
        /// What is wrong.
        error: store::OpenError,
    },
    /// The store's directory cannot be made or moved.
    #[error("{what} {path}: {error}", path = .path.shown())]
    Directory {
        /// What was tried.
        what: &'static str,
        /// Which directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The store was made for another directory.
    #[error("{}", other_text(.store, .theirs, .ours))]
    OtherBase {
        /// The store.
        store: PathBuf,
        /// Its directory.
        theirs: PathBuf,
        /// The directory asked for.
        ours: PathBuf,
        /// It has the inode number of the other one.
        same: bool,
    },
    /// The journal or the image don't make a state.
    #[error("the store {path} cannot be read: {error}", path = .path.shown())]
    State {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// Somebody changed the base while it was not mounted.
    #[error("{}", drift_text(.base, .drifts))]
    Drifted {
        /// The directory.
        base: PathBuf,
        /// What differs.
        drifts: Vec<Drift>,
    },
    /// The memory that workers share.
    #[error("no memory for what outlives a worker: {0}")]
    Relay(io::Error),
    /// An apply that was interrupted could not be finished.
    #[error("an interrupted apply could not be finished: {0}")]
    Apply(String),
    /// The same, and the store that could is to be set aside.
    #[error("an apply to {base} was interrupted, and only the store that is there can finish it", base = .0.shown())]
    HalfApplied(PathBuf),
    /// The same, and it may not even be tried.
    #[error("an apply to {base} was interrupted, which a read-only mount cannot finish", base = .0.shown())]
    Unfinished(PathBuf),
}

impl OpenError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            OpenError::OtherBase { theirs, ours, .. } if theirs == ours => Some(
                "put that one back, or begin anew with --fresh: the old store is kept beside the new one".into(),
            ),
            OpenError::OtherBase {
                ours, same: true, ..
            } => Some(format!(
                "if it is the same directory, moved or renamed: llfs relink {}",
                ours.shown()
            )),
            OpenError::OtherBase { theirs, .. } => Some(format!(
                "give another directory with --store, or mount {}",
                theirs.shown()
            )),
            OpenError::Drifted { .. } => Some(
                "put these back as they were, or begin anew with --fresh: the old store is kept beside the new one"
                    .into(),
            ),
            OpenError::Store { error, .. } => match error {
                store::OpenError::Damaged(_) => Some(
                    "`llfs mount --read-only` shows what lies before the damage, `llfs check` tells what lies behind it and \
                     with --repair goes on without that"
                        .into(),
                ),
                store::OpenError::BadSuperblock(_) => Some(
                    "`llfs check --repair` writes a new one, if the store has a journal".into(),
                ),
                store::OpenError::Empty => Some("mount it without --read-only to make one".into()),
                store::OpenError::NoSuperblock => Some(
                    "if it is a store, `llfs check --repair` writes a new superblock; otherwise give an empty directory with --store"
                        .into(),
                ),
                store::OpenError::Foreign | store::OpenError::NotEmpty => {
                    Some("give an empty directory with --store".into())
                }
                store::OpenError::Newer { .. } => Some("mount it with the llfs that wrote it, or a newer one".into()),
                store::OpenError::Full => Some("free some space on the store's disk".into()),
                _ => None,
            },
            OpenError::HalfApplied(_) => Some(
                "mount it without --fresh, which finishes the apply; if that store is lost for good, put the directory right and \
                 remove .llfs-apply-* from it"
                    .into(),
            ),
            OpenError::Unfinished(_) => Some("mount it without --read-only: that finishes the apply".into()),
            _ => None,
        }
    }
}

/// A directory is known by its inode number: one that was made anew is another one.
fn other_text(store: &Path, theirs: &Path, ours: &Path) -> String {
    let (store, theirs, ours) = (store.shown(), theirs.shown(), ours.shown());
    match theirs == ours {
        true => format!(
            "the store {store} belongs to the directory that was at {ours} before the one that is there now"
        ),
        false => format!("the store {store} belongs to {theirs}, not to {ours}"),
    }
}

/// Drifts that a message names; the rest is counted.
const NAMED: usize = 10;

fn drift_text(base: &Path, drifts: &[Drift]) -> String {
    use crate::base::What;
    use std::fmt::Write;
    let mut text = format!(
        "{} of {} changed while it was not mounted, and the overlay relies on them:",
        if drifts.len() == 1 {
            "one file".into()
        } else {
            format!("{} files", drifts.len())
        },
        base.shown()
    );
    for d in drifts.iter().take(NAMED) {
        let what = match d.what {
            What::Missing => "is gone",
            What::Replaced => "was replaced by another",
            What::Changed { .. } => "was changed",
            What::Unreadable(_) => "cannot be looked at",
        };
        let path = d.path.shown();
        write!(text, "\n  {path} {what}").unwrap_or_default();
    }
    if drifts.len() > NAMED {
        write!(text, "\n  and {} more", drifts.len() - NAMED).unwrap_or_default();
    }
    text
}

/// The state that an image and the journal behind it make, and how many changes are in the image. `each` is shown the records, as they are
/// on the disk and as what they mean.
///
/// # Errors
/// What cannot be read, or makes no state.
pub(crate) fn read_state(
    image: Option<ImageReader>,
    recovered: &Recovered,
    each: &mut dyn FnMut(u64, &[u8], &Record),
) -> io::Result<(State, u64)> {
    let mut state = match image {
        Some(image) => image::read(&mut BufReader::new(image))
            .map_err(|error| io::Error::other(format!("the image makes no state: {error}")))?,
        None => State::default(),
    };
    let imaged = state.changes;
    recovered
        .replay(&mut |seq, bytes| {
            let wrong =
                |why: String| io::Error::other(format!("record {seq} makes no sense: {why}"));
            let record: Record =
                rmp_serde::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
            each(seq, bytes, &record);
            state
                .apply(&record)
                .map_err(|error| wrong(error.to_string()))
        })
        .map_err(io::Error::other)?;
    Ok((state, imaged))
}

impl Engine {
    /// Brings an overlay up on the host's disk.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(options: &OpenOptions) -> Result<Arc<Engine>, OpenError> {
        let base = Base::open(&options.base)?;
        let (engine, _) = Engine::open_as(options, &Terms::default(), base, relay()?, None)?;
        Ok(engine)
    }

    /// Makes a store that of the directory which was at another path when the store was made, and is now that of `options`:
    /// the same inode, with everything on which the changes rely.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing was changed then.
    pub fn relink(options: &OpenOptions) -> Result<(), OpenError> {
        let terms = Terms {
            moved: true,
            ..Terms::default()
        };
        let base = Base::open(&options.base)?;
        let identity = base.identity().clone();
        let (engine, _) = Engine::open_as(options, &terms, base, relay()?, None)?;
        let relinked = engine
            .store
            .relink(identity.path, identity.dev, identity.ino);
        let done = relinked.and_then(|()| engine.close());
        done.map_err(|error| OpenError::Directory {
            what: "cannot write",
            path: options.store.clone(),
            error,
        })
    }

    /// Brings an overlay up as a worker of a mount, over a base that may be covered by the mount already. With the store's
    /// lock, there was a worker before this one: what the kernel holds, and what that worker was about to do, is in
    /// `relay`. The descriptor that comes back is the lock for the worker after this one.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_as(
        options: &OpenOptions,
        terms: &Terms,
        base: Base,
        relay: Arc<Relay>,
        lock: Option<OwnedFd>,
    ) -> Result<(Arc<Engine>, OwnedFd), OpenError> {
        let again = lock.is_some();
        let path = options.store.clone();
        let directory = |what| {
            let path = path.clone();
            move |error| OpenError::Directory { what, path, error }
        };
        if options.fresh && !terms.read_only && path.exists() {
            check_whole(&base, &path)?;
            set_aside(&path).map_err(directory("cannot set aside"))?;
        }
        if terms.read_only {
            check_private(&path).map_err(directory("cannot use"))?;
        } else {
            make_private(&path).map_err(directory("cannot use"))?;
        }
        let mut disk = HostDisk::open(&path).map_err(directory("cannot open"))?;
        if let Some(lock) = lock {
            disk.inherit_lock(lock);
        }
        let disk = Arc::new(disk);
        let store = StoreOptions {
            read_only: terms.read_only,
            max_bytes: terms.max_store,
            ..StoreOptions::default()
        };
        let engine = Engine::open_with(base, disk.clone(), &path, (&store, terms), relay, again)?;
        let lock = disk.lock_fd().map_err(directory("cannot lock"))?;
        Ok((engine, lock))
    }

    /// Brings an overlay up on any disk; `path` is where the store is, for messages.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_on(
        base: Base,
        disk: Arc<dyn Disk>,
        path: &Path,
        options: &StoreOptions,
    ) -> Result<Arc<Engine>, OpenError> {
        Engine::open_with(
            base,
            disk,
            path,
            (options, &Terms::default()),
            relay()?,
            false,
        )
    }

    fn open_with(
        base: Base,
        disk: Arc<dyn Disk>,
        path: &Path,
        (options, terms): (&StoreOptions, &Terms),
        relay: Arc<Relay>,
        again: bool,
    ) -> Result<Arc<Engine>, OpenError> {
        let failed = |error| OpenError::Store {
            path: path.to_owned(),
            error,
        };
        let identity = base.identity().clone();
        let (found, mut recovered) = match Store::find(disk.clone(), options) {
            Err(store::OpenError::Empty) if !options.read_only => {
                let superblock = Superblock::new(identity.path.clone(), identity.dev, identity.ino)
                    .map_err(|error| OpenError::State {
                        path: path.to_owned(),
                        error,
                    })?;
                Store::create(&*disk, &superblock).map_err(failed)?;
                Store::find(disk, options).map_err(failed)?
            }
            answer => answer.map_err(failed)?,
        };
        let unreadable = |error: io::Error| OpenError::State {
            path: path.to_owned(),
            error,
        };
        // While one thread waits for the disk to have what must be there first, others read.
        let image = recovered.image();
        let (store, state) = thread::scope(|scope| {
            let read = || {
                read_state(image, &recovered, &mut |seq, bytes, _| {
                    relay.met(seq, bytes)
                })
            };
            let state = thread::Builder::new()
                .name("llfs-state".to_owned())
                .spawn_scoped(scope, read)?;
            let store = found.begin(&recovered);
            Ok((store, state.join().unwrap_or_else(|p| resume_unwind(p))))
        })
        .map_err(unreadable)?;
        let (store, (mut state, imaged)) = (store.map_err(failed)?, state.map_err(unreadable)?);
        let superblock = store.superblock();
        let same = superblock.base_ino == identity.ino;
        if !same || (superblock.base_path != identity.path && !terms.moved) {
            return Err(OpenError::OtherBase {
                store: path.to_owned(),
                theirs: superblock.base_path,
                ours: identity.path,
                same,
            });
        }
        // An import that did not come to its end.
        state.staged.clear();
        // Before anything is asked of the base: an apply that was interrupted changes where things are.
        if options.read_only {
            if state.applying == Some(Apply::Staged) {
                return Err(OpenError::Unfinished(identity.path));
            }
        } else {
            super::apply::resume(&base, &store, &mut state)
                .map_err(|e| OpenError::Apply(e.to_string()))?;
        }
        learn(&base, &state)?;
        for layer in store.layers().map_err(unreadable)? {
            store.seal(layer.id).map_err(unreadable)?;
        }
        if state.next_layer > 1 {
            store.set_next(store::LayerId(state.next_layer - 1), 0);
        }
        let engine = Arc::new(Engine {
            store,
            base,
            gate: RwLock::new(()),
            names: Mutex::new(()),
            stripes: std::array::from_fn(|_| Mutex::new(())),
            authors: super::authors::Authors::new(state.next_state),
            state: RwLock::new(state),
            held: Mutex::new(held::Held::of(&relay).map_err(OpenError::Relay)?),
            views: Mutex::new(super::browse::Slots::of(&relay)),
            relay,
            listings: Mutex::new(readdir::Listings::default()),
            kernel: OnceLock::new(),
            layer: AtomicU32::new(0),
            sealed: AtomicU32::new(0),
            opening: Mutex::new(()),
            reverting: RwLock::new(None),
            untold: RwLock::new(None),
            turn: Mutex::new(()),
            garbage: AtomicU64::new(0),
            orphans_stayed: AtomicBool::new(false),
            imaged: AtomicU64::new(imaged),
            pins: RwLock::new(()),
            lent: Mutex::default(),
            reclaiming: Mutex::default(),
            punched: Mutex::default(),
            warned: AtomicBool::new(false),
            told_read_only: AtomicBool::new(false),
            metrics: super::metrics::Metrics::default(),
            events: super::events::Events::default(),
            house: House::new(),
            counted: Mutex::default(),
            spans: Mutex::default(),
            digests: super::service::Digests::default(),
            linked: Mutex::default(),
            bulk: super::bulk::Bulk::default(),
            rules: super::rules::Rules::default(),
            import: Mutex::default(),
            built: Mutex::default(),
            history: Mutex::default(),
            place: identity.path,
            store_place: path.to_owned(),
            started: std::time::Instant::now(),
        });
        if again {
            engine.take_over();
        } else if !terms.any_base {
            engine.check_drift()?;
        }
        // Nobody holds anything of a mount that is just beginning. What the kernel has let go of while no worker lived is
        // given up too.
        engine.collect_orphans();
        engine.store.set_watch(engine.relay.clone());
        engine.freed_much();
        engine
            .house
            .start(Arc::downgrade(&engine))
            .map_err(unreadable)?;
        Ok(engine)
    }

    /// Compares what the overlay relies on with what is there.
    fn check_drift(&self) -> Result<(), OpenError> {
        let recorded: Vec<(Ino, Fact)> = {
            let state = self.state.read();
            (state.places.iter())
                .map(|(ino, p)| (*ino, fact(&p.fact)))
                .collect()
        };
        let drifts = self.base.check_all(recorded);
        if drifts.is_empty() {
            return Ok(());
        }
        Err(OpenError::Drifted {
            base: self.place.clone(),
            drifts,
        })
    }
}

/// For a mount that is just beginning.
fn relay() -> Result<Arc<Relay>, OpenError> {
    Relay::new().map_err(OpenError::Relay)
}

/// Tells the base the places of all objects on which the state relies.
fn learn(base: &Base, state: &State) -> Result<(), OpenError> {
    for (ino, place) in &state.places {
        let at = Place {
            parent: place.parent,
            name: place.name.as_bytes().into(),
        };
        base.learn(*ino, &at).map_err(|errno| OpenError::State {
            path: base.identity().path.clone(),
            error: errno.into(),
        })?;
    }
    Ok(())
}

/// The base's form of what the tree recorded.
pub(super) fn fact(f: &crate::tree::Fact) -> Fact {
    Fact {
        kind: f.kind,
        size: f.size,
        mtime: (f.mtime.sec, f.mtime.nsec),
        ctime: (f.ctime.sec, f.ctime.nsec),
    }
}

/// Makes the store's directory, for its owner alone, and those above it. One that is there must be like that: who can write
/// to a store decides what the mount shows.
fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => check_private(path),
        answer => answer,
    }
}

/// Whether a store's directory is its owner's alone, who must be the caller.
pub(crate) fn check_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path)?;
    let refused = |why: &str| {
        let what = format!("{why}; name a directory of your own with --store");
        Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
    };
    if found.uid() != nix::unistd::geteuid().as_raw() {
        refused("it belongs to somebody else")
    } else if found.mode() & 0o022 != 0 {
        refused("others may write to it")
    } else {
        Ok(())
    }
}

/// Only the store can finish an apply that was interrupted: it is not set aside before.
fn check_whole(base: &Base, store: &Path) -> Result<(), OpenError> {
    // What cannot be read as a store cannot have begun one.
    let superblock = HostDisk::open(store).map(|disk| Superblock::read(&disk));
    let Ok(Ok(Some(superblock))) = superblock else {
        return Ok(());
    };
    match super::apply::is_unfinished(base, &superblock.uuid) {
        Ok(false) => Ok(()),
        Ok(true) => Err(OpenError::HalfApplied(base.identity().path.clone())),
        Err(errno) => Err(OpenError::Apply(errno.to_string())),
    }
}

/// Renames the store out of the way; nothing of it is lost.
fn set_aside(path: &Path) -> io::Result<()> {
    for n in 1.. {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".old-{n}"));
        let aside = path.with_file_name(name);
        if !aside.exists() {
            tracing::info!("the old store is {}", aside.shown());
            return std::fs::rename(path, aside);
        }
    }
    Ok(())
}
