//! Export and import through real mounts: what comes out is what went in, whole or not at all.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use llctl::protocol::{ErrorKind, SnapInfo};
use llctl::transfer::{Entry, Item, Reader, Writer, item};
use llctl::{ClientError, SnapName};
use llfs_tests::command::{Run, until};
use llfs_tests::dice::Random;
use llfs_tests::killer::{kill_worker, worker_of};
use llfs_tests::manifest::{Ignore, walk};
use llfs_tests::mounted::Mounted;
use llfs_tests::seeded;
use serde_json::Value;

/// What a stranger may have: also names that are no text, holes, links, pipes, attributes and times before 1970.
fn fill(base: &Path) {
    fs::create_dir_all(base.join("dir/deep/er")).unwrap();
    fs::write(base.join("dir/a"), "a").unwrap();
    fs::write(base.join("dir/deep/er/b"), vec![7; 1_000_000]).unwrap();
    fs::hard_link(base.join("dir/a"), base.join("other")).unwrap();
    fs::write(base.join(OsStr::from_bytes(b"n\xffot text")), "x").unwrap();
    symlink("dir/nowhere", base.join("link")).unwrap();
    let sparse = File::create(base.join("sparse")).unwrap();
    sparse.set_len(1 << 26).unwrap();
    sparse.write_all_at(b"middle", (1 << 25) + 5).unwrap();
    fs::write(base.join("tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(base.join("tool"), fs::Permissions::from_mode(0o6755)).unwrap();
    Run::shell("mkfifo pipe; touch -d '1960-01-01 00:00:00.123456789' dir/a; touch empty")
        .dir(base)
        .ok();
}

/// Changes of every sort.
fn change(mounted: &Mounted) {
    let at = |name: &str| mounted.path(name);
    fs::write(at("dir/a"), "changed").unwrap();
    fs::rename(at("dir/deep"), at("moved")).unwrap();
    fs::create_dir(at("dir/deep")).unwrap();
    fs::write(at("dir/deep/new"), "new").unwrap();
    fs::remove_file(at("link")).unwrap();
    fs::create_dir(at("link")).unwrap();
    fs::remove_file(at("empty")).unwrap();
    fs::hard_link(at("tool"), at("dir/tool")).unwrap();
    fs::set_permissions(at("dir"), fs::Permissions::from_mode(0o700)).unwrap();
    let sparse = File::options().write(true).open(at("sparse")).unwrap();
    sparse.write_all_at(b"more", 1 << 33).unwrap();
}

fn other(name: &str) -> Mounted {
    Mounted::over(name, |base| {
        fs::write(base.join("mine"), "mine").unwrap();
        fs::create_dir(base.join("dir")).unwrap();
        fs::write(base.join("dir/a"), "not theirs").unwrap();
    })
}

fn file(mounted: &Mounted, name: &str) -> PathBuf {
    mounted.scratch.path().join(name)
}

fn export(mounted: &Mounted, args: &[&str], name: &str) -> PathBuf {
    let file = file(mounted, name);
    let mut all = vec!["export", "-o", file.to_str().unwrap()];
    all.extend(args);
    mounted.llctl(&all).ok();
    file
}

fn import(mounted: &Mounted, file: &Path) -> Vec<Value> {
    let done = mounted.json(&["import", file.to_str().unwrap()]);
    done["imported"].as_array().unwrap().clone()
}

#[test]
fn a_checkpoint_goes_to_another_mount_and_is_the_same() {
    let here = Mounted::over("export-here", fill);
    here.snap("untouched");
    let untouched = walk(&here.dir);
    change(&here);
    let said = [
        "snap", "changed", "-m", "why", "--task", "t", "--tag", "green", "--metric", "n=1",
    ];
    here.llctl(&said).ok();
    let changed = walk(&here.dir);
    let both = export(&here, &["untouched", "changed"], "both");
    assert_eq!(
        fs::metadata(&both).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let there = other("export-there");
    there.snap("mine");
    let mine = walk(&there.dir);
    fs::write(there.path("later"), "later").unwrap();
    let imported = import(&there, &both);
    assert_eq!(imported.len(), 2);
    for info in &imported {
        let name = info["name"].as_str().unwrap();
        let shown = here.json(&["show", name])["snapshot"].clone();
        for field in ["name", "created", "message"] {
            assert_eq!(info[field], shown[field], "{field}");
        }
        assert!(info["hash"].is_string() && info["meta"]["imported"].is_string());
    }
    assert_eq!(imported[1]["meta"]["metrics"]["n"], 1);
    assert_eq!(imported[1]["meta"]["task"], "t");
    // The tree is what it was; and what was imported is not what happened here.
    assert_eq!(fs::read(there.path("later")).unwrap(), b"later");
    let diff = there.llctl(&["diff"]).ok().out();
    assert!(diff.contains("later") && !diff.contains("dir/a"), "{diff}");
    let log = there.llctl(&["log", "dir/a"]).ok().out();
    assert!(
        !log.contains("changed") && !log.contains("untouched"),
        "{log}"
    );
    // It can be looked at, compared and reverted to.
    let seen = fs::read(there.path(".llfs/changed/dir/a")).unwrap();
    assert_eq!(seen, b"changed");
    let apart = there.llctl(&["diff", "untouched", "changed"]).ok().out();
    let apart_here = here.llctl(&["diff", "untouched", "changed"]).ok().out();
    assert!(apart.contains("dir/deep/new") && apart_here.contains("dir/deep/new"));
    there.verify().ok();
    for (name, manifest) in [("changed", &changed), ("untouched", &untouched)] {
        there.revert(name);
        manifest.assert_same(&walk(&there.dir), Ignore::another_tree(), name);
    }
    // What is written then is not written into the snapshot.
    fs::write(there.path("dir/a"), "scribble").unwrap();
    fs::write(there.path("moved"), "scribble").unwrap();
    there.revert("untouched");
    untouched.assert_same(&walk(&there.dir), Ignore::another_tree(), "untouched again");
    there.revert("mine");
    mine.assert_same(&walk(&there.dir), Ignore::another_tree(), "mine");
    // It survives, and goes without a trace.
    there.kill9();
    there.mount();
    there.revert("changed");
    changed.assert_same(&walk(&there.dir), Ignore::another_tree(), "after a crash");
    there.verify().ok();
    there.revert("mine");
    there.delete("untouched");
    there.revert("changed");
    changed.assert_same(
        &walk(&there.dir),
        Ignore::another_tree(),
        "without the other one",
    );
    there.verify().ok();
    // And back again, from there.
    let back = export(&there, &["changed"], "back");
    here.llctl(&["import", back.to_str().unwrap(), "--as", "round"])
        .ok();
    assert_eq!(here.hash("round"), here.hash("changed"));
    assert!(
        here.llctl(&["diff", "changed", "round"])
            .ok()
            .out()
            .is_empty()
    );
}

#[test]
fn an_incremental_export_needs_the_other_one() {
    let here = Mounted::over("export-from", fill);
    here.snap("one");
    change(&here);
    here.snap("two");
    let two = walk(&here.dir);
    let whole = export(&here, &["one"], "whole");
    let more = export(&here, &["two", "--from", "one"], "more");
    let there = other("export-to");
    let refused = there.llctl(&["import", more.to_str().unwrap()]).finish();
    assert_eq!(refused.code(), 4, "{}", refused.err());
    assert!(there.names().is_empty());
    import(&there, &whole);
    import(&there, &more);
    there.revert("two");
    two.assert_same(&walk(&there.dir), Ignore::another_tree(), "two");
    there.verify().ok();
    // Also where that one has the base's own files.
    let copy = Mounted::over("export-copy", |base| {
        let from = here.path(".llfs/one/.");
        Run::new("cp")
            .args(["-a".as_ref(), from.as_os_str(), base.as_os_str()])
            .ok();
    });
    copy.snap("mine");
    assert_eq!(copy.hash("mine"), here.hash("one"));
    import(&copy, &more);
    copy.revert("two");
    two.assert_same(&walk(&copy.dir), Ignore::another_tree(), "two of the base");
    copy.remount();
    two.assert_same(
        &walk(&copy.dir),
        Ignore::another_tree(),
        "two after a remount",
    );
    copy.verify().ok();
}

#[test]
fn what_is_damaged_or_cut_leaves_nothing() {
    let here = Mounted::over("export-damage", fill);
    here.snap("one");
    let whole = fs::read(export(&here, &["one"], "whole")).unwrap();
    let there = other("export-damaged");
    let wrong = file(&there, "wrong");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let longer = [&whole[..], b"x"].concat();
    let cuts = [1, 30, whole.len() / 2, whole.len() - 1];
    let cuts = cuts.iter().map(|at| whole[..*at].to_vec());
    for bytes in cuts.chain([flipped, longer, Vec::new(), b"PK\x03\x04".to_vec()]) {
        fs::write(&wrong, &bytes).unwrap();
        let refused = there.llctl(&["import", wrong.to_str().unwrap()]).finish();
        assert_ne!(refused.code(), 0, "{} bytes", bytes.len());
        assert!(refused.err().contains("export"), "{}", refused.err());
    }
    assert!(there.names().is_empty());
    there.verify().ok();
    // The same file, whole, is taken after that, once.
    fs::write(&wrong, &whole).unwrap();
    import(&there, &wrong);
    let again = there.llctl(&["import", wrong.to_str().unwrap()]).finish();
    assert_eq!(again.code(), 5, "{}", again.err());
    assert_eq!(there.names(), ["one"]);
    there.remount();
    assert_eq!(there.names(), ["one"]);
    there.verify().ok();
}

#[test]
fn an_unfinished_export_is_gone_on_with_and_a_terminal_is_spared() {
    let here = Mounted::over("export-part", |base| {
        fill(base);
        // Random enough to take several blocks.
        let noise = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
        fs::write(base.join("noise"), noise.collect::<Vec<u8>>()).unwrap();
    });
    here.snap("one");
    let whole = export(&here, &["one"], "whole");
    let bytes = fs::read(&whole).unwrap();
    let target = file(&here, "again");
    let part = file(&here, "again.part");
    fs::write(&part, &bytes[..bytes.len() * 2 / 3]).unwrap();
    export(&here, &["one"], "again");
    assert_eq!(fs::read(&target).unwrap(), bytes);
    assert!(!part.exists());
    // The beginning of another export is not gone on with.
    fs::write(here.path("dir/a"), "changed").unwrap();
    here.snap("two");
    fs::remove_file(&target).unwrap();
    fs::write(&part, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let args = ["export", "two", "-o", target.to_str().unwrap()];
    assert_ne!(here.llctl(&args).finish().code(), 0);
    assert!(!target.exists());
    // Standard output is the same file; what is there is not overwritten.
    let piped = here.llctl(&["export", "one"]).ok();
    assert_eq!(piped.stdout, bytes);
    let taken = here
        .llctl(&["export", "one", "-o", whole.to_str().unwrap()])
        .finish();
    assert_eq!(taken.code(), 5);
    let llctl = llfs_tests::binaries::directory().join("llctl");
    let line = format!("{} -C {} export one", llctl.display(), here.dir.display());
    let terminal = here.program("script").args(["-qec", &line, "/dev/null"]);
    let shown = terminal.finish();
    assert!(shown.text().contains("terminal"), "{}", shown.text());
    assert_ne!(shown.code(), 0);
}

/// An export of which so many bytes are read before something else happens.
struct Meanwhile<'a, F> {
    bytes: &'a [u8],
    read: usize,
    at: usize,
    act: Option<F>,
}

impl<F: FnOnce()> std::io::Read for Meanwhile<'_, F> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.read >= self.at
            && let Some(act) = self.act.take()
        {
            act();
        }
        let got = std::io::Read::read(&mut &self.bytes[self.read..], out)?;
        self.read += got;
        Ok(got)
    }
}

/// Imports, and does something else when half of it was read.
fn import_meanwhile(
    mounted: &Mounted,
    bytes: &[u8],
    act: impl FnOnce(),
) -> Result<Vec<SnapInfo>, ClientError> {
    let from = Meanwhile {
        bytes,
        read: 0,
        at: bytes.len() / 2,
        act: Some(act),
    };
    mounted.client().import(from, Vec::new(), |_| {})
}

/// Bytes of layers that the store has.
fn layers(mounted: &Mounted) -> u64 {
    let status = mounted.json(&["status"]);
    status["store_parts"]["layers"].as_u64().unwrap()
}

/// What was given up is taken back after a while.
fn until_layers_take_less_than(mounted: &Mounted, bytes: u64) {
    until(
        "the space to be taken back",
        Duration::from_secs(60),
        || (layers(mounted) < bytes).then_some(()),
    );
}

/// Breaks off somewhere, as a disk or a network may.
struct Half<'a>(&'a [u8]);

