//! The process that has the engine and answers the kernel. It may die at any moment: its supervisor starts the next one,
//! which goes on where this one was (see [`crate::relay`]).
//!
//! The supervisor's socket is its standard input. Orders come over it one after the other: open the store, serve the
//! mount, end.

mod alive;
mod allocator;
mod trouble;

pub use allocator::Allocator;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, select};
use llctl::escape::Shown;
use llctl::protocol::{Event, Happening};
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::base::Base;
use crate::control::{Listener, Server};
use crate::engine::service::{Host, Keeper};
use crate::engine::{Engine, OpenError, OpenOptions, Terms};
use crate::fuse::{Device, Greeting, Session};
use crate::relay::Relay;
use crate::supervisor::logging;
use crate::supervisor::trouble::Trouble;
use crate::supervisor::wire::{Line, Open, Order, Report, Serve};

/// How long requests on the control socket may take to end.
const CONTROL_GRACE: Duration = Duration::from_secs(5);

/// How long a daemon that was killed may keep the store.
const LOCK_GRACE: Duration = Duration::from_secs(10);

/// Serves until the mount has ended, or the supervisor has.
pub(crate) fn run() -> Result<(), Trouble> {
    allocator::one_heap();
    let begun = || -> io::Result<Line> {
        // The supervisor ends us, as long as it lives; what a terminal sends to all is for it.
        for stop in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // SAFETY: ignoring a signal runs no code of ours.
            unsafe { signal(stop, SigHandler::SigIgn) }?;
        }
        // SAFETY: sets a property of this process and touches no memory.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // A core dump waits for all threads, and one that waits for the kernel may wait for the next worker.
        // SAFETY: as above.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) })?;
        // It was started by the number of a descriptor, which is no name to show.
        // SAFETY: the name is a string that ends with a zero.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_NAME, c"llfs".as_ptr()) })?;
        take_stdin()
    };
    let line = begun().map_err(|error| Trouble::because("the worker does not begin", error))?;
    logging::start();
    let line = Arc::new(line);
    if let Err(trouble) = serve(&line) {
        report(&line, &Report::Failed(trouble));
    }
    Ok(())
}

/// The socket, out of the way of whoever uses standard input.
fn take_stdin() -> io::Result<Line> {
    let stdin = io::stdin();
    let socket = stdin.as_fd().try_clone_to_owned()?;
    let null = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(null)?;
    Ok(Line::over(socket))
}

/// What the supervisor does not hear it does not need: it is dead, and so will be this process.
fn report(line: &Line, report: &Report) {
    if let Err(error) = line.send(report, &[]) {
        tracing::debug!(%error, "the supervisor does not listen");
    }
}

/// An order of a form that only a supervisor of another version can send.
fn unexpected(what: &str) -> Trouble {
    Trouble::new(format!("the supervisor did not say {what}"))
}

fn receive(line: &Line) -> Result<Option<(Order, Vec<OwnedFd>)>, Trouble> {
    let received = line.receive::<Order>();
    received.map_err(|error| Trouble::because("the supervisor is not understood", error))
}

