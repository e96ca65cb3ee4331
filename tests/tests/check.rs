//! `llfs check`: a damaged store is told from a sound one, what a repair gives up is said before, and nothing is destroyed.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use llfs_tests::command::{Finished, Run};
use llfs_tests::dice::pattern;
use llfs_tests::manifest::{Ignore, Manifest, walk};
use llfs_tests::mounted::Mounted;
use llfs_tests::wound::Wound;
use serde_json::Value;

fn check(mounted: &Mounted, args: &[&str]) -> Finished {
    let check = mounted.llfs(&["check"]).arg(&mounted.dir);
    check.arg("--store").arg(&mounted.store).args(args).finish()
}

fn check_json(mounted: &Mounted, args: &[&str], code: i32) -> Value {
    let answer = check(mounted, args_with_json(args).as_slice()).expect_code(code);
    serde_json::from_slice(&answer.stdout).unwrap_or_else(|e| panic!("{e}: {}", answer.out()))
}

fn args_with_json<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut all = args.to_vec();
    all.push("--json");
    all
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    Run::new("cp").arg("-a").arg(from).arg(to).ok();
}

/// All of the store but what any look at it changes.
fn bytes_of(store: &Path) -> Manifest {
    let mut manifest = walk(store);
    (manifest.0).retain(|name, _| !name.starts_with(b"llfs.log") && name != b"lock");
    manifest
}

/// The files of a store with these endings in these directories; there is one of each at least.
fn files_of(store: &Path, kinds: &[(&str, &str)]) -> Vec<PathBuf> {
    let files = kinds.iter().flat_map(|(place, end)| {
        let found = files_in(store, place, end);
        assert!(!found.is_empty(), "{place}");
        found
    });
    files.collect()
}

fn files_in(store: &Path, place: &str, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.join(place)).unwrap();
    let mut all: Vec<_> = entries
        .map(|entry| PathBuf::from(place).join(entry.unwrap().file_name()))
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    all.sort();
    all
}

#[test]
fn a_sound_store_is_told_so_and_stays_as_it_is() {
    let mounted = Mounted::new("check-sound");
    fs::write(mounted.path("file"), pattern(1, 50_000)).unwrap();
    mounted.snap("s");
    let refused = check(&mounted, &[]).expect_code(6);
    assert!(refused.err().contains("verify"), "{}", refused.err());
    mounted.unmount();
    let before = bytes_of(&mounted.store);
    let said = check(&mounted, &[]).expect_code(0);
    assert!(said.out().contains("no damage"), "{}", said.out());
    let report = check_json(&mounted, &["--repair", "--yes"], 0);
    assert_eq!(report["sound"], true, "{report}");
    assert_eq!(report["repaired"], false, "{report}");
    assert_eq!(report["snapshots"], serde_json::json!(["s"]));
    assert_eq!(report["verified"]["files"], 1);
    before.assert_same(&bytes_of(&mounted.store), Ignore::default(), "checked");
}

#[test]
fn without_a_store_there_is_nothing_to_check() {
    let mounted = Mounted::prepare("check-none");
    assert_eq!(check(&mounted, &[]).code(), 1);
    assert!(!mounted.store.exists());
}

