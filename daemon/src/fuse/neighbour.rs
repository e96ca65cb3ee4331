//! Keeps the other CPU of two from looking idle while requests come thick and fast.
//!
//! The scheduler wakes a program whose request was answered on an idle CPU, if there is one, though its own is free in a
//! microsecond. The next request then wakes the session thread across CPUs again, and each of these wake-ups costs a virtual
//! machine 20 to 35 µs, ten times what a request costs otherwise. A thread that spins on the other CPU stops that: program and
//! session thread stay together.
//!
//! It takes nothing from anybody: it has the lowest priority (nice 19) and the shortest slice, gives its CPU away to whoever
//! waits for it each microsecond, rests as soon as somebody has used it for long (it does not look idle then anyhow), and
//! sleeps when no request has come for a while.
//! On more than two CPUs the scheduler would find yet another one, so there it is not used; nor where the CPU time of this
//! process is limited.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::Relaxed};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

/// It sleeps after so long without a request.
const QUIET: Duration = Duration::from_micros(800);
/// Somebody else wants its CPU if it could not run for so long. The program that is being served may come by for less.
const TAKEN: Duration = Duration::from_micros(250);
/// It rests for so long after that.
const REST: Duration = Duration::from_millis(1);

/// A spinning thread, seen from the session thread.
pub(super) struct Neighbour {
    shared: Arc<Shared>,
    thread: Thread,
    /// Where it spins.
    cpu: Option<usize>,
}

struct Shared {
    /// Its thread id; 0 as long as it is not humble.
    tid: AtomicI32,
    /// Counts requests.
    served: AtomicU32,
    /// Asked for and not asleep again.
    awake: AtomicBool,
    /// Somebody else wanted the CPU: not to be woken for a while.
    resting: AtomicBool,
    ended: AtomicBool,
}

impl Neighbour {
    /// Starts the thread, asleep.
    ///
    /// # Errors
    /// The system's, if it has no thread to give.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            tid: AtomicI32::new(0),
            served: AtomicU32::new(0),
            awake: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let own = shared.clone();
        let thread = thread::Builder::new()
            .name("llfs-neighbour".to_owned())
            .spawn(move || own.live())?;
        Ok(Self {
            shared,
            thread: thread.thread().clone(),
            cpu: None,
        })
    }

    /// Tells how many requests there were so far.
    pub fn served(&self, requests: u32) {
        self.shared.served.store(requests, Relaxed);
    }

    /// Has it spin on `cpu`, as long as requests come.
    pub fn wake(&mut self, cpu: usize) {
        let tid = self.shared.tid.load(Relaxed);
        if tid == 0 {
            return;
        }
        // It is put there before it wakes up: on the CPU where the program is it would chase the program away, to the very
        // CPU that it goes to.
        if self.cpu != Some(cpu) {
            if pin(tid, cpu).is_err() {
                return;
            }
            self.cpu = Some(cpu);
        }
        if !self.shared.awake.load(Relaxed) && !self.shared.resting.load(Relaxed) {
            self.shared.awake.store(true, Relaxed);
            self.thread.unpark();
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
        self.thread.unpark();
    }
}

impl Shared {
    fn live(&self) {
        match be_humble() {
            Ok(()) => self.tid.store(gettid().as_raw(), Relaxed),
            // Nobody wakes it.
            Err(error) => return tracing::debug!(%error, "no neighbour: it would not be humble"),
        }
        while !self.ended.load(Relaxed) {
            if !self.awake.load(Relaxed) {
                thread::park();
                continue;
            }
            let disturbed = self.spin();
            self.resting.store(disturbed, Relaxed);
            self.awake.store(false, Relaxed);
            if disturbed {
                thread::sleep(REST);
                self.resting.store(false, Relaxed);
            }
        }
    }

    /// Spins until it is quiet, or somebody else wants this CPU, which the answer tells.
    fn spin(&self) -> bool {
        let mut served = self.served.load(Relaxed);
        let mut now = Instant::now();
        let mut last_request = now;
        loop {
            for _ in 0..16 {
                std::hint::spin_loop();
            }
            thread::yield_now();
            let before = std::mem::replace(&mut now, Instant::now());
            let count = self.served.load(Relaxed);
            if count != served {
                (served, last_request) = (count, now);
            } else if now - last_request > QUIET {
                return false;
            }
            if now - before > TAKEN {
                return true;
            }
        }
    }
}

/// Has a thread (0: this one) run on that CPU only.
pub(super) fn pin(tid: i32, cpu: usize) -> nix::Result<()> {
    let mut one = CpuSet::new();
    one.set(cpu)?;
    sched_setaffinity(Pid::from_raw(tid), &one)
}

/// The lowest priority that an idle CPU does not have, and the shortest slice that the scheduler grants (100 µs, since
/// Linux 6.12): so long may it keep from the CPU whoever wakes up there. See sched_setattr(2).
fn be_humble() -> Result<(), Errno> {
    let attr = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: 19,
        sched_priority: 0,
        sched_runtime: 100_000,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a struct that lives through the call.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    Errno::result(answer).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::follow::cpus;
    use super::*;
    use nix::sched::sched_getaffinity;

    fn await_that(what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
            thread::yield_now();
        }
    }

    fn humble() -> Neighbour {
        let neighbour = Neighbour::start().unwrap();
        await_that("it is humble", || neighbour.shared.tid.load(Relaxed) != 0);
        neighbour
    }

    fn allowed() -> Vec<usize> {
        cpus(&sched_getaffinity(Pid::from_raw(0)).unwrap()).collect()
    }

    #[test]
    fn it_sleeps_when_no_request_comes() {
        let mut neighbour = humble();
        for _ in 0..3 {
            await_that("it has rested", || !neighbour.shared.resting.load(Relaxed));
            neighbour.wake(allowed()[0]);
            await_that("it sleeps", || !neighbour.shared.awake.load(Relaxed));
        }
    }

    #[test]
    fn it_wakes_up_where_it_is_wanted_and_nowhere_else() {
        let mut neighbour = humble();
        let tid = Pid::from_raw(neighbour.shared.tid.load(Relaxed));
        for cpu in allowed().into_iter().cycle().take(100) {
            neighbour.wake(cpu);
            let mut only = CpuSet::new();
            only.set(cpu).unwrap();
            assert_eq!(sched_getaffinity(tid).unwrap(), only);
        }
    }
}
