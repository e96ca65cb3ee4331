//! Which snapshots a session or a task made, and which tasks came of it.

use std::collections::BTreeSet;

use crate::protocol::SnapInfo;

/// Whose work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Of these sessions.
    pub sessions: Vec<String>,
    /// Of these tasks.
    pub tasks: Vec<String>,
    /// And of all tasks that have one of them for their parent, and so on.
    pub cascade: bool,
    /// But of these tasks not.
    pub preserve: Vec<String>,
}

impl Work {
    /// Whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.tasks.is_empty()
    }

    /// The snapshots of this work, in the order of `all`.
    pub fn of<'a>(&self, all: &'a [SnapInfo]) -> Vec<&'a SnapInfo> {
        let mut tasks: BTreeSet<&str> = self.tasks.iter().map(String::as_str).collect();
        let own = |snap: &SnapInfo| {
            let session = snap.meta.session.as_ref();
            session.is_some_and(|session| self.sessions.contains(session))
        };
        if self.cascade {
            tasks.extend(
                all.iter()
                    .filter(|s| own(s))
                    .filter_map(|s| s.meta.task.as_deref()),
            );
        }
        // A task may be named before its parent is.
        let mut before = if self.cascade { 0 } else { tasks.len() };
        while tasks.len() > before {
            before = tasks.len();
            for snap in all {
                if let (Some(task), Some(parent)) = (&snap.meta.task, &snap.meta.parent_task)
                    && tasks.contains(parent.as_str())
                {
                    tasks.insert(task);
                }
            }
        }
        let wanted = |snap: &&SnapInfo| {
            let task = snap.meta.task.as_deref();
            let kept = task.is_some_and(|task| self.preserve.iter().any(|kept| kept == task));
            !kept && (own(snap) || task.is_some_and(|task| tasks.contains(task)))
        };
        all.iter().filter(wanted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{SnapMeta, UnixNanos};

    fn snap(name: &str, session: &str, task: &str, parent: &str) -> SnapInfo {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        SnapInfo {
            name: name.to_owned(),
            id: 1,
            created: UnixNanos(0),
            message: None,
            changed: None,
            bytes: None,
            shared: None,
            hash: None,
            meta: SnapMeta {
                session: text(session),
                task: text(task),
                parent_task: text(parent),
                ..SnapMeta::default()
            },
        }
    }

    #[test]
    fn work_is_that_of_sessions_and_tasks_and_what_came_of_them() {
        let all = [
            snap("1", "s", "C", "B"),
            snap("2", "s", "A", ""),
            snap("3", "t", "B", "A"),
            snap("4", "t", "D", ""),
            snap("5", "", "", ""),
            // A circle must come to an end.
            snap("6", "", "A", "C"),
        ];
        let names =
            |work: Work| -> Vec<String> { work.of(&all).iter().map(|s| s.name.clone()).collect() };
        let task = |task: &str| Work {
            tasks: vec![task.to_owned()],
            ..Work::default()
        };
        let session = Work {
            sessions: vec!["s".to_owned()],
            ..Work::default()
        };
        assert_eq!(names(task("A")), ["2", "6"]);
        let cascade = Work {
            cascade: true,
            ..task("B")
        };
        assert_eq!(names(cascade), ["1", "2", "3", "6"]);
        let preserving = Work {
            cascade: true,
            preserve: vec!["B".to_owned()],
            ..task("A")
        };
        assert_eq!(names(preserving), ["1", "2", "6"]);
        assert_eq!(names(session.clone()), ["1", "2"]);
        let cascade = Work {
            cascade: true,
            ..session
        };
        assert_eq!(names(cascade), ["1", "2", "3", "6"]);
        assert!(names(Work::default()).is_empty());
    }
}
