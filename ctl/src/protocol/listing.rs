//! Which snapshots a list shows, in which order.

use serde::{Deserialize, Serialize};

use super::{SnapInfo, SnapMeta, UnixNanos};

/// What a list is sorted by; what is equal keeps the order of age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SortBy {
    /// When it was taken.
    #[default]
    Created,
    /// Its name.
    Name,
    /// How much changed in it.
    Changed,
    /// How many bytes it holds alone.
    Alone,
}

/// Which snapshots. What is not given does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ListQuery {
    /// Of this session.
    pub session: Option<String>,
    /// Of this phase.
    pub phase: Option<String>,
    /// Of this task.
    pub task: Option<String>,
    /// Taken for this reason.
    pub reason: Option<String>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// Taken then or later.
    pub since: Option<UnixNanos>,
    /// Taken then or earlier.
    pub until: Option<UnixNanos>,
    /// The order, ascending.
    pub sort: SortBy,
    /// The other way round.
    pub reverse: bool,
    /// Leave out so many at the end.
    pub skip: u32,
    /// Of what is left, the last so many.
    pub limit: Option<u32>,
}

impl ListQuery {
    /// Whether it asks for all snapshots, and so for the discarded states too.
    pub fn is_all(&self) -> bool {
        let order = Self {
            sort: self.sort,
            reverse: self.reverse,
            ..Self::default()
        };
        *self == order
    }

    /// Whether it asks for a snapshot that says this of itself; order and paging are not looked at.
    pub fn selects(&self, created: UnixNanos, meta: &SnapMeta) -> bool {
        let same =
            |wanted: &Option<String>, has: &Option<String>| wanted.is_none() || wanted == has;
        same(&self.session, &meta.session)
            && same(&self.phase, &meta.phase)
            && same(&self.task, &meta.task)
            && same(&self.reason, &meta.reason)
            && self.tags.iter().all(|tag| meta.tags.contains(tag))
            && self.since.is_none_or(|since| created >= since)
            && self.until.is_none_or(|until| created <= until)
    }

    /// Puts what was selected, oldest first, into order.
    pub fn sort(&self, snaps: &mut [SnapInfo]) {
        match self.sort {
            SortBy::Created => {}
            SortBy::Name => snaps.sort_by(|a, b| a.name.cmp(&b.name)),
            SortBy::Changed => snaps.sort_by_key(|snap| snap.changed),
            SortBy::Alone => snaps.sort_by_key(|snap| snap.bytes),
        }
        if self.reverse {
            snaps.reverse();
        }
    }

    /// Leaves only the page that is asked for.
    pub fn page<T>(&self, all: &mut Vec<T>) {
        all.truncate(all.len().saturating_sub(self.skip as usize));
        let limit = self.limit.map_or(usize::MAX, |n| n as usize);
        all.drain(..all.len().saturating_sub(limit));
    }
}
