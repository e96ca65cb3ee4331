//! Keeps the session thread on the CPU of the program that it serves.
//!
//! A FUSE round trip to a thread on another CPU costs several times what it costs on the caller's own, because the other
//! one has to be woken. So the session thread looks now and then where the caller ran last, and pins itself there. The
//! scheduler may still run both anywhere that this thread was allowed before: it never leaves that mask. The [`Neighbour`] sees
//! to it that the program is not moved away in turn.

use std::cell::RefCell;
use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::neighbour::{self, Neighbour};
use super::quota;

/// Set to `0` to switch it off.
pub(super) const SWITCH: &str = "LLFS_FOLLOW";

/// One request in so many looks where its caller is, if that was where the one before had been, and if not.
const EVERY: (u32, u32) = (32, 8);

/// Requests come fast if they are closer together than this.
const FAST: Duration = Duration::from_micros(150);

thread_local! {
    static FOLLOWER: RefCell<Follower> = RefCell::new(Follower::new());
}

/// Told of each request by the session thread, with the caller's thread id (0: the kernel's own, or one that cannot be
/// seen from here). Other threads have no business here: it is the calling thread that is pinned.
pub(super) fn request_of(pid: u32) {
    FOLLOWER.with_borrow_mut(|follower| follower.request_of(pid));
}

struct Follower {
    /// Where this thread may run at all; `None` if it follows nobody.
    allowed: Option<CpuSet>,
    pinned: Option<usize>,
    /// Requests so far.
    served: u32,
    until_look: u32,
    /// When it looked last, and at which request.
    looked: (Instant, u32),
    /// The one on the other CPU, if there are two.
    neighbour: Option<Neighbour>,
}

impl Follower {
    fn new() -> Self {
        let off = env::var_os(SWITCH).is_some_and(|value| value == "0");
        let allowed = if off {
            None
        } else {
            sched_getaffinity(Pid::from_raw(0)).ok()
        };
        let several = allowed.filter(|set| cpus(set).nth(1).is_some());
        let two = several.is_some_and(|set| cpus(&set).count() == 2);
        let neighbour = if two && !quota::limits_us() {
            Neighbour::start().ok()
        } else {
            None
        };
        Self {
            allowed: several,
            pinned: None,
            served: 0,
            until_look: 0,
            looked: (Instant::now(), 0),
            neighbour,
        }
    }

    fn request_of(&mut self, pid: u32) {
        if self.allowed.is_none() {
            return;
        }
        self.served = self.served.wrapping_add(1);
        if let Some(neighbour) = &self.neighbour {
            neighbour.served(self.served);
        }
        if self.until_look > 0 {
            self.until_look -= 1;
            return;
        }
        let now = Instant::now();
        let (then, at) = std::mem::replace(&mut self.looked, (now, self.served));
        let fast = now - then < FAST * self.served.wrapping_sub(at);
        let before = self.pinned;
        match (pid != 0).then(|| cpu_of(pid)).and_then(Result::ok) {
            Some(cpu) => self.pin(cpu),
            None => self.release(),
        }
        let found = self.pinned.is_some() && self.pinned == before;
        self.until_look = if found { EVERY.0 } else { EVERY.1 } - 1;
        if fast {
            self.wake_neighbour();
        }
    }

    fn wake_neighbour(&mut self) {
        if let (Some(neighbour), Some(allowed), Some(pinned)) =
            (&mut self.neighbour, &self.allowed, self.pinned)
            && let Some(other) = cpus(allowed).find(|cpu| *cpu != pinned)
        {
            neighbour.wake(other);
        }
    }

    fn pin(&mut self, cpu: usize) {
        let Some(allowed) = &self.allowed else { return };
        if self.pinned == Some(cpu) {
            return;
        }
        if !allowed.is_set(cpu).unwrap_or(false) {
            self.release();
            return;
        }
        if neighbour::pin(0, cpu).is_ok() {
            self.pinned = Some(cpu);
        }
    }

    fn release(&mut self) {
        if let (Some(allowed), Some(_)) = (&self.allowed, self.pinned) {
            match sched_setaffinity(Pid::from_raw(0), allowed) {
                Ok(()) => self.pinned = None,
                // Somebody took CPUs away meanwhile. Pinned it may stay; following it must not go on.
                Err(error) => {
                    tracing::debug!(%error, "cannot undo the pinning to a CPU");
                    self.allowed = None;
                }
            }
        }
    }
}

/// The CPU on which the thread ran last: field 39 of `/proc/PID/stat`, see proc_pid_stat(5).
fn cpu_of(tid: u32) -> io::Result<usize> {
    let mut path = [0; 24];
    let path = stat_path(&mut path, tid)?;
    let mut line = [0; 1024];
    let length = File::open(path)?.read(&mut line)?;
    processor(&line[..length]).ok_or(io::ErrorKind::InvalidData.into())
}

/// `/proc/TID/stat`, without an allocation.
fn stat_path(buffer: &mut [u8; 24], tid: u32) -> io::Result<&str> {
    use io::Write;
    let mut rest = &mut buffer[..];
    write!(rest, "/proc/{tid}/stat")?;
    let unused = rest.len();
    let used = buffer.len() - unused;
    std::str::from_utf8(&buffer[..used]).map_err(io::Error::other)
}

/// Field 39 of a line of `/proc/PID/stat`. The second field is the name in parentheses, which may hold anything.
fn processor(line: &[u8]) -> Option<usize> {
    let name_end = line.iter().rposition(|&byte| byte == b')')?;
    let field = line[name_end..].split(|&byte| byte == b' ').nth(37)?;
    std::str::from_utf8(field).ok()?.trim_end().parse().ok()
}

/// The CPUs of a set.
pub(super) fn cpus(set: &CpuSet) -> impl Iterator<Item = usize> {
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_found_behind_any_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 17 7 0 0";
        for name in ["(sh)", "(a b)", "(x) S 9 9 9)", "()"] {
            assert_eq!(
                processor(format!("4711 {name} {tail}\n").as_bytes()),
                Some(7),
                "{name}"
            );
        }
        assert_eq!(processor(b"4711 (sh) S 1 2"), None);
        assert_eq!(processor(b""), None);
    }

    #[test]
    fn this_thread_runs_where_its_stat_says() {
        let tid = u32::try_from(nix::unistd::gettid().as_raw()).unwrap();
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
        for cpu in cpus(&allowed) {
            let mut one = CpuSet::new();
            one.set(cpu).unwrap();
            sched_setaffinity(Pid::from_raw(0), &one).unwrap();
            assert_eq!(cpu_of(tid).unwrap(), cpu);
        }
        sched_setaffinity(Pid::from_raw(0), &allowed).unwrap();
    }

    #[test]
    fn pinning_stays_inside_the_mask_and_is_undone() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let first = cpus(&before).next().unwrap();
        let mut follower = Follower {
            allowed: Some(before),
            ..Follower::new()
        };
        follower.pin(first);
        assert_eq!(
            cpus(&sched_getaffinity(Pid::from_raw(0)).unwrap()).collect::<Vec<_>>(),
            [first]
        );
        let outside = (0..CpuSet::count())
            .find(|&cpu| !before.is_set(cpu).unwrap())
            .unwrap();
        follower.pin(outside);
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
        follower.pin(first);
        follower.until_look = 0;
        follower.request_of(0);
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
    }
}