/// The middle of the journal: what lies behind it is named, given up only with consent, and kept aside.
#[test]
fn a_damaged_journal_is_repaired_only_after_an_account() {
    let mounted = Mounted::new("check-journal");
    fs::write(mounted.path("first"), pattern(1, 20_000)).unwrap();
    mounted.snap("before");
    let then = mounted.manifest();
    // So that the damage is before the first of what comes now.
    let journal = files_in(&mounted.store, "journal", ".log").pop().unwrap();
    let journal = mounted.store.join(journal);
    let end = written(&journal);
    fs::write(mounted.path("second"), pattern(2, 20_000)).unwrap();
    mounted.snap("after");
    fs::write(mounted.path("third"), "x").unwrap();
    mounted.kill9();
    let whole = fs::read(&journal).unwrap();
    assert!(Wound::Flip.inflict(&journal, end, end + 64));
    let damaged = fs::read(&journal).unwrap();
    assert_ne!(whole, damaged);

    let refused = mounted.mount_run().finish().expect_code(7);
    assert!(refused.err().contains("llfs check"), "{}", refused.err());
    mounted.mount_run().arg("--read-only").ok();
    then.assert_same(&mounted.manifest(), Ignore::default(), "shown read-only");
    let status = mounted.json(&["status"]);
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("damaged"), "{warnings}");
    mounted.llctl(&["verify"]).finish().expect_code(7);
    mounted.unmount();

    let before = bytes_of(&mounted.store);
    let said = check(&mounted, &[]).expect_code(7).out();
    assert!(said.contains("after"), "{said}");
    assert!(said.contains("the snapshot before"), "{said}");
    let report = check_json(&mounted, &[], 7);
    assert_eq!(report["lost"]["snapshots"], serde_json::json!(["after"]));
    assert_eq!(report["snapshots"], serde_json::json!(["before"]));
    let offset = report["damage"]["offset"].as_u64().unwrap();
    assert!((end..end + 40).contains(&offset), "{offset}, not {end}");
    let refused = check(&mounted, &["--repair"]).expect_code(6);
    assert!(refused.err().contains("--yes"), "{}", refused.err());
    before.assert_same(&bytes_of(&mounted.store), Ignore::default(), "looked at");

    let report = check_json(&mounted, &["--repair", "--yes"], 0);
    assert_eq!(report["repaired"], true, "{report}");
    let aside = PathBuf::from(report["aside"][0].as_str().unwrap());
    assert_eq!(fs::read(aside).unwrap(), damaged);
    check(&mounted, &[]).expect_code(0);
    mounted.mount();
    then.assert_same(&mounted.manifest(), Ignore::default(), "repaired");
    fs::write(mounted.path("second"), pattern(9, 9000)).unwrap();
    mounted.snap("after");
    mounted.remount();
    assert_eq!(fs::read(mounted.path("second")).unwrap(), pattern(9, 9000));
    mounted.verify();
}

/// Where the frames of a journal segment end, behind which there are zeros.
fn written(journal: &Path) -> u64 {
    let bytes = fs::read(journal).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    (last as u64 + 1).next_multiple_of(8)
}

#[test]
fn a_superblock_is_written_anew() {
    let mounted = Mounted::new("check-superblock");
    fs::write(mounted.path("file"), pattern(1, 50_000)).unwrap();
    mounted.snap("s");
    let head = mounted.manifest();
    mounted.unmount();
    let superblock = mounted.store.join("superblock");
    let whole = mounted.scratch.path().join("whole");
    copy(&mounted.store, &whole);
    for wound in Wound::ALL {
        copy(&whole, &mounted.store);
        let length = fs::metadata(&superblock).unwrap().len();
        assert!(wound.inflict(&superblock, 24, length));
        mounted.mount_run().finish().expect_code(7);
        assert_eq!(mounted.mount_run().arg("--read-only").finish().code(), 7);
        check(&mounted, &[]).expect_code(7);
        check(&mounted, &["--repair", "--yes"]).expect_code(0);
        mounted.mount();
        head.assert_same(&mounted.manifest(), Ignore::default(), "a new superblock");
        mounted.unmount();
    }
    fs::remove_file(&superblock).unwrap();
    check(&mounted, &["--repair", "--yes"]).expect_code(0);
    mounted.mount();
    head.assert_same(&mounted.manifest(), Ignore::default(), "a lost superblock");
}