impl std::io::Read for Half<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match self.0 {
            [] => Err(std::io::Error::other("broken off")),
            _ => self.0.read(out),
        }
    }
}

/// Bytes that no compressor makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut at = 88_172_645_463_325_252u64;
    let step = |_| {
        at ^= at << 13;
        at ^= at >> 7;
        at ^= at << 17;
        (at >> 24) as u8
    };
    (0..bytes).map(step).collect()
}

#[test]
fn an_import_that_was_broken_off_is_gone_on_with_or_leaves_nothing() {
    let here = Mounted::over("export-half", |base| {
        fill(base);
        fs::write(base.join("noise"), noise(5_000_000)).unwrap();
    });
    here.snap("one");
    let one = walk(&here.dir);
    let path = export(&here, &["one"], "whole");
    let whole = fs::read(&path).unwrap();
    let half = || Half(&whole[..whole.len() / 2]);
    let there = other("export-halves");
    // The daemon dies, and with it what it had.
    let mut client = there.client();
    assert!(client.import(half(), Vec::new(), |_| {}).is_err());
    assert!(there.names().is_empty());
    there.kill9();
    there.mount();
    assert!(there.names().is_empty());
    there.verify().ok();
    // Others go on meanwhile, snapshots and reverts too.
    let mut client = there.client();
    assert!(client.import(half(), Vec::new(), |_| {}).is_err());
    there.snap("mine");
    fs::write(there.path("dir/a"), "later").unwrap();
    there.revert("mine");
    drop(client);
    import(&there, &path);
    assert_eq!(there.names(), ["mine", "one"]);
    there.revert("one");
    one.assert_same(&walk(&there.dir), Ignore::another_tree(), "one");
    there.verify().ok();
}

