//! What real commands print and how they exit, end to end; and the README's demo as it is written.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use llfs_tests::command::{Finished, Run, until};
use llfs_tests::dice::pattern;
use llfs_tests::mounted::Mounted;
use llfs_tests::{binaries, scratch::Scratch, sys};
use serde_json::Value;

fn base(name: &str) -> Mounted {
    Mounted::over(name, |base| {
        fs::write(base.join("changed.txt"), "one\ntwo\nthree\n").unwrap();
        fs::write(base.join("removed.txt"), "gone").unwrap();
        fs::write(base.join("moved.txt"), "the same").unwrap();
        fs::write(base.join("mode"), "m").unwrap();
        fs::write(base.join("typed"), "t").unwrap();
        fs::write(base.join("tagged"), "x").unwrap();
    })
}

fn change_all(mounted: &Mounted) {
    fs::write(mounted.path("changed.txt"), "one\n2\nthree\n").unwrap();
    fs::remove_file(mounted.path("removed.txt")).unwrap();
    fs::rename(mounted.path("moved.txt"), mounted.path("new name.txt")).unwrap();
    fs::set_permissions(mounted.path("mode"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::remove_file(mounted.path("typed")).unwrap();
    symlink("away", mounted.path("typed")).unwrap();
    sys::set_xattr(&mounted.path("tagged"), b"user.tag", b"1", 0).unwrap();
    fs::create_dir(mounted.path("added")).unwrap();
    fs::write(mounted.path("added/file"), pattern(1, 5000)).unwrap();
}

/// The lines that end in times or sizes of this run are cut there.
fn out(finished: Finished) -> String {
    finished.ok().out()
}

#[test]
fn a_diff_names_every_kind_of_change() {
    let mounted = base("diff");
    mounted.snap("before");
    assert_eq!(out(mounted.llctl(&["diff", "before"]).finish()), "");
    change_all(&mounted);
    let text = out(mounted.llctl(&["diff", "before"]).finish());
    let expected = "\
A  added/
A  added/file  (4.9 KiB)
M  changed.txt  (14 B -> 12 B)
m  mode  (mode 0644 -> 0600)
R  moved.txt -> new name.txt
D  removed.txt  (4 B)
x  tagged
T  typed  (file -> symlink, mode 0644 -> 0777)
";
    let mut lines: Vec<_> = text.lines().collect();
    let total = lines.pop().unwrap();
    let mut wanted: Vec<_> = expected.lines().collect();
    // The root's own time has changed too; the order is the paths'.
    lines.retain(|line| *line != "t  .");
    lines.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
    assert!(total.contains("2 added, 1 removed"), "{total}");
    let json = mounted.llctl(&["diff", "before", "--json"]).ok().out();
    let lines: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.last().unwrap()["summary"].is_object(), "{json}");
    assert!(
        lines
            .iter()
            .filter(|line| line["change"].is_object())
            .count()
            >= 8,
        "{json}"
    );
    mounted
        .llctl(&["diff", "before", "--exit-code"])
        .finish()
        .expect_code(1);
    mounted
        .llctl(&["diff", "@live", "--exit-code"])
        .finish()
        .expect_code(0);
}

#[test]
fn a_patch_can_be_applied() {
    let mounted = base("patch");
    let copy = mounted.scratch.dir("copy");
    fs::write(copy.join("changed.txt"), "one\ntwo\nthree\n").unwrap();
    mounted.snap("before");
    fs::write(mounted.path("changed.txt"), "one\n2\nthree\n").unwrap();
    let patch = mounted.llctl(&["diff", "before", "-p"]).ok();
    fs::write(copy.join("p"), patch.stdout).unwrap();
    Run::new("patch")
        .args(["-p1", "-s", "-i", "p"])
        .dir(&copy)
        .ok();
    assert_eq!(
        fs::read_to_string(copy.join("changed.txt")).unwrap(),
        "one\n2\nthree\n"
    );
}

#[test]
fn every_error_has_its_exit_code() {
    let mounted = base("codes");
    mounted.snap("here");
    let llctl = |args: &[&str], code| mounted.llctl(args).finish().expect_code(code);
    llctl(&["snap", "here"], 5);
    llctl(&["rename", "absent", "new"], 4);
    mounted.snap("there");
    llctl(&["rename", "here", "there"], 5);
    llctl(&["revert", "absent"], 4);
    llctl(&["delete", "-y", "absent"], 4);
    llctl(&["show", "absent"], 4);
    llctl(&["diff", "absent"], 4);
    llctl(&["apply"], 0);
    fs::write(mounted.path("changed.txt"), "changed").unwrap();
    llctl(&["apply"], 6);
    llctl(&["nonsense"], 2);
    llctl(&["snap", "a/b"], 2);
    llctl(&["snap", "-x"], 2);
    llctl(&["snap", "..", "--json"], 2);
    let nothing = llctl(&["undo"], 4);
    assert!(
        nothing.err().contains("nothing to undo"),
        "{}",
        nothing.err()
    );
    let elsewhere = mounted
        .program(binaries::llctl())
        .args(["-C", "/", "list"])
        .finish();
    elsewhere.expect_code(3);
    let absent = mounted
        .program(binaries::llctl())
        .args(["-C", "/nowhere", "list"])
        .finish();
    assert_ne!(absent.code(), 0);
    mounted.llfs(&["unmount", "/proc"]).finish().expect_code(3);
    mounted.llfs(&["nonsense"]).finish().expect_code(2);
    // Nothing of this did anything.
    let list = mounted.json(&["list"]);
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 2, "{list}");
}

