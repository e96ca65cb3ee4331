//! Whose turn it is to mount over a directory, or to take a dead mount away from it: what is found there must still be so when it
//! is acted upon, and the kernel mounts over what is mounted already, and takes away whatever is there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use llctl::escape::Shown;
use llctl::{exit, locate, plain};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::trouble::Trouble;

/// How long others may take: they may have a long journal to read.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the lock of a directory is waited for, which may be somebody's for other reasons, such as flock(1)'s.
const DIRECTORY: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// The turn of this process: a lock of a file beside the control socket, which is there for as long as the lock is. Others of this user
/// who look for the socket there wait.
pub(super) struct Turn {
    base: PathBuf,
    /// None where sockets cannot be.
    path: Option<PathBuf>,
    /// None where there can be no such file.
    held: Option<Flock<File>>,
}

impl Turn {
    /// Waits for it.
    ///
    /// # Errors
    /// Somebody else has it for too long.
    pub(super) fn take(base: &Path) -> Result<Turn, Trouble> {
        // Who wants to mount learns what is wrong when the socket is made.
        Turn::take_in(locate::create_runtime_dir().ok(), base)
    }

    pub(super) fn take_in(dir: Option<PathBuf>, base: &Path) -> Result<Turn, Trouble> {
        let name = format!("{}.lock", locate::socket_name(base));
        let mut turn = Turn {
            base: base.to_path_buf(),
            path: dir.map(|dir| dir.join(name)),
            held: None,
        };
        turn.again()?;
        Ok(turn)
    }

    fn again(&mut self) -> Result<(), Trouble> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let begun = Instant::now();
        loop {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(false);
            let file = match options.mode(0o600).open(path) {
                Ok(file) => file,
                Err(error) => {
                    tracing::debug!(%error, "no file for a lock");
                    return Ok(());
                }
            };
            match lock(file, begun + PATIENCE) {
                Ok(file) if plain::is_at(&file, path) => {
                    self.held = Some(file);
                    return Ok(());
                }
                // Who had it before has removed the file.
                Ok(_) => {}
                Err(Errno::EWOULDBLOCK) => {
                    let what = format!("{} is being mounted by another llfs", self.base.shown());
                    return Err(Trouble::new(what)
                        .hint("wait until it has begun")
                        .code(exit::REFUSED));
                }
                Err(errno) => {
                    tracing::debug!(%errno, "no lock");
                    return Ok(());
                }
            }
        }
    }

    /// Does something that takes time while others may have their turn; what was found before may be otherwise after it.
    pub(super) fn aside<T>(&mut self, wait: impl FnOnce() -> T) -> Result<T, Trouble> {
        self.release();
        let done = wait();
        self.again()?;
        Ok(done)
    }

    fn release(&mut self) {
        // The file goes before the lock does.
        if let (Some(path), Some(_held)) = (&self.path, self.held.take())
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(%error, "the file of a lock stays");
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.release();
    }
}

/// Opens the directory to be mounted over, and locks it: no other llfs that has done so is mounting over it, whoever it is of and
/// wherever its sockets are. To be looked at whether it is mounted after that. `None` for the lock: none can be had.
///
/// # Errors
/// It cannot be opened.
pub(super) fn open(base: &Path) -> io::Result<(File, Option<Flock<File>>)> {
    let below = File::open(base)?;
    // Another one, which the worker has no part in.
    let held = lock(File::open(base)?, Instant::now() + DIRECTORY);
    let held = held.inspect_err(|errno| tracing::debug!(%errno, "the directory is not locked"));
    Ok((below, held.ok()))
}

/// Locks the directory in which `base` is, to look at a mount there and take it away: what is found dead must still be what is taken, and
/// not what somebody with sockets elsewhere has mounted in its place. The directory below a mount cannot be reached for that. `None`: no
/// lock can be had.
pub(super) fn beside(base: &Path) -> Option<Flock<File>> {
    let parent = base.parent()?;
    let opened = File::open(parent).map_err(|error| {
        tracing::debug!(%error, "the directory above is not locked");
    });
    let held = lock(opened.ok()?, Instant::now() + DIRECTORY);
    held.inspect_err(|errno| tracing::debug!(%errno, "the directory above is not locked"))
        .ok()
}

/// Waits for the lock of a file.
fn lock(mut file: File, until: Instant) -> Result<Flock<File>, Errno> {
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((again, Errno::EWOULDBLOCK)) if Instant::now() < until => {
                file = again;
                thread::sleep(PAUSE);
            }
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files are removed by who had the turn, and made anew by who waited: never have two of them the turn.
    #[test]
    fn one_at_a_time_has_the_turn_and_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("llfs-turn-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let inside = std::sync::atomic::AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let mut turn =
                            Turn::take_in(Some(dir.clone()), Path::new("/base")).unwrap();
                        for _ in 0..2 {
                            use std::sync::atomic::Ordering::SeqCst;
                            assert_eq!(inside.fetch_add(1, SeqCst), 0);
                            thread::yield_now();
                            inside.fetch_sub(1, SeqCst);
                            turn.aside(|| ()).unwrap();
                        }
                    }
                });
            }
        });
        // Only an empty one can be removed.
        fs::remove_dir(dir).unwrap();
    }
}
