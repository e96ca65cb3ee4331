//! Reverts of the whole and of parts, their previews and their checks; and deletions, which ask.

use std::fs;

use llctl::protocol::{
    BytePath, Change, ChangeCounts, ChangeKind, Conflict, ErrorKind, Failure, OnConflict, Part,
    PartOf, Request, Response, RevertCheck, RevertInfo,
};
use llctl::{SnapName, StateRef};

use super::fake::{Fake, snap};

fn to(name: &str) -> StateRef {
    name.parse().unwrap()
}

fn info() -> RevertInfo {
    RevertInfo {
        to: "a in src".to_owned(),
        changed: 2,
        discarded: Some(9),
        unsaved: Some(1),
        at_least: false,
        took_us: 850,
    }
}

fn changes() -> Vec<Response> {
    let counts = ChangeCounts {
        removed: 1,
        ..Default::default()
    };
    vec![
        Response::Change(Change {
            path: BytePath::from("src/new"),
            kind: ChangeKind::Removed,
            from: None,
            old: None,
            new: None,
            patch: None,
        }),
        Response::DiffEnd(counts),
    ]
}

#[test]
fn a_part_is_chosen_by_patterns_components_and_snapshots() {
    let fake = Fake::new(vec![Response::Reverted(info())]);
    fs::write(
        fake.dir.join("llfs.toml"),
        "[components]\nfrontend = [\"web/**\", \"package.json\"]\n[other]\nx = 1\n",
    )
    .unwrap();
    fs::create_dir(fake.dir.join("sub[1]")).unwrap();
    assert_eq!(
        fake.output(&["revert", "a", "--path", "src/*.rs", "--path", "/top"]),
        "Reverted to a in src: 2 files changed, in 850 µs. `llctl undo` takes it back.\n\
         No snapshot holds what was changed last, in 1 file; only undo does.\n"
    );
    fake.output(&[
        "revert",
        "a",
        "--component",
        "frontend",
        "--on-conflict",
        "keep",
    ]);
    fake.output(&[
        "revert",
        "--checkpoint",
        "b",
        "--checkpoint",
        "c",
        "--force",
    ]);
    let mut below = fake.command(&["revert", "a", "--path", "x/*", "--path", "."]);
    below.current_dir(fake.dir.join("sub[1]"));
    assert_eq!(super::fake::finish(below).code, 0);
    let part = |of, globs: &[&str]| Part {
        of,
        globs: globs.iter().map(|g| (*g).to_owned()).collect(),
        there: Vec::new(),
    };
    let request = |part, on_conflict, force| Request::RevertPart {
        part,
        on_conflict,
        force,
    };
    let names = ["b", "c"].map(|n| SnapName::new(n).unwrap()).to_vec();
    assert_eq!(
        fake.requests(),
        [
            request(
                part(PartOf::To(to("a")), &["src/*.rs", "/top"]),
                OnConflict::Stop,
                false
            ),
            request(
                part(PartOf::To(to("a")), &["web/**", "package.json"]),
                OnConflict::Keep,
                false
            ),
            request(part(PartOf::Snapshots(names), &[]), OnConflict::Stop, true),
            request(
                part(PartOf::To(to("a")), &["sub\\[1\\]/x/*", "sub\\[1\\]"]),
                OnConflict::Stop,
                false
            ),
        ]
    );
}

#[test]
fn the_work_of_tasks_and_sessions_is_that_of_their_snapshots() {
    let fake = Fake::answering(|request| match request {
        Request::List { .. } => {
            let of = |name: &str, session: &str, task: &str, parent: Option<&str>| {
                let mut info = snap(name);
                info.meta.session = Some(session.to_owned());
                info.meta.task = Some(task.to_owned());
                info.meta.parent_task = parent.map(str::to_owned);
                info
            };
            vec![
                Response::List(llctl::protocol::Listing {
                    snapshots: vec![
                        of("one", "s", "A", None),
                        of("two", "s", "B", Some("A")),
                        of("three", "t", "C", Some("B")),
                    ],
                    discarded: Vec::new(),
                }),
                Response::ListEnd,
            ]
        }
        _ => vec![Response::Reverted(info())],
    });
    for (args, expected) in [
        (&["--task", "A"][..], &["one"][..]),
        (&["--session", "s"], &["one", "two"]),
        (&["--task", "A", "--cascade"], &["one", "two", "three"]),
        (
            &["--task", "A", "--cascade", "--preserve", "B"],
            &["one", "three"],
        ),
        (&["--checkpoint", "three", "--task", "A"], &["three", "one"]),
    ] {
        fake.output(&[&["revert"], args].concat());
        let asked = fake.requests();
        let Some(Request::RevertPart { part, .. }) = asked.last() else {
            panic!("{asked:?}");
        };
        let names = expected.iter().map(|n| SnapName::new(*n).unwrap());
        assert_eq!(part.of, PartOf::Snapshots(names.collect()), "{args:?}");
    }
    let run = fake.run(&["revert", "--task", "Z"]);
    assert_eq!(run.code, 4);
    assert!(run.stderr.contains("no snapshot is of Z"), "{}", run.stderr);
}