#[test]
fn errors_name_what_failed_and_a_hint() {
    let mounted = base("hints");
    mounted.snap("pre-refactor");
    let typo = mounted
        .llctl(&["revert", "pre-refactr"])
        .finish()
        .expect_code(4);
    assert!(typo.err().starts_with("llctl: error: "), "{}", typo.err());
    assert!(typo.err().contains("pre-refactr"), "{}", typo.err());
    let json = mounted
        .llctl(&["revert", "absent", "--json"])
        .finish()
        .expect_code(4);
    let last: Value = serde_json::from_str(json.out().lines().last().unwrap()).unwrap();
    assert!(
        last["error"]["message"]
            .as_str()
            .unwrap()
            .contains("absent"),
        "{last}"
    );
}

#[test]
fn json_of_every_command_is_json() {
    let mounted = base("json");
    let snap = mounted.json(&["snap", "a", "-m", "one\ntwo"]);
    assert_eq!(
        (&snap["name"], &snap["message"]),
        (&"a".into(), &"one\ntwo".into())
    );
    change_all(&mounted);
    let unnamed = mounted.json(&["snap"]);
    assert!(
        unnamed["name"].as_str().unwrap().starts_with("20"),
        "{unnamed}"
    );
    let list = mounted.json(&["list"]);
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(mounted.json(&["show", "a"])["snapshot"]["name"], "a");
    let reverted = mounted.json(&["revert", "a"]);
    assert_eq!(reverted["to"], "a");
    assert!(reverted["changed"].as_u64().unwrap() > 5, "{reverted}");
    assert_eq!(
        mounted.json(&["list"])["discarded"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    mounted.json(&["undo"]);
    mounted.json(&["rename", "a", "b"]);
    mounted.json(&["delete", "-y", "b"]);
    let status = mounted.json(&["status"]);
    assert_eq!(status["pid"], mounted.pid());
    assert_eq!(status["mountpoint"], mounted.dir.to_str().unwrap());
    assert_eq!(status["store"], mounted.store.to_str().unwrap());
    for args in [
        ["verify", "--json"].as_slice(),
        &["apply", "--yes", "--json"],
    ] {
        let text = mounted.llctl(args).ok().out();
        assert!(!text.is_empty(), "{args:?}");
        for line in text.lines() {
            assert!(
                serde_json::from_str::<Value>(line).is_ok(),
                "{args:?}: {line}"
            );
        }
    }
    let unmounted = mounted
        .llfs(&["unmount", "--json"])
        .arg(&mounted.dir)
        .ok()
        .out();
    serde_json::from_str::<Value>(&unmounted).expect("llfs unmount --json");
    let mounted_json = mounted.mount_run().arg("--json").ok().out();
    serde_json::from_str::<Value>(&mounted_json).expect("llfs mount --json");
}

#[test]
fn the_mount_is_found_from_inside_and_by_the_environment() {
    let mounted = base("found");
    fs::create_dir_all(mounted.path("a/b")).unwrap();
    let llctl = || mounted.program(binaries::llctl());
    llctl()
        .args(["snap", "inside"])
        .dir(mounted.path("a/b"))
        .ok();
    llctl()
        .args(["snap", "variable"])
        .env("LLFS_MOUNT", &mounted.dir)
        .ok();
    llctl()
        .arg("-C")
        .arg(mounted.path("a"))
        .args(["snap", "option"])
        .ok();
    let list = llctl().args(["list"]).dir(mounted.path("a")).ok().out();
    for name in ["inside", "variable", "option"] {
        assert!(list.contains(name), "{list}");
    }
}

/// No name, message or command line gets to the terminal as it is, whichever command tells it: of the mount itself, of files, of programs.
#[test]
fn names_with_escapes_do_not_reach_the_terminal() {
    use std::os::unix::ffi::OsStrExt;
    let evil = std::ffi::OsStr::from_bytes(b"evil\x1b[31m\r\n\xff\xe2\x80\xae");
    let scratch = Scratch::new("escapes");
    let base = scratch.path().join(evil);
    fs::create_dir(&base).unwrap();
    let mounted = Mounted::prepare_in(scratch, Some(&base), None);
    fs::write(mounted.dir.join(evil), "of the base").unwrap();
    fs::create_dir(mounted.dir.join("dir")).unwrap();
    let told = |finished: Finished| {
        let wrong = |b: &&u8| (**b < 0x20 && !b"\n\t".contains(b)) || **b == 0x7f;
        for text in [&finished.stdout, &finished.stderr] {
            let shown = text.escape_ascii();
            assert_eq!(text.iter().find(wrong), None, "{}: {shown}", finished.line);
            let text = std::str::from_utf8(text);
            let text = text.unwrap_or_else(|_| panic!("{}: {shown}", finished.line));
            assert!(!text.contains('\u{202e}'), "{}: {shown}", finished.line);
            // What follows the newline in the name begins no line.
            let broken = text
                .lines()
                .any(|l| l.starts_with("\\xff") || l.starts_with('\u{fffd}'));
            assert!(!broken, "{}: {shown}", finished.line);
        }
        finished
    };
    told(mounted.mount_run().finish()).ok();
    assert_ne!(told(mounted.mount_run().finish()).code(), 0);
    mounted.snap("before");
    // Who changes it has such a name too, and has it open.
    let holder = Run::new("bash")
        .args(["-c", "exec -a \"$0\" sleep 600 >>\"$0\""])
        .arg(evil)
        .dir(&mounted.dir)
        .start();
    until("the writer", Duration::from_secs(20), || {
        let name = fs::read(format!("/proc/{}/cmdline", holder.pid())).ok()?;
        name.starts_with(b"evil").then_some(())
    });
    fs::write(mounted.dir.join(evil), "written").unwrap();
    fs::rename(mounted.dir.join(evil), mounted.dir.join("dir").join(evil)).unwrap();
    fs::write(mounted.dir.join(evil), "another").unwrap();
    mounted.snap("after");
    fs::write(mounted.dir.join(evil), "last").unwrap();
    let name = evil.as_bytes();
    let text = std::ffi::OsStr::from_bytes(b"evil\x1b[31m");
    let run = |args: &[&str], last: Option<&std::ffi::OsStr>| {
        let run = mounted.llctl(args);
        told(match last {
            Some(last) => run.arg(last).finish(),
            None => run.finish(),
        })
    };
    let diff = run(&["diff", "before"], None).ok();
    assert!(
        diff.out().contains("evil\\x1b[31m\\r\\n\\xff"),
        "{}",
        diff.out()
    );
    for args in [
        &["status"][..],
        &["list"],
        &["show", "after"],
        &["diff"],
        &["diff", "--stat"],
        &["can-revert", "before"],
        &["revert", "before", "--dry-run"],
        &["undo", "--dry-run"],
        &["delete", "before", "--dry-run"],
        &["apply"],
        &["apply", "--dry-run"],
        &["verify"],
        &["config", "show"],
        &["prune", "--all", "-n"],
        &["revert", "--checkpoint", "after", "--on-conflict", "stop"],
        &[
            "snap",
            "said",
            "-m",
            "a\u{1b}[31mb",
            "--why",
            "c\u{1b}[31md",
        ],
        &["log", "."],
        &["who", "."],
    ] {
        run(args, None);
    }
    for args in [
        &["log"][..],
        &["who"],
        &["cat"],
        &["diff", "before", "--"],
        &["restore", "before"],
        &["restore", "none"],
        &["revert", "before", "--dry-run", "--path"],
        &["show"],
        &["revert"],
        &["snap", "x", "-m"],
        &["snap", "--session"],
        &["run", "--"],
        &["do"],
        &["pin"],
    ] {
        run(args, Some(evil));
        run(args, Some(text));
        let gone = [name, b"/none"].concat();
        run(args, Some(std::ffi::OsStr::from_bytes(&gone)));
    }
    run(&["history"], None).ok();
    run(&["list"], None).ok();
    let below = mounted.dir.join("dir");
    let gone = mounted.dir.join(evil).join("none");
    let refused = |args: &[&std::ffi::OsStr]| {
        let run = told(mounted.llfs(args).finish());
        assert_ne!(run.code(), 0, "{}", run.line);
    };
    // Somebody uses it.
    refused(&["unmount".as_ref(), mounted.dir.as_ref()]);
    refused(&["unmount".as_ref(), below.as_ref()]);
    refused(&["unmount".as_ref(), gone.as_ref()]);
    refused(&["upgrade".as_ref(), below.as_ref()]);
    refused(&["check".as_ref(), mounted.dir.as_ref()]);
    refused(&["relink".as_ref(), mounted.dir.as_ref()]);
    drop(holder);
    told(mounted.llfs(&["unmount"]).arg(&mounted.dir).finish()).ok();
    let check = mounted.llfs(&["check"]).arg(&mounted.dir);
    told(check.arg("--store").arg(&mounted.store).finish()).ok();
    refused(&[
        "check".as_ref(),
        mounted.dir.as_ref(),
        "--store".as_ref(),
        gone.as_ref(),
    ]);
    for store in [&below, &gone] {
        refused(&[
            "mount".as_ref(),
            mounted.dir.as_ref(),
            "--store".as_ref(),
            store.as_ref(),
        ]);
    }
    refused(&["mount".as_ref(), gone.as_ref()]);
    let twin = mounted.scratch.path().join("twin").join(evil);
    fs::create_dir_all(&twin).unwrap();
    // Another directory's store; a directory that was never mounted.
    let store = mounted.store.as_os_str();
    refused(&["mount".as_ref(), twin.as_ref(), "--store".as_ref(), store]);
    refused(&["relink".as_ref(), twin.as_ref()]);
    fs::remove_file(mounted.dir.join(evil)).unwrap();
    told(mounted.mount_run().finish());
    told(mounted.llfs(&["relink"]).arg(&mounted.dir).finish());
    let log = fs::read(mounted.store.join("llfs.log")).unwrap();
    let log = String::from_utf8(log).expect("the log is text");
    assert!(log.contains("evil\\x1b[31m\\r\\n\\xff"), "{log}");
    let strange = |l: &&str| l.starts_with("\\xff") || l.contains(['\u{202e}', '\u{1b}']);
    assert_eq!(log.lines().find(strange), None, "in the log");
}

#[test]
fn help_and_version_are_there() {
    for program in [binaries::llfs(), binaries::llctl()] {
        let help = Run::new(&program).arg("--help").ok().out();
        assert!(
            help.contains("Usage:") && help.contains("Exit codes:"),
            "{help}"
        );
        let version = Run::new(&program).arg("--version").ok().out();
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        Run::new(&program).finish().expect_code(2);
    }
}

/// A closed pipe ends a command quietly.
#[test]
fn a_closed_pipe_is_no_error_message() {
    let mounted = base("pipe");
    for number in 0..300 {
        fs::write(mounted.path(&format!("f{number}")), "").unwrap();
    }
    let llctl = binaries::llctl();
    let script = format!(
        "{} -C {} diff @base | head -1",
        llctl.display(),
        mounted.dir.display()
    );
    let finished = mounted.program("bash").args(["-c", &script]).ok();
    assert_eq!(finished.err(), "");
}

/// The lines of the README's demo, pasted into a shell in the repository.
#[test]
fn the_demo_of_the_readme_works_as_pasted() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(repository.join("README.md")).expect("there is a README");
    let section = readme
        .split("\n## Sixty seconds\n")
        .nth(1)
        .expect("the README has a demo");
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with("    "));
    let demo: Vec<_> = lines
        .take_while(|line| line.starts_with("    "))
        .map(|line| &line[4..])
        .collect();
    assert!(demo.len() > 5, "the README's demo is {demo:?}");
    let scratch = Scratch::new("demo");
    let programs = format!("export PATH=\"{}:$PATH\"", binaries::directory().display());
    let mut script = demo.join("\n");
    assert!(
        script.contains("export PATH=\"$PWD/target/release:$PATH\""),
        "{script}"
    );
    script = script.replace("export PATH=\"$PWD/target/release:$PATH\"", &programs);
    // Root's stores are in /var/lib: here they are nobody's business afterwards.
    let own = "mkdir -p /var/lib/llfs; mount -t tmpfs none /var/lib/llfs\n";
    let finished = Run::new("unshare")
        .args([
            "-m",
            "bash",
            "-eu",
            "-o",
            "pipefail",
            "-c",
            &format!("{own}{script}"),
        ])
        .dir(repository)
        .env("TMPDIR", scratch.path())
        .env("HOME", scratch.dir("home"))
        .env("XDG_RUNTIME_DIR", scratch.dir("run"))
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env_remove("LLFS_MOUNT")
        .patience(Duration::from_secs(120))
        .ok();
    let out = finished.out();
    assert!(
        out.contains("README.md") && out.contains("Cargo.toml"),
        "{out}"
    );
    assert!(out.contains("pre-refactor"), "{out}");
}

