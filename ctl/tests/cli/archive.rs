//! `llctl archive`.

use llctl::SnapName;
use llctl::protocol::{ArchiveInfo, Progress, ProgressUnit, Request, Response};

use super::fake::Fake;

fn fake(files: u64) -> Fake {
    Fake::answering(move |request| match request {
        Request::Archive { yes, .. } => vec![
            Response::Progress(Progress {
                what: "compressing".to_owned(),
                done: 1,
                total: Some(2),
                unit: ProgressUnit::Bytes,
            }),
            Response::Archived(ArchiveInfo {
                snapshots: vec!["a".to_owned(), "b".to_owned()],
                files,
                before: files << 20,
                after: yes.then_some(files << 18),
            }),
        ],
        other => panic!("{other:?}"),
    })
}

#[test]
fn what_it_gave_is_told() {
    let fake = fake(3);
    assert_eq!(
        fake.output(&["archive", "a", "b"]),
        "Compressed data of 2 snapshots, and what lies with it: 3.0 MiB became 768 KiB.\n"
    );
    assert_eq!(
        fake.output(&["archive", "a", "b", "--dry-run"]),
        "Would compress 3.0 MiB: data of 2 snapshots, and what lies with it.\n"
    );
    assert_eq!(
        fake.output(&["archive", "a", "--json"]),
        "{\"snapshots\":[\"a\",\"b\"],\"files\":3,\"before\":3145728,\"after\":786432}\n"
    );
    let names = ["a", "b"].map(|name| SnapName::new(name).unwrap());
    assert_eq!(
        fake.requests()[1],
        Request::Archive {
            names: names.to_vec(),
            until: None,
            yes: false,
        }
    );
}

#[test]
fn an_age_will_do_and_something_is_needed() {
    let fake = fake(0);
    assert_eq!(
        fake.output(&["archive", "--older-than", "7d"]),
        "Nothing became smaller: what is in 2 snapshots is compressed already, or cannot be.\n"
    );
    assert_eq!(
        fake.output(&["archive", "--older-than", "7d", "-n"]),
        "Nothing to compress in 2 snapshots.\n"
    );
    let Request::Archive { names, until, yes } = &fake.requests()[0] else {
        panic!("{:?}", fake.requests());
    };
    assert!(names.is_empty() && *yes);
    let age = llctl::protocol::UnixNanos::now().0 - until.unwrap().0;
    let days = age / (24 * 3600 * 1_000_000_000);
    assert_eq!(days, 7);
    assert_eq!(fake.run(&["archive"]).code, 2);
    assert_eq!(fake.run(&["archive", "--older-than", "soon"]).code, 2);
}
