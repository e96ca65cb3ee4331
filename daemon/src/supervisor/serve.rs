//! The supervisor: from the order to mount to the clean end, over any number of workers.
//!
//! It has what must outlive a worker: the mounted device, the base's directory, the store's lock, the listening
//! control socket, the kernel's first message, and the memory that workers share. It waits for its workers' words and
//! deaths and does nothing that could wait for the mount.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llctl::escape::Shown;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::begin::{self, Estate, Parts};
use super::crew::{self, Death, Program, Worker};
use super::deaths::Deaths;
use super::ending::{Ending, Step, detach};
use super::handoff::Mounted;
use super::kept::{self, Keep, Kept};
use super::notify::Manager;
use super::stop::{self, Reason};
use super::trouble::Trouble;
use super::turn::Turn;
use super::wire::{Open, Order as ToWorker, Report, Serve};
use super::{checks, logging, process};
use crate::fuse;
use crate::relay::{Asked, Relay};

/// How long programs that use the mount may go on after a signal has ended it, before they lose it.
const GRACE: Duration = Duration::from_secs(10);

/// How often a dying worker is looked at.
const WATCH: Duration = Duration::from_millis(1);

/// How often, and how long after the last time, a worker is tried to be started.
const TRIES: u32 = 100;
const SCARCE: Duration = Duration::from_millis(100);

/// What to mount. Both paths are absolute and have no symbolic links.
pub(super) struct Order {
    pub(super) base: PathBuf,
    pub(super) store: PathBuf,
    pub(super) fresh: bool,
    pub(super) read_only: bool,
    pub(super) max_store: Option<u64>,
}

/// Mounts, calls `ready` when the mount is usable, and serves until it has ended.
///
/// The order of the steps: the base is opened before it is hidden by the mount; the control socket is there before
/// the mount is, so that a mount without one is known to have lost its daemon.
pub(super) fn serve(
    order: &Order,
    foreground: bool,
    ready: &mut dyn FnMut(&Mounted) -> io::Result<()>,
) -> Result<(), Trouble> {
    process::prepare_daemon();
    checks::apart(&order.base, &order.store)?;
    fuse::mount::check()?;
    // What the environment says of a service is not meant for a daemon in the background, which is none.
    let (manager, kept) = match foreground {
        true => (Manager::find(), Kept::take()),
        false => (Manager::none(), None),
    };
    let mut turn = Turn::take(&order.base)?;
    let kept = kept.filter(|kept| kept.is_mounted_at(&order.base) && !order.fresh);
    let revived = match &kept {
        Some(_) => true,
        None => {
            kept::forget(&manager);
            checks::base(&order.base, &mut turn)?
        }
    };
    let signals = stop::listen(foreground)
        .map_err(|error| Trouble::because("cannot listen to signals", error))?;
    if !order.read_only {
        begin::make_parent(&order.store)?;
    }
    let open = Open {
        base: order.base.as_path().into(),
        store: order.store.as_path().into(),
        fresh: order.fresh,
        foreground,
        revived,
        supervisor: std::process::id(),
        read_only: order.read_only,
        max_store: order.max_store,
    };
    let taken = kept.and_then(|kept| {
        let taken = begin::take_over(order, &open, kept);
        taken
            .inspect_err(|trouble| tracing::error!("the mount is made anew: {}", trouble.message))
            .ok()
    });
    let first = taken.is_none();
    let parts = match taken {
        Some(parts) => parts,
        None if revived => {
            // What there is of the old one is of no use, such as memory of another version of llfs.
            kept::forget(&manager);
            checks::base(&order.base, &mut turn)?;
            begin::begin(order, &open, &signals, &mut turn)?
        }
        None => begin::begin(order, &open, &signals, &mut turn)?,
    };
    // Whoever has waited for it finds the mount.
    drop(turn);
    let mut supervisor = Supervisor::of(order, open, signals, manager, parts)?;
    if let Err(error) = supervisor.order_to_serve(&supervisor.worker, first, &[]) {
        tracing::warn!(%error, "the worker does not listen");
    }
    let ended = supervisor.run(&mut || {
        tracing::info!(
            "mounted {} with the store {}",
            order.base.shown(),
            order.store.shown()
        );
        if let Err(error) = ready(&Mounted::new(
            &order.base,
            &order.store,
            revived,
            order.read_only,
        )) {
            tracing::warn!(%error, "whoever started the daemon does not listen");
        }
    });
    if ended.is_ok() {
        tracing::info!("unmounted {}", order.base.shown());
    }
    ended
}

