//! Refusals of the engine as a client is told of them.

use llctl::protocol::{ErrorKind, Failure};
use llctl::{Moment, StateRef};
use nix::errno::Errno;

use super::listing::nanos;
use crate::engine::Engine;
use crate::engine::snapshot::Refusal;
use crate::tree::State;

/// Names that a hint lists.
const NEAR_MAX: usize = 3;

/// Conflicts that a client is told, at most.
const CONFLICTS_MAX: usize = 1000;

/// What a client is told of a refusal.
pub(super) fn failure(engine: &Engine, refusal: &Refusal) -> Failure {
    match refusal {
        Refusal::Unknown(name) => unknown(engine, name),
        Refusal::Exists(_) => Failure::new(ErrorKind::Exists, refusal.to_string())
            .with_hint("choose another name, or delete that one with `llctl delete`"),
        Refusal::NothingToUndo => Failure::new(ErrorKind::NotFound, refusal.to_string())
            .with_hint("`llctl list` shows the snapshots to revert to"),
        Refusal::NothingToRedo => Failure::new(ErrorKind::NotFound, refusal.to_string())
            .with_hint("`llctl undo` takes back what was reverted"),
        Refusal::TooFar { what, there, .. } => {
            Failure::new(ErrorKind::NotFound, refusal.to_string())
                .with_hint(format!("`llctl {what} {there}` goes as far as there is"))
        }
        Refusal::Metadata(_) => Failure::new(ErrorKind::Invalid, refusal.to_string()),
        Refusal::Underway { .. } => Failure::new(ErrorKind::Underway, refusal.to_string())
            .with_hint("finish or abort it first, or use --force: `llctl undo` brings it back"),
        Refusal::Conflicts(conflicts) => {
            let mut failure = Failure::new(ErrorKind::Conflict, refusal.to_string()).with_hint(
                "--on-conflict revert takes them back too, --on-conflict keep leaves those files as they are",
            );
            let shown = conflicts.iter().take(CONFLICTS_MAX);
            failure.conflicts = shown
                .map(|c| llctl::protocol::Conflict {
                    path: c.path.as_slice().into(),
                    why: c.why.clone(),
                })
                .collect();
            failure
        }
        Refusal::Damaged(_) => Failure::new(ErrorKind::Damaged, refusal.to_string()).with_hint(
            "`llctl verify` says which files it concerns; --force reverts all the same, and reading those files fails",
        ),
        Refusal::TooMany(_) => Failure::new(ErrorKind::Unsupported, refusal.to_string())
            .with_hint("choose a smaller part, or revert everything"),
        Refusal::Another(name) => changed(&format!("the snapshot named {name:?}")),
        Refusal::NotThere(_) | Refusal::Gone(_) => Failure::new(ErrorKind::NotFound, refusal.to_string()),
        Refusal::Failed { what, errno } => failed(engine, what, *errno),
    }
}

/// What a client is told when `what` could not be done for `errno`.
pub(super) fn failed(engine: &Engine, what: &str, errno: Errno) -> Failure {
    match (engine.store.is_readonly(), errno) {
        (Some(_), _) if engine.store.opened_read_only() => Failure::new(
            ErrorKind::ReadOnly,
            format!("{what}: the mount is read-only"),
        )
        .with_hint("`llfs unmount` and mount again without --read-only"),
        (Some(reason), _) => Failure::new(
            ErrorKind::ReadOnly,
            format!("{what}: the store is read-only: {reason}"),
        )
        .with_hint("unmount and mount again; what was acknowledged before is kept"),
        (None, Errno::ENOSPC | Errno::EDQUOT) => Failure::errno(what, errno)
            .with_hint("delete snapshots with `llctl delete`, or free space on the store's disk"),
        (None, _) => Failure::errno(what, errno),
    }
}

/// An apply came in between.
pub(super) fn other_base() -> Failure {
    Failure::new(
        ErrorKind::Conflict,
        "the directory below the mount has changed meanwhile",
    )
}

/// Somebody said yes to something else than what would be done.
pub(super) fn changed(what: &str) -> Failure {
    Failure::new(
        ErrorKind::Conflict,
        format!("{what} has changed since you were asked"),
    )
    .with_hint("nothing was done; look again")
}

/// There is no snapshot of that name.
pub(super) fn unknown(engine: &Engine, name: &str) -> Failure {
    let near = {
        let state = engine.state.read();
        let names = state.snapshots.values().map(|s| s.name.as_str());
        nearest(name, names)
    };
    let hint = if near.is_empty() {
        "`llctl list` shows those there are".to_owned()
    } else {
        format!("did you mean {}?", near.join(", "))
    };
    Failure::new(
        ErrorKind::NotFound,
        format!("there is no snapshot named {name:?}"),
    )
    .with_hint(hint)
}

/// There is no snapshot that old.
pub(super) fn none_at(state: &State, moment: Moment) -> Failure {
    let hint = match state.snapshots.values().next() {
        Some(oldest) => format!(
            "the oldest snapshot is {:?}, of {}",
            oldest.name,
            Moment(nanos(oldest.at))
        ),
        None => "there are no snapshots yet; `llctl snap` takes one".to_owned(),
    };
    Failure::new(
        ErrorKind::NotFound,
        format!("there is no snapshot as old as {moment}"),
    )
    .with_hint(hint)
}

/// Nothing can be reverted to that state.
pub(super) fn no_target(state: &StateRef) -> Failure {
    Failure::new(ErrorKind::Invalid, format!("cannot revert to {state}"))
        .with_hint("give a snapshot's name or @base, or use `llctl undo`")
}

/// Those of `names` that `name` may be a misspelling or a part of, the nearest first.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    let most = (wanted.len() / 3).max(1);
    let mut near: Vec<(usize, &str)> = names
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let chars: Vec<char> = lower.chars().collect();
            let distance = distance(&wanted, &chars);
            let part = wanted.len() >= 3 && lower.contains(&name.to_lowercase());
            (distance <= most || part).then_some((distance, candidate))
        })
        .collect();
    near.sort();
    near.truncate(NEAR_MAX);
    near.into_iter().map(|(_, n)| n.to_owned()).collect()
}

/// Insertions, deletions and replacements that make one of the other (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbours_only() {
        let names = [
            "before-agent",
            "before-tests",
            "release",
            "2026-11-21-114402",
        ];
        let near = |n: &str| nearest(n, names.into_iter());
        assert_eq!(near("before-agnet"), ["before-agent"]);
        assert_eq!(near("Release"), ["release"]);
        assert_eq!(near("before"), ["before-agent", "before-tests"]);
        assert!(near("zebra").is_empty());
        assert!(near("").is_empty());
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        let d = |a: &str, b: &str| {
            distance(
                &a.chars().collect::<Vec<_>>(),
                &b.chars().collect::<Vec<_>>(),
            )
        };
        assert_eq!(d("kitten", "sitting"), 3);
        assert_eq!(d("", "abc"), 3);
        assert_eq!(d("same", "same"), 0);
    }
}