/// As people type it at an agent: shown, then done; what is not understood or not there changes nothing.
#[test]
fn a_sentence_does_what_it_says() {
    let mounted = base("cli-do");
    let say = |words: &[&str]| {
        let all: Vec<&str> = ["do"].iter().chain(words).copied().collect();
        mounted.llctl(&all).finish()
    };
    let read = || fs::read_to_string(mounted.path("changed.txt")).unwrap();
    let original = read();
    let done = say(&["checkpoint dor-checkpoint session feature-auth-001 saying 'it works'"]);
    assert_eq!(
        done.expect_code(0).err(),
        "llctl: llctl snap dor-checkpoint --session feature-auth-001 --message 'it works'\n"
    );
    say(&["take", "a", "snapshot", "named", "a"]).expect_code(0);
    let taken = mounted.json(&["show", "dor-checkpoint"])["snapshot"].clone();
    assert_eq!(taken["meta"]["session"], "feature-auth-001");
    assert_eq!(taken["message"], "it works");
    for sentence in [
        "rollback to checkpoint dor-checkpoint session feature-auth-001",
        "rollback session feature-auth-001 to dor-checkpoint",
        "rollback dor-checkpoint",
        "Please go back to a.",
    ] {
        fs::write(mounted.path("changed.txt"), "broken").unwrap();
        let done = say(&[sentence]).expect_code(0);
        assert!(
            done.err().starts_with("llctl: llctl revert "),
            "{}",
            done.err()
        );
        assert_eq!(read(), original, "{sentence}");
    }
    say(&["undo"]).expect_code(0);
    assert_eq!(read(), "broken");
    let told = out(say(&["what changed since a?"]));
    assert!(told.contains("changed"), "{told}");
    let told = out(say(&["list checkpoints for session feature-auth-001"]));
    assert!(told.contains("dor-checkpoint"), "{told}");
    assert_eq!(told.lines().count(), 2, "{told}");
    for (sentence, code) in [
        ("rollback to checkpoint dor-checkpoint session another", 4),
        ("rollback to checkpoint nowhere", 4),
        ("delete everything", 2),
        ("rollback", 2),
    ] {
        let refused = say(&[sentence]).expect_code(code);
        assert!(refused.err().contains("hint: "), "{}", refused.err());
        assert_eq!(read(), "broken", "{sentence}");
    }
    let shown = say(&["-n", "rollback a"]).expect_code(0);
    assert_eq!(shown.err(), "llctl: llctl revert a\n");
    assert_eq!(read(), "broken");
}

/// What undo cannot bring back needs a yes; where nobody can be asked that is `--yes`, and without it nothing is done.
#[test]
fn what_cannot_be_undone_needs_a_yes() {
    let mounted = base("cli-yes");
    mounted.snap("kept");
    fs::write(mounted.path("changed.txt"), "new").unwrap();
    let prune = ["prune", "--keep-last", "0", "--all"];
    for command in [&["delete", "kept"][..], &["apply"], &prune] {
        for json in [false, true] {
            let mut args = command.to_vec();
            args.extend(json.then_some("--json"));
            let refused = mounted.llctl(&args).finish().expect_code(6);
            assert!(refused.err().contains("--yes"), "{}", refused.err());
            assert_eq!(mounted.names(), ["kept"], "{args:?}");
        }
    }
    let unapplied = out(mounted.llctl(&["diff", "@base"]).finish());
    assert!(unapplied.contains("M  changed.txt"), "{unapplied}");
    mounted.llctl(&["delete", "kept", "--yes"]).ok();
    assert!(mounted.names().is_empty());
}
