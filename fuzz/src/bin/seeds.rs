//! Writes the corpora anew: messages of every kind, and what a real overlay leaves in its store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llctl::codec::{self, HELLO_MAX, REPLY_MAX, REQUEST_MAX};
use llctl::protocol::{
    ApplyDone, ApplyPlan, Author, BytePath, Change, ChangeCounts, ChangeKind, Content, Deed,
    ErrorKind, Failure, FileType, Finding, FindingKind, Hello, HelloReply, Listing, LogEntry,
    OnConflict, PROTOCOL_VERSION, Part, PartOf, Patch, Progress, ProgressUnit, Refused, Request,
    Response, RevertInfo, Side, SnapDetail, SnapInfo, SnapMeta, UnixNanos, VerifySummary, Welcome,
};
use llctl::transfer::Writer;
use llctl::transfer::item::{self, Entry, Head, Item};
use llctl::{SnapName, StateRef};
use llfs::base::Base;
use llfs::engine::{Caller, Engine, Make, WriteHow};
use llfs::tree::{Kind, ROOT};
use llfs_fuzz::disk::MemDisk;
use llfs_fuzz::forge;

/// Longer seeds slow every run down.
const SEED_MAX: usize = 12 << 10;

fn put(target: &str, name: &str, parts: &[&[u8]]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&dir).expect("a directory");
    let mut bytes = parts.concat();
    bytes.truncate(SEED_MAX);
    fs::write(dir.join(name), bytes).expect("a seed");
}

fn name(text: &str) -> SnapName {
    SnapName::new(text).expect("a good name")
}

fn meta() -> SnapMeta {
    SnapMeta {
        reason: Some("error".to_owned()),
        tags: ["a".to_owned(), "b".to_owned()].into(),
        pinned: true,
        ..SnapMeta::default()
    }
}

fn requests() {
    let all = [
        Request::Snap {
            name: Some(name("before")),
            message: Some("why\n".to_owned()),
            meta: meta(),
            only_if_changed: true,
        },
        Request::List {
            query: Default::default(),
        },
        Request::Show {
            name: name("vor dem Umbau"),
        },
        Request::Diff {
            from: Some(StateRef::Base),
            to: StateRef::Live,
            paths: vec![BytePath::from("a/b"), BytePath::from(&b"\xff"[..])],
            patch: true,
        },
        Request::Log {
            path: BytePath::from("a/b"),
            limit: Some(5),
        },
        Request::Stat {
            state: StateRef::Base,
            path: BytePath::from("a/b"),
        },
        Request::Cat {
            state: StateRef::Undo,
            path: BytePath::from("a/b"),
            from: 7,
        },
        Request::Revert {
            to: StateRef::Undo,
            force: true,
        },
        Request::CanRevert { to: StateRef::Base },
        Request::RevertPart {
            part: Part {
                of: PartOf::To(StateRef::Base),
                globs: vec!["**/*.rs".to_owned()],
                there: vec![BytePath::from("a/b")],
            },
            on_conflict: OnConflict::Keep,
            force: false,
        },
        Request::PreviewPart {
            part: Part {
                of: PartOf::Snapshots(vec![name("a")]),
                globs: Vec::new(),
                there: Vec::new(),
            },
            on_conflict: OnConflict::Stop,
            patch: true,
        },
        Request::Undo { steps: 1 },
        Request::Redo { steps: 2 },
        Request::Delete {
            names: vec![name("a"), name("b")],
            shown: Some(vec![1, 2]),
        },
        Request::Rename {
            from: name("a"),
            to: name("b"),
        },
        Request::Status,
        Request::Config,
        Request::Trust {
            text: "[retention]\nkeep_last = 3\n".to_owned(),
        },
        Request::Prune {
            rules: Some(Default::default()),
            yes: true,
            shown: Some(vec![3]),
        },
        Request::Phase {
            name: "review".to_owned(),
            session: Some("s-17".to_owned()),
        },
        Request::Session {
            id: "s-18".to_owned(),
        },
        Request::Verify,
        Request::Apply {
            yes: true,
            shown: Some(4),
        },
        Request::Shutdown { apply: true },
        Request::Ping,
    ];
    let mut together = Vec::new();
    for (number, request) in all.iter().enumerate() {
        let frame = codec::encode(request, REQUEST_MAX).expect("a message");
        put("request", &format!("frame-{number:02}"), &[&frame]);
        put("request", &format!("body-{number:02}"), &[&frame[4..]]);
        put("server", &format!("one-{number:02}"), &[&[1], &frame]);
        together.extend_from_slice(&frame);
    }
    let hello = codec::encode(&Hello::new("seed"), HELLO_MAX).expect("a message");
    put("request", "hello", &[&hello]);
    put("server", "all", &[&[1], &together]);
    put("server", "hello", &[&[0], &hello, &together]);
    put("server", "framed", &[&[3], &hello[4..]]);
}

