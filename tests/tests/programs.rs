//! Real programs on a real tree through a real mount.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use llfs_tests::command::{Finished, Run};
use llfs_tests::manifest::{Ignore, walk};
use llfs_tests::mounted::Mounted;
use llfs_tests::tree;

/// Runs a script in `directory`, with nobody's configuration of git.
#[track_caller]
fn script(directory: &Path, text: &str) -> Finished {
    Run::shell(text)
        .dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_AUTHOR_NAME", "A Test")
        .env("GIT_AUTHOR_EMAIL", "test@example.org")
        .env("GIT_COMMITTER_NAME", "A Test")
        .env("GIT_COMMITTER_EMAIL", "test@example.org")
        .env_remove("GIT_DIR")
        .env_remove("CARGO_TARGET_DIR")
        .patience(Duration::from_secs(120))
        .ok()
}

const REPOSITORY: &str = r#"
git init -q -b main .
for d in 1 2 3 4 5 6; do
  mkdir -p src/d$d
  for f in $(seq 12); do seq $((d * f * 7)) > src/d$d/f$f.txt; done
done
printf 'build/\n' > .gitignore
git add -A; git commit -qm first
for c in $(seq 6); do
  echo "change $c" >> src/d$c/f1.txt; git mv src/d$c/f2.txt src/d$c/moved.txt
  git commit -qam "change $c"
done
git branch old HEAD~4
"#;

/// An agent's afternoon in a repository: everything changed in every way that git has, and then
/// everything is as it was.
#[test]
fn git_on_a_repository_in_the_base() {
    let mounted = Mounted::over("git", |base| drop(script(base, REPOSITORY)));
    let dir = &mounted.dir;
    // The index knows the inode numbers and times of the base: nothing may look changed.
    assert_eq!(script(dir, "git status --porcelain").out(), "");
    let stat_only = "git -c core.checkStat=default diff-files --name-only";
    assert_eq!(
        script(dir, stat_only).out(),
        "",
        "the index does not fit the files' attributes"
    );
    let before = mounted.manifest();
    mounted.snap("before");
    script(
        dir,
        r#"
        git checkout -q old; git checkout -q main
        git checkout -qb feature; seq 1000 > src/new.txt; git add -A; git commit -qm feature
        git rebase -q old --onto old || { git rebase --abort; }
        git checkout -q main; git merge -q --no-edit old
        mkdir build; seq 500 > build/out; echo junk > junk.txt; echo dirty >> src/d1/f3.txt
        git stash -q -u; git stash pop -q
        git gc -q --prune=now; git fsck --strict --no-progress
        git reset -q --hard HEAD~3; git clean -qxdf
        test ! -e build; test ! -e junk.txt
        git status --porcelain
        "#,
    );
    assert_eq!(script(dir, "git status --porcelain").out(), "");
    mounted.revert("before");
    before.assert_same(&mounted.manifest(), Ignore::default(), "after git");
    assert_eq!(
        script(
            dir,
            "git status --porcelain; git fsck --strict --no-progress"
        )
        .out(),
        ""
    );
    mounted.undo();
    script(
        dir,
        "git fsck --strict --no-progress; git log --oneline | wc -l",
    );
    assert_eq!(script(dir, "git status --porcelain").out(), "");
}

#[test]
fn git_from_nothing_and_a_clone() {
    let mounted = Mounted::new("clone");
    fs::create_dir(mounted.path("repo")).unwrap();
    script(&mounted.path("repo"), REPOSITORY);
    mounted.snap("made");
    script(
        &mounted.dir,
        "git clone -q repo second; git clone -q --no-local repo third",
    );
    for name in ["repo", "second", "third"] {
        let finished = script(
            &mounted.path(name),
            "git fsck --strict --no-progress; git status --porcelain",
        );
        assert_eq!(finished.out(), "", "{name}");
    }
    script(
        &mounted.dir,
        "diff -r --exclude=.git repo second; diff -r --exclude=.git repo third",
    );
    // Commits while snapshots are taken and reverted to.
    for round in 0..5 {
        script(
            &mounted.path("third"),
            "date +%N >> log; git add -A; git commit -qm log",
        );
        mounted.snap(&format!("r{round}"));
        script(
            &mounted.path("third"),
            "git gc -q; git reset -q --hard HEAD~1",
        );
        mounted.revert(&format!("r{round}"));
        script(&mounted.path("third"), "git fsck --strict --no-progress");
    }
    let commits = script(&mounted.path("third"), "git rev-list --count HEAD").out();
    assert_eq!(commits.trim(), "12");
    mounted.revert("made");
    assert!(!mounted.path("second").exists());
}

