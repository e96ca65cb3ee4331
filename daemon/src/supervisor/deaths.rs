//! How often workers died, and of what.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::relay::{Asked, Op};

use super::crew::Death;

/// A request that was there at so many deaths in a row is answered EIO.
const LETHAL: u32 = 3;
/// The same if that proves little: the workers were killed from outside, or the request was one of several that were waiting.
const LETHAL_PERHAPS: u32 = 20;
/// So many workers in a row may die before they serve, without having answered a request.
const STILLBORN: u32 = 5;
/// The same if they were killed.
const STILLBORN_BY_KILL: u32 = 100;
/// The pause after a worker that died before it served, and the longest.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    /// By request, those that were there at the last death: own deaths, kills.
    requests: HashMap<u64, (Asked, u32, u32)>,
    /// In a row, before they served: own deaths, kills.
    stillborn: (u32, u32),
    /// Requests with which those had begun. A worker that died with another one has answered what was there before, or
    /// meets one of the few that waited: it was of use.
    begun: HashSet<u64>,
}

impl Deaths {
    /// A worker serves.
    pub(super) fn serves(&mut self) {
        self.stillborn = (0, 0);
        self.begun.clear();
    }

    /// One died that had begun with the requests `asked`. The requests that the next one is to refuse.
    pub(super) fn count(&mut self, death: Death, served: bool, asked: Vec<Asked>) -> Vec<Asked> {
        let kill = death.by_kill();
        let count = |(own, kills): (u32, u32)| match kill {
            true => (own, kills + 1),
            false => (own + 1, kills),
        };
        if !served {
            let mut further = false;
            for asked in &asked {
                further |= asked.op != Op::None && self.begun.insert(asked.key());
            }
            self.stillborn = count(if further { (0, 0) } else { self.stillborn });
        }
        let mut before = std::mem::take(&mut self.requests);
        for asked in asked.into_iter().filter(|a| a.op != Op::None) {
            let so_far = before
                .remove(&asked.key())
                .map_or((0, 0), |(_, o, k)| (o, k));
            let (own, kills) = count(so_far);
            self.requests.insert(asked.key(), (asked, own, kills));
        }
        let lethal = |(asked, own, kills): &&(Asked, u32, u32)| {
            (*own >= LETHAL && !asked.pooled) || own + kills >= LETHAL_PERHAPS
        };
        let lethal: Vec<Asked> = self.requests.values().filter(lethal).map(|e| e.0).collect();
        for asked in &lethal {
            self.requests.remove(&asked.key());
        }
        lethal
    }

    /// Whether there is no use in another worker.
    pub(super) fn hopeless(&self) -> bool {
        self.stillborn.0 >= STILLBORN || self.stillborn.1 >= STILLBORN_BY_KILL
    }

    /// How long to wait with the next.
    pub(super) fn pause(&self) -> Duration {
        match self.stillborn {
            (0, 0 | 1) => Duration::ZERO,
            (own, kills) => (PAUSE * 2_u32.pow((own * 2 + kills / 16).min(10))).min(PAUSE_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    const ABORTED: i32 = libc::SIGABRT;

    fn death(signal: i32) -> Death {
        Death::Buried(ExitStatus::from_raw(signal))
    }

    fn asked(unique: u64) -> Asked {
        Asked {
            unique,
            op: Op::Lookup,
            ino: 1,
            pid: 1,
            pooled: false,
        }
    }

    #[test]
    fn the_third_death_of_one_request_is_the_last() {
        let mut deaths = Deaths::default();
        assert!(
            deaths
                .count(death(ABORTED), true, vec![asked(8)])
                .is_empty()
        );
        // The kernel sends it again under a number with another bit.
        let again = asked(8 | 1 << 63);
        assert!(deaths.count(death(ABORTED), true, vec![again]).is_empty());
        assert_eq!(deaths.count(death(ABORTED), true, vec![again]), [again]);
        assert!(!deaths.hopeless());
    }

    #[test]
    fn kills_from_outside_prove_little() {
        let mut deaths = Deaths::default();
        for _ in 1..LETHAL_PERHAPS {
            assert!(
                deaths
                    .count(death(libc::SIGKILL), true, vec![asked(8)])
                    .is_empty()
            );
        }
        assert_eq!(deaths.count(Death::Stuck, true, vec![asked(8)]).len(), 1);
    }

    #[test]
    fn a_request_that_waits_while_others_kill_is_not_to_blame_at_once() {
        let mut deaths = Deaths::default();
        let waits = Asked {
            pooled: true,
            ..asked(8)
        };
        for round in 1..LETHAL_PERHAPS {
            let other = asked(100 + u64::from(round));
            assert!(
                deaths
                    .count(death(ABORTED), true, vec![other, waits])
                    .is_empty()
            );
        }
        assert_eq!(deaths.count(death(ABORTED), true, vec![waits]), [waits]);
    }

    #[test]
    fn deaths_that_are_not_in_a_row_are_not_counted_together() {
        let mut deaths = Deaths::default();
        for _ in 0..10 {
            assert!(
                deaths
                    .count(death(ABORTED), true, vec![asked(8)])
                    .is_empty()
            );
            assert!(
                deaths
                    .count(death(ABORTED), true, vec![asked(10)])
                    .is_empty()
            );
        }
    }

    #[test]
    fn workers_that_answer_requests_before_they_serve_are_not_given_up() {
        let mut deaths = Deaths::default();
        for request in 0..100 {
            deaths.count(death(ABORTED), false, vec![asked(8 + 2 * request)]);
            assert!(!deaths.hopeless(), "after {request}");
            assert!(!deaths.pause().is_zero(), "they take turns without an end");
        }
        // Two that are never answered, in turn, are no progress.
        for round in 0..2 * u64::from(STILLBORN) {
            deaths.count(death(ABORTED), false, vec![asked(1000 + round % 2)]);
        }
        assert!(deaths.hopeless());
    }

    #[test]
    fn workers_that_never_serve_are_given_up() {
        let mut deaths = Deaths::default();
        let mut born = 0;
        while !deaths.hopeless() {
            deaths.count(death(ABORTED), false, Vec::new());
            assert!(deaths.pause() <= PAUSE_MAX);
            born += 1;
        }
        assert_eq!(born, STILLBORN);
        deaths.serves();
        assert!(!deaths.hopeless() && deaths.pause().is_zero());
    }
}
