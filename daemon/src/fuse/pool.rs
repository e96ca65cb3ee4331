//! Threads for what has to wait for the disk, so that the session thread never does.

use std::io;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

/// Something to do, ending in a reply to the kernel.
type Job = Box<dyn FnOnce() + Send>;

/// How many reads and syncs may wait for the disk at once; more of them queue.
const THREADS: usize = 4;

/// A few threads and one queue. The threads end when the pool is dropped and the queue is empty.
///
/// They must be started by a thread that is not pinned to a CPU, because they inherit that (see [`super::follow`]).
pub(super) struct Pool {
    queue: Sender<Job>,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system's, if it has no thread to give.
    pub(super) fn start() -> io::Result<Self> {
        let (queue, jobs) = unbounded::<Job>();
        for number in 0..THREADS {
            let jobs: Receiver<Job> = jobs.clone();
            thread::Builder::new()
                .name(format!("llfs-wait-{number}"))
                .spawn(move || jobs.iter().for_each(|job| job()))?;
        }
        Ok(Self { queue })
    }

    /// Has a thread do it.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        // The threads hold the other end as long as this one exists; were they gone, the job would still be done.
        if let Err(refused) = self.queue.send(Box::new(job)) {
            refused.into_inner()();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    #[test]
    fn as_many_jobs_wait_at_once_as_there_are_threads() {
        let pool = Pool::start().unwrap();
        let together = Arc::new(Barrier::new(THREADS));
        let (done, results) = unbounded();
        for number in 0..THREADS {
            let (together, done) = (together.clone(), done.clone());
            pool.run(move || {
                together.wait();
                done.send(number).unwrap();
            });
        }
        drop(done);
        let mut seen: Vec<_> = results.iter().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..THREADS).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_queued_is_done_although_the_pool_is_gone() {
        let pool = Pool::start().unwrap();
        let (done, results) = unbounded();
        for number in 0..100 {
            let done = done.clone();
            pool.run(move || done.send(number).unwrap());
        }
        drop((pool, done));
        assert_eq!(results.iter().count(), 100);
    }
}
