//! What was acknowledged is there.

use std::fs;
use std::path::Path;

use super::Work;
use crate::command::Run;

impl Work {
    /// The database of the tree `tree`, which may be one that cannot be written, has the first `count` transactions that were
    /// acknowledged, each whole. It is looked at in a copy in the directory `copy`, which is made anew.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn check_sqlite(&self, tree: &Path, count: usize, copy: &Path) {
        if copy.exists() {
            fs::remove_dir_all(copy).expect("a copy can be removed");
        }
        fs::create_dir(copy).expect("a copy can be made");
        for entry in fs::read_dir(tree.join("sqlite")).expect("the database is there") {
            let entry = entry.expect("it can be listed");
            // What the other processes mapped is nothing without them.
            if entry.file_name() != "db-shm" {
                fs::copy(entry.path(), copy.join(entry.file_name())).expect("it can be copied");
            }
        }
        let database = copy.join("db");
        let ask = |what: &str| Run::new("sqlite3").arg(&database).arg(what).ok().out();
        assert_eq!(
            ask("pragma integrity_check").trim(),
            "ok",
            "{}",
            tree.display()
        );
        let found = ask("select n from t order by n");
        let found: Vec<&str> = found.lines().collect();
        let due = self.acknowledged("sqlite");
        for number in &due[..count] {
            let at = found.binary_search_by_key(&number.parse::<u64>().ok(), |n| n.parse().ok());
            assert!(
                at.is_ok(),
                "{}: transaction {number} is gone",
                tree.display()
            );
        }
        let last = ask("select n from last");
        let newest = found.last().copied().unwrap_or("0");
        assert_eq!(last.trim(), newest, "half of a transaction is there");
    }

    /// The repository of the tree `tree` is whole and has the first `count` commits that were acknowledged.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn check_git(&self, tree: &Path, count: usize) {
        let git = |args: &[&str]| {
            let run = Run::new("git").arg("--git-dir").arg(tree.join("git/.git"));
            let run = run.env("GIT_CONFIG_GLOBAL", "/dev/null");
            run.env("GIT_OPTIONAL_LOCKS", "0").args(args).ok().out()
        };
        git(&["fsck", "--strict", "--full", "--no-progress"]);
        let due = self.acknowledged("git");
        if let Some(newest) = due[..count].last() {
            git(&["merge-base", "--is-ancestor", newest, "HEAD"]);
        }
        let there = git(&["rev-list", "HEAD"]);
        for id in &due[..count] {
            assert!(there.lines().any(|line| line == id), "commit {id} is gone");
        }
    }

    /// What cargo builds now is the program of now.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn check_cargo(&self) {
        let script = r#"want=$(grep -o '[0-9]* }' src/lib.rs | tr -d ' }')
cargo build -q --offline --target-dir target
test "$(target/debug/tiny)" = "$want""#;
        Run::shell(script).dir(self.dir.join("cargo")).ok();
    }

    /// Takes away what a program leaves that lost its file system in the middle, as its user would, and remembers where it is to go on.
    ///
    /// # Panics
    /// When that cannot be read or removed.
    pub fn tidy(&mut self) {
        let git = self.dir.join("git/.git");
        let locks = ["-name", "*.lock", "-delete"];
        Run::new("find").arg(&git).args(locks).ok();
        let script = "git -C git reset -q --hard; rm -rf clone";
        Run::shell(script)
            .dir(&self.dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .ok();
        let newest = Run::new("sqlite3")
            .arg(self.dir.join("sqlite/db"))
            .arg("select n from last")
            .ok()
            .out();
        self.tried[0] = newest.trim().parse().expect("a number");
        for (place, name) in [(1, "git"), (2, "cargo")] {
            self.tried[place] += self.acknowledged(name).len() as u64 + 10;
        }
    }
}
