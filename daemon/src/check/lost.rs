//! What lies behind a damaged place of the journal, as far as it can still be read.

use std::collections::BTreeSet;

use serde::Serialize;

use super::report;
use crate::tree::{Apply, Delta, Ino, Record, Time};

/// Names that are listed; more are counted.
const NAMED: usize = 20;

/// What would be given up.
#[derive(Default, Serialize)]
pub(super) struct Lost {
    /// Records that can still be read.
    pub records: u64,
    /// Records that are whole and mean nothing to this program.
    pub foreign: u64,
    /// Changes of the tree.
    pub changes: u64,
    /// Files that these touched.
    #[serde(serialize_with = "count")]
    pub files: BTreeSet<Ino>,
    /// Snapshots, by name.
    pub snapshots: Vec<String>,
    /// Deletions of snapshots and discarded states.
    pub deletions: u64,
    /// Reverts and undos.
    pub reverts: u64,
    /// Whether the tree was written into the directory.
    pub applied: bool,
    #[serde(skip)]
    pub first: Option<Time>,
    #[serde(skip)]
    pub last: Option<Time>,
}

fn count<S: serde::Serializer>(files: &BTreeSet<Ino>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(files.len() as u64)
}

impl Lost {
    /// Counts a record.
    pub fn add(&mut self, bytes: &[u8]) {
        self.records += 1;
        let Ok(record) = rmp_serde::from_slice::<Record>(bytes) else {
            self.foreign += 1;
            return;
        };
        if let Some(time) = time_of(&record) {
            self.first.get_or_insert(time);
            self.last = Some(time);
        }
        match record {
            Record::Change(deltas) => {
                self.changes += 1;
                self.files
                    .extend(deltas.iter().filter_map(|delta| match delta {
                        Delta::Inode(ino, _)
                        | Delta::Touch { ino, .. }
                        | Delta::Link { ino, .. } => Some(*ino),
                        _ => None,
                    }));
            }
            Record::Snap { name, .. } => self.snapshots.push(name),
            Record::Switch { .. } => self.reverts += 1,
            Record::Drop(ids) => self.deletions += ids.len() as u64,
            Record::Apply(Apply::Done) => self.applied = true,
            _ => {}
        }
    }

    /// What would be given up, a sentence each.
    pub fn sentences(&self) -> Vec<String> {
        let mut all = Vec::new();
        if self.records == 0 {
            all.push(
                "give up what lies behind the damage, of which nothing can be read".to_owned(),
            );
            return all;
        }
        let span = match (self.first, self.last) {
            (Some(first), Some(last)) => {
                format!(", of {} to {}", report::local(first), report::local(last))
            }
            _ => String::new(),
        };
        all.push(format!(
            "give up what came after that, of which {} can still be read{span}",
            records(self.records)
        ));
        if !self.snapshots.is_empty() {
            let names = self.snapshots.iter().take(NAMED);
            let names: Vec<String> = names
                .map(|name| llctl::escape::escaped(name.as_bytes()))
                .collect();
            let more = match self.snapshots.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            all.push(format!("among it snapshots: {}{more}", names.join(", ")));
        }
        if self.changes > 0 {
            all.push(format!(
                "among it {} changes to {} files and directories",
                self.changes,
                self.files.len()
            ));
        }
        for (number, what) in [
            (self.reverts, "reverts or undos"),
            (
                self.deletions,
                "deletions of snapshots or of discarded states: what these freed cannot be read any more",
            ),
        ] {
            if number > 0 {
                all.push(format!("among it {number} {what}"));
            }
        }
        if self.applied {
            all.push(
                "among it an apply: the directory is not what the tree before it relies on, and the mount will say so"
                    .to_owned(),
            );
        }
        all
    }
}

fn records(number: u64) -> String {
    match number {
        1 => "1 record".to_owned(),
        number => format!("{number} records"),
    }
}

/// When it was made, if it tells.
pub(super) fn time_of(record: &Record) -> Option<Time> {
    match record {
        Record::Snap { at, .. } | Record::Switch { at, .. } => Some(*at),
        Record::Change(deltas) => deltas.iter().find_map(|delta| match delta {
            Delta::Touch { ctime, .. } => Some(*ctime),
            _ => None,
        }),
        _ => None,
    }
}
