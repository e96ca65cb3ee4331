//! What a verification finds.

use std::fs::OpenOptions as FileOptions;
use std::os::unix::fs::FileExt;

use llctl::client::VerifyEvent;
use llctl::protocol::{Finding, FindingKind, VerifySummary};

use super::*;
use crate::engine::service::digest;
use crate::relay::Errand;
use crate::tree::{Delta, Record, Slot};

fn bench() -> Bench {
    let place = Place::new();
    place.put("a", &[1; 10_000]);
    place.put("d/b", b"b\n");
    place.open()
}

fn verify(b: &Bench) -> (Vec<Finding>, VerifySummary) {
    let mut findings = Vec::new();
    let mut sink = |event| {
        if let VerifyEvent::Finding(finding) = event {
            findings.push(finding);
        }
        Ok(())
    };
    let summary = b.host.verify(&mut sink).unwrap();
    assert_eq!(summary.findings, findings.len() as u64);
    (findings, summary)
}

/// Flips a bit of a file of the store.
fn flip(b: &Bench, path: &str, at: u64) {
    let path = b.engine.store_path().join(path);
    let file = FileOptions::new().read(true).write(true).open(&path);
    let file = file.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

/// Waits until all that is sealed has its checksums. The engine's own thread may be at it, or this does it.
fn seal(b: &Bench) {
    b.engine.house.stop();
    b.engine.store.finish_seals().unwrap();
    let layers = b.engine.store.layers().unwrap();
    assert!(layers.iter().all(|l| l.summed >= l.sealed), "{layers:?}");
}

fn layer_files(b: &Bench) -> Vec<String> {
    let listed = fs::read_dir(b.engine.store_path().join("layers")).unwrap();
    let names = listed.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|n| n.ends_with(".data")).collect();
    names.sort();
    names
}

#[test]
fn a_whole_store_has_no_findings_and_everything_is_counted() {
    let b = bench();
    b.write("a", 0, &[2; 9000]);
    b.snap("s");
    b.link("a", "d/a2");
    b.rename("d", "e", 0);
    b.remove("e/b");
    b.file("new", &[3; 5000]);
    b.host.revert(&"s".parse().unwrap(), false).unwrap();
    b.host.undo(1).unwrap();
    seal(&b);
    let (findings, summary) = verify(&b);
    assert_eq!(findings, []);
    assert_eq!((summary.snapshots, summary.files), (1, 2));
    assert_eq!(summary.bytes, (3 + 2) * 4096);
}

#[test]
fn a_flipped_bit_names_the_file_in_every_state_that_has_it() {
    let b = bench();
    b.file("ok", &[9; 4096]);
    b.dir("x");
    b.file("x/bad", &[5; 12_288]);
    b.snap("one");
    b.rename("x", "y", 0);
    b.snap("two");
    b.remove("y/bad");
    seal(&b);
    let [layer] = &layer_files(&b)[..] else {
        panic!()
    };
    // The file's three blocks came second: its middle one is the third of the layer.
    flip(&b, &format!("layers/{layer}"), 2 * 4096 + 100);
    let (findings, _) = verify(&b);
    let expected = |path: &str, state: &str| Finding {
        kind: FindingKind::Content,
        what: "its content is damaged from byte 4096 on".to_owned(),
        path: Some(BytePath::from(path)),
        states: vec![state.to_owned()],
    };
    assert_eq!(
        findings,
        [expected("x/bad", "one"), expected("y/bad", "two")]
    );
}

#[test]
fn a_damaged_block_that_no_state_has_any_more_is_nothing() {
    let b = bench();
    b.file("bad", &[5; 4096]);
    b.snap("one");
    b.remove("bad");
    seal(&b);
    let [layer] = &layer_files(&b)[..] else {
        panic!()
    };
    flip(&b, &format!("layers/{layer}"), 10);
    assert_eq!(verify(&b).0.len(), 1);
    b.host
        .delete(&[SnapName::new("one").unwrap()], None)
        .unwrap();
    assert_eq!(verify(&b).0, []);
}

#[test]
fn a_layer_that_is_cut_is_told_by_file() {
    let b = bench();
    b.file("cut", &[5; 16_384]);
    b.snap("one");
    seal(&b);
    let [layer] = &layer_files(&b)[..] else {
        panic!()
    };
    let path = b.engine.store_path().join("layers").join(layer);
    FileOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(8192)
        .unwrap();
    let (findings, _) = verify(&b);
    let content: Vec<&Finding> = (findings.iter())
        .filter(|f| f.kind == FindingKind::Content)
        .collect();
    assert_eq!(content.len(), 1, "{findings:?}");
    assert_eq!(content[0].path, Some(BytePath::from("cut")));
    assert_eq!(content[0].states, ["one", "@live"]);
    assert!(content[0].what.contains("8192"), "{findings:?}");
}