pub(super) fn failed(error: impl std::fmt::Display) -> Trouble {
    Trouble::because("cannot serve the mount", error)
}

/// How far an end is.
enum Ends {
    /// Nobody wants one.
    No,
    /// It is unmounted.
    Unmounting(Ending, Reason),
    /// Programs still use the detached mount, after that time no more.
    Detached(Option<Instant>),
    /// The mount is gone, or the worker was told to quit.
    Soon,
}

struct Supervisor {
    base: PathBuf,
    open: Open,
    relay: Arc<Relay>,
    below: File,
    program: Program,
    /// Where an upgrade comes from.
    path: PathBuf,
    /// What to go back to if that does not serve.
    proven: Option<Program>,
    signals: UnixStream,
    manager: Manager,
    estate: Estate,
    worker: Worker,
    /// Workers of which threads are left.
    remains: Vec<Worker>,
    deaths: Deaths,
    /// What the last worker said of its end.
    end: Option<Result<(), Trouble>>,
    /// Why a worker could not begin.
    last: Option<Trouble>,
    ends: Ends,
    /// The worker has to flush as soon as it serves.
    flush: bool,
    /// When the last worker was found dead.
    died: Option<Instant>,
    announced: bool,
    upgrading: bool,
    /// An upgrade was asked for while a worker began, and is made when that serves.
    upgrades: bool,
}

impl Supervisor {
    fn of(
        order: &Order,
        open: Open,
        signals: UnixStream,
        manager: Manager,
        parts: Parts,
    ) -> Result<Supervisor, Trouble> {
        Ok(Supervisor {
            base: order.base.clone(),
            open: Open {
                fresh: false,
                revived: false,
                ..open
            },
            relay: parts.relay,
            below: parts.below,
            program: parts.program,
            path: crew::own_path().map_err(failed)?,
            proven: None,
            signals,
            manager,
            estate: parts.estate,
            worker: parts.worker,
            remains: Vec::new(),
            deaths: Deaths::default(),
            end: None,
            last: None,
            ends: Ends::No,
            flush: false,
            died: None,
            announced: false,
            upgrading: false,
            upgrades: false,
        })
    }

    fn order_to_serve(&self, worker: &Worker, first: bool, lethal: &[Asked]) -> io::Result<()> {
        let serve = Serve {
            greeting: self.estate.greeting.0.clone(),
            first,
            lethal: lethal.iter().map(|asked| asked.unique).collect(),
        };
        let with = [self.estate.device.as_fd(), self.estate.listener.as_fd()];
        worker.line.send(&ToWorker::Serve(serve), &with)
    }

    /// Until the end.
    fn run(&mut self, ready: &mut dyn FnMut()) -> Result<(), Trouble> {
        let ended = loop {
            if let Err(trouble) = self.wait(ready) {
                break Err(trouble);
            }
            if let Some(end) = self.bury()? {
                break end;
            }
        };
        self.manager.stopping();
        if let Err(trouble) = &ended {
            tracing::error!("{}", trouble.message);
            // What is left of a worker may wait for an answer that nobody gives any more.
            if !self.remains.is_empty()
                && let Err(error) = fuse::abort(&self.base)
            {
                tracing::warn!(%error, "the session was not ended");
            }
            detach(&self.base);
        }
        kept::forget(&self.manager);
        ended
    }

