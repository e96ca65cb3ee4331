//! A process of its own that goes into the mount for the daemon.
//!
//! A daemon that is killed while one of its own threads waits for its own mount never ends: the kernel waits for the
//! answer of a process that it cannot bury before. So the daemon itself never touches its mount. The visitor does, has
//! no FUSE descriptor, and is answered by the kernel when the daemon is gone.
//!
//! It reads orders from its standard input, a letter each, and answers each with an errno in 4 bytes, 0 for success. It
//! ends with its input.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::statfs::fstatfs;
use nix::unistd::syncfs;
use parking_lot::Mutex;

/// The hidden command of the program that a visitor runs.
pub(crate) const COMMAND: &str = "visit";

/// Write everything back, then ask for the free space, which the daemon answers after the writes.
const FLUSH: u8 = b'F';
/// Ask for the free space.
const MARK: u8 = b'M';
/// Look a path up: its length in 4 bytes, and the path below the mount's root.
const LOOK: u8 = b'L';

/// The daemon's side.
pub(super) struct Visitor {
    mountpoint: PathBuf,
    running: Mutex<Option<Running>>,
}

struct Running {
    child: Child,
    orders: ChildStdin,
    answers: ChildStdout,
}

impl Visitor {
    /// A visitor of `mountpoint`, started when it is needed first.
    pub fn new(mountpoint: PathBuf) -> Self {
        Self {
            mountpoint,
            running: Mutex::new(None),
        }
    }

    /// Has the kernel write everything back, and waits until the daemon got a request that was sent after that.
    pub fn flush(&self) -> io::Result<()> {
        self.order(&[FLUSH])
    }

    /// Waits until the daemon got a request that is sent now.
    pub fn mark(&self) -> io::Result<()> {
        self.order(&[MARK])
    }

    /// Looks a path below the root up.
    pub fn look_up(&self, path: &Path) -> io::Result<()> {
        let path = path.as_os_str().as_bytes();
        let mut order = vec![LOOK];
        order.extend(
            u32::try_from(path.len())
                .map_err(io::Error::other)?
                .to_le_bytes(),
        );
        order.extend(path);
        self.order(&order)
    }

    fn order(&self, order: &[u8]) -> io::Result<()> {
        let mut running = self.running.lock();
        let errno = match running.as_mut().map(|r| r.ask(order)) {
            Some(Ok(errno)) => errno,
            // None yet, or somebody killed it.
            _ => {
                let mut anew = Running::start(&self.mountpoint)?;
                let errno = anew.ask(order)?;
                *running = Some(anew);
                errno
            }
        };
        match errno {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Running {
    fn start(mountpoint: &Path) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(COMMAND)
            .arg(mountpoint)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(orders), Some(answers)) => Ok(Self {
                child,
                orders,
                answers,
            }),
            _ => Err(io::Error::other("a child without its pipes")),
        }
    }

    fn ask(&mut self, order: &[u8]) -> io::Result<i32> {
        self.orders.write_all(order)?;
        let mut errno = [0; 4];
        self.answers.read_exact(&mut errno)?;
        Ok(i32::from_le_bytes(errno))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be inside a mount that nobody serves any more; nothing it does is worth waiting for.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::debug!(%error, "the visitor did not end");
        }
    }
}

/// The visitor's side: carries orders out until there are no more.
///
/// # Errors
/// What reading and answering says.
pub fn visit(mountpoint: &Path) -> io::Result<()> {
    for stop in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { signal(stop, SigHandler::SigIgn) }?;
    }
    let (mut orders, mut answers) = (io::stdin().lock(), io::stdout().lock());
    let mut letter = [0];
    while orders.read(&mut letter)? == 1 {
        let done = match letter[0] {
            LOOK => {
                let mut len = [0; 4];
                orders.read_exact(&mut len)?;
                let mut path = vec![0; u32::from_le_bytes(len) as usize];
                orders.read_exact(&mut path)?;
                let path = mountpoint.join(OsStr::from_bytes(&path));
                std::fs::symlink_metadata(path).map(drop)
            }
            letter => ask_space(mountpoint, letter == FLUSH),
        };
        let errno = done
            .err()
            .map_or(0, |e| e.raw_os_error().unwrap_or(libc::EIO));
        answers.write_all(&errno.to_le_bytes())?;
        answers.flush()?;
    }
    Ok(())
}

/// The mount is opened anew each time, as a descriptor kept open would make it busy.
fn ask_space(mountpoint: &Path, flush: bool) -> io::Result<()> {
    let root = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(mountpoint)?;
    let flushed = match flush {
        true => syncfs(&root),
        false => Ok(()),
    };
    // Answered by the daemon, never from a cache; also when one of the files could not be written back, behind the writes of the others.
    fstatfs(&root)?;
    Ok(flushed?)
}
