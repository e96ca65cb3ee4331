//! The commands that ask once and are answered once.

use llctl::protocol::{
    BytePath, ChangeCounts, DiscardedInfo, HeldInfo, Listing, Request, Response, RevertInfo,
    SnapDetail, SnapInfo, SnapMeta, StatusInfo, StoreParts,
};
use llctl::{SnapName, StateRef};

use super::fake::{Fake, WHEN, snap};

fn name(text: &str) -> SnapName {
    SnapName::new(text).unwrap()
}

#[test]
fn snap_says_what_it_took() {
    let fake = Fake::new(vec![Response::Snap(SnapInfo {
        changed: Some(1),
        ..snap("before")
    })]);
    assert_eq!(
        fake.output(&["snap", "before", "-m", "all good"]),
        "Snapshot before taken (1 file changed since the last one).\n"
    );
    assert_eq!(
        fake.output(&["snap", "--json"]),
        "{\"name\":\"before\",\"id\":3,\"created\":\"2026-11-21T11:44:02Z\",\"message\":null,\"changed\":1,\"bytes\":null}\n"
    );
    assert_eq!(
        fake.requests(),
        [
            Request::Snap {
                name: Some(name("before")),
                message: Some("all good".to_owned()),
                meta: SnapMeta::default(),
                only_if_changed: false,
            },
            Request::Snap {
                name: None,
                message: None,
                meta: SnapMeta::default(),
                only_if_changed: false,
            },
        ]
    );
}

#[test]
fn snap_if_changed() {
    let fake = Fake::new(vec![Response::Unchanged(snap("before"))]);
    assert_eq!(
        fake.output(&["snap", "--if-changed", "new"]),
        "Nothing has changed since before: no snapshot was taken.\n"
    );
    assert_eq!(
        fake.output(&["snap", "--if-changed", "--json"]),
        "{\"unchanged\":{\"name\":\"before\",\"id\":3,\"created\":\"2026-11-21T11:44:02Z\",\"message\":null,\"changed\":null,\"bytes\":null}}\n"
    );
    assert!(fake.requests().iter().all(|request| matches!(
        request,
        Request::Snap {
            only_if_changed: true,
            ..
        }
    )));
    let fake = Fake::new(vec![Response::Snap(snap("new"))]);
    assert_eq!(
        fake.output(&["snap", "--if-changed"]),
        "Snapshot new taken.\n"
    );
}

fn listing() -> Vec<Response> {
    let first = SnapInfo {
        message: Some("before the agent\nsecond line".to_owned()),
        changed: Some(12),
        bytes: Some(1 << 20),
        ..snap("pre-refactor")
    };
    let second = SnapInfo {
        id: 4,
        ..snap("b\u{202e}c")
    };
    let discarded = DiscardedInfo {
        id: 5,
        discarded: WHEN,
        reverted_to: "pre-refactor".to_owned(),
        changed: Some(7),
        bytes: Some(4096),
        undo: true,
        redo: false,
    };
    vec![
        Response::List(Listing {
            snapshots: vec![first],
            discarded: Vec::new(),
        }),
        Response::List(Listing {
            snapshots: vec![second],
            discarded: vec![discarded],
        }),
        Response::ListEnd,
    ]
}

#[test]
fn list_is_a_table() {
    let fake = Fake::new(listing());
    let table = "\
NAME            CREATED              CHANGED    ALONE  MESSAGE
pre-refactor    2026-11-21 11:44:02       12  1.0 MiB  before the agent
b\\xe2\\x80\\xaec  2026-11-21 11:44:02        -        -

Discarded by reverts (`llctl undo` brings back the one marked *):
   DISCARDED            HOW                            CHANGED    ALONE
*  2026-11-21 11:44:02  by the revert to pre-refactor        7  4.0 KiB
";
    assert_eq!(fake.output(&["list"]), table);
    assert_eq!(fake.output(&["ls"]), table);
}

#[test]
fn list_in_json_is_one_object() {
    let text = Fake::new(listing()).output(&["list", "--json"]);
    let listing: Listing = serde_json::from_str(&text).unwrap();
    assert_eq!((listing.snapshots.len(), listing.discarded.len()), (2, 1));
    assert_eq!(listing.snapshots[1].name, "b\u{202e}c");
}