#[test]
fn damaged_checksums_are_metadata() {
    let b = bench();
    b.file("x", &[5; 4096]);
    b.snap("one");
    seal(&b);
    let [layer] = &layer_files(&b)[..] else {
        panic!()
    };
    flip(&b, &format!("layers/{}", layer.replace(".data", ".sum")), 9);
    let (findings, _) = verify(&b);
    assert!(
        findings.iter().any(|f| f.kind == FindingKind::Metadata),
        "{findings:?}"
    );
}

#[test]
fn a_changed_base_is_told() {
    let b = bench();
    b.chmod("a", 0o600);
    b.chmod("d/b", 0o600);
    assert_eq!(verify(&b).0, []);
    fs::write(b.place.base("a"), b"behind the mount").unwrap();
    fs::remove_file(b.place.base("d/b")).unwrap();
    let (findings, _) = verify(&b);
    let told: Vec<(FindingKind, String)> = (findings.iter())
        .map(|f| (f.kind, f.path.as_ref().unwrap().to_string()))
        .collect();
    let expected = ["a", "d/b"].map(|p| (FindingKind::Base, p.to_owned()));
    assert_eq!(told, expected);
    assert_eq!(findings[0].states, ["@live"]);
    assert!(findings[0].what.contains("10000 bytes"), "{findings:?}");
}

#[test]
fn a_damaged_journal_and_image_are_told() {
    let b = bench();
    b.write("a", 0, &[2; 10]);
    b.snap("s");
    b.write("a", 0, &[3; 10]);
    b.engine.write_image().unwrap();
    b.write("a", 0, &[4; 10]);
    b.engine.sync().unwrap();
    assert_eq!(verify(&b).0, []);
    let journal = b.engine.store_path().join("journal");
    let mut names: Vec<_> = (fs::read_dir(journal).unwrap())
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    let last = names.pop().unwrap().into_string().unwrap();
    // In the first frame, which begins after 128 bytes of header: what follows proves that it was whole once.
    flip(&b, &format!("journal/{last}"), 128 + 30);
    let (findings, _) = verify(&b);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].kind, FindingKind::Metadata);
    assert_eq!(
        findings[0].path,
        Some(BytePath::from(format!("journal/{last}").as_str()))
    );
    flip(&b, "images/00000001.img", 80);
    let (findings, _) = verify(&b);
    let image = Some(BytePath::from("images/00000001.img"));
    assert!(findings.iter().any(|f| f.path == image), "{findings:?}");
}

#[test]
fn states_that_contradict_themselves_are_told() {
    let b = bench();
    let ino = b.file("x", b"1");
    b.snap("good");
    {
        // A link count that no name accounts for.
        let mut state = b.engine.state.write();
        let touch = Delta::Touch {
            ino,
            size: None,
            mtime: None,
            ctime: Time::now(),
            nlink: Some(3),
        };
        b.engine
            .commit(&mut state, &Record::Change(vec![touch]))
            .unwrap();
    }
    let (findings, _) = verify(&b);
    let [finding] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert_eq!(finding.kind, FindingKind::Inconsistent);
    assert_eq!(finding.states, ["@live"]);
    assert_eq!(finding.path, Some(BytePath::from("x")));
    assert!(finding.what.contains("1 names"), "{finding:?}");
}