fn responses() {
    let snap = SnapInfo {
        name: "s".to_owned(),
        id: 3,
        created: UnixNanos(-5),
        message: None,
        changed: Some(2),
        bytes: None,
        shared: Some(4096),
        hash: None,
        meta: meta(),
    };
    let side = Side {
        file_type: FileType::File,
        size: 9,
        mode: 0o644,
        uid: 1,
        gid: 1,
        mtime: UnixNanos(7),
    };
    let change = Change {
        path: BytePath::from("new\n"),
        kind: ChangeKind::Renamed,
        from: Some(BytePath::from("old")),
        old: Some(side.clone()),
        new: Some(side),
        patch: Some(Patch {
            old: Content::Bytes(b"text".to_vec().into()),
            new: Content::Absent,
        }),
    };
    let progress = Progress {
        what: "x".to_owned(),
        done: 1,
        total: Some(2),
        unit: ProgressUnit::Bytes,
    };
    let finding = Finding {
        kind: FindingKind::Content,
        what: "block 3".to_owned(),
        path: Some(BytePath::from("f")),
        states: vec!["s".to_owned()],
    };
    let counts = ChangeCounts::default();
    let plan = ApplyPlan {
        changes: counts,
        bytes: 1,
        bytes_needed: 2,
        bytes_free: 3,
        snapshots_kept: 0,
        snapshots_lost: 1,
        snapshots_note: "n".to_owned(),
        shown: Some(4),
    };
    let all = [
        Response::Snap(snap.clone()),
        Response::List(Listing {
            snapshots: vec![snap.clone(), snap.clone()],
            discarded: Vec::new(),
        }),
        Response::ListEnd,
        Response::Show(SnapDetail {
            snapshot: snap.clone(),
            previous: None,
            since_previous: Some(counts),
            to_live: None,
            archived: None,
            config: None,
        }),
        Response::Change(change),
        Response::DiffEnd(counts),
        Response::LogEntry(LogEntry {
            state: "s".to_owned(),
            id: Some(3),
            created: Some(UnixNanos(-5)),
            message: Some("m".to_owned()),
            since: "@base".to_owned(),
            path: BytePath::from("new"),
            from: Some(BytePath::from("old")),
            kind: Some(ChangeKind::Renamed),
            below: Some(counts),
            by: vec![Author {
                command: "sed".to_owned(),
                line: "sed -i".to_owned(),
                pid: 4,
                uid: 5,
                did: vec![Deed::Made, Deed::Named],
                at: UnixNanos(6),
            }],
        }),
        Response::LogEnd,
        Response::Content(b"bytes".to_vec().into()),
        Response::ContentEnd,
        Response::Reverted(RevertInfo {
            to: "s".to_owned(),
            changed: 1,
            discarded: Some(2),
            unsaved: Some(1),
            at_least: false,
            took_us: 3,
        }),
        Response::Deleted(vec!["a".to_owned(), "b".to_owned()]),
        Response::Renamed(snap),
        Response::Progress(progress),
        Response::Finding(finding),
        Response::Verified(VerifySummary {
            files: 1,
            bytes: 2,
            snapshots: 3,
            findings: 4,
            took_ms: 5,
        }),
        Response::Plan(plan),
        Response::Applied(ApplyDone {
            changes: counts,
            bytes: 1,
            took_ms: 2,
        }),
        Response::ShuttingDown,
        Response::Pong,
        Response::Error(Failure::new(ErrorKind::Io, "it failed").with_hint("do this")),
    ];
    let mut together = Vec::new();
    for (number, response) in all.iter().enumerate() {
        let frame = codec::encode(response, REPLY_MAX).expect("a message");
        put("response", &format!("frame-{number:02}"), &[&frame]);
        put("response", &format!("body-{number:02}"), &[&frame[4..]]);
        together.extend_from_slice(&frame);
    }
    for which in 0..14u8 {
        put(
            "client",
            &format!("all-{which:02}"),
            &[&[which << 1], &together],
        );
    }
    let refused = Refused {
        kind: ErrorKind::Busy,
        why: "w".to_owned(),
        server_version: 1,
        daemon: "0".to_owned(),
    };
    let welcome = Welcome {
        version: PROTOCOL_VERSION,
        daemon: "0".to_owned(),
        pid: 1,
        mountpoint: BytePath::from("/m"),
        store: BytePath::from("/s"),
        mount: 0,
    };
    for (what, reply) in [
        ("refused", HelloReply::Refused(refused)),
        ("welcome", HelloReply::Welcome(welcome)),
    ] {
        let frame = codec::encode(&reply, HELLO_MAX).expect("a message");
        put("response", what, &[&frame]);
        put("client", what, &[&[3], &frame, &together]);
    }
}

