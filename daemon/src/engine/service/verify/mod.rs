//! Reading and checking everything stored, gently: no lock is held while blocks are read or the client is told.
//!
//! Five parts, each over all states that are kept and the live one, at the cost of what differs between neighbours: the
//! roots' own consistency, the blocks of the layers, the files of the store that are no blocks, the base on
//! which the overlay relies, and whether each snapshot's state still has its checksum.
//!
//! How far it is, is in the relay, up to the first damage of a part: a worker that is asked again for what the one before
//! it did not finish goes on there.

mod base;
mod blocks;
mod damage;
mod files;
mod gently;
mod roots;
mod states;

pub(super) use gently::stand_back;

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use llctl::client::VerifyEvent;
use llctl::protocol::{
    BytePath, Failure, Finding, FindingKind, Progress, ProgressUnit, VerifySummary,
};

use super::states::View;
use crate::control::Sink;
use crate::engine::Engine;
use crate::relay::{Errand, Scrubbed};
use crate::tree::{BLOCK, Ino};

/// How often the client is told how far it is.
const TOLD: Duration = Duration::from_millis(100);

/// One verification under way.
struct Scrub<'a> {
    sink: Sink<'a, VerifyEvent>,
    summary: VerifySummary,
    /// Set once the client is gone: nothing goes on after that.
    gone: bool,
    /// When it was told last how far it is.
    told: Option<Instant>,
    total: Option<u64>,
    engine: &'a Engine,
    errand: Option<Errand>,
    /// Where to go on.
    from: Scrubbed,
}

thread_local! {
    /// For whom this thread verifies.
    static ASKED: Cell<Option<Errand>> = const { Cell::new(None) };
}

/// Whose request this thread carries out from here on, if it is one that an earlier worker may have begun with.
pub(super) fn asked_by(errand: Option<Errand>) {
    ASKED.set(errand);
}

/// The client is gone.
struct Gone;

type Step<T = ()> = Result<T, Gone>;

impl Scrub<'_> {
    fn send(&mut self, event: VerifyEvent) -> Step {
        let sent: io::Result<()> = if self.gone {
            Err(io::ErrorKind::BrokenPipe.into())
        } else {
            (self.sink)(event)
        };
        self.gone |= sent.is_err();
        sent.map_err(|_| Gone)
    }

    fn found(&mut self, finding: Finding) -> Step {
        self.summary.findings += 1;
        self.send(VerifyEvent::Finding(finding))
    }

    /// Counts bytes that were read.
    fn count(&mut self, bytes: u64) {
        self.summary.bytes += bytes;
    }

    /// At first, and then now and then, tells how far it is.
    fn tell(&mut self, what: &str) -> Step {
        if self.told.is_some_and(|told| told.elapsed() < TOLD) {
            return Ok(());
        }
        self.told = Some(Instant::now());
        self.send(VerifyEvent::Progress(Progress {
            what: what.to_owned(),
            done: self.summary.bytes,
            total: self.total,
            unit: ProgressUnit::Bytes,
        }))
    }

    /// All before this is told, and needs not be looked at again.
    fn reached(&self, step: u64, at: u64) {
        if let Some(errand) = self.errand {
            let to = Scrubbed {
                step,
                at,
                bytes: self.summary.bytes,
                files: self.summary.files,
            };
            self.engine.relay().scrubbed(errand, to);
        }
    }

    /// How far an earlier worker got with a step.
    fn done_of(&self, step: u64) -> u64 {
        match self.from.step == step {
            true => self.from.at,
            false => 0,
        }
    }

    /// Tells what is being done now.
    fn doing(&mut self, what: &str) -> Step {
        self.send(VerifyEvent::Progress(Progress {
            what: what.to_owned(),
            done: self.summary.bytes,
            total: self.total,
            unit: ProgressUnit::Bytes,
        }))
    }
}

/// Verifies everything; see [`crate::control::Service::verify`].
pub(super) fn verify(
    engine: &Engine,
    sink: Sink<'_, VerifyEvent>,
) -> Result<VerifySummary, Failure> {
    let begun = Instant::now();
    let errand = ASKED.take();
    let from = errand.map(|errand| engine.relay().begin_scrub(errand));
    let from = from.unwrap_or_default();
    let mut scrub = Scrub {
        sink,
        summary: VerifySummary {
            files: from.files,
            bytes: from.bytes,
            snapshots: engine.state.read().snapshots.len() as u64,
            findings: 0,
            took_ms: 0,
        },
        gone: false,
        told: None,
        total: None,
        engine,
        errand,
        from,
    };
    // What a client that left would have been told is told to nobody.
    run(engine, &mut scrub).unwrap_or(Ok(()))?;
    let mut summary = scrub.summary;
    summary.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(summary)
}

/// The numbers of the steps.
const ROOTS: u64 = 0;
const BLOCKS: u64 = 1;
const FILES: u64 = 2;
const BASE: u64 = 3;
const STATES: u64 = 4;

fn run(engine: &Engine, scrub: &mut Scrub<'_>) -> Step<Result<(), Failure>> {
    let from = scrub.from.step;
    if from == ROOTS {
        scrub.doing("checking names and links")?;
        roots::check(engine, scrub)?;
        scrub.reached(BLOCKS, 0);
    }
    if from <= BLOCKS {
        scrub.doing("reading layers")?;
        if let Err(failure) = blocks::check(engine, scrub)? {
            return Ok(Err(failure));
        }
        scrub.reached(FILES, 0);
    }
    if from <= FILES {
        scrub.doing("checking the journal and the images")?;
        files::check(engine, scrub)?;
        scrub.reached(BASE, 0);
    }
    if from <= BASE {
        scrub.doing("checking the base")?;
        base::check(engine, scrub)?;
        scrub.reached(STATES, 0);
    }
    states::check(engine, scrub)?;
    Ok(Ok(()))
}

/// A path of some state, for a finding.
fn path_in(engine: &Engine, view: &View, ino: Ino) -> Option<BytePath> {
    let peeks = super::diff::Peeks::new(engine);
    let names = super::diff::Names::new(&peeks, view);
    if ino == crate::tree::ROOT {
        return Some(BytePath::from("."));
    }
    let slot = names.bound(ino).ok()?.into_iter().next()?;
    names.path(&slot).map(BytePath)
}

/// Where affected inodes are, in which states: one finding for each path.
#[derive(Default)]
struct Affected {
    states: HashMap<Option<BytePath>, Vec<String>>,
    order: Vec<Option<BytePath>>,
}

impl Affected {
    fn add(&mut self, path: Option<BytePath>, state: &str) {
        let states = self.states.entry(path.clone()).or_insert_with(|| {
            self.order.push(path);
            Vec::new()
        });
        if !states.iter().any(|s| s == state) {
            states.push(state.to_owned());
        }
    }

    fn findings(mut self, kind: FindingKind, what: &str) -> Vec<Finding> {
        self.order.sort();
        let mut findings = Vec::new();
        for path in self.order {
            findings.push(Finding {
                kind,
                what: what.to_owned(),
                states: self.states.remove(&path).unwrap_or_default(),
                path,
            });
        }
        findings
    }
}

/// Bytes of so many blocks.
fn bytes(blocks: u32) -> u64 {
    u64::from(blocks) * BLOCK
}