/// As a journal may say that somebody has made: each names what is wrong, and what is to be done with such a state has an end.
#[test]
fn directories_in_two_places_or_below_themselves_are_told_and_walked_once() {
    type Forge = fn(&Bench) -> Vec<Delta>;
    let cases: [(&str, &str, Forge); 5] = [
        ("the base's, below itself", "is below itself", |b| {
            vec![link(b.ino("d"), "x", b.ino("d"))]
        }),
        ("a new one, below itself", "has 2 names", |b| {
            vec![link(b.ino("new/sub"), "up", b.ino("new"))]
        }),
        ("out of the tree", "is below itself", |b| {
            let top = Slot::new(ROOT, b"new");
            vec![
                link(b.ino("new/sub"), "up", b.ino("new")),
                Delta::Clear(top),
            ]
        }),
        ("in two", "has 2 names", |b| {
            vec![link(b.ino("d"), "again", b.ino("new"))]
        }),
        ("in the base, too", "is in two places", |b| {
            vec![link(b.ino("new"), "again", b.ino("d"))]
        }),
    ];
    for (what, told, forge) in cases {
        let b = bench();
        b.chmod("d", 0o700);
        for dir in ["new", "new/sub", "other"] {
            b.dir(dir);
        }
        b.file("new/sub/f", b"f");
        b.snap("good");
        let (d, sub) = (b.ino("d"), b.ino("new/sub"));
        let deltas = forge(&b);
        let mut state = b.engine.state.write();
        b.engine
            .commit(&mut state, &Record::Change(deltas))
            .unwrap();
        drop(state);
        b.snap("bad");
        let b = b.killed();
        let (findings, _) = verify(&b);
        let all = ["bad", "@live"];
        let is_told = |f: &Finding| f.what.contains(told) && f.states == all;
        assert!(findings.iter().any(is_told), "{what}: {findings:?}");
        let good = |f: &Finding| f.states.iter().any(|state| state == "good");
        assert!(!findings.iter().any(good), "{what}: {findings:?}");

        // Whatever is answered.
        digest::compute_all(&b.engine);
        let (from, to) = ("good".parse().unwrap(), "bad".parse().unwrap());
        let diff = b.host.diff(Some(&from), &to, &[], true, &mut |_| Ok(()));
        let new = BytePath::from("new");
        let log = b.host.log(&new, None, &mut |_| Ok(()));
        let bad = [SnapName::new("bad").unwrap()];
        let export = b.host.export(&bad, None, (0, 0), &mut |_| Ok(()));
        let part = |glob: &str| llctl::protocol::Part {
            of: llctl::protocol::PartOf::To("good".parse().unwrap()),
            globs: vec![glob.to_owned()],
            there: Vec::new(),
        };
        let stop = llctl::protocol::OnConflict::Stop;
        let previews = ["no such thing", "new", "d"].map(|glob| {
            let shown = b
                .host
                .preview_part(&part(glob), stop, true, &mut |_| Ok(()));
            shown.map_err(|failure| failure.message)
        });
        let paths = [d, sub].map(|dir| b.engine.path_of(&Slot::new(dir, b"name")));
        let moved = [d, sub].map(|dir| b.engine.rename(ROOT, b"other", dir, b"other", 0));
        println!("{what}: {diff:?} {log:?} {export:?} {previews:?} {paths:?} {moved:?}");

        // An apply would end in the middle.
        if told != "is in two places" && what != "out of the tree" {
            let refused = b.host.apply(None, &mut |_| Ok(())).unwrap_err();
            assert!(refused.message.contains("untouched"), "{what}: {refused}");
        }
        assert!(b.place.base("d/b").exists(), "{what}");
        b.host.revert(&from, true).unwrap();
        assert_eq!(b.ino("new/sub"), sub, "{what}");
        b.host.delete(&bad, None).unwrap();
        b.host.apply(None, &mut |_| Ok(())).unwrap();
        assert!(b.place.base("new/sub/f").exists(), "{what}");
        assert!(b.place.base("d/b").exists(), "{what}");
    }
}

fn link(dir: Ino, name: &str, ino: Ino) -> Delta {
    Delta::Link {
        slot: Slot::new(dir, name.as_bytes()),
        ino,
        kind: Kind::Dir,
    }
}

#[test]
fn a_client_that_leaves_ends_it() {
    let b = bench();
    let mut sent = 0;
    let mut sink = |_| {
        sent += 1;
        Err(std::io::ErrorKind::BrokenPipe.into())
    };
    b.host.verify(&mut sink).unwrap();
    assert_eq!(sent, 1);
}

#[test]
fn nothing_is_found_while_the_tree_changes_and_space_is_taken_back() {
    let b = bench();
    b.file("x", &[1; 300_000]);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (1..=120).for_each(|round| churn(&b, round)));
        while !writer.is_finished() {
            assert_eq!(verify(&b).0, []);
            b.host.list(&ListQuery::default()).unwrap();
            b.changes("@base", "@live", true);
        }
        writer.join().unwrap();
    });
    assert_eq!(verify(&b).0, []);
}

/// Writes, makes and removes files, takes and gives up snapshots, and takes space back.
fn churn(b: &Bench, round: u64) {
    b.write("x", round % 70 * 4096, &[round as u8; 9000]);
    let name = format!("f{}", round % 7);
    match b.find(name.as_bytes()) {
        Some(_) => b.remove(&name),
        None => {
            b.file(&name, &[2; 70_000]);
        }
    }
    if round.is_multiple_of(5) {
        b.snap(&format!("s{round}"));
    }
    if round.is_multiple_of(5) && round > 10 {
        let old = SnapName::new(format!("s{}", round - 10)).unwrap();
        b.host.delete(&[old], None).unwrap();
        b.engine.reclaim().unwrap();
    }
    if round.is_multiple_of(40) {
        b.engine.write_image().unwrap();
    }
}

