//! Which programs changed a file, and in which checkpoints: `llctl who`, `llctl log`, `llctl cat`.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

use llfs_tests::command::{Run, until};
use llfs_tests::killer::kill_worker;
use llfs_tests::mounted::Mounted;
use llfs_tests::sys;
use serde_json::Value;

fn base(name: &str) -> Mounted {
    Mounted::over(name, |base| {
        fs::create_dir(base.join("src")).unwrap();
        fs::write(base.join("src/main.rs"), "one\ntwo\n").unwrap();
        fs::write(base.join("other"), "other").unwrap();
    })
}

/// The entries that a command prints as JSON.
fn entries(mounted: &Mounted, args: &[&str]) -> Vec<Value> {
    let out = mounted.llctl(args).arg("--json").ok().out();
    let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["entry"].clone();
    out.lines().map(line).collect()
}

/// What a log says, in short: state, kind, and who did what.
fn log(mounted: &Mounted, path: &str) -> Vec<String> {
    let all = entries(mounted, &["log", &mounted.path(path).display().to_string()]);
    all.iter().map(short).collect()
}

fn short(entry: &Value) -> String {
    let by: Vec<String> = (entry["by"].as_array().unwrap().iter())
        .map(|author| {
            let did: Vec<&str> = (author["did"].as_array().unwrap().iter())
                .map(|deed| deed.as_str().unwrap())
                .collect();
            format!("{}:{}", author["command"].as_str().unwrap(), did.join("+"))
        })
        .collect();
    let kind = entry["kind"].as_str().unwrap_or("-");
    format!(
        "{} {kind} {}",
        entry["state"].as_str().unwrap(),
        by.join(" ")
    )
    .trim_end()
    .to_owned()
}

fn shell(mounted: &Mounted, script: &str) {
    Run::shell(script).dir(&mounted.dir).ok();
}

#[test]
fn each_checkpoint_knows_which_programs_changed_a_file() {
    let mounted = base("who-programs");
    shell(&mounted, "sed -i s/one/1/ src/main.rs");
    mounted.snap("a");
    shell(&mounted, "echo x > other");
    mounted.snap("b");
    shell(
        &mounted,
        "truncate -s 2 src/main.rs; touch -d 2001-01-01 src/main.rs",
    );
    assert_eq!(
        log(&mounted, "src/main.rs"),
        [
            "@live modified truncate:wrote touch:attributes",
            "a modified sed:made+wrote+attributes+named+removed",
        ]
    );
    assert_eq!(log(&mounted, "other"), ["b modified bash:wrote"]);
    mounted.snap("c");
    shell(&mounted, "mv src/main.rs src/new.rs; chmod 600 src/new.rs");
    shell(&mounted, "rm other; ln src/new.rs link");
    assert_eq!(
        log(&mounted, "src/new.rs"),
        [
            "@live renamed mv:named chmod:attributes ln:named",
            "c modified truncate:wrote touch:attributes",
            "a modified sed:made+wrote+attributes+named+removed",
        ]
    );
    assert_eq!(
        log(&mounted, "other"),
        ["@live removed rm:removed", "b modified bash:wrote"]
    );
    let below = entries(
        &mounted,
        &["log", &mounted.path("src").display().to_string()],
    );
    assert_eq!(below[0]["below"]["renamed"], 1);
    assert_eq!(below.len(), 3);
    // Pid, user, command line and time are those of the process.
    let who = entries(
        &mounted,
        &["who", &mounted.path("src/new.rs").display().to_string()],
    );
    let touch = &who[1]["by"][1];
    assert_eq!(touch["line"], "touch -d 2001-01-01 src/main.rs");
    assert_eq!(touch["uid"], nix::unistd::geteuid().as_raw());
    assert!(touch["pid"].as_u64().unwrap() > 1);
    let text = mounted
        .llctl(&["who"])
        .arg(mounted.path("src/new.rs"))
        .ok()
        .out();
    assert!(text.contains("chmod") && !text.contains("bash"), "{text}");
    let one = entries(
        &mounted,
        &[
            "log",
            "-n",
            "1",
            &mounted.path("src/new.rs").display().to_string(),
        ],
    );
    assert_eq!(one.len(), 1);
    mounted
        .llctl(&["log", "/elsewhere"])
        .finish()
        .expect_code(2);
    let absent = mounted.llctl(&["log"]).arg(mounted.path("absent"));
    absent.finish().expect_code(4);
}

