//! Clients of a real daemon that ask for much and read nothing: nobody else waits for them.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use llctl::codec::{self, HELLO_MAX, REPLY_MAX, REQUEST_MAX};
use llctl::protocol::{
    BytePath, ErrorKind, Hello, HelloReply, OnConflict, Part, PartOf, Request, Response,
};
use llctl::{SnapName, StateRef};
use llfs_tests::dice::pattern;
use llfs_tests::manifest::Ignore;
use llfs_tests::mounted::Mounted;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn socket(mounted: &Mounted) -> std::path::PathBuf {
    let run = mounted.scratch.path().join("run/llfs");
    fs::read_dir(run).unwrap().next().unwrap().unwrap().path()
}

fn connected(mounted: &Mounted) -> UnixStream {
    let stream = UnixStream::connect(socket(mounted)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn greeted(mounted: &Mounted) -> UnixStream {
    let mut stream = connected(mounted);
    codec::write(&mut stream, &Hello::new("hostile"), HELLO_MAX).unwrap();
    let reply: HelloReply = codec::read(&mut stream, HELLO_MAX).unwrap();
    assert!(matches!(reply, HelloReply::Welcome(_)), "{reply:?}");
    stream
}

/// All that is answered with more than one message, or with long ones.
fn much() -> Vec<Request> {
    let part = || Part {
        of: PartOf::To(StateRef::Base),
        globs: vec!["**".to_owned()],
        there: Vec::new(),
    };
    vec![
        Request::Diff {
            from: Some(StateRef::Base),
            to: StateRef::Live,
            paths: Vec::new(),
            patch: true,
        },
        Request::PreviewPart {
            part: part(),
            on_conflict: OnConflict::Revert,
            patch: true,
        },
        Request::Cat {
            state: StateRef::Live,
            path: BytePath::from("big"),
            from: 0,
        },
        Request::Log {
            path: BytePath::from("f1"),
            limit: None,
        },
        Request::List {
            query: Default::default(),
        },
        Request::History {
            query: Default::default(),
        },
        Request::Watch { after: Some(0) },
        Request::Metrics,
        Request::Verify,
    ]
}

#[test]
fn clients_that_ask_for_much_and_read_nothing_hold_up_nobody() {
    let mut mounted = Mounted::new("hostile");
    mounted.allow(Duration::from_secs(300));
    fs::write(mounted.path("big"), vec![7; 8 << 20]).unwrap();
    mounted.snap("before");
    for number in 0..60 {
        let name = format!("f{number}");
        fs::write(mounted.path(&name), pattern(number, 200_000)).unwrap();
    }
    mounted.snap("full");
    let full = mounted.manifest();
    let mut stuck = Vec::new();
    for _ in 0..3 {
        for request in much() {
            let mut stream = greeted(&mounted);
            codec::write(&mut stream, &request, REQUEST_MAX).unwrap();
            stuck.push(stream);
        }
    }
    // Half a request, and one that claims to be long.
    for wire in [&[9, 0][..], &[0, 0, 15, 0, 0x93]] {
        let mut stream = greeted(&mounted);
        stream.write_all(wire).unwrap();
        stuck.push(stream);
    }
    // One more for each, which is asked for more and more without reading an answer.
    for request in much() {
        let mut stream = greeted(&mounted);
        stream
            .set_write_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        while codec::write(&mut stream, &request, REQUEST_MAX).is_ok() {}
        stuck.push(stream);
    }
    fs::write(mounted.path("f1"), "others go on").unwrap();
    mounted.snap("meanwhile");
    mounted.revert("before");
    assert!(!mounted.path("f1").exists());
    mounted.undo();
    assert_eq!(fs::read(mounted.path("f1")).unwrap(), b"others go on");
    mounted.llctl(&["revert", "full", "--path", "f1"]).ok();
    full.assert_same(&mounted.manifest(), Ignore::default(), "a part");
    mounted.delete("meanwhile");
    mounted
        .llctl(&["prune", "--all", "--keep-last", "1", "--yes"])
        .ok();
    mounted.verify();
    // Those that begin to read now get whole messages, up to where they are.
    for stream in &mut stuck[..much().len()] {
        codec::read::<Response>(stream, REPLY_MAX).unwrap();
    }
    // The end waits for none of them for long.
    mounted.unmount();
    drop(stuck);
    mounted.mount();
    full.assert_same(&mounted.manifest(), Ignore::default(), "mounted again");
}

/// What is well-formed and makes no sense is an error, for whatever is asked.
#[test]
fn requests_that_make_no_sense_are_errors() {
    let mounted = Mounted::new("senseless");
    fs::write(mounted.path("f"), "x").unwrap();
    mounted.snap("s");
    let long = "x".repeat(900_000);
    let deep = "a/".repeat(100_000);
    let globs = |glob: &str| Request::RevertPart {
        part: Part {
            of: PartOf::To(StateRef::Base),
            globs: vec![glob.to_owned()],
            there: Vec::new(),
        },
        on_conflict: OnConflict::Stop,
        force: false,
    };
    let name = |name: &str| SnapName::new(name).unwrap();
    let requests = vec![
        globs(&"{a,b}".repeat(20_000)),
        globs(&format!("{}none", "*/".repeat(50_000))),
        globs("[z-a"),
        globs(&deep),
        Request::RevertPart {
            part: Part {
                of: PartOf::Snapshots(vec![name("none"); 50_000]),
                globs: Vec::new(),
                there: Vec::new(),
            },
            on_conflict: OnConflict::Stop,
            force: false,
        },
        Request::Trust { text: long.clone() },
        Request::Phase {
            name: long.clone(),
            session: None,
        },
        Request::Snap {
            name: None,
            message: Some(long.clone()),
            meta: Default::default(),
            only_if_changed: false,
        },
        Request::Stat {
            state: StateRef::Live,
            path: BytePath::from(deep.as_str()),
        },
        Request::Cat {
            state: StateRef::Live,
            path: BytePath::from("f"),
            from: u64::MAX,
        },
        Request::Log {
            path: BytePath::from("../../etc/passwd"),
            limit: Some(0),
        },
        Request::Undo { steps: u32::MAX },
        Request::Redo { steps: u32::MAX },
    ];
    for (number, request) in requests.into_iter().enumerate() {
        let mut stream = greeted(&mounted);
        codec::write(&mut stream, &request, REQUEST_MAX).unwrap();
        let answer = codec::read::<Response>(&mut stream, REPLY_MAX).unwrap();
        let wrong = match &answer {
            Response::Error(failure) => failure.kind != ErrorKind::Internal,
            Response::ContentEnd | Response::LogEnd => true,
            // There is nothing that they match.
            Response::Reverted(done) => done.changed == 0,
            _ => false,
        };
        assert!(wrong, "request {number}: {:.300}", format!("{answer:?}"));
        stream.shutdown(Shutdown::Both).unwrap();
    }
    assert_eq!(fs::read(mounted.path("f")).unwrap(), b"x");
    let there = "d/".repeat(300);
    fs::create_dir_all(mounted.path(&there)).unwrap();
    mounted
        .llctl(&["revert", "s", "--path", there.trim_end_matches('/')])
        .ok();
    // A long target is cut, so that it fits into an event and hides nothing.
    let acts = mounted.json(&["history", "--what", "revert"]);
    let targets = acts["acts"].as_array().unwrap().iter().flat_map(|act| {
        let targets = act["targets"].as_array().unwrap().iter();
        targets.map(|t| t.as_str().unwrap().len())
    });
    assert!(targets.max().unwrap() <= 256);
    let status = mounted.json(&["status"]);
    assert_eq!(
        (&status["workers"], &status["snapshots"]),
        (&1.into(), &1.into())
    );
}