/// Blocks that are what they were, of a state that is not: no checksum of blocks tells that.
#[test]
fn a_state_that_is_not_what_its_checksum_says_is_damage() {
    let b = bench();
    b.snap("first");
    b.write("a", 0, b"x");
    b.snap("s");
    b.write("a", 0, b"y");
    b.snap("t");
    digest::check_all(&b);
    seal(&b);
    assert_eq!(verify(&b).0, []);
    // As if another block had got into the state.
    {
        let mut state = b.engine.state.write();
        let (id, mut wrong) = (state.snapshot("s"))
            .map(|(id, s)| (id, s.clone()))
            .unwrap();
        wrong.root = state.head.clone();
        state.insert(id, wrong);
    }
    let (findings, _) = verify(&b);
    let found: Vec<_> = findings.iter().map(|f| (f.kind, &f.states[..])).collect();
    assert_eq!(
        found,
        [(FindingKind::Inconsistent, &["s".to_owned()][..])],
        "{findings:?}"
    );
}

/// A file that no state relies on may change while nobody has it mounted; then old snapshots are not what they were.
#[test]
fn a_base_that_was_changed_is_told_by_the_checksums() {
    let mut b = bench();
    b.snap("s");
    digest::check_all(&b);
    b.engine.close().unwrap();
    let place = std::mem::replace(&mut b.place, Place::new());
    drop(b);
    place.put("d/b", b"another\n");
    let b = place.open();
    b.snap("t");
    digest::check_all(&b);
    let (findings, _) = verify(&b);
    let found: Vec<_> = findings.iter().map(|f| (f.kind, &f.states[..])).collect();
    assert_eq!(
        found,
        [(FindingKind::Base, &["s".to_owned()][..])],
        "{findings:?}"
    );
}

/// Workers that die one after the other, each a little further: what was looked at is not looked at again, and nothing that is damaged
/// gets lost on the way.
#[test]
fn the_next_worker_goes_on_with_a_verification() {
    let b = bench();
    for number in 0..8 {
        b.file(format!("keep{number}"), &[number; 4096]);
        b.file(format!("gone{number}"), &[number; 4096]);
    }
    for number in 0..8 {
        b.remove(format!("gone{number}"));
        b.snap(&format!("s{number}"));
    }
    digest::check_all(&b);
    b.engine.house.stop();
    // So that the parts of the layer that are in use don't touch.
    b.host
        .delete(&[SnapName::new("s0").unwrap()], None)
        .unwrap();
    seal(&b);
    for (client, damaged) in [(1, false), (2, true)] {
        if damaged {
            let [layer] = &layer_files(&b)[..] else {
                panic!()
            };
            flip(&b, &format!("layers/{layer}"), 8 * 4096 + 1);
        }
        let (expected, whole) = verify(&b);
        assert_eq!(expected.is_empty(), !damaged, "{expected:?}");
        let errand = Errand { client, number: 1 };
        let (mut found, mut furthest) = (Vec::new(), 0);
        let ended = (0..200).find_map(|workers| {
            let (mut left, mut cut) = (2 + workers / 20, false);
            let mut first = None;
            let mut sink = |event| {
                match event {
                    VerifyEvent::Progress(progress) => {
                        first.get_or_insert(progress.done);
                        furthest = furthest.max(progress.done);
                    }
                    VerifyEvent::Finding(finding) if !found.contains(&finding) => {
                        found.push(finding);
                    }
                    VerifyEvent::Finding(_) => {}
                }
                left -= 1;
                cut |= left == 0;
                match cut {
                    true => Err(std::io::ErrorKind::BrokenPipe.into()),
                    false => Ok(()),
                }
            };
            let before = b.engine.relay().begin_scrub(errand);
            crate::engine::service::verify::asked_by(Some(errand));
            let summary = b.host.verify(&mut sink).unwrap();
            assert!(first.is_none_or(|first| first >= before.bytes));
            (!cut).then_some((workers, summary))
        });
        let (workers, summary) = ended.expect("it ends");
        assert!(workers > 8, "{workers}");
        assert_eq!(found, expected);
        assert_eq!((summary.bytes, summary.files), (whole.bytes, whole.files));
        assert!(
            furthest <= whole.bytes,
            "{furthest}: something was read twice"
        );
    }
}
