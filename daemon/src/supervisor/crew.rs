//! Starting a worker, and telling when it is dead.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::process::Watched;
use super::wire::{Line, Order};
use crate::relay::Relay;

/// The hidden command that a worker runs.
const WORK: &str = "work";

/// The file that workers run: whatever becomes of its name, they all run the same.
pub(super) struct Program(File);

impl Program {
    /// The one that this process runs.
    pub(super) fn own() -> io::Result<Program> {
        File::open("/proc/self/exe").map(Program)
    }

    /// What has the name now under which this process was started.
    pub(super) fn on_disk(path: &Path) -> io::Result<Program> {
        File::open(path).map(Program)
    }
}

/// Where the binary of this process is, or was.
pub(super) fn own_path() -> io::Result<PathBuf> {
    path_of(Path::new("/proc/self/exe"))
}

/// Where the binary of a process is, or was, of which `exe` is the link (proc_pid_exe(5)).
pub(super) fn path_of(exe: &Path) -> io::Result<PathBuf> {
    let path = fs::read_link(exe)?;
    match path.to_str().and_then(|p| p.strip_suffix(" (deleted)")) {
        Some(before) => Ok(before.into()),
        None => Ok(path),
    }
}

/// A worker.
pub(super) struct Worker {
    child: Child,
    pub(super) line: Line,
    /// Closed when it dies.
    alive: OwnedFd,
    /// It has told us so.
    pub(super) serving: bool,
    /// Nothing more will be said.
    pub(super) silent: bool,
    /// It was seen to be dying.
    pub(super) dying: bool,
}

/// How a worker died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// With this status.
    Buried(ExitStatus),
    /// It was killed, and all that is left of it waits for the kernel, which may wait for the next worker.
    Stuck,
}

impl Death {
    /// Whether it was done to it: by a person, or for want of memory.
    pub(super) fn by_kill(self) -> bool {
        match self {
            Death::Buried(status) => status.signal() == Some(libc::SIGKILL),
            Death::Stuck => true,
        }
    }
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Death::Buried(status) => status.fmt(f),
            Death::Stuck => f.write_str("killed while it told the kernel something"),
        }
    }
}

impl Worker {
    /// Starts one over `dir`, which only shows in lists of processes, and gives it its first order, with descriptors.
    pub(super) fn start(
        program: &Program,
        dir: &Path,
        relay: &Relay,
        order: &Order,
        with: &[BorrowedFd<'_>],
        lock: Option<BorrowedFd<'_>>,
    ) -> io::Result<Worker> {
        let (line, theirs) = Line::pair()?;
        let (alive, shown) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let child = Command::new(format!("/proc/self/fd/{}", program.0.as_raw_fd()))
            .arg0("llfs")
            .arg(WORK)
            .arg(dir)
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()?;
        let worker = Worker {
            child,
            line,
            alive,
            serving: false,
            silent: false,
            dying: false,
        };
        // Before it has anything to write with: should this process die, the next one has to wait until it is dead.
        relay.set_worker(worker.pid());
        let mut all = with.to_vec();
        all.push(shown.as_fd());
        all.extend(lock);
        // One that has died already is noticed like any other.
        if let Err(error) = worker.line.send(order, &all) {
            tracing::debug!(%error, "the worker does not listen");
        }
        Ok(worker)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn alive(&self) -> BorrowedFd<'_> {
        self.alive.as_fd()
    }

    /// Whether it is dead, so that nothing of it can write any more: it is buried, or each thread that is left of it is one
    /// of those that were telling the kernel something. Such a thread does nothing when it comes back.
    pub(super) fn death(&mut self, relay: &Relay) -> io::Result<Option<Death>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(Death::Buried(status)));
        }
        if !self.dying {
            return Ok(None);
        }
        let harmless: HashSet<u32> = relay.notifying().into_iter().collect();
        let left = threads(self.pid())?;
        let stuck = !left.is_empty() && left.iter().all(|tid| harmless.contains(tid));
        Ok(stuck.then_some(Death::Stuck))
    }

    /// Buries what is left, if that can be done now.
    pub(super) fn bury(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Lets it go, which has nothing to serve: it closes the store when it hears no more.
    pub(super) fn dismiss(self) {
        let Worker {
            mut child, line, ..
        } = self;
        drop(line);
        if let Err(error) = child.wait() {
            tracing::warn!(%error, "a worker did not end");
        }
    }

    /// Ends it, and waits for that.
    pub(super) fn kill(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!(%error, "a worker did not end");
        }
    }
}

