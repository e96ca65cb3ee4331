//! What a supervisor begins with: a mount of its own, or one whose supervisor died.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use llctl::escape::Shown;
use llctl::{locate, plain};
use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::crew::{self, Program, Worker};
use super::ending::detach;
use super::kept::Kept;
use super::serve::{Order, failed};
use super::trouble::Trouble;
use super::turn::{self, Turn};
use super::wire::{Open, Order as ToWorker, Report};
use super::{checks, logging, stop};
use crate::control::Listener;
use crate::fuse::{self, Greeting};
use crate::relay::Relay;

/// How long the worker of a supervisor that died may take to die too.
const BURIAL: Duration = Duration::from_secs(60);

/// What a mount has that its workers share.
pub(super) struct Estate {
    pub(super) greeting: Greeting,
    pub(super) device: OwnedFd,
    pub(super) listener: Listener,
    pub(super) lock: OwnedFd,
}

/// A mount, and a worker that has opened the store, or is about to.
pub(super) struct Parts {
    pub(super) relay: Arc<Relay>,
    pub(super) below: File,
    pub(super) program: Program,
    pub(super) estate: Estate,
    pub(super) worker: Worker,
}

/// Makes the directory in which the store is to be.
pub(super) fn make_parent(store: &Path) -> Result<(), Trouble> {
    let Some(parent) = store.parent() else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(|error| Trouble::because(format!("cannot make {}", parent.shown()), error))
}

/// The directory, which nobody has mounted over, and nobody else does until the lock is given back.
fn alone(base: &Path, turn: &mut Turn) -> Result<(File, Option<Flock<File>>), Trouble> {
    loop {
        let (below, held) = turn::open(base)
            .map_err(|error| Trouble::because(format!("cannot open {}", base.shown()), error))?;
        // Somebody with another directory for sockets may have mounted since that was looked at.
        checks::base(base, turn)?;
        if plain::is_at(&below, base) {
            return Ok((below, held));
        }
    }
}

/// Has a worker open the store, and mounts.
pub(super) fn begin(
    order: &Order,
    open: &Open,
    signals: &UnixStream,
    turn: &mut Turn,
) -> Result<Parts, Trouble> {
    let (below, held) = alone(&order.base, turn)?;
    let relay = Relay::new().map_err(failed)?;
    relay.set_supervisor(std::process::id());
    let program = Program::own().map_err(failed)?;
    let with = [below.as_fd(), relay.as_fd()];
    let first = ToWorker::Open(open.clone());
    let mut worker =
        Worker::start(&program, &order.base, &relay, &first, &with, None).map_err(failed)?;
    let lock = opened(&mut worker, signals)?;
    if !open.foreground {
        logging::redirect_for(&order.store, false, order.read_only)
            .map_err(|error| Trouble::because("cannot write the log", error))?;
    }
    let estate = match mount(order, lock) {
        Ok(estate) => estate,
        Err(trouble) => {
            worker.dismiss();
            return Err(trouble);
        }
    };
    drop(held);
    Ok(Parts {
        relay,
        below,
        program,
        estate,
        worker,
    })
}

/// Goes on with a mount whose supervisor died: with another worker, as after the death of one, when that of the dead
/// supervisor can write nothing any more.
pub(super) fn take_over(order: &Order, open: &Open, kept: Kept) -> Result<Parts, Trouble> {
    let relay = Relay::inherit(kept.relay).map_err(failed)?;
    // First, for a second `llfs mount` takes a mount for dead whose socket's process is.
    let listener = Listener::inherit(kept.listener, &locate::socket_path(&order.base))
        .map_err(|error| Trouble::new(error.to_string()))?;
    let before = relay.worker();
    if !crew::outlive(before, &order.base, &relay, BURIAL).map_err(failed)? {
        let what = format!("the worker {before} of the supervisor before this one does not end");
        return Err(Trouble::new(what));
    }
    relay.set_supervisor(std::process::id());
    relay.clear();
    let estate = Estate {
        greeting: kept.greeting,
        device: kept.device,
        listener,
        lock: kept.lock,
    };
    let program = Program::own().map_err(failed)?;
    let with = [kept.below.as_fd(), relay.as_fd()];
    let next = ToWorker::Open(open.clone());
    let lock = Some(estate.lock.as_fd());
    let worker =
        Worker::start(&program, &order.base, &relay, &next, &with, lock).map_err(failed)?;
    tracing::info!("going on with the mount of a supervisor that died");
    Ok(Parts {
        relay,
        below: kept.below,
        program,
        estate,
        worker,
    })
}

/// Waits until the first worker has opened the store; its lock.
fn opened(worker: &mut Worker, signals: &UnixStream) -> Result<OwnedFd, Trouble> {
    loop {
        let mut fds = [
            PollFd::new(worker.line.fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            done => done.map_err(failed)?,
        };
        let said = fds[0].any().unwrap_or(false);
        if said {
            return match worker.line.receive::<Report>().map_err(failed)? {
                Some((Report::Opened, with)) => {
                    let lock = with.into_iter().next();
                    lock.ok_or_else(|| Trouble::new("the worker did not lock the store"))
                }
                Some((Report::Failed(trouble), _)) => Err(trouble),
                other => {
                    worker.kill();
                    Err(Trouble::new(match other {
                        None => "the worker died before it had opened the store",
                        Some(_) => "the worker is not understood",
                    }))
                }
            };
        }
        if stop::heard(signals).iter().any(|s| *s != stop::UPGRADE) {
            worker.kill();
            return Err(Trouble::new("interrupted"));
        }
    }
}

/// Binds the control socket and mounts.
fn mount(order: &Order, lock: OwnedFd) -> Result<Estate, Trouble> {
    let base = &order.base;
    locate::create_runtime_dir().map_err(|error| Trouble::new(error.to_string()))?;
    let listener = Listener::bind(&locate::socket_path(base))
        .map_err(|error| Trouble::new(error.to_string()))?;
    let device = fuse::mount(base, order.read_only)?;
    match Greeting::receive(&device) {
        Ok(greeting) => Ok(Estate {
            greeting,
            device,
            listener,
            lock,
        }),
        Err(error) => {
            detach(base);
            Err(Trouble::because("the FUSE session did not begin", error))
        }
    }
}
