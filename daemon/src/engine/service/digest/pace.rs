//! Making way for programs. The lowest priority for the CPU still takes some of it, and delays who wakes up beside it; and a priority says nothing
//! to a disk that takes requests as they come, which most do today (`/sys/block/*/queue/scheduler`). So the thread itself rests while
//! programs are at work: the kernel has requests, or had some a moment ago (a compiler thinks for a while between two files).

use std::thread;
use std::time::{Duration, Instant};

use crate::engine::metrics::Metrics;

/// It rests so many times as long as it worked.
const SHARE: u32 = 20;
/// And so long at a time, at most: a base is read in the end whatever else goes on.
const LONGEST: Duration = Duration::from_millis(200);
/// Whoever had a request is at work for so long.
const AT_WORK: Duration = Duration::from_secs(1);

/// When a piece of work began, how many requests there had been, and when that number was another one.
pub(super) struct Pace {
    since: Instant,
    requests: u64,
    last_request: Option<Instant>,
    #[cfg(test)]
    pub rests: u32,
}

impl Pace {
    pub fn new() -> Pace {
        Pace {
            since: Instant::now(),
            requests: 0,
            last_request: None,
            #[cfg(test)]
            rests: 0,
        }
    }

    /// Between two pieces of work; who unparks the thread ends a rest.
    pub fn make_way(&mut self, metrics: &Metrics) {
        let now = Instant::now();
        let requests = metrics.requests();
        if requests != self.requests {
            (self.requests, self.last_request) = (requests, Some(now));
        }
        let rest = rest(now - self.since, self.last_request.map(|last| now - last));
        if !rest.is_zero() {
            #[cfg(test)]
            {
                self.rests += 1;
            }
            thread::park_timeout(rest);
        }
        self.since = Instant::now();
    }
}

/// After so much work, if the last request was so long ago.
fn rest(worked: Duration, quiet: Option<Duration>) -> Duration {
    match quiet {
        Some(quiet) if quiet < AT_WORK => (worked * SHARE).min(LONGEST),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_a_small_part_of_the_time_while_there_are_requests() {
        let worked = Duration::from_millis(3);
        let moment = Some(AT_WORK / 2);
        assert_eq!(rest(worked, None), Duration::ZERO);
        assert_eq!(rest(worked, Some(AT_WORK)), Duration::ZERO);
        assert_eq!(rest(worked, moment), worked * SHARE);
        assert_eq!(rest(Duration::from_secs(9), moment), LONGEST);
    }
}