#[test]
fn an_empty_list_prints_nothing_but_a_hint() {
    let fake = Fake::new(vec![Response::ListEnd]);
    let run = fake.run(&["list"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
    assert_eq!(run.stderr, "No snapshots yet; `llctl snap` takes one.\n");
    assert_eq!(
        fake.output(&["list", "--json"]),
        "{\"snapshots\":[],\"discarded\":[]}\n"
    );
}

#[test]
fn show_tells_all() {
    let fake = Fake::new(vec![Response::Show(SnapDetail {
        snapshot: SnapInfo {
            message: Some("one\ntwo\x1b[31m".to_owned()),
            bytes: Some(10),
            ..snap("a")
        },
        previous: Some("zero".to_owned()),
        since_previous: Some(ChangeCounts {
            added: 1,
            modified: 2,
            ..Default::default()
        }),
        to_live: Some(ChangeCounts::default()),
        archived: None,
        config: None,
    })]);
    assert_eq!(
        fake.output(&["show", "a"]),
        "\
snapshot   a
number     3
created    2026-11-21 11:44:02
alone      10 B (freed if only this snapshot is deleted)
changes    1 added, 2 modified since zero
since then nothing

    one
    two\\x1b[31m
"
    );
    let json: serde_json::Value =
        serde_json::from_str(&fake.output(&["show", "a", "--json"])).unwrap();
    assert_eq!(
        (
            &json["snapshot"]["name"],
            &json["since_previous"]["modified"]
        ),
        (&"a".into(), &2.into())
    );
}

#[test]
fn revert_says_how_to_go_back() {
    let info = RevertInfo {
        to: "a".to_owned(),
        changed: 12,
        discarded: Some(9),
        unsaved: None,
        at_least: false,
        took_us: 850,
    };
    let fake = Fake::new(vec![Response::Reverted(info.clone())]);
    assert_eq!(
        fake.output(&["revert", "a"]),
        "Reverted to a: 12 files changed, in 850 µs. `llctl undo` takes it back.\n"
    );
    assert_eq!(
        fake.output(&["undo"]),
        "The revert is undone: 12 files changed, in 850 µs. `llctl redo` redoes it.\n"
    );
    assert_eq!(
        fake.output(&["undo", "3"]),
        "3 reverts are undone: 12 files changed, in 850 µs. `llctl redo 3` redoes it.\n"
    );
    assert_eq!(
        fake.output(&["redo"]),
        "The revert is done again: 12 files changed, in 850 µs. `llctl undo` takes it back.\n"
    );
    assert_eq!(
        fake.output(&["redo", "2"]),
        "2 reverts are done again: 12 files changed, in 850 µs. `llctl undo 2` takes it back.\n"
    );
    assert_eq!(fake.run(&["undo", "0"]).code, 2);
    assert_eq!(
        fake.output(&["revert", "@base", "--json"]),
        "{\"to\":\"a\",\"changed\":12,\"discarded\":9,\"took_us\":850}\n"
    );
    assert_eq!(
        fake.requests(),
        [
            Request::Revert {
                to: name("a").into(),
                force: false
            },
            Request::Undo { steps: 1 },
            Request::Undo { steps: 3 },
            Request::Redo { steps: 1 },
            Request::Redo { steps: 2 },
            Request::Revert {
                to: StateRef::Base,
                force: false
            }
        ]
    );
    let fake = Fake::new(vec![Response::Reverted(RevertInfo {
        changed: 500,
        unsaved: Some(500),
        at_least: true,
        ..info.clone()
    })]);
    let told = fake.output(&["revert", "a"]);
    assert!(
        told.starts_with("Reverted to a: at least 500 files changed, in "),
        "{told}"
    );
    assert!(
        told.contains("changed last, in at least 500 files;"),
        "{told}"
    );
    let fake = Fake::new(vec![Response::Reverted(RevertInfo {
        changed: 0,
        discarded: None,
        ..info
    })]);
    assert_eq!(
        fake.output(&["revert", "a"]),
        "Everything is as in a already.\n"
    );
}

#[test]
fn delete_and_rename_name_what_they_did() {
    let fake = Fake::new(vec![Response::Deleted(vec![
        "a".to_owned(),
        "b".to_owned(),
    ])]);
    assert_eq!(fake.output(&["delete", "-y", "a", "b"]), "Deleted a, b.\n");
    assert_eq!(
        fake.output(&["delete", "a", "b", "--yes", "--json"]),
        "{\"deleted\":[\"a\",\"b\"]}\n"
    );
    assert_eq!(
        fake.requests()[0],
        Request::Delete {
            names: vec![name("a"), name("b")],
            shown: None,
        }
    );
    let fake = Fake::new(vec![Response::Renamed(snap("new"))]);
    assert_eq!(fake.output(&["rename", "old", "new"]), "old is now new.\n");
    assert_eq!(
        fake.requests(),
        [Request::Rename {
            from: name("old"),
            to: name("new")
        }]
    );
}

/// While somebody thinks about it the name may become another snapshot's.
#[test]
fn a_yes_to_a_deletion_is_to_what_was_shown() {
    let fake = Fake::answering(|request| match request {
        Request::List { .. } => vec![
            Response::List(Listing {
                snapshots: ["a", "b"].map(snap).to_vec(),
                discarded: Vec::new(),
            }),
            Response::ListEnd,
        ],
        _ => vec![Response::Deleted(vec!["b".to_owned()])],
    });
    let (code, text) = fake.with_a_yes(&["delete", "b"]);
    assert_eq!(code, 0, "{text}");
    let deleted = Request::Delete {
        names: vec![name("b")],
        shown: Some(vec![snap("b").id]),
    };
    assert_eq!(fake.requests().pop(), Some(deleted));
}

fn status() -> StatusInfo {
    StatusInfo {
        mountpoint: BytePath::from("/home/u/repo"),
        store: BytePath::from(&b"/st\xffore"[..]),
        pid: 7,
        worker: Some(4243),
        workers: Some(2),
        version: "0.1.0".to_owned(),
        uptime_secs: 3_700,
        snapshots: 2,
        discarded: 1,
        last_snapshot: Some(snap("a")),
        changed: Some(3),
        changes: Some(ChangeCounts {
            added: 1,
            modified: 2,
            ..ChangeCounts::default()
        }),
        store_bytes: 2048,
        store_parts: Some(StoreParts {
            journal: 1024,
            layers: 512,
            images: 512,
            reserve: 0,
            notes: 256,
            saved: 3 << 20,
        }),
        store_limit: Some(1 << 30),
        store_free: Some(5 << 30),
        base_bytes: None,
        read_only: Some("an fsync failed".to_owned()),
        held: [("a", 3 << 20), ("b", 4096)]
            .map(|(name, bytes)| HeldInfo {
                name: name.to_owned(),
                bytes,
            })
            .to_vec(),
        warnings: vec!["the store is nearly full".to_owned()],
    }
}

#[test]
fn status_is_a_page() {
    let fake = Fake::new(vec![Response::Status(Box::new(status()))]);
    assert_eq!(
        fake.output(&["status"]),
        "\
mount      /home/u/repo
store      /st\\xffore
space      2.0 KiB in the store of at most 1.0 GiB, 5.0 GiB free on its disk
of that    file data 512 B, journal 1.0 KiB, images 512 B, notes 256 B, reserve 0 B
archived   3.0 MiB less by `llctl archive`
daemon     llfs 0.1.0, process 7, up 1 h 1 min
snapshots  2, the last is a of 2026-11-21 11:44:02
held alone a 3.0 MiB, b 4.0 KiB: what deleting one of them frees
discarded  1 state, see `llctl list`
changed    1 added, 2 modified since the last snapshot
read-only  an fsync failed
warning: the store is nearly full
"
    );
    let text = fake.output(&["status", "--json"]);
    assert_eq!(text.lines().count(), 1);
    assert_eq!(serde_json::from_str::<StatusInfo>(&text).unwrap(), status());
    assert!(
        text.contains("\"store\":{\"bytes\":\"2f7374ff6f7265\"}"),
        "{text}"
    );
}

#[test]
fn colors_come_when_they_are_asked_for() {
    let fake = Fake::new(vec![Response::Renamed(snap("new"))]);
    let plain = "old is now new.\n";
    let colored = "\u{1b}[1mold\u{1b}[0m is now \u{1b}[1mnew\u{1b}[0m.\n";
    assert_eq!(
        fake.output(&["rename", "old", "new", "--color", "always"]),
        colored
    );
    assert_eq!(
        fake.output(&["rename", "old", "new", "--color", "never"]),
        plain
    );
    assert_eq!(
        fake.output(&["rename", "old", "new"]),
        plain,
        "a pipe gets no colors by itself"
    );
}
