//! Making way for programs. A priority says nothing to a disk that takes requests as they come, which most do today
//! (`/sys/block/*/queue/scheduler`), so the thread itself rests while the kernel has requests.

use std::thread;
use std::time::{Duration, Instant};

use crate::engine::metrics::Metrics;

/// It rests so many times as long as it worked.
const SHARE: u32 = 20;
/// And so long at a time, at most: a base is read in the end whatever else goes on.
const LONGEST: Duration = Duration::from_millis(200);

/// When a piece of work began, and how many requests there had been.
pub(super) struct Pace {
    since: Instant,
    requests: u64,
    #[cfg(test)]
    pub rests: u32,
}

impl Pace {
    pub fn new() -> Pace {
        Pace {
            since: Instant::now(),
            requests: 0,
            #[cfg(test)]
            rests: 0,
        }
    }

    /// Between two pieces of work; who unparks the thread ends a rest.
    pub fn make_way(&mut self, metrics: &Metrics) {
        let rest = rest(self.since.elapsed(), metrics.requests() - self.requests);
        if !rest.is_zero() {
            #[cfg(test)]
            {
                self.rests += 1;
            }
            thread::park_timeout(rest);
        }
        self.since = Instant::now();
        self.requests = metrics.requests();
    }
}

fn rest(worked: Duration, requests: u64) -> Duration {
    match requests {
        0 => Duration::ZERO,
        _ => (worked * SHARE).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_a_small_part_of_the_time_while_there_are_requests() {
        let worked = Duration::from_millis(3);
        assert_eq!(rest(worked, 0), Duration::ZERO);
        assert_eq!(rest(worked, 1), worked * SHARE);
        assert_eq!(rest(Duration::from_secs(9), 1), LONGEST);
    }
}
