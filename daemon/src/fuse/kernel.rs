//! Tells the kernel what to forget, and has it hand over what it holds back.
//!
//! Nothing here may be called by a handler, or with a lock held that a handler takes: the kernel waits for answers to
//! requests on the same inodes before it answers us.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::{INodeNo, Notifier};
use llctl::escape::Shown;

use super::device::Device;
use super::visitor::Visitor;
use crate::engine::api::Kernel;
use crate::relay::Relay;
use crate::tree::Ino;

/// How many writes from the page cache the session has carried out.
pub(super) type CachedWrites = Arc<AtomicU64>;

/// A program that stores through a mapping without a pause makes dirty pages for ever; after so many rounds those that were
/// there at the beginning have long been written.
const MAX_ROUNDS: u32 = 1000;

/// The kernel's side of one mount.
pub(super) struct Cache {
    notifier: Notifier,
    visitor: Visitor,
    cached_writes: CachedWrites,
    device: Device,
    relay: Arc<Relay>,
}

impl Cache {
    pub(super) fn new(
        notifier: Notifier,
        mountpoint: PathBuf,
        cached_writes: CachedWrites,
        device: Device,
        relay: Arc<Relay>,
    ) -> Self {
        Self {
            notifier,
            visitor: Visitor::new(mountpoint),
            cached_writes,
            device,
            relay,
        }
    }
}

impl Kernel for Cache {
    /// `syncfs` starts the writing of dirty pages but does not wait for the answers. The session thread takes requests in
    /// their order, so a request sent afterwards is answered after those writes; except for writes that the kernel still
    /// held back, because too many were under way (a user's daemon is not granted an unlimited number). Those move up
    /// while others are carried out: if none was, between one marker and the next, none was held back.
    fn flush(&self) -> io::Result<()> {
        let mut before = self.cached_writes.load(Ordering::Acquire);
        // An error is of some file, such as one below `.llfs` that was stored to through a mapping: the others count.
        let flushed = self.visitor.flush();
        for _ in 0..MAX_ROUNDS {
            let now = self.cached_writes.load(Ordering::Acquire);
            if now == before {
                break;
            }
            before = now;
            self.visitor.mark()?;
        }
        flushed
    }

    fn forget_inode(&self, ino: Ino) {
        let _in_the_kernel = self.relay.notify();
        if let Err(error) = self.notifier.inval_inode(INodeNo(ino), 0, 0) {
            lost("inode", ino, &error);
        }
    }

    fn forget_all_names(&self) -> io::Result<()> {
        let _in_the_kernel = self.relay.notify();
        self.device.forget_all_names()
    }

    fn answers(&self) -> io::Result<()> {
        self.visitor.mark()
    }

    fn look_up(&self, path: &Path) {
        if let Err(error) = self.visitor.look_up(path) {
            tracing::debug!(path = %path.shown(), %error, "not looked up");
        }
    }

    fn forget_name(&self, parent: Ino, name: &[u8]) {
        let _in_the_kernel = self.relay.notify();
        if let Err(error) = self
            .notifier
            .inval_entry(INodeNo(parent), OsStr::from_bytes(name))
        {
            lost("name below inode", parent, &error);
        }
    }
}

/// The notifier takes ENOENT, of what the kernel does not cache, for success. ENOTCONN and ENODEV are those of an ended mount.
fn lost(what: &str, ino: Ino, error: &io::Error) {
    match error.raw_os_error() {
        Some(libc::ENOTCONN | libc::ENODEV) => {
            tracing::debug!(ino, "no mount left to forget a {what}")
        }
        _ => tracing::error!(ino, %error, "the kernel did not forget a {what}"),
    }
}
