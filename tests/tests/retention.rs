//! `llfs.toml`, and what retention gives up, through a real mount.
#![allow(clippy::unwrap_used)]

use std::fs;

use llfs_tests::manifest::Ignore;
use llfs_tests::mounted::Mounted;

/// A snapshot that nobody asked for, as a hook of an agent takes them.
fn automatic(mounted: &Mounted, name: &str) {
    mounted.llctl(&["snap", name, "--reason", "automatic"]).ok();
}

#[test]
fn a_file_is_in_force_once_it_was_trusted_and_no_sooner() {
    let mounted = Mounted::new("config-trust");
    let file = mounted.path("llfs.toml");
    let state = || mounted.json(&["config", "show"]);
    // The disk may be nearly full.
    let warned = || {
        let status = mounted.json(&["status"]);
        let warnings = status["warnings"].as_array().unwrap().iter();
        let ours = warnings.filter_map(|w| w.as_str().filter(|w| w.contains("llfs.toml")));
        ours.collect::<String>()
    };
    assert_eq!((&state()["file"], warned().as_str()), (&"none".into(), ""));
    // Components need no trust.
    fs::write(&file, "[components]\nweb = [\"web\"]\n").unwrap();
    assert_eq!(
        (&state()["file"], warned().as_str()),
        (&"in_force".into(), "")
    );
    fs::write(&file, "[retention]\nkeep_last = 7\n").unwrap();
    assert_eq!(state()["file"], "untrusted");
    assert_eq!(state()["rules"]["retention"]["keep_last"], 50);
    assert!(warned().contains("llctl config trust"), "{}", warned());
    assert_eq!(mounted.llctl(&["config", "trust"]).finish().code(), 6);
    assert_eq!(state()["file"], "untrusted");
    mounted.llctl(&["config", "trust", "--yes"]).ok();
    let trusted = state();
    assert_eq!(trusted["rules"]["retention"]["keep_last"], 7);
    assert_eq!(trusted["file"], "in_force");
    // What a program makes of the file afterwards changes nothing.
    let kept = || state()["rules"]["retention"]["keep_last"].clone();
    let broken = "[retention]\nkeep_last = -1\n";
    for (text, how) in [
        ("[retention]\nkeep_last = 0\n", "untrusted"),
        (broken, "broken"),
    ] {
        fs::write(&file, text).unwrap();
        assert_eq!((state()["file"].as_str().unwrap(), kept()), (how, 7.into()));
    }
    assert!(warned().contains("line 2, column 13"), "{}", warned());
    let check = mounted.llctl(&["config", "check"]).finish();
    assert_eq!(check.code(), 1);
    assert!(check.err().contains("llfs.toml:2:13: "), "{}", check.err());
    assert_eq!(
        mounted.llctl(&["config", "trust", "--yes"]).finish().code(),
        1
    );
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    assert_eq!(
        (state()["file"].as_str().unwrap(), kept()),
        ("broken", 7.into())
    );
    fs::remove_file(&file).unwrap();
    assert_eq!(
        (state()["file"].as_str().unwrap(), kept()),
        ("gone", 7.into())
    );
    // It stays in force over mounts.
    mounted.remount();
    assert_eq!(kept(), 7);
    assert_eq!(state()["hash"], trusted["hash"]);
    mounted.llctl(&["config", "trust", "--yes"]).ok();
    assert_eq!(
        (state()["file"].as_str().unwrap(), kept()),
        ("none", 50.into())
    );
    mounted.remount();
    assert_eq!(kept(), 50);
}

#[test]
fn prune_gives_up_what_nobody_asked_for_and_says_what_that_frees() {
    let mounted = Mounted::new("prune");
    let file = mounted.path("data");
    let mib = |byte: u8| vec![byte; 1 << 20];
    mounted.snap("mine");
    // Two that share a version of the file: it goes only with both.
    fs::write(&file, mib(1)).unwrap();
    automatic(&mounted, "a1");
    fs::write(mounted.path("other"), "x").unwrap();
    automatic(&mounted, "a2");
    fs::write(&file, mib(2)).unwrap();
    automatic(&mounted, "pinned");
    mounted.llctl(&["pin", "pinned"]).ok();
    automatic(&mounted, "tagged");
    mounted.llctl(&["tag", "tagged", "good"]).ok();
    automatic(&mounted, "newest");
    let all = mounted.names();
    let plan = mounted.json(&["prune", "--keep-last", "1", "-n"]);
    let going: Vec<&str> = (plan["snapshots"].as_array().unwrap().iter())
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(going, ["a1", "a2"]);
    assert_eq!(plan["frees"], 1 << 20);
    assert_eq!(mounted.names(), all, "a plan changes nothing");
    assert_eq!(
        mounted
            .llctl(&["prune", "--keep-last", "1"])
            .finish()
            .code(),
        6
    );
    let before = mounted.manifest();
    let done = mounted.json(&["prune", "--keep-last", "1", "--yes"]);
    assert_eq!(done["snapshots"], plan["snapshots"]);
    assert_eq!(mounted.names(), ["mine", "pinned", "tagged", "newest"]);
    before.assert_same(&mounted.manifest(), Ignore::default(), "pruned");
    let history = mounted.json(&["history", "--what", "prune"]);
    assert_eq!(
        history["acts"][0]["targets"],
        serde_json::json!(["a1", "a2"])
    );
    assert_eq!(history["acts"].as_array().unwrap().len(), 1);
    // By the rules in force everything stays.
    let kept = mounted.json(&["prune", "--yes"]);
    assert_eq!(kept["snapshots"], serde_json::json!([]));
    let all = mounted.json(&["prune", "--all", "--keep-last", "0", "-n"]);
    assert_eq!(all["snapshots"].as_array().unwrap().len(), 2);
}

#[test]
fn undo_finds_what_was_pruned_with_everything_that_led_there() {
    let mounted = Mounted::new("prune-undo");
    let file = mounted.path("f");
    fs::write(&file, "one").unwrap();
    automatic(&mounted, "one");
    fs::write(&file, "two").unwrap();
    automatic(&mounted, "two");
    fs::write(&file, "three").unwrap();
    mounted.revert("one");
    mounted.llctl(&["prune", "--keep-last", "0", "--yes"]).ok();
    assert_eq!(mounted.names(), Vec::<String>::new());
    assert_eq!(fs::read(&file).unwrap(), b"one");
    mounted.llctl(&["undo"]).ok();
    assert_eq!(fs::read(&file).unwrap(), b"three");
    mounted.llctl(&["redo"]).ok();
    assert_eq!(fs::read(&file).unwrap(), b"one");
    mounted.llctl(&["verify"]).ok();
}