#[test]
fn a_full_disk_leaves_nothing_of_an_import() {
    let here = Mounted::over("export-big", |base| {
        fs::write(base.join("noise"), noise(40 << 20)).unwrap();
    });
    here.snap("one");
    let path = export(&here, &["one"], "whole");
    let there = Mounted::prepare("export-full");
    there.mount_run().args(["--max-store", "32M"]).ok();
    let refused = there.llctl(&["import", path.to_str().unwrap()]).finish();
    assert_eq!(refused.code(), 8, "{}", refused.err());
    assert!(there.names().is_empty());
    // There is as much room as before, as often as one likes.
    for _ in 0..3 {
        let again = there.llctl(&["import", path.to_str().unwrap()]).finish();
        assert_eq!(again.code(), 8, "{}", again.err());
        fs::write(there.path("file"), noise(1 << 20)).unwrap();
        fs::remove_file(there.path("file")).unwrap();
    }
    there.verify().ok();
}

/// Where the frames of an export begin, and its end.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut at = 24;
    let mut all = vec![at];
    while at < bytes.len() {
        let stored = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        at += 16 + stored as usize;
        all.push(at);
    }
    assert_eq!(at, bytes.len());
    all
}

#[test]
fn cut_at_every_frame_and_wrong_in_every_region_is_refused_whole() {
    let mut here = Mounted::over("export-frames", |base| {
        fill(base);
        fs::write(base.join("noise"), noise(3_000_000)).unwrap();
    });
    here.allow(Duration::from_secs(300));
    here.snap("one");
    fs::write(here.path("dir/a"), "changed").unwrap();
    here.snap("two");
    let whole = fs::read(export(&here, &["one", "two"], "whole")).unwrap();
    let mut there = other("export-wrong");
    there.allow(Duration::from_secs(300));
    there.snap("mine");
    let mut client = there.client();
    let before = layers(&there);
    let mut refuse = |bytes: &[u8], what: &str| {
        let refused = client.import(bytes, Vec::new(), |_| {});
        let Err(ClientError::Failure(failure)) = refused else {
            panic!("{what}: {refused:?}");
        };
        let kinds = [
            ErrorKind::Damaged,
            ErrorKind::Invalid,
            ErrorKind::Unsupported,
        ];
        assert!(kinds.contains(&failure.kind), "{what}: {failure:?}");
    };
    let frames = frames(&whole);
    assert!(frames.len() > 5, "{frames:?}");
    for &at in &frames[..frames.len() - 1] {
        for cut in [at, at + 7, at + 16] {
            refuse(&whole[..cut.min(whole.len() - 1)], &format!("cut at {cut}"));
        }
    }
    // The parts of the header, and of each frame: its lengths, its checksum, its bytes.
    let mut regions = vec![0, 3, 8, 12, 16, 23];
    for pair in frames.windows(2) {
        let (at, end) = (pair[0], pair[1]);
        regions.extend([at, at + 2, at + 4, at + 6, at + 8, at + 15]);
        regions.extend([at + 16, (at + 16).midpoint(end), end - 1].map(|n| n.min(end - 1)));
    }
    for (n, at) in regions.into_iter().enumerate() {
        let mut wrong = whole.clone();
        wrong[at] ^= 1 << (n % 8);
        refuse(&wrong, &format!("bit {} of byte {at}", n % 8));
    }
    assert_eq!(there.names(), ["mine"]);
    // One of them had three megabytes: nothing of these stays.
    until_layers_take_less_than(&there, before + 1_000_000);
    there.verify().ok();
    there.remount();
    assert_eq!(there.names(), ["mine"]);
    let imported = there.client().import(&whole[..], Vec::new(), |_| {});
    assert_eq!(imported.unwrap().len(), 2);
    there.verify().ok();
}