fn exports() {
    let head = Item::State(Box::new(Head {
        name: "one".into(),
        created: UnixNanos(5),
        message: "why".into(),
        meta: meta(),
        hash: vec![7; 32].into(),
        from: Some(vec![8; 32].into()),
    }));
    let entry = |path: &str, kind, links, size| {
        Item::Entry(Box::new(Entry {
            path: BytePath::from(path),
            kind,
            perm: 0o4755,
            uid: 1,
            gid: 2,
            atime: (-1, 999_999_999),
            mtime: (1, 2),
            ctime: (3, 4),
            links,
            size,
            device: 0,
            target: (kind == 2).then(|| b"to".to_vec().into()),
            xattrs: vec![(b"user.a".to_vec().into(), b"b".to_vec().into())],
            link: (links > 1).then_some(1),
        }))
    };
    let items = [
        head,
        Item::Gone("old".into()),
        entry("", 1, 0, 0),
        entry("file", 0, 1, 5),
        Item::Data {
            at: 0,
            bytes: b"bytes".to_vec().into(),
        },
        entry("again", 0, 2, 5),
        entry("link", 2, 1, 0),
        Item::End,
    ];
    let mut block = Vec::new();
    for item in &items {
        item::encode(item, &mut block).expect("an item");
    }
    let mut writer = Writer::new(Vec::new()).expect("a file");
    writer.block(&block).expect("a block");
    writer.block(&block).expect("a block");
    let (file, _) = writer.finish().expect("a file");
    put("export", "items", &[&block]);
    put("export", "file", &[&file]);
    put("export", "cut", &[&file[..file.len() - 9]]);
    let length = (block.len() as u16).to_le_bytes();
    put("export", "blocks", &[&length, &block, &[1, 0, 9]]);
}

fn names() {
    for (number, name) in [
        &b"plain"[..],
        b"vor dem Umbau",
        b"@live",
        b"..",
        b"a/b",
        b"x\x1b[31mred\n\t\\",
        "\u{202e}abc\u{200b}".as_bytes(),
        b"\xff\xfe\xc3",
        br#"{"bytes":"ff00"}"#,
    ]
    .iter()
    .enumerate()
    {
        put("names", &format!("{number}"), &[name]);
    }
}

