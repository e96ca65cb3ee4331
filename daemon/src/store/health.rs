//! The latch: after a failed sync nobody knows what is on the medium, so nothing more is written.

use nix::errno::Errno;
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::Watch;

/// Whether the store may still write. Once latched it stays so until the store is opened again.
#[derive(Default)]
pub(super) struct Health {
    /// Told when it is latched.
    pub watch: OnceLock<Arc<dyn Watch>>,
    latched: AtomicBool,
    reason: Mutex<Option<String>>,
}

impl Health {
    /// Fails with `EROFS` once latched.
    pub fn check(&self) -> io::Result<()> {
        if self.latched.load(Ordering::Acquire) {
            return Err(Errno::EROFS.into());
        }
        Ok(())
    }

    /// Latches; the first reason is kept.
    pub fn latch(&self, reason: &str) {
        let mut kept = self.reason.lock();
        if kept.is_none() {
            tracing::error!(reason, "the store is read-only from now on");
            *kept = Some(reason.to_owned());
        }
        self.latched.store(true, Ordering::Release);
        if let Some(watch) = self.watch.get() {
            watch.latched();
        }
    }

    /// A store that is only looked at, from the beginning.
    pub fn look_only(&self) {
        *self.reason.lock() = Some("it was opened read-only".to_owned());
        self.latched.store(true, Ordering::Release);
    }

    /// Why it was latched.
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().clone()
    }

    /// A failed sync: latches, and answers `EIO` whatever the medium said, since a caller that
    /// retried after `EINTR` or `ENOSPC` would wrongly believe the second answer.
    pub fn poisoned(&self, what: &str, error: &io::Error) -> io::Error {
        self.latch(&format!("syncing {what} failed: {error}"));
        Errno::EIO.into()
    }
}
