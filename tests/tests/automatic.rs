//! Snapshots that take themselves, retention behind the scenes, and hooks, through a real mount.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use llfs_tests::command::{Run, until};
use llfs_tests::manifest::Ignore;
use llfs_tests::mounted::Mounted;

/// For what happens by itself within a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mount as users have it: with everything that happens by itself.
fn mounted(name: &str, fill: impl FnOnce(&Path)) -> Mounted {
    let mut site = Mounted::prepare(name);
    site.by_itself();
    fill(&site.dir);
    site.mount();
    site
}

/// Nothing comes by itself but what a test says.
const NOTHING: &str = "[checkpoints]\nquiet = \"off\"\nevery = \"off\"\nbulk = 0\n";

/// Waits for a snapshot that is none of `known`.
#[track_caller]
fn new_one(site: &Mounted, known: &[String]) -> String {
    until("a snapshot that takes itself", PATIENCE, || {
        site.names().into_iter().find(|name| !known.contains(name))
    })
}

#[test]
fn when_it_gets_quiet_there_is_a_snapshot_and_no_empty_one() {
    let site = mounted("auto-quiet", |_| {});
    // One change at a time: a busy machine may be quiet between two.
    fs::create_dir(site.path("f")).unwrap();
    site.rules("[checkpoints]\nquiet = \"1s\"\nbulk = 0\n");
    let first = new_one(&site, &[]);
    assert!(first.starts_with("auto-20"), "{first}");
    let before = site.manifest();
    let shown = site.json(&["show", &first]);
    let meta = &shown["snapshot"]["meta"];
    assert_eq!(
        (&meta["reason"], &meta["created_by"]),
        (&"automatic".into(), &"llfs".into())
    );
    assert_eq!(shown["snapshot"]["message"], "nothing has changed for 1s");
    // What was in force is known, and so is the format.
    assert_eq!(shown["config"], "[checkpoints]\nquiet = \"1s\"\nbulk = 0\n");
    assert_eq!(meta["format"], site.json(&["can-revert", &first])["format"]);
    // A phase that begins without a change takes none.
    let phase = site.json(&["phase", "review", "--session", "s"]);
    assert_eq!(phase["unchanged"]["name"], first.as_str());
    fs::create_dir(site.path("g")).unwrap();
    let second = new_one(&site, std::slice::from_ref(&first));
    let meta = &site.json(&["show", &second])["snapshot"]["meta"];
    assert_eq!(
        (&meta["phase"], &meta["session"]),
        (&"review".into(), &"s".into())
    );
    assert_eq!(site.names(), [first.clone(), second]);
    // `diff` is about what somebody asked for.
    let changed = site.llctl(&["diff"]).ok().out();
    assert!(
        changed.contains("f/") && changed.contains("g/"),
        "{changed}"
    );
    site.revert(&first);
    before.assert_same(&site.manifest(), Ignore::default(), "reverted");
    let acts = site.json(&["history", "--what", "snap"]);
    assert_eq!(acts["acts"][0]["command"], "llfs, by itself");
}