/// An export of these items, each in a block of its own, so that all checksums of the file are right.
fn made_of(items: &[Item]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for told in items {
        let mut block = Vec::new();
        item::encode(told, &mut block).unwrap();
        writer.block(&block).unwrap();
    }
    writer.finish().unwrap().0
}

fn items_of(bytes: &[u8]) -> Vec<Item> {
    let mut reader = Reader::new(bytes).unwrap();
    let mut all = Vec::new();
    while let Some(block) = reader.block().unwrap() {
        all.extend(item::decode(&block).unwrap());
    }
    all
}

/// Somebody else may have made the file: what it tells is not believed.
#[test]
fn an_export_that_lies_is_refused_whole() {
    let here = Mounted::over("export-truth", |base| {
        fs::create_dir(base.join("dir")).unwrap();
        fs::write(base.join("dir/a"), noise(300_000)).unwrap();
        fs::hard_link(base.join("dir/a"), base.join("dir/b")).unwrap();
        symlink("a", base.join("link")).unwrap();
    });
    here.snap("one");
    let truth = items_of(&fs::read(export(&here, &["one"], "whole")).unwrap());
    let there = other("export-lies");
    let before = layers(&there);
    let refuse = |what: &str, lie: &dyn Fn(&mut Vec<Item>)| {
        let mut items = truth.clone();
        lie(&mut items);
        assert!(items != truth, "{what}");
        let refused = there
            .client()
            .import(&made_of(&items)[..], Vec::new(), |_| {});
        let Err(ClientError::Failure(failure)) = refused else {
            panic!("{what}: {refused:?}");
        };
        let kinds = [ErrorKind::Damaged, ErrorKind::Invalid];
        assert!(kinds.contains(&failure.kind), "{what}: {failure:?}");
        assert!(there.names().is_empty(), "{what}");
    };
    let entry = |path: &'static str, lie: &dyn Fn(&mut Entry), items: &mut Vec<Item>| {
        for told in items {
            if let Item::Entry(entry) = told
                && entry.path.0 == path.as_bytes()
            {
                lie(entry);
            }
        }
    };
    refuse("other bytes", &|items| {
        let data = items.iter_mut().find_map(|told| match told {
            Item::Data { bytes, .. } => Some(bytes),
            _ => None,
        });
        data.unwrap()[1000] ^= 1;
    });
    refuse("missing bytes", &|items| {
        items.retain(|told| !matches!(told, Item::Data { at, .. } if *at > 0));
    });
    refuse("another mode", &|items| {
        entry("dir/a", &|e| e.perm = 0o4777, items)
    });
    refuse("another owner", &|items| {
        entry("dir", &|e| e.uid = 1, items)
    });
    refuse("a way out", &|items| {
        entry("dir/a", &|e| e.path = "dir/../../a".into(), items);
    });
    refuse("a name of two", &|items| {
        entry("link", &|e| e.path = "/etc/passwd".into(), items);
    });
    refuse("a path through a link", &|items| {
        entry("dir/b", &|e| e.path = "link/b".into(), items);
    });
    refuse("a file of eight exabytes", &|items| {
        entry("dir/a", &|e| e.size = 1 << 63, items);
    });
    refuse("a link to what is not told", &|items| {
        entry("dir/b", &|e| e.link = Some(77), items);
    });
    refuse("a device that is a directory", &|items| {
        entry("dir", &|e| e.device = 5, items)
    });
    refuse("twice the same", &|items| {
        let again = items[items.len() - 2].clone();
        items.insert(items.len() - 2, again);
    });
    refuse("no end", &|items| {
        items.pop();
    });
    refuse("bytes of nothing", &|items| {
        let bytes = vec![1; 4096].into();
        items.insert(1, Item::Data { at: 0, bytes });
    });
    refuse("something that was not there is gone", &|items| {
        items.insert(1, Item::Gone("never".into()));
    });
    refuse("a state in a state", &|items| {
        let first = items[0].clone();
        items.insert(3, first);
    });
    until_layers_take_less_than(&there, before + 250_000);
    there.verify().ok();
    there
        .client()
        .import(&made_of(&truth)[..], Vec::new(), |_| {})
        .unwrap();
    there.verify().ok();
}