fn serve(line: &Arc<Line>) -> Result<(), Trouble> {
    let Some((Order::Open(order), with)) = receive(line)? else {
        return Err(unexpected("what to open"));
    };
    // Before this process asked for its signal it may have died.
    if std::os::unix::process::parent_id() != order.supervisor {
        return Ok(());
    }
    let mut with = with.into_iter();
    let (Some(base), Some(relay), Some(pipe)) = (with.next(), with.next(), with.next()) else {
        return Err(unexpected("with what to begin"));
    };
    alive::show(pipe).map_err(|error| Trouble::because("cannot show that I live", error))?;
    let opened = open(&order, base, relay, with.next())?;
    let Some((engine, lock)) = opened else {
        return Ok(());
    };
    if let Err(error) = line.send(&Report::Opened, &[lock.as_fd()]) {
        return Err(Trouble::because("the supervisor does not listen", error));
    }
    drop(lock);
    if !order.foreground {
        logging::keep_short(order.store.as_path(), order.max_store);
    }
    let (how, mut with) = match receive(line)? {
        Some((Order::Serve(how), with)) => (how, with.into_iter()),
        // It could not mount.
        _ => return close(&engine),
    };
    let (Some(device), Some(listener)) = (with.next(), with.next()) else {
        return Err(unexpected("what to serve"));
    };
    let point = order.base.as_path().to_path_buf();
    let mount = match Mount::start(&engine, &point, &how, device, listener, line) {
        Ok(mount) => mount,
        Err(trouble) => {
            close(&engine)?;
            return Err(trouble);
        }
    };
    report(line, &Report::Serving);
    if let Err(error) = engine.compute_digests() {
        tracing::warn!(%error, "no thread is left for the checksums of states");
    }
    if !how.first {
        keep_short(&engine).map_err(|error| Trouble::because("no thread is left", error))?;
    }
    let ended = mount.wait(&engine, line);
    // Somebody who held the engine may still be at work; nothing of that is acknowledged.
    report(line, &Report::Ended(ended.err()));
    std::process::exit(0);
}

fn open(
    order: &Open,
    base: OwnedFd,
    relay: OwnedFd,
    lock: Option<OwnedFd>,
) -> Result<Option<(Arc<Engine>, OwnedFd)>, Trouble> {
    let path = order.base.as_path().to_path_buf();
    let options = OpenOptions {
        base: path.clone(),
        store: order.store.as_path().to_path_buf(),
        fresh: order.fresh,
    };
    let terms = Terms {
        read_only: order.read_only,
        any_base: false,
        moved: false,
        max_store: order.max_store,
    };
    let first = lock.is_none();
    let relay = Relay::inherit(relay)
        .map_err(|error| Trouble::because("cannot take over from another worker", error))?;
    let begun = Instant::now();
    let again = |what: std::os::fd::BorrowedFd<'_>| what.try_clone_to_owned();
    let (engine, lock) = loop {
        let failed = |error| Trouble::because("no descriptors are left", error);
        let base = Base::from_fd(again(base.as_fd()).map_err(failed)?, &path)
            .map_err(|error| Trouble::from(OpenError::from(error)))?;
        let lock = match &lock {
            Some(lock) => Some(again(lock.as_fd()).map_err(failed)?),
            None => None,
        };
        match Engine::open_as(&options, &terms, base, relay.clone(), lock) {
            Err(OpenError::Store {
                error: crate::store::OpenError::Locked { .. },
                ..
            }) if order.revived && begun.elapsed() < LOCK_GRACE => {
                thread::sleep(Duration::from_millis(5));
            }
            answer => break answer?,
        }
    };
    relay.count_worker();
    if first && !order.foreground {
        logging::redirect_for(&options.store, true, order.read_only)
            .map_err(|error| Trouble::because("cannot write the log", error))?;
    }
    Ok(Some((engine, lock)))
}

fn close(engine: &Engine) -> Result<(), Trouble> {
    engine.close().map_err(|error| {
        tracing::error!(%error, "the store could not be closed cleanly");
        Trouble::because("the store could not be closed cleanly", error)
    })
}

/// A mount that is served.
struct Mount {
    end: Receiver<io::Result<()>>,
    host: Arc<Host>,
    control: Server,
    /// None: nothing comes by itself.
    keeper: Option<Keeper>,
}