fn tree(base: &Path) {
    for dir in 0..10 {
        let dir = base.join(format!("src/{dir}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..20 {
            fs::write(dir.join(file.to_string()), format!("{file}")).unwrap();
        }
    }
}

#[test]
fn what_many_removals_take_is_in_a_snapshot_from_before_the_first() {
    let site = mounted("auto-bulk", tree);
    site.rules("[checkpoints]\nquiet = \"1h\"\n");
    site.snap("known");
    site.hash("known");
    // What has changed since the base makes the base no way back.
    fs::write(site.path("src/0/0"), "work of today").unwrap();
    let before = site.manifest();
    Run::shell("rm -rf src").dir(&site.dir).ok();
    assert!(!site.path("src").exists());
    let name = new_one(&site, &["known".to_owned()]);
    let shown = site.json(&["show", &name]);
    assert_eq!(
        shown["snapshot"]["message"],
        "before many files were removed"
    );
    // Nobody asked for it, and nobody asks for its checksum.
    site.hash(&name);
    site.revert(&name);
    before.assert_same(&site.manifest(), Ignore::default(), "reverted");
    site.verify();
    // It is durable and one like others.
    site.undo();
    site.kill9();
    site.llfs(&["mount"])
        .arg(&site.dir)
        .arg("--store")
        .arg(&site.store)
        .ok();
    site.revert(&name);
    before.assert_same(&site.manifest(), Ignore::default(), "after a crash");
}

#[test]
fn a_few_removals_leave_no_snapshot() {
    let site = mounted("auto-few", tree);
    site.rules("[checkpoints]\nquiet = \"off\"\nevery = \"off\"\nbulk = 20\n");
    fs::write(site.path("new"), "x").unwrap();
    // What was written down already is not lost either.
    until("who did it is written down", PATIENCE, || {
        let mut notes = fs::read_dir(site.store.join("notes")).ok()?;
        notes.next()?.ok()
    });
    fs::write(site.path("newer"), "x").unwrap();
    for file in 0..19 {
        fs::remove_file(site.path(&format!("src/3/{file}"))).unwrap();
    }
    // The mark is no snapshot that anybody sees, and goes.
    assert_eq!(
        site.names(),
        Vec::<String>::new(),
        "{}",
        site.json(&["list"])
    );
    until("the mark is given up", PATIENCE, || {
        (site.json(&["status"])["snapshots"] == 0).then_some(())
    });
    // Who changed what before it is not lost with it.
    site.snap("after");
    for file in ["new", "newer"] {
        let who = site.llctl(&["who", file]).ok().out();
        assert!(who.contains("automatic"), "the test's own process: {who}");
    }
    // Temporary files are nothing to keep.
    for n in 0..100 {
        let file = site.path(&format!("tmp{n}"));
        fs::write(&file, "x").unwrap();
        fs::remove_file(&file).unwrap();
    }
    assert_eq!(site.names(), ["after"]);
}

#[test]
fn what_a_snapshot_if_changed_relies_on_stays() {
    let site = mounted("auto-relied", tree);
    site.rules("[checkpoints]\nquiet = \"off\"\nevery = \"off\"\nbulk = 20\n");
    fs::write(site.path("new"), "x").unwrap();
    // A removal that fails begins a burst too, and changes nothing.
    let name = until("a snapshot that is the mark", PATIENCE, || {
        // On a busy machine a burst may end before it is asked about: then there must be another.
        until("the last mark is gone", PATIENCE, || {
            (site.json(&["status"])["snapshots"] == site.names().len()).then_some(())
        });
        fs::write(site.path("new"), format!("{:?}", site.names())).unwrap();
        fs::remove_dir(site.path("src")).unwrap_err();
        let found = site.json(&["snap", "--if-changed"]);
        found["unchanged"]["name"].as_str().map(str::to_owned)
    });
    fs::remove_file(site.path("src/0/0")).unwrap();
    until("it stays in the list", PATIENCE, || {
        site.names().contains(&name).then_some(())
    });
    site.revert(&name);
    assert!(site.path("src/0/0").exists());
}

#[test]
fn an_agent_without_any_hook_is_undone_by_one_command() {
    let site = mounted("auto-agent", |base| {
        let script = "
            git init -q -b main . && git config user.name a && git config user.email a@b
            mkdir src && echo 'fn main() {}' > src/main.rs && git add . && git commit -qm one
            echo '// more' >> src/main.rs && git commit -qam two && git commit -q --allow-empty -m three
            python3 -c \"import sqlite3; c = sqlite3.connect('app.db'); c.execute('create table t (x)');
c.executemany('insert into t values (?)', [(i,) for i in range(1000)]); c.commit()\"";
        Run::shell(script).dir(base).ok();
    });
    site.rules("[checkpoints]\nquiet = \"1s\"\n");
    // It begins well.
    Run::shell("echo '// good' >> src/main.rs && git commit -qam four")
        .dir(&site.dir)
        .ok();
    let checkpoint = until("all that work is in a snapshot", PATIENCE, || {
        let last = site.names().pop()?;
        let diff = site.llctl(&["diff", "--exit-code", &last]).finish();
        let clean = diff.code() == 0;
        clean.then_some(last)
    });
    let before = site.manifest();
    let disaster = "
        python3 -c \"import sqlite3; c = sqlite3.connect('app.db'); c.execute('drop table t'); c.commit()\"
        git reset -q --hard HEAD~2 && git reflog expire --expire=now --all && git gc -q --prune=now
        find . -mindepth 1 -delete";
    Run::shell(disaster).dir(&site.dir).ok();
    assert_eq!(fs::read_dir(&site.dir).unwrap().count(), 0);
    site.revert(&checkpoint);
    before.assert_same(&site.manifest(), Ignore::default(), "after the disaster");
    Run::shell("git fsck --full --strict && test $(git rev-list --count HEAD) = 4")
        .dir(&site.dir)
        .ok();
    let rows = "python3 -c \"import sqlite3; assert sqlite3.connect('app.db').execute('select count(*) from t').fetchone() == (1000,)\"";
    Run::shell(rows).dir(&site.dir).ok();
}

#[test]
fn retention_works_by_itself_and_leaves_what_was_asked_for() {
    let site = mounted("auto-retention", |_| {});
    site.rules(NOTHING);
    for n in 0..6 {
        fs::write(site.path("f"), format!("{n}")).unwrap();
        if n == 2 {
            site.snap("mine");
        }
        site.llctl(&["snap", &format!("a{n}"), "--reason", "automatic"])
            .ok();
    }
    let few =
        format!("{NOTHING}[retention]\nkeep_last = 2\nkeep_for = \"off\"\nhourly = 0\ndaily = 0\n");
    site.rules(&few);
    until("the others go", PATIENCE, || {
        (site.names() == ["mine", "a4", "a5"]).then_some(())
    });
    let acts = site.json(&["history", "--what", "prune"]);
    assert_eq!(
        acts["acts"][0]["targets"],
        serde_json::json!(["a0", "a1", "a2", "a3"])
    );
    site.revert("mine");
    assert_eq!(fs::read(site.path("f")).unwrap(), b"2");
}

/// A place outside of the mount for what hooks write.
fn outside(site: &Mounted) -> PathBuf {
    let place = site.scratch.dir("hooks");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    place
}

#[test]
fn hooks_run_before_and_after_and_stop_what_they_must() {
    let mut site = mounted("auto-hooks", |base| fs::write(base.join("f"), "0").unwrap());
    let place = outside(&site);
    let log = place.join("log");
    let llctl = llfs_tests::binaries::llctl();
    site.env.push(("LLFS_TEST_LOG".into(), log.clone().into()));
    site.remount();
    // Nobody else sleeps so long.
    let sleep = format!("600.{}", std::process::id());
    let line =
        "echo $LLFS_WHEN $LLFS_EVENT $LLFS_SNAPSHOT $LLFS_OUTCOME $(cat f) >> $LLFS_TEST_LOG";
    let text = format!(
        "{NOTHING}[hooks]
before_snap = \"{line}\"
after_snap = \"{line}\"
before_revert = \"{line}; test ! -e forbidden || {{ echo not now; exit 3; }}\"
after_revert = \"{line}; echo after >> f; {} snap from-hook; exit 1\"
before_delete = \"{line}\"
after_prune = \"{line}\"
before_apply = \"sleep {sleep}; :\"
timeout = \"10s\"
",
        llctl.display()
    );
    // What was not trusted is not run.
    fs::write(site.path("llfs.toml"), &text).unwrap();
    site.snap("a");
    assert!(!log.exists());
    site.llctl(&["config", "trust", "--yes"]).ok();
    fs::remove_file(site.path("llfs.toml")).unwrap();
    fs::write(site.path("f"), "1\n").unwrap();
    site.snap("b");
    // The one after a revert uses the mount and llctl, and its failure stops nothing.
    site.revert("a");
    assert_eq!(fs::read(site.path("f")).unwrap(), b"0after\n");
    assert_eq!(site.names(), ["a", "b", "from-hook"]);
    fs::write(site.path("forbidden"), "").unwrap();
    let refused = site.llctl(&["revert", "b"]).finish();
    assert_eq!(refused.code(), 11, "{}", refused.text());
    assert!(
        refused
            .err()
            .contains("before_revert stopped it: exit status: 3: not now"),
        "{}",
        refused.err()
    );
    assert!(site.path("forbidden").exists());
    fs::remove_file(site.path("forbidden")).unwrap();
    site.delete("from-hook");
    let slow = site.llctl(&["apply", "--yes"]).finish();
    assert_eq!(slow.code(), 11, "{}", slow.text());
    assert!(
        slow.err().contains("it took longer than 10 s"),
        "{}",
        slow.err()
    );
    // With all that it started.
    until("the end of the hook", Duration::from_secs(20), || {
        let sleeps = |entry: std::io::Result<fs::DirEntry>| {
            let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
            (line == format!("sleep\0{sleep}\0").as_bytes()).then_some(())
        };
        let all = fs::read_dir("/proc").unwrap().filter_map(sleeps);
        (all.count() == 0).then_some(())
    });
    // A snapshot that is not taken runs none.
    site.snap("c");
    let unchanged = site.json(&["snap", "--if-changed"]);
    assert_eq!(unchanged["unchanged"]["name"], "c");
    let told = fs::read_to_string(&log).unwrap();
    let expected = "\
before snap b 1
after snap b done 1
before revert a 1
after revert a done 0
before revert b 0after
before delete from-hook 0after
before snap c 0after
after snap c done 0after
";
    assert_eq!(told, expected);
    let acts = site.json(&["history", "--failed"]);
    assert_eq!(acts["acts"][0]["error_kind"], "hook");
}
