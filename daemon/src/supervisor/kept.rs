//! What a service manager keeps of a mount while its supervisor is dead: the descriptors without which the mount would end
//! with it (`FDSTORE` in sd_notify(3)). A supervisor that is started again finds them, and goes on with the mount: programs
//! that use it wait meanwhile, and lose nothing.
//!
//! They are handed over when the first worker serves: only then has the kernel been greeted.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use llctl::locate::FSTYPE;

use super::checks;
use super::notify::Manager;
use crate::fuse::Greeting;

/// The first descriptor that a service manager hands over, see sd_listen_fds(3).
const FIRST: RawFd = 3;

/// The names under which they are kept.
const DEVICE: &str = "llfs-device";
const BELOW: &str = "llfs-base";
const RELAY: &str = "llfs-relay";
const LOCK: &str = "llfs-lock";
const LISTENER: &str = "llfs-control";
const GREETING: &str = "llfs-greeting";
const NAMES: [&str; 6] = [DEVICE, BELOW, RELAY, LOCK, LISTENER, GREETING];

/// The descriptors of a mount that outlived its supervisor.
pub(super) struct Kept {
    pub(super) device: OwnedFd,
    pub(super) below: File,
    pub(super) relay: OwnedFd,
    pub(super) lock: OwnedFd,
    pub(super) listener: OwnedFd,
    pub(super) greeting: Greeting,
}

/// What is to be kept of a mount.
pub(super) struct Keep<'a> {
    pub(super) device: BorrowedFd<'a>,
    pub(super) below: BorrowedFd<'a>,
    pub(super) relay: BorrowedFd<'a>,
    pub(super) lock: BorrowedFd<'a>,
    pub(super) listener: BorrowedFd<'a>,
    pub(super) greeting: &'a Greeting,
}

impl Keep<'_> {
    /// Hands everything to the manager, which has some of it already after a takeover.
    pub(super) fn hand_over(&self, manager: &Manager) {
        if !manager.is_there() {
            return;
        }
        let greeting = match written(&self.greeting.0) {
            Ok(file) => file,
            Err(error) => return tracing::warn!(%error, "a new supervisor could not go on"),
        };
        for (name, fd) in [
            (DEVICE, self.device),
            (BELOW, self.below),
            (RELAY, self.relay),
            (LOCK, self.lock),
            (LISTENER, self.listener),
            (GREETING, greeting.as_fd()),
        ] {
            manager.keep(name, fd);
        }
    }
}

/// A file in memory that holds `bytes`.
fn written(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(GREETING, MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

/// The mount has ended, or is of no use: the manager is to close what it keeps.
pub(super) fn forget(manager: &Manager) {
    for name in NAMES {
        manager.forget(name);
    }
}

impl Kept {
    /// What the manager that started this process has kept, if it is all there. To be called once, before anything else opens
    /// descriptors.
    pub(super) fn take() -> Option<Kept> {
        let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
        if number("LISTEN_PID") != Some(std::process::id()) {
            return None;
        }
        let count = number("LISTEN_FDS")?;
        let names = std::env::var("LISTEN_FDNAMES").ok()?;
        let mut found = HashMap::new();
        for (fd, name) in (FIRST..).zip(names.split(':')).take(count as usize) {
            // SAFETY: the manager says that it has put this descriptor here for us, and this is asked once.
            let owned = unsafe { OwnedFd::from_raw_fd(fd) };
            if fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_err() {
                // It is not there: there is nothing to close.
                std::mem::forget(owned);
                continue;
            }
            found.insert(name.to_owned(), owned);
        }
        let mut greeting = Vec::new();
        let mut file = File::from(found.remove(GREETING)?);
        let read = file.rewind().and_then(|()| file.read_to_end(&mut greeting));
        read.ok()?;
        Some(Kept {
            device: found.remove(DEVICE)?,
            below: found.remove(BELOW)?.into(),
            relay: found.remove(RELAY)?,
            lock: found.remove(LOCK)?,
            listener: found.remove(LISTENER)?,
            greeting: Greeting(greeting),
        })
    }

    /// Whether `base` is still mounted, and by this session.
    pub(super) fn is_mounted_at(&self, base: &Path) -> bool {
        let there = checks::mounts().is_ok_and(|mounts| {
            let mut all = mounts.iter().rev();
            let top = all.find(|mount| mount.mountpoint == base);
            top.is_some_and(|mount| mount.fstype == FSTYPE)
        });
        let mut fds = [PollFd::new(self.device.as_fd(), PollFlags::POLLOUT)];
        let ended = |fd: &PollFd<'_>| {
            fd.revents()
                .is_none_or(|seen| seen.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL))
        };
        there && poll(&mut fds, PollTimeout::ZERO).is_ok() && !ended(&fds[0])
    }
}