#[test]
fn a_cargo_build_and_back() {
    let mounted = Mounted::over("cargo", |base| {
        fs::create_dir(base.join("src")).unwrap();
        let manifest =
            "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n";
        fs::write(base.join("Cargo.toml"), manifest).unwrap();
        fs::write(base.join("src/lib.rs"), "pub fn two() -> u32 { 2 }\n").unwrap();
        let main = "fn main() { println!(\"{}\", tiny::two() + 40); }\n";
        fs::write(base.join("src/main.rs"), main).unwrap();
    });
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let run = |what: &str| {
        let flags = "--offline --quiet --target-dir target";
        let finished = script(&mounted.dir, &format!("'{cargo}' {what} {flags}"));
        finished.out()
    };
    assert_eq!(run("run"), "42\n");
    mounted.snap("built");
    let built = mounted.manifest();
    fs::write(mounted.path("src/lib.rs"), "pub fn two() -> u32 { 3 }\n").unwrap();
    assert_eq!(run("run"), "43\n");
    fs::remove_dir_all(mounted.path("target")).unwrap();
    mounted.revert("built");
    built.assert_same(&mounted.manifest(), Ignore::default(), "the build");
    // Fresh by its times: nothing is compiled again.
    let flags = "--offline --target-dir target";
    let again = script(&mounted.dir, &format!("'{cargo}' build {flags}"));
    assert!(!again.err().contains("Compiling"), "{}", again.err());
    assert_eq!(run("run"), "42\n");
}

/// A `sqlite3` that stays connected.
struct Sqlite {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Sqlite {
    fn open(path: &Path) -> Sqlite {
        let mut child = Command::new("stdbuf")
            .args(["-oL", "sqlite3", "-batch", "-bail"])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sqlite3 is installed");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Sqlite {
            child,
            input,
            output,
        }
    }

    /// What a statement prints.
    #[track_caller]
    fn ask(&mut self, sql: &str) -> String {
        writeln!(self.input, "{sql}\n.print ==").unwrap();
        let mut answer = Vec::new();
        loop {
            let mut line = String::new();
            let count = self.output.read_line(&mut line).unwrap();
            assert_ne!(count, 0, "sqlite3 ended at: {sql}");
            if line == "==\n" {
                return answer.join("\n");
            }
            answer.push(line.trim_end().to_owned());
        }
    }