/// A shell makes the file before it becomes the program that writes it.
#[test]
fn a_redirected_program_is_named() {
    let mounted = base("who-exec");
    let script = "(exec sleep 0) ; sh -c 'exec sed s/one/1/ > out' < src/main.rs; cp out copy";
    shell(&mounted, script);
    let out = log(&mounted, "out");
    assert_eq!(out.len(), 1);
    assert!(out[0].contains("sed:wrote"), "{out:?}");
    assert_eq!(log(&mounted, "copy"), ["@live added cp:made+wrote"]);
}

#[test]
fn reverts_and_undos_keep_who_did_what() {
    let mounted = base("who-reverts");
    mounted.snap("a");
    shell(&mounted, "sed -i s/one/1/ src/main.rs");
    mounted.snap("b");
    shell(&mounted, "truncate -s 0 src/main.rs");
    mounted.revert("a");
    assert_eq!(
        log(&mounted, "src/main.rs"),
        ["b modified sed:made+wrote+attributes+named+removed"]
    );
    shell(&mounted, "chmod 600 src/main.rs");
    mounted.snap("c");
    // It came from a, so what sed did is not in it.
    let both = [
        "c mode chmod:attributes",
        "b modified sed:made+wrote+attributes+named+removed",
    ];
    assert_eq!(log(&mounted, "src/main.rs"), both);
    mounted.revert("b");
    shell(&mounted, "cp other src/main.rs");
    mounted.revert("a");
    mounted.undo();
    assert_eq!(log(&mounted, "src/main.rs")[0], "@live modified cp:wrote");
    mounted.snap("d");
    shell(&mounted, "touch -d 2001-01-01 src/main.rs");
    mounted.remount();
    let all = log(&mounted, "src/main.rs");
    assert_eq!(
        all[..2],
        ["@live times touch:attributes", "d modified cp:wrote"]
    );
    assert_eq!(all[2..], both);
    // Without the snapshot the tree still came from what the undo brought back.
    mounted.delete("d");
    let all = log(&mounted, "src/main.rs");
    assert_eq!(all[0], "@live modified cp:wrote touch:attributes");
}

/// What is not restored is still of whom it was before.
/// What was undone is redone after a snapshot of something else: what there is then came from `a`, and `c` from `b`.
#[test]
fn undo_snap_and_redo_keep_what_came_from_what() {
    let mounted = base("who-lines");
    shell(&mounted, "echo a > other");
    mounted.snap("a");
    shell(&mounted, "echo b > other");
    mounted.snap("b");
    mounted.revert("a");
    mounted.undo();
    mounted.snap("c");
    mounted.llctl(&["redo"]).ok();
    let expected = ["b modified bash:wrote", "a modified bash:wrote"];
    assert_eq!(log(&mounted, "other"), expected);
    shell(&mounted, "cp other copy");
    mounted.remount();
    assert_eq!(log(&mounted, "other"), expected);
    assert_eq!(log(&mounted, "copy"), ["@live added cp:made+wrote"]);
}

#[test]
fn what_led_to_a_snapshot_that_is_given_up_led_to_the_next_one() {
    let mounted = base("who-given-up");
    for (name, script) in [
        ("a", "echo a > other"),
        ("b", "sed -i s/a/b/ other"),
        ("c", "cp src/main.rs other"),
    ] {
        shell(&mounted, script);
        mounted.snap(name);
    }
    mounted.llctl(&["delete", "-y", "a", "b"]).ok();
    let told = log(&mounted, "other");
    assert_eq!(told.len(), 1);
    for by in ["c modified", "bash:", "sed:", "cp:"] {
        assert!(told[0].contains(by), "{told:?}");
    }
    mounted.remount();
    assert_eq!(log(&mounted, "other"), told);
}

#[test]
fn a_partial_revert_keeps_who_did_the_rest() {
    let mounted = base("who-partial");
    mounted.snap("a");
    shell(&mounted, "truncate -s 2 src/main.rs; echo x > other");
    mounted
        .llctl(&["restore", "a"])
        .arg(mounted.path("other"))
        .ok();
    assert_eq!(
        log(&mounted, "src/main.rs"),
        ["@live modified truncate:wrote"]
    );
    assert_eq!(log(&mounted, "other"), [""; 0]);
    mounted.snap("b");
    assert_eq!(log(&mounted, "src/main.rs"), ["b modified truncate:wrote"]);
}

#[test]
fn a_store_through_a_mapping_is_nobodys() {
    let mounted = base("who-mapped");
    let path = mounted.path("src/main.rs");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mapped = sys::Mapping::new(&file, 8, true).unwrap();
    mapped.write(0, b"ONE");
    mapped.sync().unwrap();
    mounted.snap("a");
    assert_eq!(log(&mounted, "src/main.rs"), ["a modified :wrote"]);
    let text = mounted.llctl(&["who"]).arg(&path).ok().out();
    assert!(text.contains("(a mapping)"), "{text}");
}

