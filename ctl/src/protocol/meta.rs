//! What a snapshot says of itself, besides its name and its message.
//!
//! A [`SnapMeta`] travels in requests and answers, and the store keeps it as the same map of named fields
//! (docs/FORMAT.md): a field may be added, none may change its meaning. What is too long, or would confuse a terminal,
//! is refused before it is stored ([`SnapMeta::check`]), so that a list of 10,000 snapshots stays small.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::bytes::UnixNanos;
use super::metric::Metric;
use super::trace::Trace;

/// The longest text of one field, of a tag, or of a metric's name or value, in bytes.
pub const FIELD_MAX: usize = 256;
/// Tags of one snapshot, at most.
pub const TAGS_MAX: usize = 64;
/// Metrics of one snapshot, at most.
pub const METRICS_MAX: usize = 64;
/// Bytes of all of it together, at most.
pub const META_MAX: usize = 6 << 10;

/// Why and for whom a snapshot was taken. Every field may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapMeta {
    /// Why: `manual`, `error`, `timeout`, `resource-limit`, `validation-failed`, `pre-change`, `automatic`, or own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The session that it belongs to, such as one run of an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The phase of the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The task of whoever took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The task that this task is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_task: Option<String>,
    /// Who or what took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// The request on whose behalf it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The trace that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// The thing that the work is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<Entity>,
    /// Words to find it by.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Values by name; numbers are numbers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Metric>,
    /// What the git repository in the tree had checked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitState>,
    /// The hash of the `llfs.toml` that was in force when it was taken, if one was; set by the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// The version of the store's format when it was taken; set by the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<u32>,
    /// When it was imported from an export; not when it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported: Option<UnixNanos>,
    /// Retention never gives it up.
    #[serde(skip_serializing_if = "is_false")]
    pub pinned: bool,
}

/// A thing that work is about, such as a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which one.
    pub id: String,
}

/// What a git repository had checked out, read just before the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GitState {
    /// The commit of `HEAD`, in hex; none before the first commit.
    pub head: Option<String>,
    /// The branch, without `refs/heads/`; none if `HEAD` is detached.
    pub branch: Option<String>,
    /// Whether `git status` had anything to say: a tracked file or the index differed from `HEAD`, or a file was neither
    /// tracked nor ignored. None if git was not asked.
    pub dirty: Option<bool>,
}

/// A change of what a snapshot says of itself: what is given replaces, what is not stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MetaEdit {
    /// The new message; the empty one takes it away.
    pub message: Option<String>,
    /// Fields that are given replace; tags and metrics come to those that are there; `pinned` does not count.
    pub set: SnapMeta,
    /// Tags to take away; those that are not there are ignored.
    pub untag: BTreeSet<String>,
    /// Metrics to take away; those that are not there are ignored.
    pub unset: BTreeSet<String>,
    /// Whether it is pinned from now on.
    pub pinned: Option<bool>,
}

/// Why metadata is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// A field is there and says nothing.
    #[error("{0} cannot be empty")]
    Empty(&'static str),
    /// A text has more than [`FIELD_MAX`] bytes.
    #[error("{field} has at most {FIELD_MAX} bytes, this one has {len}")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its bytes.
        len: usize,
    },
    /// A text holds a control character.
    #[error("{field} cannot contain {found:?}")]
    Character {
        /// Which field.
        field: &'static str,
        /// The character.
        found: char,
    },
    /// Too many of something.
    #[error("a snapshot has at most {max} {what}, not {count}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// All together are too long.
    #[error("the metadata of a snapshot have at most {META_MAX} bytes, these have {0}")]
    TooMuch(usize),
}

impl SnapMeta {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses what is too long or could not be printed.
    ///
    /// # Errors
    /// The first field that breaks a rule, and which rule.
    pub fn check(&self) -> Result<(), MetaError> {
        let fields = [
            ("a reason", &self.reason),
            ("a session", &self.session),
            ("a phase", &self.phase),
            ("a task", &self.task),
            ("a parent task", &self.parent_task),
            ("the creator's name", &self.created_by),
            ("a request id", &self.request_id),
        ];
        for (field, text) in fields {
            text.as_deref().map_or(Ok(()), |t| checked(field, t))?;
        }
        if let Some(entity) = &self.entity {
            checked("an entity's type", &entity.kind)?;
            checked("an entity's id", &entity.id)?;
        }
        if let Some(git) = &self.git {
            for text in git.head.iter().chain(&git.branch) {
                checked("a git name", text)?;
            }
        }
        few("tags", self.tags.len(), TAGS_MAX)?;
        for tag in &self.tags {
            checked("a tag", tag)?;
        }
        few("metrics", self.metrics.len(), METRICS_MAX)?;
        for (name, value) in &self.metrics {
            checked("a metric's name", name)?;
            if let Metric::Text(text) = value
                && !text.is_empty()
            {
                checked("a metric's value", text)?;
            }
        }
        match self.bytes() {
            len if len > META_MAX => Err(MetaError::TooMuch(len)),
            _ => Ok(()),
        }
    }

    /// Bytes that it takes in the store.
    fn bytes(&self) -> usize {
        rmp_serde::to_vec_named(self).map_or(usize::MAX, |bytes| bytes.len())
    }
}

