//! One process of those that work in the directory at once.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::block::Writer;
use super::ledger::Ledger;
use super::line::Appender;
use super::own::Own;
use super::{SLOTS, fight, tokens};
use crate::dice::Random;
use crate::tree;

/// What a process is to do.
#[derive(Clone, Debug)]
pub struct Work {
    /// Chooses what every thread does, together with its slot.
    pub seed: u64,
    /// The slot of the process's first thread.
    pub first: usize,
    /// How many threads it has.
    pub threads: usize,
    /// How long it goes on.
    pub time: Duration,
    /// Nothing goes back meanwhile.
    pub exact: bool,
}

impl Work {
    /// Does it; how many steps there were.
    ///
    /// # Errors
    /// What the threads found wrong, a line for each.
    pub fn run(&self, dir: &Path, ledger: &Ledger) -> Result<u64, String> {
        if self.first + self.threads > SLOTS {
            return Err(format!("there are {SLOTS} slots"));
        }
        let ended: Vec<_> = std::thread::scope(|scope| {
            let slots = self.first..self.first + self.threads;
            let threads: Vec<_> = slots
                .map(|slot| scope.spawn(move || self.thread(dir, ledger, slot)))
                .collect();
            let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined
                .map(|end| end.unwrap_or_else(|_| Err("a thread panicked".to_owned())))
                .collect()
        });
        let wrong: Vec<_> = ended
            .iter()
            .filter_map(|end| end.as_ref().err())
            .cloned()
            .collect();
        if wrong.is_empty() {
            Ok(ended.into_iter().flatten().sum())
        } else {
            Err(wrong.join("\n"))
        }
    }

    fn thread(&self, dir: &Path, ledger: &Ledger, slot: usize) -> Result<u64, String> {
        let told = |what: &'static str| {
            move |error: io::Error| format!("seed {}, slot {slot}: {what}: {error}", self.seed)
        };
        let mut random = Random::new(self.seed << 8 ^ slot as u64);
        let mut own = Own::new(dir, slot, self.exact);
        let mut log = Appender::open(dir).map_err(told("log"))?;
        let mut blocks = Writer::open(dir, slot, self.exact).map_err(told("blocks"))?;
        let end = Instant::now() + self.time;
        let mut steps = 0;
        while Instant::now() < end {
            steps += 1;
            match random.below(100) {
                0..30 => own
                    .step(&mut random)
                    .map_err(io::Error::other)
                    .map_err(told("own"))?,
                30..50 => match fight::step(dir, slot, steps, &mut random) {
                    Err(error) if !tree::expected(&error) => return Err(told("names")(error)),
                    _ => {}
                },
                50..60 => tokens::step(dir, &mut random, self.exact).map_err(told("tokens"))?,
                60..70 => log.step(ledger, slot, &mut random).map_err(told("log"))?,
                70..80 => blocks.cut(ledger, &mut random).map_err(told("cut"))?,
                80..88 => blocks.fixed(ledger).map_err(told("fixed"))?,
                88..97 => blocks.mapped(ledger).map_err(told("mapped"))?,
                97 => log = Appender::open(dir).map_err(told("log"))?,
                98 => blocks = Writer::open(dir, slot, self.exact).map_err(told("blocks"))?,
                _ => {
                    let seed = random.next_u64();
                    tree::churn(&dir.join("tree"), seed, 20, false)
                        .map_err(io::Error::other)
                        .map_err(told("tree"))?;
                }
            }
        }
        own.settle()
            .map_err(io::Error::other)
            .map_err(told("own, at the end"))?;
        Ok(steps)
    }
}