    fn close(mut self) {
        writeln!(self.input, ".quit").unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

const ROWS: &str = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<400) \
    INSERT INTO t(text) SELECT hex(randomblob(100)) FROM c;";

/// Connections that live across snapshots and reverts see the snapshot's rows, and go on.
fn sqlite_across_a_revert(mode: &str) {
    let mounted = Mounted::new(&format!("sqlite-{mode}"));
    let path = mounted.path("data.db");
    let (mut one, mut two) = (Sqlite::open(&path), Sqlite::open(&path));
    assert_eq!(one.ask(&format!("PRAGMA journal_mode={mode};")), mode);
    one.ask("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT);");
    one.ask(ROWS);
    assert_eq!(two.ask("SELECT count(*) FROM t;"), "400");
    let sum = one.ask("SELECT sum(length(text)) || max(text) FROM t;");
    mounted.snap("s");
    for round in 0..3 {
        two.ask(ROWS);
        one.ask("DELETE FROM t WHERE id % 3 = 0; UPDATE t SET text = 'changed';");
        if round == 1 {
            one.ask("VACUUM;");
        }
        mounted.revert("s");
        for connection in [&mut one, &mut two] {
            assert_eq!(
                connection.ask("SELECT count(*) FROM t;"),
                "400",
                "round {round}"
            );
            assert_eq!(
                connection.ask("SELECT sum(length(text)) || max(text) FROM t;"),
                sum
            );
            assert_eq!(connection.ask("PRAGMA integrity_check;"), "ok");
        }
    }
    two.ask("INSERT INTO t(text) VALUES ('after');");
    assert_eq!(one.ask("SELECT count(*) FROM t;"), "401");
    assert_eq!(one.ask("PRAGMA integrity_check;"), "ok");
    one.close();
    two.close();
    mounted.remount();
    let mut late = Sqlite::open(&path);
    assert_eq!(late.ask("SELECT count(*) FROM t;"), "401");
    mounted.kill9();
    mounted.mount();
    drop(late.child.kill());
    drop(late.child.wait());
    let mut last = Sqlite::open(&path);
    assert_eq!(
        last.ask("SELECT count(*) FROM t; PRAGMA integrity_check;"),
        "401\nok"
    );
    last.close();
}

#[test]
fn sqlite_with_a_write_ahead_log() {
    sqlite_across_a_revert("wal");
}

#[test]
fn sqlite_with_a_rollback_journal() {
    sqlite_across_a_revert("delete");
}

#[test]
fn tar_and_rsync_there_and_back() {
    let mounted = Mounted::over("tar", |base| tree::plant(base, 51, 300).unwrap());
    fs::create_dir(mounted.path("late")).unwrap();
    tree::plant(&mounted.path("late"), 52, 300).unwrap();
    script(
        &mounted.path("late"),
        "echo acl > acl; setfacl -m u:1000:rwx,g:100:r acl; mkdir dacl; setfacl -d -m u:1000:rx dacl; \
         touch dacl/inherits; touch -d '2001-02-03 04:05:06.789' dacl",
    );
    // rsync leaves the time of what it made in the same second as the original: these are years apart.
    script(
        mounted.dir.as_path(),
        "find . -depth -exec bash -c 'for f; do touch -h -d \"@$((1500000000 + RANDOM)).$((RANDOM + 100000))\" -- \"$f\"; done' _ {} +",
    );
    let through = mounted.manifest();
    let ignore = Ignore::another_tree();
    let out = mounted.scratch.dir("out");
    let tar = "tar --acls --xattrs --xattrs-include='*' --numeric-owner -S";
    let rsync = "rsync -aHAXS --numeric-ids";
    let (here, there) = (mounted.dir.display(), out.display());
    script(
        &out,
        &format!("mkdir t; {tar} -C {here} -cf - . | {tar} -C t -xpf -"),
    );
    through.assert_same(&walk(&out.join("t")), ignore, "tar out of the mount");
    script(&out, &format!("mkdir r; {rsync} {here}/ r/"));
    through.assert_same(&walk(&out.join("r")), ignore, "rsync out of the mount");
    fs::create_dir(mounted.path("in")).unwrap();
    script(
        &mounted.path("in"),
        &format!("mkdir t; {tar} -C {there}/t -cf - . | {tar} -C t -xpf -"),
    );
    through.assert_same(&walk(&mounted.path("in/t")), ignore, "tar into the mount");
    script(&mounted.path("in"), &format!("{rsync} {there}/r/ r/"));
    through.assert_same(&walk(&mounted.path("in/r")), ignore, "rsync into the mount");
    let nothing = script(&mounted.dir, &format!("{rsync} -n -i {there}/r/ in/r/")).out();
    assert_eq!(nothing, "", "rsync sees differences right after copying");
}

/// The worst afternoon.
#[test]
fn rm_of_everything_and_back() {
    let mounted = Mounted::over("rm", |base| {
        script(base, REPOSITORY);
        fs::create_dir(base.join("random")).unwrap();
        tree::plant(&base.join("random"), 53, 600).unwrap();
    });
    fs::create_dir(mounted.path("layered")).unwrap();
    tree::plant(&mounted.path("layered"), 54, 400).unwrap();
    let before = mounted.manifest();
    mounted.snap("before");
    let dir = mounted.dir.display();
    script(
        Path::new("/"),
        &format!("shopt -s dotglob; rm -rf {dir}/*; test -z \"$(ls -A {dir})\""),
    );
    script(
        &mounted.dir,
        "mkdir random; echo x > random/file; ln -s nowhere src",
    );
    mounted.revert("before");
    before.assert_same(&mounted.manifest(), Ignore::default(), "after rm -rf");
    mounted.kill9();
    mounted.mount();
    before.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "after rm -rf and a kill",
    );
    mounted.verify();
}