impl MetaEdit {
    /// What `meta` becomes. The result is not checked.
    pub fn apply(&self, meta: &SnapMeta) -> SnapMeta {
        fn or<T: Clone>(new: &Option<T>, old: &Option<T>) -> Option<T> {
            new.as_ref().or(old.as_ref()).cloned()
        }
        let (new, old) = (&self.set, meta);
        let mut tags: BTreeSet<String> = old.tags.union(&new.tags).cloned().collect();
        tags.retain(|tag| !self.untag.contains(tag));
        let mut metrics = old.metrics.clone();
        metrics.extend(new.metrics.clone());
        metrics.retain(|name, _| !self.unset.contains(name));
        SnapMeta {
            reason: or(&new.reason, &old.reason),
            session: or(&new.session, &old.session),
            phase: or(&new.phase, &old.phase),
            task: or(&new.task, &old.task),
            parent_task: or(&new.parent_task, &old.parent_task),
            created_by: or(&new.created_by, &old.created_by),
            request_id: or(&new.request_id, &old.request_id),
            trace: or(&new.trace, &old.trace),
            entity: or(&new.entity, &old.entity),
            tags,
            metrics,
            git: or(&new.git, &old.git),
            config: old.config.clone(),
            format: old.format,
            imported: old.imported,
            pinned: self.pinned.unwrap_or(old.pinned),
        }
    }
}

fn checked(field: &'static str, text: &str) -> Result<(), MetaError> {
    if text.is_empty() {
        return Err(MetaError::Empty(field));
    }
    if text.len() > FIELD_MAX {
        let len = text.len();
        return Err(MetaError::TooLong { field, len });
    }
    match text.chars().find(|c| c.is_control()) {
        Some(found) => Err(MetaError::Character { field, found }),
        None => Ok(()),
    }
}

fn few(what: &'static str, count: usize, max: usize) -> Result<(), MetaError> {
    if count > max {
        return Err(MetaError::TooMany { what, count, max });
    }
    Ok(())
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> SnapMeta {
        SnapMeta {
            reason: Some("pre-change".into()),
            session: Some("s".into()),
            entity: Some(Entity {
                kind: "ticket".into(),
                id: "7".into(),
            }),
            tags: ["a", "b"].map(String::from).into(),
            metrics: [
                ("tests".to_owned(), Metric::parse("12")),
                ("rate".to_owned(), Metric::parse("0.5")),
            ]
            .into(),
            pinned: true,
            ..SnapMeta::default()
        }
    }

    #[test]
    fn what_is_said_survives_both_encodings() {
        for meta in [SnapMeta::default(), full()] {
            let packed = rmp_serde::to_vec_named(&meta).unwrap();
            assert_eq!(rmp_serde::from_slice::<SnapMeta>(&packed).unwrap(), meta);
            let json = serde_json::to_string(&meta).unwrap();
            assert_eq!(serde_json::from_str::<SnapMeta>(&json).unwrap(), meta);
        }
        assert_eq!(
            serde_json::to_string(&full()).unwrap(),
            "{\"reason\":\"pre-change\",\"session\":\"s\",\"entity\":{\"type\":\"ticket\",\"id\":\"7\"},\
             \"tags\":[\"a\",\"b\"],\"metrics\":{\"rate\":0.5,\"tests\":12},\"pinned\":true}"
        );
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over() {
        let later = b"\x82\xa6colour\xa3red\xa7session\xa1s";
        let meta: SnapMeta = rmp_serde::from_slice(later).unwrap();
        assert_eq!(meta.session.as_deref(), Some("s"));
    }

    #[test]
    fn every_length_is_bounded() {
        full().check().unwrap();
        let long = || "x".repeat(FIELD_MAX + 1);
        let bad = [
            SnapMeta {
                task: Some(long()),
                ..full()
            },
            SnapMeta {
                reason: Some(String::new()),
                ..full()
            },
            SnapMeta {
                phase: Some("a\x1b[2J".into()),
                ..full()
            },
            SnapMeta {
                tags: (0..=TAGS_MAX).map(|n| n.to_string()).collect(),
                ..full()
            },
            SnapMeta {
                tags: [long()].into(),
                ..full()
            },
            SnapMeta {
                metrics: [(long(), Metric::parse("1"))].into(),
                ..full()
            },
            SnapMeta {
                metrics: [("a".to_owned(), Metric::Text(long()))].into(),
                ..full()
            },
            SnapMeta {
                metrics: (0..METRICS_MAX)
                    .map(|n| (format!("{n:0250}"), Metric::Text("y".repeat(FIELD_MAX))))
                    .collect(),
                ..full()
            },
        ];
        for meta in bad {
            meta.check().unwrap_err();
        }
    }

    #[test]
    fn an_edit_changes_what_it_names_and_nothing_else() {
        let edit = MetaEdit {
            set: SnapMeta {
                phase: Some("review".into()),
                tags: ["c".to_owned()].into(),
                metrics: [("tests".to_owned(), Metric::parse("13"))].into(),
                ..SnapMeta::default()
            },
            untag: ["a".to_owned(), "no such".to_owned()].into(),
            unset: ["rate".to_owned()].into(),
            ..MetaEdit::default()
        };
        let after = edit.apply(&full());
        let expected = SnapMeta {
            phase: Some("review".into()),
            tags: ["b", "c"].map(String::from).into(),
            metrics: [("tests".to_owned(), Metric::parse("13"))].into(),
            ..full()
        };
        assert_eq!(after, expected);
        let unpin = MetaEdit {
            pinned: Some(false),
            ..MetaEdit::default()
        };
        assert!(!unpin.apply(&full()).pinned);
    }
}