/// Waits until nothing of a worker can write any more that an earlier supervisor started: it died with that, or does so
/// now. `false`: it does not, within `patience`.
pub(super) fn outlive(pid: u32, dir: &Path, relay: &Relay, patience: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    if pid == 0 {
        return Ok(true);
    }
    // Found before it is looked at: what is looked at is what is ended.
    let Some(process) = Watched::find(pid)? else {
        return Ok(true);
    };
    while is_worker(pid, dir) {
        if !process.kill()? {
            break;
        }
        let left = match threads(pid) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            left => left?,
        };
        let harmless = relay.notifying();
        if left.iter().all(|tid| harmless.contains(tid)) {
            break;
        }
        if begun.elapsed() > patience {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(true)
}

/// Whether a process is a worker of llfs over `dir`, or what is left of one: another one may have got its number.
fn is_worker(pid: u32, dir: &Path) -> bool {
    let of = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    match of("cmdline") {
        // Its first thread has ended.
        line if line.is_empty() => of("comm") == b"llfs\n",
        line => {
            let words = line.split(|b| *b == 0).skip(1).take(2);
            words.eq([WORK.as_bytes(), dir.as_os_str().as_bytes()])
        }
    }
}

/// The threads of a process that live, by id.
fn threads(pid: u32) -> io::Result<Vec<u32>> {
    let mut living = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        let Some(tid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        // One that ended meanwhile does not live.
        let Ok(line) = fs::read(entry.path().join("stat")) else {
            continue;
        };
        let state = line.iter().rposition(|b| *b == b')').map(|end| end + 2);
        if !matches!(state.and_then(|at| line.get(at)), Some(b'Z' | b'X') | None) {
            living.push(tid);
        }
    }
    Ok(living)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn threads_that_live_are_counted() {
        let before = threads(std::process::id()).unwrap().len();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(threads(std::process::id()).unwrap().len() > before.min(1));
        drop(go);
        assert!(other.join().unwrap().is_err());
    }

    /// A process with the name of a worker, whose command line is that of one over `of`, or is not. It is there: while a program takes
    /// the place of another one, it has neither.
    fn shell(dir: &Path, script: &str, of: &str) -> Child {
        let mut shell = Command::new(dir.join("llfs"));
        // Until its standard input is closed.
        fs::write(dir.join(script), "echo there; read line").unwrap();
        shell.arg(script).arg(of).current_dir(dir);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut there = [0; 6];
        let said = shell.stdout.as_mut().unwrap().read_exact(&mut there);
        said.unwrap();
        shell
    }

    #[test]
    fn a_worker_that_is_left_is_ended_and_nobody_else() {
        let dir = std::env::temp_dir().join(format!("llfs-crew-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink("/bin/sh", dir.join("llfs")).unwrap();
        let relay = Relay::new().unwrap();
        let patience = Duration::from_secs(60);
        let outlive = |pid| outlive(pid, Path::new("/the/mount"), &relay, patience);
        let mut worker = shell(&dir, WORK, "/the/mount");
        assert!(outlive(worker.id()).unwrap());
        assert!(threads(worker.id()).unwrap().is_empty());
        assert_eq!(worker.wait().unwrap().signal(), Some(libc::SIGKILL));
        // The number that a worker had may be another process's by now, or nobody's.
        for (script, of) in [("play", "/the/mount"), (WORK, "/another"), (WORK, "")] {
            let mut other = shell(&dir, script, of);
            assert!(outlive(other.id()).unwrap());
            drop(other.stdin.take());
            // Its input has ended; it was not killed.
            assert_eq!(other.wait().unwrap().signal(), None);
            assert!(outlive(other.id()).unwrap());
        }
        assert!(outlive(0).unwrap());
        fs::remove_dir_all(dir).unwrap();
    }
}
