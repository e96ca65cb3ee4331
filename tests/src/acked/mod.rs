//! Programs that work in a mount and write down, outside of it, what was acknowledged to them: a transaction that SQLite committed, a
//! commit that git made, a program that cargo built, each write of a file whose bytes are known. Afterwards it must be there,
//! whatever was done to the daemon meanwhile.

mod bytes;
mod checks;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Run, Running};

pub use bytes::{Bytes, Left, Orders};

/// How long a program may take to notice that its mount is gone, or to end of a kill.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who works, by the name of the directory in which it does, and what it does again and again. `failed` is what it does when that fails.
const PROGRAMS: [(&str, &str); 3] = [
    (
        "sqlite",
        r#"sqlite3 -bail db ".timeout 20000" "pragma journal_mode=$MODE" > /dev/null
while :; do
  n=$((n + 1))
  if sqlite3 -bail db ".timeout 20000" "pragma synchronous=full; begin immediate;
      insert into t values($n, hex(randomblob(700))); update last set n=$n; commit;"
  then acknowledged $n; else failed; fi
done"#,
    ),
    (
        "git",
        r#"while :; do
  n=$((n + 1)); seq $n $((n + 300)) > f$((n % 7)) && echo $n > number || failed
  # Where the mount is gone, rev-parse without --verify says HEAD.
  if git add -A && git commit -qm $n && id=$(git rev-parse --verify -q HEAD); then acknowledged $id; else failed; rm -f .git/*.lock; fi
  if ((n % 4 == 0)); then
    rm -rf ../clone && git clone -q --no-hardlinks . ../clone && git -C ../clone fsck --strict --no-progress || failed
  fi
done"#,
    ),
    (
        "cargo",
        r#"while :; do
  n=$((n + 1)); echo "pub fn number() -> u32 { $n }" > src/new && mv src/new src/lib.rs || failed
  if "$CARGO" build -q --offline --target-dir target && test "$(target/debug/tiny)" = $n; then acknowledged $n; else failed; fi
  if ((n % 3 == 0)); then rm -rf target || failed; fi
done"#,
    ),
];

/// In front of each: `$1` says whether it goes on when something fails, `$2` is the number after which it begins, `$3` where it writes
/// down what was acknowledged.
const BEFORE: &str = r#"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null CARGO_INCREMENTAL=0
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@e GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@e
go=$1 n=$2 notes=$3
acknowledged() { echo "$1" >> "$notes"; }
failed() { echo "$n" >> "$notes-failed" && test -d . -a $go = on || exit 1; sleep 0.05; }
"#;

/// What the base holds before the mount.
const BASE: &str = r#"
mkdir sqlite git cargo cargo/src
sqlite3 sqlite/db 'create table t(n integer primary key, s text); create table last(n integer); insert into last values(0);'
git -c init.defaultBranch=main init -q git; cd git; git config gc.auto 0; seq 100 > f0; git add -A
git -c user.name=t -c user.email=t@e commit -qm 0; cd ../cargo
printf '[package]\nname = "tiny"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n' > Cargo.toml
echo 'pub fn number() -> u32 { 0 }' > src/lib.rs
echo 'fn main() { println!("{}", tiny::number()); }' > src/main.rs
"#;

/// Programs in one mount, over several lives of its daemon.
#[derive(Debug)]
pub struct Work {
    dir: PathBuf,
    notes: PathBuf,
    /// Whether a program goes on when something fails.
    stubborn: bool,
    /// The last numbers that were tried, by program.
    tried: [u64; 3],
}

/// What they have begun and nobody has ended yet.
#[derive(Debug)]
pub struct Programs(Vec<(&'static str, Running)>);

impl Work {
    /// Fills the base `dir`, which is not mounted yet; what is acknowledged is written down in `notes`. A program that is `stubborn` goes
    /// on when something fails, as long as there is somebody to answer; others end.
    #[must_use]
    pub fn begin(dir: &Path, notes: PathBuf, stubborn: bool) -> Work {
        Run::shell(BASE).dir(dir).ok();
        Work {
            dir: dir.to_path_buf(),
            notes,
            stubborn,
            tried: [0; 3],
        }
    }

    /// Starts the programs of these names, SQLite with this `journal_mode`.
    #[must_use]
    pub fn start(&self, names: &[&str], mode: &str) -> Programs {
        let mut programs = Vec::new();
        for (place, (name, script)) in PROGRAMS.into_iter().enumerate() {
            if !names.contains(&name) {
                continue;
            }
            let go = if self.stubborn { "on" } else { "off" };
            let script = format!("{BEFORE}{script}");
            let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
            let first = self.tried[place].to_string();
            let run = Run::new("bash").args(["-uo", "pipefail", "-c", &script, name, go, &first]);
            let run = run.arg(self.notes.join(name)).dir(self.dir.join(name));
            let run = run.env("MODE", mode).env("CARGO", cargo);
            programs.push((name, run.patience(Duration::from_secs(60)).start()));
        }
        Programs(programs)
    }

    /// What was acknowledged to a program, oldest first.
    #[must_use]
    pub fn acknowledged(&self, name: &str) -> Vec<String> {
        lines(&self.notes.join(name))
    }

    /// How often something failed for a program.
    #[must_use]
    pub fn failures(&self, name: &str) -> usize {
        lines(&self.notes.join(format!("{name}-failed"))).len()
    }
}

impl Programs {
    /// Panics if one has ended, with what it said.
    #[track_caller]
    pub fn assert_running(&mut self) {
        for (name, program) in &mut self.0 {
            let ended = program.wait(Duration::ZERO);
            assert!(
                ended.is_none(),
                "{name} ended: {ended:?}, {}",
                program.output_so_far()
            );
        }
    }

    /// Waits until they have ended, which they do when the mount has. But git may ask again and again for entries of a directory
    /// that cannot be read any more: it is killed then, and must end of that.
    ///
    /// # Panics
    /// When one does not.
    #[track_caller]
    pub fn end_with_the_mount(self) {
        for (name, mut program) in self.0 {
            if program.wait(PATIENCE).is_none() {
                program.kill_group();
                assert!(program.wait(PATIENCE).is_some(), "{name} survives a kill");
            }
        }
    }

    /// Kills them with all that they have started.
    pub fn kill(self) {
        drop(self.0);
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last one may be on its way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}
