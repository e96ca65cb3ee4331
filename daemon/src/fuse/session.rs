//! A FUSE session: from a mounted descriptor to the end of the mount.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use fuser::{Config, SessionACL};

use super::adapter::Adapter;
use super::kernel::{Cache, CachedWrites};
use crate::engine::Engine;
use crate::engine::api::Kernel;

/// A session that has shaken hands with the kernel and answers nothing yet.
pub struct Session {
    inner: fuser::Session<Adapter>,
    mountpoint: PathBuf,
    cached_writes: CachedWrites,
}

impl Session {
    /// Shakes hands over `device`, a `/dev/fuse` descriptor that is mounted at `mountpoint`. Call it on a thread that is
    /// not pinned to a CPU: the session's threads inherit that.
    ///
    /// # Errors
    /// The kernel's FUSE lacks what llfs needs, or the mount is gone already.
    pub fn begin(device: OwnedFd, engine: Arc<Engine>, mountpoint: PathBuf) -> io::Result<Self> {
        let cached_writes = CachedWrites::default();
        let adapter = Adapter::new(engine, cached_writes.clone())?;
        let mut config = Config::default();
        // One thread, so that requests are carried out in their order.
        config.n_threads = Some(1);
        // Who may come in is the kernel's decision (`allow_other`), who may do what too (`default_permissions`).
        let inner = fuser::Session::from_fd(adapter, device, SessionACL::All, config)?;
        Ok(Self {
            inner,
            mountpoint,
            cached_writes,
        })
    }

    /// The kernel's caches, for the engine.
    pub fn kernel(&self) -> Box<dyn Kernel> {
        Box::new(Cache::new(
            self.inner.notifier(),
            self.mountpoint.clone(),
            self.cached_writes.clone(),
        ))
    }

    /// Answers requests, on a thread of its own. What is received tells that the mount has ended, and how.
    ///
    /// # Errors
    /// The system's, if it has no thread to give.
    pub fn run(self) -> io::Result<Receiver<io::Result<()>>> {
        let (ended, end) = bounded(1);
        thread::Builder::new()
            .name("llfs-session".to_owned())
            .spawn(move || {
                let result = self.inner.run();
                // Nobody may be waiting for it any more, when the daemon is on its way out.
                drop(ended.send(result));
            })?;
        Ok(end)
    }
}
