//! Work that lets all others go first: at the lowest priority for the CPU, and for the disk in the idle class (which the
//! schedulers bfq and mq-deadline know). No fixed rate: a disk that nobody else wants is read as fast as it goes.

use nix::errno::Errno;

/// `IOPRIO_WHO_PROCESS` and `IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)` of linux/ioprio.h.
const WHO_PROCESS: libc::c_int = 1;
const IDLE: libc::c_int = 3 << 13;
/// The least of all, see nice(2).
const LAST: libc::c_int = 19;

/// Does it on a thread of its own, since an ordinary user cannot take the lower priority back.
pub(super) fn gently<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            stand_back();
            work()
        });
        thread.join()
    });
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Puts the calling thread behind all others, for good.
pub(in crate::engine::service) fn stand_back() {
    // SAFETY: both change how the calling thread (0) is scheduled, and touch no memory.
    let (cpu, disk) = unsafe {
        (
            libc::setpriority(libc::PRIO_PROCESS, 0, LAST),
            libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, IDLE),
        )
    };
    if let Err(errno) = Errno::result(cpu).and(Errno::result(disk)) {
        tracing::debug!(%errno, "what is verified is read at the usual priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_work_stands_back() {
        // SAFETY: asks for the priority of the calling thread, and touches no memory.
        let priority = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        // SAFETY: as above.
        let class = || unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0) } >> 13;
        let before = (priority(), class());
        assert_eq!(gently(|| (priority(), class())), (LAST, 3));
        assert_eq!((priority(), class()), before);
    }
}