/// What is there of one import is not taken for the beginning of another that begins alike.
#[test]
fn two_exports_that_begin_alike_are_two() {
    let here = Mounted::over("export-alike", |base| {
        fs::write(base.join("noise"), noise(4_000_000)).unwrap();
    });
    here.snap("one");
    let mut files = Vec::new();
    for name in ["two", "three"] {
        fs::write(here.path(name), noise(3_000_000 + name.len())).unwrap();
        here.snap(name);
        files.push(export(&here, &["one", name], &format!("to-{name}")));
        here.revert("one");
    }
    let there = other("export-alikes");
    let bytes = fs::read(&files[0]).unwrap();
    let most = Half(&bytes[..bytes.len() - 100_000]);
    assert!(there.client().import(most, Vec::new(), |_| {}).is_err());
    import(&there, &files[1]);
    assert_eq!(there.names(), ["one", "three"]);
    there.verify().ok();
}

/// Snapshots, reverts, deletions with their space, and other imports go on while one is under way.
#[test]
fn whatever_happens_during_an_import_it_is_what_was_exported() {
    let here = Mounted::over("export-during", |base| {
        fill(base);
        fs::write(base.join("noise"), noise(6_000_000)).unwrap();
    });
    here.snap("one");
    let one = walk(&here.dir);
    let path = export(&here, &["one"], "whole");
    let whole = fs::read(&path).unwrap();
    let there = other("export-busy");
    fs::write(there.path("big"), noise(8_000_000)).unwrap();
    there.snap("big");
    fs::remove_file(there.path("big")).unwrap();
    there.snap("mine");
    let done = import_meanwhile(&there, &whole, || {
        let before = layers(&there);
        there.delete("big");
        until_layers_take_less_than(&there, before - 6_000_000);
        fs::write(there.path("later"), "later").unwrap();
        there.revert("mine");
        there.undo();
        // There is one import at a time.
        let refused = there
            .llctl(&["import", "--as", "other", path.to_str().unwrap()])
            .finish();
        assert_eq!(refused.code(), 6, "{}", refused.text());
        there.snap("between");
    });
    assert_eq!(done.unwrap().len(), 1);
    assert_eq!(there.names(), ["mine", "between", "one"]);
    assert_eq!(fs::read(there.path("later")).unwrap(), b"later");
    there.verify().ok();
    there.revert("one");
    one.assert_same(&walk(&there.dir), Ignore::another_tree(), "one");
    there.remount();
    one.assert_same(
        &walk(&there.dir),
        Ignore::another_tree(),
        "one, mounted again",
    );
    there.verify().ok();
}