/// What an overlay over a small directory does in its life.
fn lived() -> MemDisk {
    let dir: PathBuf = std::env::temp_dir().join(format!("llfs-seeds-{}", std::process::id()));
    fs::create_dir_all(dir.join("dir")).expect("a directory");
    fs::write(dir.join("a"), vec![b'A'; 9000]).expect("a file");
    fs::write(dir.join("dir/b"), b"base").expect("a file");
    let disk = MemDisk::default();
    let open = || {
        let base = Base::open(&dir).expect("a base");
        Engine::open_on(
            base,
            Arc::new(disk.clone()),
            Path::new("memory"),
            &forge::options(forge::BOOT),
        )
        .expect("an overlay")
    };
    let who = Caller {
        uid: 0,
        gid: 0,
        pid: 0,
    };
    let engine = open();
    for round in 0..3u8 {
        let make = |kind, target: &'static [u8]| Make {
            kind,
            perm: 0o755,
            umask: 0o22,
            rdev: 0,
            target,
        };
        let file = engine
            .make(
                ROOT,
                format!("new{round}").as_bytes(),
                &make(Kind::File, b""),
                &who,
            )
            .expect("a file");
        engine
            .write(file.attr.ino, 5, &[round; 5000], WriteHow::default())
            .expect("it is written");
        engine
            .make(
                ROOT,
                format!("link{round}").as_bytes(),
                &make(Kind::Symlink, b"../x"),
                &who,
            )
            .expect("a link");
        engine
            .link(file.attr.ino, ROOT, format!("second{round}").as_bytes())
            .expect("a name");
        let a = engine
            .lookup(ROOT, b"a")
            .expect("it can be looked up")
            .expect("it is there");
        engine
            .write(a.attr.ino, 4096, b"changed", WriteHow::default())
            .expect("it is written");
        engine
            .snapshot(|_| format!("s{round}"), "m")
            .expect("a snapshot");
        engine
            .unlink(ROOT, format!("second{round}").as_bytes())
            .expect("it goes");
        if round == 1 {
            drop(engine.revert("s0").expect("a revert"));
        }
    }
    engine.close().expect("a clean end");
    drop(engine);
    let engine = open();
    engine
        .make(
            ROOT,
            b"last",
            &Make {
                kind: Kind::Dir,
                perm: 0o700,
                umask: 0,
                rdev: 0,
                target: b"",
            },
            &who,
        )
        .expect("a directory");
    engine.sync().expect("nothing fails");
    drop(engine);
    fs::remove_dir_all(&dir).expect("it was made here");
    disk
}

/// The payloads of the record frames in a segment.
fn payloads(segment: &[u8]) -> Vec<Vec<u8>> {
    let (mut at, mut all) = (128, Vec::new());
    while segment.len() >= at + 24 && &segment[at + 8..at + 11] == b"LjF" {
        let mut length = [0; 4];
        length.copy_from_slice(&segment[at + 12..at + 16]);
        let length = u32::from_le_bytes(length) as usize;
        if segment[at + 11] == 1 {
            all.push(segment[at + 24..at + 24 + length].to_vec());
        }
        at = (at + 24 + length).next_multiple_of(8);
    }
    all
}

fn stores() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/tests/store_v1");
    let old = |path: &str| fs::read(fixture.join(path)).expect("a fixture");
    put("superblock", "fixture", &[&old("superblock")]);
    put("superblock", "made", &[&forge::superblock().encode()]);
    let journal = old("journal/00000002.log");
    let length = (journal.len() as u16).to_le_bytes();
    put(
        "journal",
        "fixture",
        &[&[0, 0], &length, &journal, &journal],
    );
    put(
        "journal",
        "behind-headers",
        &[&[0, 6], &length, &journal[128..], &journal[128..]],
    );
    for (name, mode) in [("forged", 1u8), ("damaged", 2)] {
        let steps: Vec<u8> = (0..600u32).map(|n| (n * 37 % 251) as u8).collect();
        put("journal", name, &[&[mode], &steps]);
        let plain: Vec<u8> = (0..900u32).map(|n| (n * n % 23) as u8).collect();
        put(
            "journal",
            &format!("{name}-plain"),
            &[&[mode, 1, 0], &plain],
        );
    }
    for seed in 0..4u32 {
        let steps: Vec<u8> = (0..400u32)
            .map(|n| ((n * n + seed * 91) * 29 % 253) as u8)
            .collect();
        put("layer", &format!("{seed}"), &[&steps]);
        put("state", &format!("made-{seed}"), &[&[1], &steps]);
        put("image", &format!("damaged-{seed}"), &[&[3], &steps]);
    }
    let disk = lived();
    let (mut images, mut all) = (0, vec![0u8]);
    for (path, bytes) in disk.files() {
        let path = path.display().to_string();
        if path.starts_with("images/") {
            let body = &bytes[64..bytes.len() - 8];
            put("image", &format!("body-{images}"), &[&[0], body]);
            put(
                "image",
                &format!("file-{images}"),
                &[&[1], &old("images/00000001.img")],
            );
            put("image", &format!("forged-{images}"), &[&[2, 5, 0], body]);
            images += 1;
        }
        if path.starts_with("journal/") {
            for payload in payloads(&bytes) {
                all.extend_from_slice(&(payload.len() as u16).to_le_bytes());
                all.extend_from_slice(&payload);
            }
        }
    }
    put("state", "lived", &[&all]);
    assert!(
        images > 0 && all.len() > 100,
        "a life leaves images and records"
    );
}

fn main() {
    requests();
    responses();
    names();
    exports();
    stores();
}
