//! `llctl export` and `llctl import`.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;

use llctl::SnapName;
use llctl::protocol::{ErrorKind, Failure, Request, Response, SnapInfo, SnapMeta};
use llctl::transfer::{Item, Reader, Writer, item};

use super::fake::{Fake, WHEN, finish, snap};

fn names(all: &[&str]) -> Vec<SnapName> {
    all.iter()
        .map(|name| SnapName::new(*name).unwrap())
        .collect()
}

/// Two blocks, which mean nothing to the client.
fn blocks() -> [Vec<u8>; 2] {
    [Item::Gone("a".into()), Item::End].map(|told| {
        let mut block = Vec::new();
        item::encode(&told, &mut block).unwrap();
        block
    })
}

fn exporting() -> Fake {
    Fake::answering(|request| match request {
        Request::Export { skip, .. } => {
            let left = blocks().into_iter().skip(*skip as usize);
            let parts = left.map(|block| Response::Content(block.into()));
            parts.chain([Response::ContentEnd]).collect()
        }
        other => panic!("{other:?}"),
    })
}

fn imported(name: &str) -> SnapInfo {
    SnapInfo {
        hash: Some("ab".repeat(32)),
        ..snap(name)
    }
}

/// A daemon that takes everything.
fn importing(known: u64) -> Fake {
    Fake::answering(move |request| {
        vec![match request {
            Request::ImportBegin { .. } => Response::Importing(known),
            Request::ImportBlock { number, .. } => Response::Importing(number + 1),
            Request::ImportEnd { .. } => Response::Imported(vec![imported("a"), imported("b")]),
            Request::ImportDrop { .. } => Response::Pong,
            other => panic!("{other:?}"),
        }]
    })
}

fn file(fake: &Fake, name: &str, bytes: &[u8]) -> PathBuf {
    let path = fake.dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn whole() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for block in blocks() {
        writer.block(&block).unwrap();
    }
    writer.finish().unwrap().0
}

fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(bytes).unwrap();
    let mut all = Vec::new();
    while let Some(block) = reader.block().unwrap() {
        all.push(block);
    }
    all
}

#[test]
fn an_export_is_a_file_or_standard_output() {
    let fake = exporting();
    let mut command = fake.command(&["export", "a", "b", "--from", "c"]);
    let piped = command.output().unwrap();
    assert_eq!(piped.status.code(), Some(0));
    assert_eq!(read(&piped.stdout), blocks());
    assert_eq!(
        fake.requests(),
        [Request::Export {
            names: names(&["a", "b"]),
            from: Some(SnapName::new("c").unwrap()),
            skip: 0,
            skipped: 0,
        }]
    );
    let bytes = piped.stdout.len();
    assert_eq!(
        fake.output(&["export", "a", "-o", "one"]),
        format!("Exported 1 snapshot to one: {bytes} B.\n")
    );
    assert_eq!(fs::read(fake.dir.join("one")).unwrap(), piped.stdout);
    assert_eq!(
        fake.output(&["export", "a", "b", "-o", "two", "--json"]),
        format!("{{\"snapshots\":[\"a\",\"b\"],\"file\":\"two\",\"bytes\":{bytes}}}\n")
    );
}

#[test]
fn an_export_goes_on_behind_the_blocks_that_are_whole() {
    let fake = exporting();
    let bytes = whole();
    let first = read(&bytes)[0].len();
    // The second block is there in part.
    file(&fake, "one.part", &bytes[..bytes.len() - 20]);
    fake.output(&["export", "a", "-o", "one"]);
    assert_eq!(fs::read(fake.dir.join("one")).unwrap(), bytes);
    assert!(!fake.dir.join("one.part").exists());
    assert!(matches!(
        fake.requests()[..],
        [Request::Export { skip: 1, skipped, .. }] if skipped != 0
    ));
    assert!(first > 0);
}

/// Two that write one file would end with a file of which no block is right.
#[test]
fn a_file_has_one_export_at_a_time() {
    let fake = exporting();
    let part = File::create(fake.dir.join("one.part")).unwrap();
    part.lock().unwrap();
    let run = fake.run(&["export", "a", "-o", "one"]);
    assert_ne!(run.code, 0);
    assert!(
        run.stderr.contains("another export writes one.part"),
        "{}",
        run.stderr
    );
    assert_eq!(fs::read(fake.dir.join("one.part")).unwrap(), b"");
    drop(part);
    fake.output(&["export", "a", "-o", "one"]);
    // While it is told, the file is locked.
    let fake = Fake::answering(|request| match request {
        Request::Export { .. } => {
            let dir = LATE.lock().unwrap().clone().unwrap();
            let part = File::options()
                .read(true)
                .open(dir.join("two.part"))
                .unwrap();
            assert!(matches!(part.try_lock(), Err(TryLockError::WouldBlock)));
            // And somebody makes a file of its name.
            fs::write(dir.join("two"), "theirs").unwrap();
            let parts = blocks()
                .into_iter()
                .map(|block| Response::Content(block.into()));
            parts.chain([Response::ContentEnd]).collect()
        }
        other => panic!("{other:?}"),
    });
    *LATE.lock().unwrap() = Some(fake.dir.clone());
    let run = fake.run(&["export", "a", "-o", "two"]);
    assert_ne!(run.code, 0);
    assert!(
        run.stderr.contains("two is there already"),
        "{}",
        run.stderr
    );
    assert_eq!(fs::read(fake.dir.join("two")).unwrap(), b"theirs");
    assert_eq!(fs::read(fake.dir.join("two.part")).unwrap(), whole());
}