/// It is written every few seconds; what was written before is there after the daemon is killed.
#[test]
fn a_killed_daemon_loses_the_last_moments_at_most() {
    let mounted = base("who-killed");
    shell(&mounted, "sed -i s/one/1/ src/main.rs");
    let notes = mounted.store.join("notes");
    let written = || fs::read_dir(&notes).map_or(0, Iterator::count) > 0;
    let patience = Duration::from_secs(60);
    until("the authors are on the disk", patience, || {
        written().then_some(())
    });
    kill_worker(mounted.pid());
    shell(&mounted, "truncate -s 2 src/main.rs");
    mounted.snap("a");
    let expected = ["a modified sed:made+wrote+attributes+named+removed truncate:wrote"];
    assert_eq!(log(&mounted, "src/main.rs"), expected);
    mounted.kill9();
    mounted.mount();
    assert_eq!(log(&mounted, "src/main.rs"), expected);
}

/// Nothing that is wrong with the notes keeps anybody from the mount.
#[test]
fn damaged_notes_are_left_out() {
    let mounted = base("who-damaged");
    shell(&mounted, "sed -i s/one/1/ src/main.rs");
    mounted.snap("a");
    assert_eq!(log(&mounted, "src/main.rs").len(), 1);
    mounted.unmount();
    let wound = |change: &dyn Fn(&Path)| {
        for note in fs::read_dir(mounted.store.join("notes")).unwrap() {
            change(&note.unwrap().path());
        }
        mounted.mount();
        let all = log(&mounted, "src/main.rs");
        assert_eq!(all, ["a modified"]);
        mounted.verify().ok();
        mounted.unmount();
    };
    wound(&|path| {
        let mut bytes = fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(path, bytes).unwrap();
    });
    wound(&|path| fs::write(path, [0xff; 100]).unwrap());
    wound(&|path| fs::write(path, []).unwrap());
    fs::remove_dir_all(mounted.store.join("notes")).unwrap();
    fs::write(mounted.store.join("notes"), "no directory").unwrap();
    mounted.mount();
    shell(&mounted, "chmod 600 src/main.rs");
    assert_eq!(log(&mounted, "src/main.rs"), ["@live mode", "a modified"]);
}

#[test]
fn an_apply_begins_anew() {
    let mounted = base("who-apply");
    shell(&mounted, "sed -i s/one/1/ src/main.rs; chmod 600 other");
    mounted.snap("a");
    mounted.llctl(&["apply", "--yes"]).ok();
    assert_eq!(log(&mounted, "src/main.rs"), [""; 0]);
    assert_eq!(
        fs::read_dir(mounted.store.join("notes")).map_or(0, Iterator::count),
        0
    );
    shell(&mounted, "touch -d 2001-01-01 other");
    assert_eq!(log(&mounted, "other"), ["@live times touch:attributes"]);
}

#[test]
fn cat_prints_a_file_of_any_state() {
    let mounted = base("who-cat");
    let path = mounted.path("src/main.rs");
    let big: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    fs::write(&path, &big).unwrap();
    mounted.snap("big");
    fs::remove_dir_all(mounted.path("src")).unwrap();
    std::os::unix::fs::symlink("other", mounted.path("link")).unwrap();
    let cat = |what: String| mounted.llctl(&["cat", &what]).finish();
    let there = path.display();
    assert!(cat(format!("big:{there}")).stdout == big);
    assert_eq!(cat(format!("@base:{there}")).out(), "one\ntwo\n");
    assert_eq!(cat(format!("@0s:{there}")).stdout.len(), big.len());
    assert_eq!(
        cat(format!("@live:{}", mounted.path("other").display())).out(),
        "other"
    );
    // Paths are relative to where one is.
    let inside = mounted.program(llfs_tests::binaries::llctl());
    let inside = inside
        .args(["cat", "big:../src/main.rs"])
        .dir(mounted.path("."));
    inside.finish().expect_code(2);
    let failing = [
        (format!("absent:{there}"), 4, "no snapshot named"),
        (
            format!("@live:{there}"),
            4,
            "there is no src/main.rs of @live",
        ),
        (
            format!("big:{}", mounted.path("src").display()),
            1,
            "a directory",
        ),
        (
            format!("@live:{}", mounted.path("link").display()),
            1,
            "a symbolic link to other",
        ),
        ("big:/elsewhere".to_owned(), 2, "not inside the mount"),
    ];
    for (what, code, why) in failing {
        let run = cat(what).expect_code(code);
        assert!(run.err().contains(why), "{}", run.err());
    }
}
