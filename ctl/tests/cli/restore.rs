//! `llctl restore`: what it asks, and what it says.

use llctl::protocol::{
    BytePath, ErrorKind, Failure, FileType, OnConflict, Part, PartOf, Request, Response,
    RevertInfo, Side, UnixNanos,
};

use super::fake::Fake;

fn answer(request: &Request, discarded: Option<u64>) -> Vec<Response> {
    vec![match request {
        Request::Stat { path, .. } if path.0 == b"absent" => Response::Error(
            Failure::new(ErrorKind::NotFound, "there is no absent of s").with_hint("look"),
        ),
        Request::Stat { .. } => Response::Stat(Side {
            file_type: FileType::File,
            size: 1,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: UnixNanos(5),
        }),
        _ => Response::Reverted(RevertInfo {
            to: "s".to_owned(),
            changed: 2,
            discarded,
            at_least: false,
            took_us: 1_250,
            unsaved: None,
        }),
    }]
}

#[test]
fn each_path_must_be_there_and_is_meant_literally() {
    let fake = Fake::answering(|request| answer(request, Some(4)));
    assert_eq!(
        fake.output(&["restore", "s", "a*b", "src/../src/[x]"]),
        "Restored 2 files, in 1.2 ms. `llctl undo` takes it back.\n"
    );
    let stat = |path: &str| Request::Stat {
        state: "s".parse().unwrap(),
        path: BytePath::from(path),
    };
    assert_eq!(
        fake.requests(),
        [
            stat("a*b"),
            stat("src/[x]"),
            Request::RevertPart {
                part: Part {
                    of: PartOf::To("s".parse().unwrap()),
                    globs: vec!["a\\*b".to_owned(), "src/\\[x\\]".to_owned()],
                    there: vec!["a*b".into(), "src/[x]".into()],
                },
                on_conflict: OnConflict::Stop,
                force: false,
            }
        ]
    );
    let missing = fake.run(&["restore", "s", "a", "absent"]);
    assert_eq!(
        (missing.code, missing.stderr.as_str()),
        (4, "llctl: error: there is no absent of s\nhint: look\n")
    );
    assert_eq!(fake.requests().len(), 5, "nothing was restored");
    for wrong in [
        &["restore", "s"][..],
        &["restore", "s", "."],
        &["restore", "-x", "a"],
    ] {
        assert_eq!(fake.run(wrong).code, 2, "{wrong:?}");
    }
    let same = Fake::answering(|request| answer(request, None));
    assert_eq!(
        same.output(&["restore", "@base", "a"]),
        "All of it is as it was already.\n"
    );
}