/// What is exported may be given up meanwhile: the file is whole and right, or there is none.
#[test]
fn what_is_exported_while_it_goes_is_whole_or_refused() {
    let here = Mounted::over("export-pruned", fill);
    fs::write(here.path("noise"), noise(40_000_000)).unwrap();
    here.snap("goes");
    let goes = walk(&here.dir);
    fs::remove_file(here.path("noise")).unwrap();
    here.snap("stays");
    let path = file(&here, "whole");
    let exporting = here
        .llctl(&["export", "goes", "-o", path.to_str().unwrap()])
        .start();
    let before = layers(&here);
    here.delete("goes");
    // The space is taken back while it is read, or afterwards.
    until_layers_take_less_than(&here, before - 30_000_000);
    let done = exporting.finish();
    let there = other("export-pruned-there");
    match done.code() {
        0 => {
            import(&there, &path);
            there.revert("goes");
            goes.assert_same(&walk(&there.dir), Ignore::another_tree(), "goes");
        }
        code => {
            assert!([1, 4].contains(&code), "{code}: {}", done.text());
            let nothing = there.llctl(&["import", path.to_str().unwrap()]).finish();
            assert_ne!(nothing.code(), 0);
            assert!(there.names().is_empty());
        }
    }
    here.verify().ok();
}