impl Mount {
    fn start(
        engine: &Arc<Engine>,
        point: &std::path::Path,
        how: &Serve,
        device: OwnedFd,
        listener: OwnedFd,
        line: &Arc<Line>,
    ) -> Result<Self, Trouble> {
        let failed = |error| Trouble::because("the FUSE session did not begin", error);
        let device = Device::new(device);
        let greeting = Greeting(how.greeting.clone());
        let session = Session::begin(
            device.clone(),
            &greeting,
            how.first,
            engine.clone(),
            point.to_path_buf(),
        )
        .map_err(failed)?;
        engine.attach(session.kernel());
        if !how.first {
            go_on(&device, &how.lethal).map_err(failed)?;
        }
        let kernel = session.kernel();
        let end = session.run().map_err(failed)?;
        // What this request waits for was asked before a client may ask for anything.
        let answers = kernel.answers();
        engine.catch_up();
        if let Err(error) = answers
            && end.is_empty()
            && how.first
        {
            let what = format!("the mount at {} does not answer", point.shown());
            return Err(Trouble::because(what, error));
        }
        if !how.first {
            engine.announce(Event {
                restarts: Some(engine.relay().workers().saturating_sub(1)),
                ..Event::own(Happening::Restarted)
            });
        }
        let path = llctl::locate::socket_path(point);
        let listener =
            Listener::adopt(listener, &path).map_err(|error| Trouble::new(error.to_string()))?;
        let to = line.clone();
        let ask = Box::new(move || report(&to, &Report::Stop));
        let host = Arc::new(Host::new(engine.clone(), point.to_path_buf(), ask));
        let keeper = Keeper::start(&host)
            .map_err(|error| Trouble::because("no thread for automatic snapshots", error))?;
        let control = Server::start(listener, host.clone())
            .map_err(|error| Trouble::because("cannot start the control server", error))?;
        Ok(Self {
            end,
            host,
            control,
            keeper,
        })
    }

    /// Serves until the mount is gone or the supervisor wants an end.
    fn wait(self, engine: &Arc<Engine>, line: &Arc<Line>) -> Result<(), Trouble> {
        let orders = listen(line)
            .map_err(|error| Trouble::because("no thread for the supervisor", error))?;
        let ended = loop {
            select! {
                recv(self.end) -> end => break end.unwrap_or(Ok(())),
                recv(orders) -> order => match order {
                    Ok(Order::Flush) => {
                        engine.flush_mappings();
                        report(line, &Report::Flushed);
                    }
                    Ok(Order::Leave) => {
                        engine.hand_over();
                        std::process::exit(0);
                    }
                    Ok(Order::Quit) => break Ok(()),
                    // The supervisor is dead.
                    _ => std::process::exit(1),
                },
            }
        };
        engine.announce(Event::own(Happening::Unmounting));
        if !self.control.stop(CONTROL_GRACE) {
            tracing::warn!("a request on the control socket did not end");
        }
        self.host.end_hooks();
        if let Some(keeper) = self.keeper {
            keeper.stop();
        }
        close(engine)?;
        ended.map_err(|error| Trouble::because("the FUSE session broke", error))
    }
}

/// Has the kernel ask again what the worker before this one left unanswered, but for what kills workers.
fn go_on(device: &Device, lethal: &[u64]) -> io::Result<()> {
    let gone = |error: io::Error| match error.raw_os_error() {
        // The mount has ended; the session will learn that by itself.
        Some(libc::ENODEV | libc::ENOTCONN | libc::ECONNABORTED | libc::EPERM) => Ok(()),
        _ => Err(error),
    };
    for unique in lethal {
        match device.refuse(*unique, Errno::EIO) {
            Ok(true) => tracing::error!(unique, "a request that kills workers was answered EIO"),
            Ok(false) => {}
            Err(error) => gone(error)?,
        }
    }
    device.resend().or_else(gone)
}

/// Writes an image if this worker had much to read when it began: the next one may begin soon.
fn keep_short(engine: &Arc<Engine>) -> io::Result<()> {
    let engine = engine.clone();
    thread::Builder::new()
        .name("llfs-image".to_owned())
        .spawn(move || {
            if let Err(error) = engine.image_if_many() {
                tracing::warn!(%error, "no image for the next worker");
            }
        })?;
    Ok(())
}

/// Orders as they come.
fn listen(line: &Arc<Line>) -> io::Result<Receiver<Order>> {
    let (sender, orders) = bounded(8);
    let line = line.clone();
    thread::Builder::new()
        .name("llfs-orders".to_owned())
        .spawn(move || {
            while let Ok(Some((order, _))) = line.receive::<Order>() {
                if sender.send(order).is_err() {
                    return;
                }
            }
        })?;
    Ok(orders)
}
