//! Counters: what the kernel asks for, how long that takes, and how acts end.
//!
//! Counting is on the way of every request, so it costs what a load and a store cost: one thread takes the kernel's requests, and only it
//! counts them. The clock is read for every 64th request of a kind.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use llctl::protocol::{Act, ActMetrics, BOUNDS_US, Deal, ErrorMetrics, OperationMetrics, Times};
use nix::errno::Errno;

use crate::relay::Op;

/// One request in so many of a kind is timed.
const SAMPLE: u64 = 64;
/// Errors above this number are not Linux's.
const ERRNOS: usize = 134;

/// Errors that were answered, by number. Of the process: a worker serves one mount.
static ERRORS: [AtomicU64; ERRNOS] = [const { AtomicU64::new(0) }; ERRNOS];

/// What one worker counts.
#[derive(Default)]
pub struct Metrics {
    operations: [Operation; Op::ALL.len()],
    acts: [Acts; Deal::ALL.len()],
}

#[derive(Default)]
struct Operation {
    count: AtomicU64,
    times: Histogram,
}

#[derive(Default)]
struct Acts {
    failed: AtomicU64,
    times: Histogram,
}

#[derive(Default)]
struct Histogram {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

/// A request that is timed, from here to its end.
#[derive(Debug)]
pub struct Sample {
    op: Op,
    begun: Instant,
}

impl Metrics {
    /// Counts a request. To be called by the session thread only. It may want to know how long that takes: then
    /// [`Metrics::took`] is to be told of the end.
    pub fn count(&self, op: Op) -> Option<Sample> {
        let count = &self.operations[op as usize].count;
        let before = count.load(Relaxed);
        // No other thread counts.
        count.store(before + 1, Relaxed);
        before.is_multiple_of(SAMPLE).then(|| Sample {
            op,
            begun: Instant::now(),
        })
    }

    /// Requests of all kinds.
    pub(super) fn requests(&self) -> u64 {
        let counts = self.operations.iter().map(|op| op.count.load(Relaxed));
        counts.sum()
    }

    /// A timed request is answered.
    pub fn took(&self, sample: &Sample) {
        let times = &self.operations[sample.op as usize].times;
        times.add(sample.begun.elapsed());
    }

    /// An act has ended.
    pub(super) fn ended(&self, act: &Act) {
        let Some(place) = Deal::ALL.iter().position(|deal| *deal == act.what) else {
            return;
        };
        match act.error {
            Some(_) => {
                self.acts[place].failed.fetch_add(1, Relaxed);
            }
            None => (self.acts[place].times).add(Duration::from_micros(act.took_us)),
        }
    }

    /// Acts by kind.
    pub(super) fn acts(&self) -> Vec<ActMetrics> {
        let all = Deal::ALL.into_iter().zip(&self.acts);
        all.map(|(act, acts)| {
            let times = acts.times.read();
            ActMetrics {
                act,
                finished: times.counts.iter().sum(),
                failed: acts.failed.load(Relaxed),
                times,
            }
        })
        .collect()
    }

    /// Requests by kind.
    pub(super) fn operations(&self) -> Vec<OperationMetrics> {
        let all = Op::ALL.iter().zip(&self.operations);
        all.filter(|(op, _)| **op != Op::None)
            .map(|(op, operation)| OperationMetrics {
                operation: name(*op),
                count: operation.count.load(Relaxed),
                times: operation.times.read(),
            })
            .collect()
    }
}

impl Histogram {
    fn add(&self, took: Duration) {
        let micros = took.as_nanos().div_ceil(1000);
        let place = BOUNDS_US.partition_point(|bound| u128::from(*bound) < micros);
        self.counts[place].fetch_add(1, Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanos, Relaxed);
    }

    fn read(&self) -> Times {
        Times {
            counts: self.counts.iter().map(|c| c.load(Relaxed)).collect(),
            sum_ns: self.sum_ns.load(Relaxed),
        }
    }
}

/// Counts an error that the kernel is answered.
pub fn failed(errno: Errno) {
    if let Some(count) = ERRORS.get(errno as usize) {
        count.fetch_add(1, Relaxed);
    }
}

/// Errors that the kernel was answered.
pub(super) fn errors() -> Vec<ErrorMetrics> {
    (ERRORS.iter().enumerate())
        .map(|(number, count)| (number, count.load(Relaxed)))
        .filter(|(_, count)| *count > 0)
        .map(|(number, count)| ErrorMetrics {
            errno: format!("{:?}", Errno::from_raw(i32::try_from(number).unwrap_or(0))),
            count,
        })
        .collect()
}

/// `copy_file_range` for `CopyFileRange`.
fn name(op: Op) -> String {
    let mut name = String::new();
    for letter in format!("{op:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_its_bucket() {
        let times = Histogram::default();
        for (micros, place) in [(0, 0), (1, 0), (2, 1), (3, 2), (5, 2), (1_000, 9)] {
            let before = times.read().counts[place];
            times.add(Duration::from_micros(micros));
            assert_eq!(times.read().counts[place], before + 1, "{micros}");
        }
        times.add(Duration::from_nanos(1001));
        assert_eq!(times.read().counts[1], 2);
        times.add(Duration::from_secs(100));
        assert_eq!(times.read().counts.last(), Some(&1));
        assert_eq!(times.read().counts.iter().sum::<u64>(), 8);
        assert_eq!(times.read().sum_ns, 100_001_012_001);
    }

    #[test]
    fn every_64th_of_a_kind_is_timed() {
        let metrics = Metrics::default();
        let timed = (0..130).filter_map(|_| metrics.count(Op::Lookup)).count();
        assert_eq!(timed, 3);
        assert!(metrics.count(Op::Read).is_some());
        let counted = metrics.operations();
        let of = |what: &str| counted.iter().find(|o| o.operation == what).unwrap().count;
        assert_eq!(
            (of("lookup"), of("read"), of("copy_file_range")),
            (130, 1, 0)
        );
    }
}