/// An apply makes another base, on which nothing that was told relies any more.
#[test]
fn an_apply_during_an_import_has_it_begin_again() {
    let here = Mounted::over("export-apply", |base| {
        fill(base);
        fs::write(base.join("noise"), noise(3_000_000)).unwrap();
    });
    here.snap("one");
    let one = walk(&here.dir);
    let path = export(&here, &["one"], "whole");
    let whole = fs::read(&path).unwrap();
    let there = other("export-applied");
    fs::write(there.path("new"), "new").unwrap();
    let refused = import_meanwhile(&there, &whole, || {
        there.llctl(&["apply", "--yes"]).ok();
    });
    let Err(ClientError::Failure(failure)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(failure.kind, ErrorKind::Conflict);
    assert!(there.names().is_empty());
    import(&there, &path);
    there.revert("one");
    one.assert_same(&walk(&there.dir), Ignore::another_tree(), "one");
    there.verify().ok();
    there.llctl(&["apply", "--yes"]).ok();
    there.unmount();
    one.assert_same(&walk(&there.dir), Ignore::another_tree(), "one, applied");
}

/// The program goes on by itself: from a file it reads again what the worker had.
#[test]
fn an_import_whose_worker_is_killed_is_made_once() {
    let seed = seeded::first_seed();
    println!("LLFS_SEED={seed}");
    let mut random = Random::new(seed);
    let mut here = Mounted::over("export-kill", |base| {
        fill(base);
        fs::write(base.join("noise"), noise(5_000_000)).unwrap();
    });
    here.snap("one");
    let one = walk(&here.dir);
    let path = export(&here, &["one"], "whole");
    let mut there = other("export-killed");
    here.allow(Duration::from_secs(300));
    there.allow(Duration::from_secs(300));
    let supervisor = there.pid();
    let mut took = Duration::from_millis(500);
    for round in 0..6 {
        let name = format!("round-{round}");
        let begun = std::time::Instant::now();
        let run = there.llctl(&["import", path.to_str().unwrap(), "--as", &name]);
        let mut running = run.start();
        for _ in 0..round.min(3) {
            let wait = Duration::from_micros(random.below(took.as_micros() as usize) as u64);
            if running.wait(wait).is_some() {
                break;
            }
            if worker_of(supervisor).is_some() {
                kill_worker(supervisor);
            }
        }
        let done = running.finish();
        assert_eq!(done.code(), 0, "{}", done.text());
        if round == 0 {
            took = begun.elapsed();
        }
        let hits = there.names().into_iter().filter(|n| *n == name);
        assert_eq!(hits.count(), 1);
    }
    let acts = there.json(&["history", "--what", "import"]);
    // One that ended just when its worker was killed says so, and was made after that.
    let made = acts["acts"].as_array().unwrap().iter();
    let made = made.filter(|act| act["error"].is_null());
    assert_eq!(made.count(), 6, "{acts}");
    there.verify().ok();
    for round in [0, 3, 5] {
        there.revert(&format!("round-{round}"));
        one.assert_same(&walk(&there.dir), Ignore::another_tree(), "imported");
    }
}

/// As a library has it; and what the history and `show` say.
#[test]
fn programs_export_and_import_without_a_file() {
    let here = Mounted::over("export-library", fill);
    here.snap("one");
    let one = walk(&here.dir);
    let name = |text: &str| SnapName::new(text).unwrap();
    let mut writer = llctl::transfer::Writer::new(Vec::new()).unwrap();
    let known = llctl::client::Known::default();
    here.client()
        .export(vec![name("one")], None, known, |block| writer.block(block))
        .unwrap();
    let (bytes, _) = writer.finish().unwrap();
    let there = other("export-librarian");
    let mut seen = Vec::new();
    let imported = there
        .client()
        .import(&bytes[..], vec![name("theirs")], |done| seen.push(done))
        .unwrap();
    assert_eq!(imported[0].name, "theirs");
    assert!(seen.is_sorted() && seen.last() < Some(&(bytes.len() as u64)));
    let shown = there.llctl(&["show", "theirs"]).ok().out();
    assert!(shown.contains("\nimported   "), "{shown}");
    let acts = there.json(&["history"])["acts"].clone();
    assert_eq!(acts[0]["what"], "import");
    assert_eq!(acts[0]["targets"][0], "theirs");
    let too_many = there
        .client()
        .import(&bytes[..], vec![name("a"), name("b")], |_| {});
    assert!(too_many.is_err());
    assert_eq!(there.names(), ["theirs"]);
    // Nobody has heard of this one.
    let missing = here
        .client()
        .export(vec![name("nobody")], None, known, |_| Ok(()));
    let Err(ClientError::Failure(failure)) = missing else {
        panic!("{missing:?}");
    };
    assert_eq!(failure.kind, ErrorKind::NotFound);
    there.revert("theirs");
    one.assert_same(&walk(&there.dir), Ignore::another_tree(), "theirs");
}
