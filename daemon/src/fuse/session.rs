//! A FUSE session: from a mounted descriptor to the end of the mount.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use fuser::{Config, SessionACL};

use super::adapter::Adapter;
use super::device::{self, Device, Greeting};
use super::kernel::{Cache, CachedWrites};
use crate::engine::Engine;
use crate::engine::api::Kernel;
use crate::relay::Relay;

/// A session that has shaken hands with the kernel and answers nothing yet.
pub struct Session {
    inner: fuser::Session<Adapter>,
    mountpoint: PathBuf,
    cached_writes: CachedWrites,
    device: Device,
    relay: Arc<Relay>,
}

impl Session {
    /// Begins a session on `device`, which is mounted at `mountpoint` and of which `greeting` is the first message. The
    /// kernel shakes hands with the `first` worker only; later ones do it among themselves, and go on where the one
    /// before them was. Call it on a thread that is not pinned to a CPU: the session's threads inherit that.
    ///
    /// # Errors
    /// The kernel's FUSE lacks what llfs needs, or the mount is gone already.
    pub fn begin(
        device: Device,
        greeting: &Greeting,
        first: bool,
        engine: Arc<Engine>,
        mountpoint: PathBuf,
    ) -> io::Result<Self> {
        let cached_writes = CachedWrites::default();
        let relay = engine.relay().clone();
        let adapter = Adapter::new(engine, cached_writes.clone())?;
        let mut config = Config::default();
        // One thread, so that requests are carried out in their order.
        config.n_threads = Some(1);
        // The library reads and answers the greeting in one step, which nobody may repeat: so it gets a copy.
        let (ours, theirs) = device::stand_in()?;
        device::post(&ours, &greeting.0)?;
        // Who may come in is the kernel's decision (`allow_other`), who may do what too (`default_permissions`).
        let inner = fuser::Session::from_fd(adapter, theirs, SessionACL::All, config)?;
        let answer = device::waiting(&ours)?;
        device.replace(inner.as_fd())?;
        if first {
            device.answer_greeting(&answer)?;
        }
        Ok(Self {
            inner,
            mountpoint,
            cached_writes,
            device,
            relay,
        })
    }

    /// The kernel's caches, for the engine.
    pub fn kernel(&self) -> Box<dyn Kernel> {
        Box::new(Cache::new(
            self.inner.notifier(),
            self.mountpoint.clone(),
            self.cached_writes.clone(),
            self.device.clone(),
            self.relay.clone(),
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