/// A state from before a damage may have blocks that were given back after it: they are no zeros, but errors.
#[test]
fn what_was_given_back_after_the_damage_is_an_error() {
    let mounted = Mounted::new("check-given-back");
    mounted.snap("useless");
    fs::write(mounted.path("gone"), pattern(1, 1 << 20)).unwrap();
    fs::write(mounted.path("kept"), pattern(2, 9000)).unwrap();
    let journal = files_in(&mounted.store, "journal", ".log").pop().unwrap();
    let journal = mounted.store.join(journal);
    let end = written(&journal);
    let taken = || {
        use std::os::unix::fs::MetadataExt;
        let layer = files_in(&mounted.store, "layers", ".data").pop().unwrap();
        fs::metadata(mounted.store.join(layer)).unwrap().blocks() * 512
    };
    assert!(taken() > 1 << 20);
    fs::remove_file(mounted.path("gone")).unwrap();
    mounted.delete("useless");
    let patience = Duration::from_secs(30);
    llfs_tests::command::until("space that is given back", patience, || {
        (taken() < 512 << 10).then_some(())
    });
    mounted.kill9();
    assert!(Wound::Flip.inflict(&journal, end, end + 64));
    let look = || {
        let error = fs::read(mounted.path("gone"))
            .map(drop)
            .expect_err("bytes that are gone were served");
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert_eq!(fs::read(mounted.path("kept")).unwrap(), pattern(2, 9000));
        let said = mounted.llctl(&["verify"]).finish().expect_code(7).text();
        assert!(said.contains("gone"), "{said}");
        mounted.unmount();
    };
    mounted.mount_run().arg("--read-only").ok();
    look();
    check(&mounted, &["--repair", "--yes"]).expect_code(7);
    for _ in 0..2 {
        mounted.mount();
        look();
    }
}