/// Where the daemon looks at what the client does meanwhile.
static LATE: Mutex<Option<PathBuf>> = Mutex::new(None);

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_asked() {
    let fake = exporting();
    let run = fake.run(&["export", "a", "--json"]);
    assert_eq!(run.code, 2);
    assert_eq!(
        run.stdout,
        "{\"error\":{\"kind\":\"invalid\",\"message\":\"with --json, the export cannot go to standard output\",\"hint\":\"name a file with -o\"}}\n"
    );
    file(&fake, "there", b"mine");
    let run = fake.run(&["export", "a", "-o", "there"]);
    assert_eq!(run.code, 5);
    assert_eq!(
        run.stderr,
        "llctl: error: there is there already\nhint: choose another name, or remove that file\n"
    );
    assert_eq!(fs::read(fake.dir.join("there")).unwrap(), b"mine");
    assert_eq!(fake.run(&["export"]).code, 2);
    let run = fake.run(&["import", "missing"]);
    assert_eq!(run.code, 4);
    assert!(
        run.stderr
            .starts_with("llctl: error: cannot read missing: "),
        "{}",
        run.stderr
    );
    assert!(fake.requests().is_empty());
}

#[test]
fn an_import_sends_blocks_and_names_what_it_made() {
    let fake = importing(0);
    file(&fake, "export", &whole());
    let hash = "ab".repeat(32);
    let said = format!("Imported a, hash {hash}.\nImported b, hash {hash}.\n");
    assert_eq!(fake.output(&["import", "export", "--as", "x"]), said);
    let requests = fake.requests();
    let [
        Request::ImportBegin { import, names: to },
        Request::ImportBlock {
            number: 0,
            before: 0,
            block: first,
            ..
        },
        Request::ImportBlock {
            number: 1,
            before,
            block: second,
            ..
        },
        Request::ImportEnd {
            import: ended,
            blocks: 2,
            sum,
        },
    ] = &requests[..]
    else {
        panic!("{requests:?}");
    };
    assert_eq!((import, to), (ended, &names(&["x"])));
    assert_eq!([first.to_vec(), second.to_vec()], blocks());
    assert!(*before != 0 && sum != before);
    let mut command = fake.command(&["import", "-", "--json"]);
    command.stdin(Stdio::from(File::open(fake.dir.join("export")).unwrap()));
    let run = finish(command);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(json["imported"][1]["name"], "b");
    // Another name is another import.
    let other = fake.requests().into_iter().rev().find_map(|r| match r {
        Request::ImportBegin { import, .. } => Some(import),
        _ => None,
    });
    assert_ne!(other.as_ref(), Some(import));
}

#[test]
fn blocks_that_are_there_are_not_sent_again() {
    let fake = importing(1);
    file(&fake, "export", &whole());
    fake.output(&["import", "export"]);
    assert!(matches!(
        fake.requests()[..],
        [
            Request::ImportBegin { .. },
            Request::ImportBlock { number: 1, before, .. },
            Request::ImportEnd { blocks: 2, .. },
        ] if before != 0
    ));
}

#[test]
fn a_damaged_file_is_named_as_such_and_given_up() {
    let fake = importing(0);
    let bytes = whole();
    let cut = bytes.len() - 5;
    file(&fake, "cut", &bytes[..cut]);
    let run = fake.run(&["import", "cut"]);
    assert_eq!(run.code, 7);
    assert_eq!(
        run.stderr,
        "llctl: error: the export is not whole: it ends behind block 2\nhint: nothing of it was kept; get the file again\n"
    );
    let last = fake.requests().pop();
    assert!(matches!(last, Some(Request::ImportDrop { .. })), "{last:?}");
    file(&fake, "other", b"#!/bin/sh");
    let run = fake.run(&["import", "other"]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (1, "llctl: error: this is no export of llfs\n")
    );
    let mut later = bytes.clone();
    later[8] = 2;
    let sum = xxhash_rust::xxh3::xxh3_64(&later[..16]);
    later[16..24].copy_from_slice(&sum.to_le_bytes());
    file(&fake, "later", &later);
    let run = fake.run(&["import", "later"]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (
            1,
            "llctl: error: this export is of version 2, and this program reads version 1\n"
        )
    );
}

#[test]
fn an_import_of_which_the_daemon_knows_nothing_any_more_begins_again() {
    let tries = std::sync::atomic::AtomicU32::new(0);
    let fake = Fake::answering(move |request| {
        let first = tries.load(std::sync::atomic::Ordering::Relaxed) == 0;
        vec![match request {
            Request::ImportBegin { .. } => Response::Importing(0),
            Request::ImportBlock { number: 1, .. } if first => {
                tries.store(1, std::sync::atomic::Ordering::Relaxed);
                Response::Error(Failure::new(ErrorKind::Conflict, "what import?"))
            }
            Request::ImportBlock { number, .. } => Response::Importing(number + 1),
            _ => Response::Imported(vec![imported("a")]),
        }]
    });
    file(&fake, "export", &whole());
    assert!(fake.output(&["import", "export"]).starts_with("Imported a"));
    assert_eq!(fake.requests().len(), 3 + 4);
}

#[test]
fn show_tells_when_a_snapshot_was_imported() {
    let meta = SnapMeta {
        imported: Some(WHEN),
        ..SnapMeta::default()
    };
    let fake = Fake::new(vec![Response::Show(llctl::protocol::SnapDetail {
        snapshot: SnapInfo {
            meta,
            ..imported("a")
        },
        previous: None,
        since_previous: None,
        to_live: None,
        archived: None,
        config: None,
    })]);
    assert!(
        fake.output(&["show", "a"])
            .contains("imported   2026-11-21 11:44:02\n")
    );
    let json: serde_json::Value =
        serde_json::from_str(&fake.output(&["show", "a", "--json"])).unwrap();
    assert_eq!(json["snapshot"]["meta"]["imported"], "2026-11-21T11:44:02Z");
}
