//! What snapshots say of themselves: the options of snap, and annotate, tag, pin and unpin.

use llctl::SnapName;
use llctl::protocol::{
    Entity, GitState, ListQuery, Listing, MetaEdit, Metric, Request, Response, SnapDetail,
    SnapInfo, SnapMeta, SortBy,
};

use super::fake::{Fake, WHEN, snap};

fn name(text: &str) -> SnapName {
    SnapName::new(text).unwrap()
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn full() -> SnapMeta {
    SnapMeta {
        reason: Some("pre-change".to_owned()),
        session: Some("s-17".to_owned()),
        phase: Some("refactor".to_owned()),
        task: Some("t2".to_owned()),
        parent_task: Some("t1".to_owned()),
        created_by: Some("an agent".to_owned()),
        request_id: Some("r9".to_owned()),
        trace: Some(TRACE.parse().unwrap()),
        entity: Some(Entity {
            kind: "ticket".to_owned(),
            id: "12:34".to_owned(),
        }),
        tags: ["green", "keep"].map(String::from).into(),
        metrics: [
            ("tests".to_owned(), Metric::Whole(212)),
            ("delta".to_owned(), Metric::Signed(-3)),
            ("rate".to_owned(), Metric::parse("0.5")),
            ("version".to_owned(), Metric::Text("1.2.3".to_owned())),
        ]
        .into(),
        git: None,
        config: None,
        format: None,
        imported: None,
        pinned: true,
    }
}

#[test]
fn snap_sends_all_that_it_is_told() {
    let fake = Fake::new(vec![Response::Snap(snap("a"))]);
    let options = [
        ["--reason", "pre-change"],
        ["--session", "s-17"],
        ["--phase", "refactor"],
        ["--task", "t2"],
        ["--parent-task", "t1"],
        ["--created-by", "an agent"],
        ["--request-id", "r9"],
        ["--trace", TRACE],
        ["--entity", "ticket:12:34"],
        ["--tag", "green"],
        ["--tag", "keep"],
        ["--metric", "tests=212"],
        ["--metric", "delta=-3"],
        ["--metric", "rate=0.5"],
        ["--metric", "version=1.2.3"],
    ];
    let mut args = vec!["snap", "a", "--pin"];
    args.extend(options.iter().flatten());
    fake.output(&args);
    let Request::Snap { meta, .. } = &fake.requests()[0] else {
        panic!("{:?}", fake.requests());
    };
    assert_eq!(*meta, full());
}

#[test]
fn the_trace_and_the_repository_come_from_the_surroundings() {
    let fake = Fake::new(vec![Response::Snap(snap("a"))]);
    let commit = "0123456789012345678901234567890123456789";
    std::fs::create_dir_all(fake.dir.join("sub/.git")).unwrap();
    std::fs::write(fake.dir.join("sub/.git/HEAD"), commit).unwrap();
    for (dir, trace) in [("", "nonsense"), ("sub", TRACE)] {
        let mut command = fake.command(&["snap"]);
        command
            .current_dir(fake.dir.join(dir))
            .env("TRACEPARENT", trace);
        assert!(command.status().unwrap().success());
    }
    let metas: Vec<SnapMeta> = (fake.requests().into_iter())
        .map(|request| match request {
            Request::Snap { meta, .. } => meta,
            other => panic!("{other:?}"),
        })
        .collect();
    let detached = GitState {
        head: Some(commit.to_owned()),
        ..GitState::default()
    };
    assert_eq!(metas[0], SnapMeta::default());
    assert_eq!(metas[1].git, Some(detached));
    assert_eq!(metas[1].trace.as_ref().unwrap().as_str(), TRACE);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_asked() {
    let fake = Fake::new(vec![Response::Snap(snap("a"))]);
    for bad in [
        ["--trace", "abc"],
        ["--entity", "ticket"],
        ["--metric", "tests"],
        ["--metric", "=1"],
    ] {
        let run = fake.run(&["snap", bad[0], bad[1]]);
        assert_eq!(run.code, 2, "{bad:?}");
        assert!(run.stderr.contains(bad[0]), "{}", run.stderr);
    }
    assert_eq!(fake.requests(), []);
}

#[test]
fn show_tells_all_that_is_said() {
    let git = GitState {
        head: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        branch: Some("main".to_owned()),
        dirty: Some(true),
    };
    let fake = Fake::new(vec![Response::Show(SnapDetail {
        snapshot: SnapInfo {
            bytes: Some(10),
            shared: Some(2048),
            hash: Some("ab".repeat(32)),
            meta: SnapMeta {
                git: Some(git),
                ..full()
            },
            ..snap("a")
        },
        previous: None,
        since_previous: None,
        to_live: None,
        archived: None,
        config: None,
    })]);
    let expected = format!(
        "\
snapshot   a
number     3
created    2026-11-21 11:44:02
alone      10 B (freed if only this snapshot is deleted)
shared     2.0 KiB in common with other states
hash       {}
reason     pre-change
session    s-17
phase      refactor
task       t2
parent     t1
by         an agent
request    r9
trace      {TRACE}
entity     ticket:12:34
tags       green, keep
metrics    delta=-3, rate=0.5, tests=212, version=1.2.3
git        main at 0123456789ab, dirty
pinned     yes
",
        "ab".repeat(32)
    );
    assert_eq!(fake.output(&["show", "a"]), expected);
    let json = fake.output(&["show", "a", "--json"]);
    assert!(
        json.contains(
            "\"metrics\":{\"delta\":-3,\"rate\":0.5,\"tests\":212,\"version\":\"1.2.3\"}"
        ),
        "{json}"
    );
}

#[test]
fn edits_say_what_they_did() {
    let info = |meta| Fake::new(vec![Response::Described(SnapInfo { meta, ..snap("a") })]);
    let fake = info(full());
    assert_eq!(
        fake.output(&[
            "annotate", "a", "-m", "new", "--metric", "tests=1", "--unset", "rate"
        ]),
        "a is annotated.\n"
    );
    assert_eq!(
        fake.output(&["tag", "a", "green", "keep"]),
        "a is tagged green, keep.\n"
    );
    assert_eq!(
        fake.output(&["pin", "a", "b"]),
        "a is pinned: retention keeps it.\na is pinned: retention keeps it.\n"
    );
    assert_eq!(fake.output(&["unpin", "a"]), "a is not pinned any more.\n");
    let json: SnapInfo =
        serde_json::from_str(&fake.output(&["tag", "a", "x", "-d", "--json"])).unwrap();
    assert_eq!(json.meta, full());
    let untagged = info(SnapMeta::default());
    assert_eq!(
        untagged.output(&["tag", "a", "x", "-d"]),
        "a has no tags.\n"
    );
    let edit = |edit| Request::Describe {
        name: name("a"),
        edit,
    };
    let tagged = SnapMeta {
        tags: full().tags,
        ..SnapMeta::default()
    };
    let counted = SnapMeta {
        metrics: [("tests".to_owned(), Metric::Whole(1))].into(),
        ..SnapMeta::default()
    };
    let expected = [
        edit(MetaEdit {
            message: Some("new".to_owned()),
            set: counted,
            unset: ["rate".to_owned()].into(),
            ..MetaEdit::default()
        }),
        edit(MetaEdit {
            set: tagged,
            ..MetaEdit::default()
        }),
        edit(MetaEdit {
            pinned: Some(true),
            ..MetaEdit::default()
        }),
    ];
    assert_eq!(fake.requests()[..3], expected);
    let last = MetaEdit {
        untag: ["x".to_owned()].into(),
        ..MetaEdit::default()
    };
    assert_eq!(fake.requests().last(), Some(&edit(last)));
}

#[test]
fn a_list_asks_for_what_is_wanted_and_resume_for_the_last() {
    let last = SnapInfo {
        message: Some("half way\nthere".to_owned()),
        meta: full(),
        ..snap("a")
    };
    let listing = Listing {
        snapshots: vec![last],
        discarded: Vec::new(),
    };
    let fake = Fake::new(vec![Response::List(listing), Response::ListEnd]);
    let args = [
        "list",
        "--session",
        "s",
        "--phase",
        "p",
        "--task",
        "t",
        "--reason",
        "r",
        "--tag",
        "x",
        "--tag",
        "y",
        "--since",
        "2026-11-21T11:44:02Z",
        "--sort",
        "alone",
        "--reverse",
        "-n",
        "3",
        "--skip",
        "6",
    ];
    fake.output(&args);
    assert_eq!(
        fake.output(&["resume", "s-17"]),
        format!(
            "\
snapshot   a
created    2026-11-21 11:44:02
message    half way
reason     pre-change
session    s-17
phase      refactor
task       t2
parent     t1
by         an agent
request    r9
trace      {TRACE}
entity     ticket:12:34
tags       green, keep
metrics    delta=-3, rate=0.5, tests=212, version=1.2.3
pinned     yes
"
        )
    );
    let text = |text: &str| Some(text.to_owned());
    let query = ListQuery {
        session: text("s"),
        phase: text("p"),
        task: text("t"),
        reason: text("r"),
        tags: vec!["x".to_owned(), "y".to_owned()],
        since: Some(WHEN),
        until: None,
        sort: SortBy::Alone,
        reverse: true,
        skip: 6,
        limit: Some(3),
    };
    let last = ListQuery {
        session: text("s-17"),
        limit: Some(1),
        ..ListQuery::default()
    };
    let asked = [Request::List { query }, Request::List { query: last }];
    assert_eq!(fake.requests(), asked);
    let none = Fake::new(vec![Response::ListEnd]).run(&["resume", "s"]);
    assert_eq!((none.code, none.stdout.as_str()), (4, ""));
    assert!(
        none.stderr
            .contains("there is no snapshot of the session \"s\"")
    );
}