    /// Waits for something to happen, and sees to it.
    fn wait(&mut self, ready: &mut dyn FnMut()) -> Result<(), Trouble> {
        let (mut said, mut died, mut signalled, mut stepped) = (false, false, false, false);
        {
            let mut fds = vec![(
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                &mut signalled,
            )];
            if !self.worker.silent {
                fds.push((
                    PollFd::new(self.worker.line.fd(), PollFlags::POLLIN),
                    &mut said,
                ));
            }
            if !self.worker.dying {
                fds.push((
                    PollFd::new(self.worker.alive(), PollFlags::POLLIN),
                    &mut died,
                ));
            }
            if let Ends::Unmounting(ending, _) = &self.ends {
                fds.push((PollFd::new(ending.as_fd(), PollFlags::POLLIN), &mut stepped));
            }
            let (mut polled, flags): (Vec<PollFd<'_>>, Vec<&mut bool>) = fds.into_iter().unzip();
            match poll(&mut polled, self.timeout()) {
                Ok(_) => {}
                Err(Errno::EINTR) => return Ok(()),
                Err(errno) => return Err(failed(errno)),
            }
            for (fd, flag) in polled.iter().zip(flags) {
                *flag = fd.any().unwrap_or(false);
            }
        }
        if !self.open.foreground
            && let Err(error) = logging::follow(self.open.store.as_path())
        {
            tracing::debug!(%error, "the log goes on under its old name");
        }
        self.worker.dying |= died;
        if said {
            self.hear(ready)?;
        }
        if stepped {
            self.step();
        }
        if signalled {
            for signal in stop::heard(&self.signals) {
                match signal {
                    stop::UPGRADE => self.upgrade(),
                    signal => self.stop(Reason::Signal(signal)),
                }
            }
        }
        if let Ends::Detached(Some(alarm)) = self.ends
            && Instant::now() >= alarm
        {
            tracing::warn!("programs still used the mount; they have lost it");
            self.quit();
        }
        self.remains.retain_mut(|worker| !worker.bury());
        Ok(())
    }

    fn timeout(&self) -> PollTimeout {
        let mut wait = None;
        if self.worker.dying {
            wait = Some(WATCH);
        } else if !self.remains.is_empty() {
            wait = Some(WATCH * 100);
        }
        if let Ends::Detached(Some(alarm)) = self.ends {
            let left = alarm.saturating_duration_since(Instant::now()) + WATCH;
            wait = Some(wait.map_or(left, |w| w.min(left)));
        }
        wait.map_or(PollTimeout::NONE, |wait| {
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        })
    }

    /// The worker has something to say.
    fn hear(&mut self, ready: &mut dyn FnMut()) -> Result<(), Trouble> {
        let heard = self.worker.line.receive::<Report>();
        match heard.map_err(failed)? {
            None => self.worker.silent = true,
            Some((Report::Opened, _)) => {}
            Some((Report::Serving, _)) => self.serves(ready),
            Some((Report::Failed(trouble), _)) => self.end = Some(Err(trouble)),
            Some((Report::Ended(trouble), _)) => {
                self.end = Some(trouble.map_or(Ok(()), Err));
            }
            Some((Report::Stop, _)) => self.stop(Reason::Asked),
            Some((Report::Flushed, _)) => {
                self.flush = false;
                if let Ends::Unmounting(ending, _) = &mut self.ends {
                    ending.flushed();
                }
            }
        }
        Ok(())
    }

    fn serves(&mut self, ready: &mut dyn FnMut()) {
        self.worker.serving = true;
        self.deaths.serves();
        (self.proven, self.last) = (None, None);
        if !self.announced {
            self.announced = true;
            fuse::readahead::raise(&self.base);
            self.keep();
            self.manager.ready(self.base.clone());
            ready();
        }
        if let Some(died) = self.died.take() {
            let took = died.elapsed();
            tracing::info!(?took, pid = self.worker.pid(), "another worker goes on");
        }
        if self.flush {
            self.tell(&ToWorker::Flush);
        }
        // The worker before this one may have died with that order.
        if matches!(self.ends, Ends::Soon) {
            self.tell(&ToWorker::Quit);
        }
        if std::mem::take(&mut self.upgrades) {
            self.upgrade();
        }
    }

    /// Gives the service manager what a next supervisor needs.
    fn keep(&self) {
        if !self.estate.greeting.can_resend() {
            return;
        }
        let keep = Keep {
            device: self.estate.device.as_fd(),
            below: self.below.as_fd(),
            relay: self.relay.as_fd(),
            lock: self.estate.lock.as_fd(),
            listener: self.estate.listener.as_fd(),
            greeting: &self.estate.greeting,
        };
        keep.hand_over(&self.manager);
    }

    fn tell(&self, order: &ToWorker) {
        if let Err(error) = self.worker.line.send(order, &[]) {
            tracing::debug!(%error, "the worker does not listen");
        }
    }

    /// Somebody wants the end.
    fn stop(&mut self, reason: Reason) {
        match &self.ends {
            Ends::No => {}
            // A second signal while programs still use the detached mount: they had their warning.
            Ends::Detached(_) if reason != Reason::Asked => return self.quit(),
            _ => return,
        }
        tracing::info!(?reason, "unmounting {}", self.base.shown());
        self.manager.stopping();
        match Ending::begin(&self.base) {
            Ok(ending) => self.ends = Ends::Unmounting(ending, reason),
            Err(error) => tracing::error!(%error, "no thread to unmount"),
        }
    }

    fn step(&mut self) {
        let Ends::Unmounting(ending, reason) = &mut self.ends else {
            return;
        };
        match ending.step() {
            Some(Step::Flush) => {
                self.flush = true;
                if self.worker.serving {
                    self.tell(&ToWorker::Flush);
                }
            }
            Some(Step::InUse) => {
                let alarm = (*reason != Reason::Asked).then(|| Instant::now() + GRACE);
                self.ends = Ends::Detached(alarm);
            }
            // The session learns it by itself.
            Some(Step::Gone) | None => self.ends = Ends::Soon,
        }
    }

    fn quit(&mut self) {
        self.ends = Ends::Soon;
        self.tell(&ToWorker::Quit);
    }

    /// Puts a worker of the binary on disk in the place of this one.
    fn upgrade(&mut self) {
        if self.upgrading || !self.worker.serving {
            self.upgrades = true;
            return;
        }
        match Program::on_disk(&self.path) {
            Ok(program) => {
                tracing::info!("exchanging the worker for {}", self.path.shown());
                self.proven = Some(std::mem::replace(&mut self.program, program));
                self.upgrading = true;
                self.tell(&ToWorker::Leave);
            }
            Err(error) => tracing::error!(%error, "no upgrade: {}", self.path.shown()),
        }
    }

    /// Sees to a worker that has died: the end, or the next one.
    fn bury(&mut self) -> Result<Option<Result<(), Trouble>>, Trouble> {
        if !self.worker.dying {
            return Ok(None);
        }
        // Its last words first.
        if !self.worker.silent && self.worker.line.is_readable() {
            return Ok(None);
        }
        let Some(death) = self.worker.death(&self.relay).map_err(failed)? else {
            return Ok(None);
        };
        match self.end.take() {
            Some(Err(trouble)) if self.proven.is_some() => {
                tracing::error!("the new binary does not serve: {}", trouble.message);
            }
            Some(Err(trouble)) if self.announced && !self.worker.serving => {
                // It could not begin. The next may.
                tracing::error!("a worker could not begin: {}", trouble.message);
                self.last = Some(trouble);
            }
            Some(end) => return Ok(Some(end)),
            None => {}
        }
        let leaves = std::mem::take(&mut self.upgrading);
        if !leaves {
            tracing::error!(pid = self.worker.pid(), %death, "the worker died");
        }
        self.died = Some(Instant::now());
        let lethal = match leaves {
            true => Vec::new(),
            false => self.judge(death),
        };
        if self.deaths.hopeless() {
            let why = || Trouble::new("the daemon's workers die before they serve");
            return Ok(Some(Err(self.last.take().unwrap_or_else(why))));
        }
        if !self.estate.greeting.can_resend() {
            let trouble =
                Trouble::new("the worker died, and this kernel cannot go on with another");
            return Ok(Some(Err(trouble.hint("Linux 6.9 and newer can"))));
        }
        std::thread::sleep(self.deaths.pause());
        self.next(&lethal).map_err(failed)?;
        Ok(None)
    }

    /// The requests that are to blame.
    fn judge(&mut self, death: Death) -> Vec<Asked> {
        let served = self.worker.serving;
        let lethal = self.deaths.count(death, served, self.relay.asked());
        for asked in &lethal {
            tracing::error!(op = ?asked.op, ino = asked.ino, pid = asked.pid, "this request kills workers, it is answered EIO");
        }
        if !served && let Some(proven) = self.proven.take() {
            tracing::error!("going back to the binary before the upgrade");
            self.program = proven;
        }
        lethal
    }

    fn next(&mut self, lethal: &[Asked]) -> io::Result<()> {
        self.relay.clear();
        let order = ToWorker::Open(self.open.clone());
        let with = [self.below.as_fd(), self.relay.as_fd()];
        let lock = Some(self.estate.lock.as_fd());
        let mut tries = 0;
        let worker = loop {
            match Worker::start(&self.program, &self.base, &self.relay, &order, &with, lock) {
                // Processes or memory may be scarce for a moment.
                Err(error) if tries < TRIES => {
                    tracing::error!(%error, "no worker can be started");
                    tries += 1;
                    std::thread::sleep(SCARCE);
                }
                done => break done?,
            }
        };
        // One that has died already is noticed like any other.
        if let Err(error) = self.order_to_serve(&worker, false, lethal) {
            tracing::debug!(%error, "the worker does not listen");
        }
        let mut dead = std::mem::replace(&mut self.worker, worker);
        if !dead.bury() {
            self.remains.push(dead);
        }
        Ok(())
    }
}