#[test]
fn what_chooses_nothing_is_told_before_anything_is_asked() {
    let fake = Fake::new(vec![Response::Reverted(info())]);
    fs::write(
        fake.dir.join("llfs.toml"),
        "[components]\nweb = [\"web\"]\n",
    )
    .unwrap();
    for (args, said) in [
        (&["revert", "a", "--path", "[x"][..], "is no pattern"),
        (&["revert", "a", "--path", "../x"], "leads upwards"),
        (&["revert", "a", "--component", "app"], "it has web"),
        (&["revert"], "required"),
        (&["revert", "a", "--checkpoint", "b"], "cannot be used with"),
        (&["revert", "a", "--patch"], "--dry-run"),
    ] {
        let run = fake.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}");
        assert!(run.stderr.contains(said), "{args:?}: {}", run.stderr);
    }
    fs::write(fake.dir.join("llfs.toml"), "[components]\nweb = 3\n").unwrap();
    let run = fake.run(&["revert", "a", "--component", "web"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("line 2"), "{}", run.stderr);
    assert!(fake.requests().is_empty());
}

#[test]
fn a_preview_is_a_diff_and_reverts_nothing() {
    let fake = Fake::new(changes());
    let text = "D  src/new\n1 removed.\n";
    assert_eq!(fake.output(&["revert", "a", "--dry-run"]), text);
    assert_eq!(fake.output(&["revert", "a", "-n", "--path", "src"]), text);
    assert_eq!(fake.output(&["undo", "--dry-run"]), text);
    let json = fake.output(&["revert", "a", "-n", "--json"]);
    assert!(
        json.contains("\"summary\":{\"added\":0,\"removed\":1"),
        "{json}"
    );
    let diff = |to: StateRef| Request::Diff {
        from: Some(StateRef::Live),
        to,
        paths: Vec::new(),
        patch: false,
    };
    let part = Request::PreviewPart {
        part: Part {
            of: PartOf::To(to("a")),
            globs: vec!["src".to_owned()],
            there: Vec::new(),
        },
        on_conflict: OnConflict::Stop,
        patch: false,
    };
    assert_eq!(
        fake.requests(),
        [diff(to("a")), part, diff(StateRef::Undo), diff(to("a"))]
    );
}

#[test]
fn conflicts_are_named_file_by_file() {
    let mut failure = Failure::new(ErrorKind::Conflict, "others changed it").with_hint("choose");
    failure.conflicts = vec![Conflict {
        path: BytePath::from("src/a\n"),
        why: "was changed since".to_owned(),
    }];
    let fake = Fake::new(vec![Response::Error(failure)]);
    let run = fake.run(&["revert", "--checkpoint", "b"]);
    assert_eq!((run.code, run.stdout.as_str()), (10, ""));
    assert_eq!(
        run.stderr,
        "llctl: error: others changed it\n  src/a\\n  was changed since\nhint: choose\n"
    );
    let run = fake.run(&["revert", "--checkpoint", "b", "--json"]);
    assert_eq!(
        run.stdout,
        "{\"error\":{\"kind\":\"conflict\",\"message\":\"others changed it\",\"hint\":\"choose\",\
         \"conflicts\":[{\"path\":\"src/a\\n\",\"why\":\"was changed since\"}]}}\n"
    );
}

#[test]
fn force_is_handed_on() {
    let fake = Fake::new(vec![Response::Reverted(info())]);
    fake.output(&["revert", "a", "--force"]);
    assert_eq!(
        fake.requests(),
        [Request::Revert {
            to: to("a"),
            force: true
        }]
    );
}

