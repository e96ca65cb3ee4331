//! The snapshot before one process removes many files: who counts as one, and what does not count.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use llfs_tests::command::{Run, until};
use llfs_tests::manifest::Ignore;
use llfs_tests::mounted::Mounted;

/// For what happens by itself within a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// With nothing by itself but a snapshot before 20 removals.
const RULES: &str = "[checkpoints]\nquiet = \"off\"\nevery = \"off\"\nbulk = 20\n";

/// Ten directories of 20 files each, and ten empty ones.
fn site(name: &str, rules: &str) -> Mounted {
    let mut site = Mounted::prepare(name);
    site.by_itself();
    for dir in 0..10 {
        let dir = site.dir.join(format!("src/{dir}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..20 {
            fs::write(dir.join(file.to_string()), format!("{file}")).unwrap();
        }
    }
    for dir in 0..10 {
        fs::create_dir_all(site.dir.join(format!("empty/{dir}"))).unwrap();
    }
    site.mount();
    site.rules(rules);
    site
}

/// Waits until marks that nobody needs are gone: what is left then is there to stay.
#[track_caller]
fn settled(site: &Mounted, expected: usize) {
    until("what is not needed is given up", PATIENCE, || {
        let there = site.json(&["status"])["snapshots"] == expected;
        (there && site.names().len() == expected).then_some(())
    });
}

fn shell(dir: &Path, script: &str) {
    Run::shell(script).dir(dir).ok();
}

#[test]
fn processes_that_remove_few_each_leave_no_snapshot() {
    let site = site("bulk-few", RULES);
    fs::write(site.path("new"), "x").unwrap();
    // Three of fifteen each, at the same time and one after the other.
    shell(
        &site.dir,
        "rm src/0/{0..14} & rm src/1/{0..14} & wait; rm src/2/{0..14}",
    );
    settled(&site, 0);
    // Moving into a trash removes nothing.
    shell(
        &site.dir,
        "mkdir trash flat && mv src/3 src/4 src/5 trash/ && mv src/6/* flat/",
    );
    settled(&site, 0);
    assert_eq!(fs::read(site.path("flat/7")).unwrap(), b"7");
}

#[test]
fn directories_count_as_files_do() {
    let site = site("bulk-dirs", RULES);
    fs::write(site.path("src/9/0"), "work of today").unwrap();
    // Eleven directories and ten files by one process, while another one removes a few.
    shell(
        &site.dir,
        "rm src/2/{0..9} & rm -r empty src/0/{0..9}; wait",
    );
    settled(&site, 1);
    let name = site.names().remove(0);
    site.revert(&name);
    assert_eq!(fs::read_dir(site.path("empty")).unwrap().count(), 10);
    assert_eq!(fs::read(site.path("src/9/0")).unwrap(), b"work of today");
    assert!((0..10).all(|n| site.path(&format!("src/0/{n}")).exists()));
}

#[test]
fn threads_are_one_process_and_children_count_for_their_parent() {
    let site = site("bulk-family", RULES);
    fs::write(site.path("src/9/0"), "work of today").unwrap();
    let before = site.manifest();
    let threads = "import os, threading
def some(n):
    for f in range(8): os.unlink(f'src/{n}/{f}')
all = [threading.Thread(target=some, args=(n,)) for n in range(4)]
[t.start() for t in all]; [t.join() for t in all]";
    Run::new("python3")
        .args(["-c", threads])
        .dir(&site.dir)
        .ok();
    settled(&site, 1);
    let first = site.names().remove(0);
    site.revert(&first);
    before.assert_same(&site.manifest(), Ignore::default(), "threads");
    // A program for each file. The snapshot of a moment ago would do for it.
    std::thread::sleep(Duration::from_millis(300));
    fs::write(site.path("src/9/0"), "work of later").unwrap();
    let before = site.manifest();
    shell(&site.dir, "find src/5 src/6 -type f -exec rm {} ';'");
    settled(&site, 2);
    let second = site.names().pop().unwrap();
    site.revert(&second);
    before.assert_same(
        &site.manifest(),
        Ignore::default(),
        "a program for each file",
    );
}

#[test]
fn who_begins_later_has_a_snapshot_of_later() {
    let site = site("bulk-later", RULES);
    fs::write(site.path("new"), "x").unwrap();
    let mut slow = Run::shell("for n in $(seq 0 14); do rm src/0/$n; sleep 0.4; done")
        .dir(&site.dir)
        .start();
    until("it has begun", PATIENCE, || {
        (!site.path("src/0/0").exists()).then_some(())
    });
    shell(
        &site.dir,
        "mkdir made && touch made/{0..30} && echo new > src/9/0",
    );
    // The snapshot from before the slow one is as old as that one; newer ones are not needed for longer than a moment.
    std::thread::sleep(Duration::from_millis(1500));
    shell(&site.dir, "rm -rf src/9 made");
    slow.wait(PATIENCE);
    settled(&site, 1);
    let name = site.names().remove(0);
    site.revert(&name);
    assert_eq!(fs::read(site.path("src/9/0")).unwrap(), b"new\n");
    assert!(site.path("made/30").exists());
}

#[test]
fn a_removal_waits_for_no_hook() {
    let mut site = site("bulk-hooks", RULES);
    let place = site.scratch.dir("hooks");
    let log = place.join("log");
    site.env.push(("LLFS_TEST_LOG".into(), log.clone().into()));
    site.remount();
    let text = format!(
        "{RULES}[hooks]
before_snap = \"echo before >> $LLFS_TEST_LOG; sleep 600\"
after_snap = \"cd /; echo after $LLFS_SNAPSHOT >> $LLFS_TEST_LOG; sleep 600\"
timeout = \"10m\"
"
    );
    site.rules(&text);
    fs::write(site.path("new"), "x").unwrap();
    let before = site.manifest();
    shell(&site.dir, "rm -rf src");
    let told = until("the hook after it", PATIENCE, || {
        fs::read_to_string(&log).ok().filter(|t| t.ends_with('\n'))
    });
    let name = site.names().remove(0);
    assert_eq!(told, format!("after {name}\n"));
    // While that one hangs, everything goes on; and so does the end of the mount, which ends it.
    site.revert(&name);
    before.assert_same(&site.manifest(), Ignore::default(), "reverted");
    shell(&site.dir, "rm -rf src/0");
    site.unmount();
}
