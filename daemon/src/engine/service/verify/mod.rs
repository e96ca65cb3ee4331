//! Reading and checking everything stored, gently: no lock is held while blocks are read or the client is told.
//!
//! Five parts, each over all states that are kept and the live one, at the cost of what differs between neighbours: the
//! roots' own consistency, the blocks of the layers, the files of the store that are no blocks, the base on
//! which the overlay relies, and whether each snapshot's state still has its checksum.

mod base;
mod blocks;
mod damage;
mod files;
mod gently;
mod roots;
mod states;

pub(super) use gently::stand_back;

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
use crate::tree::{BLOCK, Ino};

/// How often the client is told how far it is.
const TOLD: Duration = Duration::from_millis(100);

/// One verification under way.
struct Scrub<'a> {
    sink: Sink<'a, VerifyEvent>,
    summary: VerifySummary,
    /// Set once the client is gone: nothing goes on after that.
    gone: bool,
    told: Instant,
    total: Option<u64>,
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

    /// Counts bytes that were read, and now and then tells how far it is.
    fn read(&mut self, bytes: u64, what: &str) -> Step {
        self.summary.bytes += bytes;
        if self.told.elapsed() < TOLD {
            return Ok(());
        }
        self.told = Instant::now();
        self.send(VerifyEvent::Progress(Progress {
            what: what.to_owned(),
            done: self.summary.bytes,
            total: self.total,
            unit: ProgressUnit::Bytes,
        }))
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
    let mut scrub = Scrub {
        sink,
        summary: VerifySummary {
            files: 0,
            bytes: 0,
            snapshots: engine.state.read().snapshots.len() as u64,
            findings: 0,
            took_ms: 0,
        },
        gone: false,
        told: begun,
        total: None,
    };
    // What a client that left would have been told is told to nobody.
    run(engine, &mut scrub).unwrap_or(Ok(()))?;
    let mut summary = scrub.summary;
    summary.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(summary)
}

fn run(engine: &Engine, scrub: &mut Scrub<'_>) -> Step<Result<(), Failure>> {
    scrub.doing("checking names and links")?;
    roots::check(engine, scrub)?;
    scrub.doing("reading layers")?;
    if let Err(failure) = blocks::check(engine, scrub)? {
        return Ok(Err(failure));
    }
    scrub.doing("checking the journal and the images")?;
    files::check(engine, scrub)?;
    scrub.doing("checking the base")?;
    base::check(engine, scrub)?;
    scrub.doing("comparing states with their checksums")?;
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
