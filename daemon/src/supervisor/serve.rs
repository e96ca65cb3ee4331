//! The daemon: from the order to mount to the clean end.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, after, never, select};
use llctl::{exit, locate};

use super::checks::{self, Health, health};
use super::handoff::Mounted;
use super::notify::Manager;
use super::stop::{self, Reason};
use super::trouble::Trouble;
use super::{logging, process};
use crate::control::{Listener, Server};
use crate::engine::api::Kernel;
use crate::engine::service::Host;
use crate::engine::{Engine, OpenOptions};
use crate::fuse::{self, Session};

/// How long programs that use the mount may go on after a signal has ended it, before they lose it.
const GRACE: Duration = Duration::from_secs(10);

/// How long requests on the control socket may take to end.
const CONTROL_GRACE: Duration = Duration::from_secs(5);

/// What to mount. Both paths are absolute and have no symbolic links.
pub(super) struct Order {
    pub(super) base: PathBuf,
    pub(super) store: PathBuf,
    pub(super) fresh: bool,
}

/// Mounts, calls `ready` when the mount is usable, and serves until it has ended.
///
/// The order of the steps: the engine opens the base before it is hidden by the mount; the control socket is there before
/// the mount is, so that a mount without one is known to have lost its daemon.
pub(super) fn serve(
    order: &Order,
    foreground: bool,
    ready: &mut dyn FnMut(&Mounted) -> io::Result<()>,
) -> Result<(), Trouble> {
    process::prepare_daemon();
    checks::apart(&order.base, &order.store)?;
    fuse::mount::check()?;
    let revived = checks::base(&order.base)?;
    let (stop, reasons) = stop::listen(foreground)
        .map_err(|error| Trouble::because("cannot listen to signals", error))?;

    let engine = open(order)?;
    if !foreground {
        logging::redirect(&order.store)
            .map_err(|error| Trouble::because("cannot write the log", error))?;
    }
    let listener = bind_control(&order.base)?;
    let started = Mount::start(&engine, &order.base).and_then(|mount| {
        let ask = Box::new(move || stop.ask());
        let host = Host::new(engine.clone(), order.base.clone(), ask);
        match Server::start(listener, Arc::new(host)) {
            Ok(control) => Ok((mount, control)),
            Err(error) => {
                mount.give_up();
                Err(Trouble::because("cannot start the control server", error))
            }
        }
    });
    let (mount, control) = match started {
        Ok(both) => both,
        Err(trouble) => {
            close(&engine)?;
            return Err(trouble);
        }
    };
    tracing::info!(
        "mounted {} with the store {}",
        order.base.display(),
        order.store.display()
    );
    let manager = Manager::find();
    manager.ready(order.base.clone());
    if let Err(error) = ready(&Mounted::new(&order.base, &order.store, revived)) {
        tracing::warn!(%error, "whoever started the daemon does not listen");
    }

    let ended = mount.wait(&reasons, &manager);
    manager.stopping();
    if !control.stop(CONTROL_GRACE) {
        tracing::warn!("a request on the control socket did not end");
    }
    close(&engine)?;
    tracing::info!("unmounted {}", order.base.display());
    ended
}

fn open(order: &Order) -> Result<Arc<Engine>, Trouble> {
    if let Some(parent) = order.store.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|error| {
                Trouble::because(format!("cannot make {}", parent.display()), error)
            })?;
    }
    let options = OpenOptions {
        base: order.base.clone(),
        store: order.store.clone(),
        fresh: order.fresh,
    };
    Ok(Engine::open(&options)?)
}

fn close(engine: &Engine) -> Result<(), Trouble> {
    engine.close().map_err(|error| {
        tracing::error!(%error, "the store could not be closed cleanly");
        Trouble::because("the store could not be closed cleanly", error)
    })
}

fn bind_control(base: &Path) -> Result<Listener, Trouble> {
    locate::create_runtime_dir().map_err(|error| Trouble::new(error.to_string()))?;
    Listener::bind(&locate::socket_path(base)).map_err(|error| Trouble::new(error.to_string()))
}

/// A mount that is served.
struct Mount {
    point: PathBuf,
    kernel: Box<dyn Kernel>,
    end: Receiver<io::Result<()>>,
}

impl Mount {
    fn start(engine: &Arc<Engine>, point: &Path) -> Result<Self, Trouble> {
        let device = fuse::mount(point)?;
        let begun =
            Session::begin(device, engine.clone(), point.to_path_buf()).and_then(|session| {
                let kernel = session.kernel();
                engine.attach(session.kernel());
                Ok(Self {
                    point: point.to_path_buf(),
                    kernel,
                    end: session.run()?,
                })
            });
        let usable = begun
            .map_err(|error| Trouble::because("the FUSE session did not begin", error))
            .and_then(|mount| match health(point) {
                Health::Alive => {
                    fuse::readahead::raise(point);
                    Ok(mount)
                }
                _ => Err(Trouble::new(format!(
                    "the mount at {} does not answer",
                    point.display()
                ))),
            });
        if usable.is_err() {
            detach(point);
        }
        usable
    }

    fn give_up(self) {
        detach(&self.point);
    }

    /// Serves until somebody has unmounted, or a reason to stop has come and the mount is gone.
    fn wait(self, reasons: &Receiver<Reason>, manager: &Manager) -> Result<(), Trouble> {
        let mut alarm = never();
        let mut signalled = false;
        loop {
            select! {
                recv(self.end) -> end => return self.ended(end.unwrap_or(Ok(()))),
                recv(reasons) -> reason => match reason {
                    // A second signal while programs still use the detached mount: they had their warning.
                    Ok(Reason::Signal(_)) if signalled => return Ok(()),
                    Ok(reason) => {
                        manager.stopping();
                        if self.stop(reason) == Left::InUse && reason != Reason::Asked {
                            signalled = true;
                            alarm = after(GRACE);
                        }
                    }
                    Err(_) => tracing::error!("nobody listens to signals any more"),
                },
                recv(alarm) -> _ => {
                    tracing::warn!("programs still used the mount; they have lost it");
                    return Ok(());
                }
            }
        }
    }

    /// Unmounts; a mount in use is detached, after everything was taken in that the kernel still held back.
    fn stop(&self, reason: Reason) -> Left {
        tracing::info!(?reason, "unmounting {}", self.point.display());
        let error = match fuse::unmount(&self.point) {
            Ok(()) | Err(fuse::UnmountError::NotMounted(_)) => return Left::Nothing,
            Err(error) => error,
        };
        if let fuse::UnmountError::Busy { users, .. } = &error {
            for user in users {
                tracing::warn!("still in use: {user}");
            }
        }
        tracing::warn!(%error, "detaching it");
        if let Err(error) = self.kernel.flush() {
            tracing::error!(%error, "the kernel did not hand over what mappings hold");
        }
        detach(&self.point);
        Left::InUse
    }

    fn ended(&self, end: io::Result<()>) -> Result<(), Trouble> {
        let Err(error) = end else { return Ok(()) };
        tracing::error!(%error, "the FUSE session broke");
        detach(&self.point);
        Err(Trouble::because("the FUSE session broke", error).code(exit::FAILED))
    }
}

fn detach(point: &Path) {
    if let Err(error) = fuse::detach(point) {
        tracing::error!(%error, "a mount that nobody serves stays");
    }
}

/// What an attempt to unmount leaves.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    InUse,
}