#[test]
fn a_linked_work_tree_whose_repository_is_elsewhere_is_looked_at() {
    let fake = Fake::new(vec![Response::Reverted(info())]);
    let elsewhere = std::env::temp_dir().join(format!("llctl-git-{}", std::process::id()));
    fs::create_dir_all(&elsewhere).unwrap();
    let text = format!("gitdir: {}\n", elsewhere.display());
    fs::write(fake.dir.join(".git"), text).unwrap();
    fake.output(&["revert", "a"]);
    fs::create_dir(elsewhere.join("rebase-merge")).unwrap();
    let run = fake.run(&["revert", "a"]);
    assert_eq!((run.code, run.stdout.as_str()), (9, ""));
    assert!(
        run.stderr.contains("a git rebase is in progress"),
        "{}",
        run.stderr
    );
    fake.output(&["revert", "a", "--force"]);
    fs::remove_dir_all(&elsewhere).unwrap();
    assert_eq!(fake.requests().len(), 2);
}

fn check() -> RevertCheck {
    RevertCheck {
        to: "a".to_owned(),
        changed: 12,
        unsaved: 0,
        underway: None,
        damage: Vec::new(),
        format: 3,
    }
}

#[test]
fn can_revert_says_what_it_looked_at() {
    let fake = Fake::new(vec![Response::CanRevert(check())]);
    assert_eq!(
        fake.output(&["can-revert", "a"]),
        "\
ok         a exists
ok         the store's format is version 3, which this daemon knows
ok         no damage is known; `llctl verify` reads everything
ok         git is in the middle of nothing that would end
ok         a snapshot holds everything as it is now
           A revert to a would change 12 files.
"
    );
    assert_eq!(
        fake.output(&["can-revert", "a", "--json"]),
        "{\"can_revert\":true,\"to\":\"a\",\"changed\":12,\"unsaved\":0,\"underway\":null,\"damage\":[],\"format\":3,\
         \"outside\":null,\"open_for_writing\":[]}\n"
    );
}

#[test]
fn can_revert_exits_as_the_revert_would() {
    let underway = RevertCheck {
        unsaved: 1,
        underway: Some("a git merge is in progress".to_owned()),
        ..check()
    };
    let damaged = RevertCheck {
        damage: vec!["layer 3 is not there".to_owned()],
        ..underway.clone()
    };
    let fake = Fake::new(vec![Response::CanRevert(underway)]);
    let run = fake.run(&["can-revert", "a"]);
    assert_eq!(run.code, 9);
    assert!(
        run.stdout
            .contains("underway   a git merge is in progress; --force reverts all the same\n")
            && run
                .stdout
                .contains("note       no snapshot holds what was changed last, in 1 file;"),
        "{}",
        run.stdout
    );
    assert_eq!(fake.run(&["can-revert", "a", "--force"]).code, 0);
    let fake = Fake::new(vec![Response::CanRevert(damaged)]);
    let run = fake.run(&["can-revert", "a"]);
    assert_eq!(run.code, 7);
    assert!(
        run.stdout.contains("damaged    layer 3 is not there\n"),
        "{}",
        run.stdout
    );
    let run = Fake::failing(ErrorKind::NotFound).run(&["can-revert", "a"]);
    assert_eq!(run.code, 4);
}

#[test]
fn a_deletion_needs_a_yes_and_has_a_preview() {
    let fake = Fake::answering(|request| match request {
        Request::List { .. } => {
            let mut held = snap("a");
            held.bytes = Some(4096);
            vec![
                Response::List(llctl::protocol::Listing {
                    snapshots: vec![held, snap("b")],
                    discarded: Vec::new(),
                }),
                Response::ListEnd,
            ]
        }
        _ => vec![Response::Deleted(vec!["a".to_owned()])],
    });
    let run = fake.run(&["delete", "a"]);
    assert_eq!((run.code, run.stdout.as_str()), (6, ""));
    assert_eq!(
        run.stderr,
        "llctl: error: a deleted snapshot cannot be brought back, so this needs a yes\n\
         hint: `llctl delete --yes` does it without asking\n"
    );
    assert!(fake.requests().is_empty());
    assert_eq!(
        fake.output(&["delete", "--dry-run", "a"]),
        "would delete a, of 2026-11-21 11:44:02; it alone holds 4.0 KiB\n"
    );
    assert_eq!(fake.run(&["delete", "-n", "absent"]).code, 4);
    assert!(
        fake.requests()
            .iter()
            .all(|r| matches!(r, Request::List { .. }))
    );
    assert_eq!(fake.output(&["delete", "--yes", "a"]), "Deleted a.\n");
}