/// Regions of each file that are damaged, each in every way.
fn regions() -> u64 {
    let given = std::env::var("LLFS_REGIONS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Every region of every file of a store, flipped, zeroed and cut off. A file's name says what its bytes are, in whatever
/// state it is shown: it has them, or reading it is an error, or it is not there because the history ends earlier.
#[test]
fn whatever_is_damaged_no_wrong_byte_is_served() {
    let mut mounted = Mounted::new("check-regions");
    mounted.allow(Duration::from_secs(600));
    let name = |number: u16| format!("file{number}");
    for number in 0..12 {
        fs::write(mounted.path(&name(number)), pattern(number, 30_000)).unwrap();
        if number % 4 == 3 {
            mounted.snap(&format!("s{number}"));
        }
    }
    mounted.remount();
    for number in 12..16 {
        fs::write(mounted.path(&name(number)), pattern(number, 5_000)).unwrap();
    }
    mounted.remount();
    // Names only from here on, since blocks without checksums are not told from damaged ones.
    for number in 0..4 {
        let from = mounted.path(&name(number));
        fs::rename(&from, mounted.path(&format!("moved{number}"))).unwrap();
        mounted.snap(&format!("t{number}"));
    }
    mounted.kill9();
    mounted.mount_run().arg("--read-only").ok();
    let head = mounted.manifest();
    mounted.unmount();
    let whole = mounted.scratch.path().join("whole");
    copy(&mounted.store, &whole);
    let mut files = vec![PathBuf::from("superblock")];
    files.extend(files_of(
        &whole,
        &[
            ("journal", ".log"),
            ("layers", ".data"),
            ("layers", ".sum"),
            ("images", ".img"),
        ],
    ));
    let (mut done, mut refused, mut harmless) = (0u32, 0u32, 0u32);
    for file in files {
        let end = match file.starts_with("journal") {
            true => written(&whole.join(&file)),
            false => fs::metadata(whole.join(&file)).unwrap().len(),
        };
        let step = end.div_ceil(regions()).max(1);
        for wound in Wound::ALL {
            for from in (0..end).step_by(usize::try_from(step).unwrap()) {
                let what = format!("{wound:?} of {} from {from}", file.display());
                copy(&whole, &mounted.store);
                let to = (from + step).min(end);
                if !wound.inflict(&mounted.store.join(&file), from, to) {
                    continue;
                }
                done += 1;
                let mounting = mounted.mount_run().finish();
                if mounting.code() == 0 {
                    let shown = look(&mounted, &what);
                    harmless += u32::from(shown);
                    if !shown {
                        // What cannot be read is named.
                        mounted.llctl(&["verify"]).finish().expect_code(7);
                    }
                    mounted.unmount();
                    continue;
                }
                refused += 1;
                assert_eq!(mounting.code(), 7, "{what}: {}", mounting.text());
                if mounted.mount_run().arg("--read-only").finish().code() == 0 {
                    look(&mounted, &what);
                    mounted.unmount();
                }
                check(&mounted, &[]).expect_code(7);
                let repaired = check(&mounted, &["--repair", "--yes"]);
                assert!(
                    matches!(repaired.code(), 0 | 7),
                    "{what}: {}",
                    repaired.text()
                );
                mounted.mount();
                look(&mounted, &what);
                mounted.unmount();
            }
        }
    }
    copy(&whole, &mounted.store);
    mounted.mount();
    head.assert_same(&mounted.manifest(), Ignore::default(), "the whole store");
    eprintln!("{done} damages: {refused} refused, {harmless} without any effect");
    assert!(refused > 0 && harmless > 0 && done > refused + harmless);
}

/// What is good to know may be damaged in any way: the history, who changed what, checksums of the base's files, rules. Nothing of the tree
/// hangs on it, and rules that are damaged are those before, or the defaults.
#[test]
fn whatever_is_damaged_of_the_notes_hinders_nothing() {
    let mut mounted = Mounted::over("check-notes", |base| {
        for number in 0..4 {
            fs::write(base.join(format!("file{number}")), pattern(number, 30_000)).unwrap();
        }
    });
    mounted.allow(Duration::from_secs(600));
    for keep in [7, 9] {
        mounted.rules(&format!("[retention]\nkeep_last = {keep}\n"));
    }
    fs::remove_file(mounted.path("llfs.toml")).unwrap();
    for number in 4..8 {
        let path = mounted.path(&format!("file{number}"));
        fs::write(path, pattern(number, 30_000)).unwrap();
        mounted.snap(&format!("s{number}"));
    }
    mounted.llctl(&["who", "."]).ok();
    mounted.hash("s7");
    mounted.unmount();
    let whole = mounted.scratch.path().join("whole");
    copy(&mounted.store, &whole);
    let files = files_of(
        &whole,
        &[
            ("history", ".acts"),
            ("notes", ".who"),
            ("contents", ".sums"),
            ("rules", ".toml"),
        ],
    );
    let mut done = 0;
    for file in &files {
        let end = fs::metadata(whole.join(file)).unwrap().len();
        let step = end.div_ceil(regions()).max(1);
        for wound in Wound::ALL {
            for from in (0..end).step_by(usize::try_from(step).unwrap()) {
                let what = format!("{wound:?} of {} from {from}", file.display());
                copy(&whole, &mounted.store);
                let to = (from + step).min(end);
                wound.inflict(&mounted.store.join(file), from, to);
                mounted.mount();
                assert!(look(&mounted, &what), "{what}");
                mounted.json(&["history"]);
                mounted.llctl(&["who", "file5"]).ok();
                let rules = &mounted.json(&["config", "show"])["rules"]["retention"];
                let keep = rules["keep_last"].as_u64().unwrap();
                let newest = file.ends_with("00000002.toml");
                let right = if newest { keep == 7 } else { keep == 9 };
                assert!(right, "{what}: keep_last = {keep}");
                mounted.snap("more");
                mounted.verify();
                mounted.unmount();
                done += 1;
            }
        }
    }
    eprintln!("{done} damages");
    assert!(done >= 24, "only {done} damages");
}

/// Reads everything; whether all of it could be read.
fn look(mounted: &Mounted, what: &str) -> bool {
    let mut whole = true;
    for entry in fs::read_dir(&mounted.dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let number = name.trim_start_matches(char::is_alphabetic);
        let number: u16 = number.parse().unwrap_or_else(|_| panic!("{what}: {name}"));
        let length = if number < 12 { 30_000 } else { 5_000 };
        match fs::read(entry.path()) {
            Ok(bytes) => assert!(
                bytes == pattern(number, length),
                "{what}: {name} has other bytes"
            ),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EIO), "{what}: {name}");
                whole = false;
            }
        }
    }
    whole
}
