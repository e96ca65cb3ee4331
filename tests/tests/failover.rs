//! kill -9 of the worker at random moments: no program sees an error, nothing is done twice, nothing is lost.
//!
//! `LLFS_KILLS` is how many kills each test waits for (a small number without it).

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use llfs_tests::binaries;
use llfs_tests::command::{Run, ended_within, until};
use llfs_tests::dice::Random;
use llfs_tests::killer::{Killer, kill_worker, stat, worker_of};
use llfs_tests::manifest::Ignore;
use llfs_tests::mounted::Mounted;
use llfs_tests::{preload, seeded, sys, tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How many kills a test waits for.
fn kills() -> usize {
    seeded::number("LLFS_KILLS").unwrap_or(12) as usize
}

fn seed() -> u64 {
    let seed = seeded::first_seed();
    println!("LLFS_SEED={seed}");
    seed
}

fn mounted(name: &str, fill: impl FnOnce(&Path)) -> Mounted {
    let mut mounted = Mounted::over(name, fill);
    mounted.allow(Duration::from_secs(150 + 2 * kills() as u64));
    mounted
}

/// What goes on until there were enough kills.
type Work<T> = Box<dyn FnOnce(&AtomicBool) -> T + Send>;

/// Kills workers until there were enough, while `work` goes on in threads; what each of those returns.
fn under_kills<T: Send + 'static>(mounted: &Mounted, seed: u64, work: Vec<Work<T>>) -> Vec<T> {
    let supervisor = mounted.pid();
    let enough = Arc::new(AtomicBool::new(false));
    let threads: Vec<JoinHandle<T>> = work
        .into_iter()
        .map(|work| {
            let enough = enough.clone();
            std::thread::spawn(move || work(&enough))
        })
        .collect();
    let before = mounted.json(&["status"])["workers"].as_u64().unwrap();
    let killer = Killer::start(&mounted.dir, supervisor, seed, 150);
    let wanted = kills() as u64 + before;
    until("enough kills", Duration::from_secs(120 + wanted), || {
        assert!(!threads.iter().all(JoinHandle::is_finished), "all ended");
        std::thread::sleep(Duration::from_millis(100));
        (mounted.json(&["status"])["workers"].as_u64().unwrap() >= wanted).then_some(())
    });
    let killed = killer.stop();
    enough.store(true, Ordering::Relaxed);
    let done = threads.into_iter().map(|t| t.join().unwrap()).collect();
    println!("{killed} kills");
    done
}

/// Lines with numbers, appended one by one; how many.
fn append(path: &Path, enough: &AtomicBool) -> usize {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    for number in 0.. {
        if enough.load(Ordering::Relaxed) {
            return number;
        }
        file.write_all(format!("line {number}\n").as_bytes())
            .unwrap();
        if number % 64 == 0 {
            file.sync_all().unwrap();
        }
    }
    unreachable!()
}

/// Big pieces, written and read back past the cache.
fn blocks(path: &Path, enough: &AtomicBool) -> usize {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).open(path);
    let file = file.unwrap();
    let mut found = vec![0; 1 << 20];
    for number in 0.. {
        let at = (number as u64 % 8) << 20;
        file.write_all_at(&vec![number as u8; 1 << 20], at).unwrap();
        sys::drop_caches(&file).unwrap();
        file.read_exact_at(&mut found, at).unwrap();
        assert!(found.iter().all(|b| *b == number as u8), "block {number}");
        if enough.load(Ordering::Relaxed) {
            return number;
        }
    }
    unreachable!()
}

/// Everything that fails or shows when it is done twice; the names that must be there afterwards.
fn names(dir: &Path, enough: &AtomicBool) -> BTreeSet<String> {
    let mut there = BTreeSet::new();
    for number in 0.. {
        if enough.load(Ordering::Relaxed) {
            break;
        }
        let at = |kind: &str| dir.join(format!("{kind}{number}"));
        let new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(at("new"));
        new.unwrap().write_all(&[7; 300]).unwrap();
        fs::rename(at("new"), at("renamed")).unwrap();
        fs::hard_link(at("renamed"), at("link")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        symlink("target", at("dir").join("symlink")).unwrap();
        fs::rename(at("dir"), at("moved")).unwrap();
        sys::set_xattr(&at("link"), b"user.test", b"value", libc::XATTR_CREATE).unwrap();
        sys::remove_xattr(&at("link"), b"user.test").unwrap();
        match number % 3 {
            0 => {
                fs::remove_file(at("renamed")).unwrap();
                fs::remove_file(at("moved").join("symlink")).unwrap();
                fs::remove_dir(at("moved")).unwrap();
                there.insert(format!("link{number}"));
            }
            _ => {
                for kind in ["renamed", "link", "moved"] {
                    there.insert(format!("{kind}{number}"));
                }
            }
        }
    }
    there
}

#[test]
fn nothing_is_done_twice_and_nothing_is_lost() {
    let seed = seed();
    let mounted = mounted("failover", |_| ());
    for dir in ["one", "two"] {
        fs::create_dir(mounted.path(dir)).unwrap();
    }
    let lines = mounted.path("lines");
    let file = lines.clone();
    let dirs = ["one", "two"].map(|d| mounted.path(d));
    let (tell, told) = std::sync::mpsc::channel();
    let mut work: Vec<Work<BTreeSet<String>>> = Vec::new();
    work.push(Box::new(move |enough| {
        tell.send(append(&file, enough)).unwrap();
        BTreeSet::new()
    }));
    let file = mounted.path("blocks");
    work.push(Box::new(move |enough| {
        assert!(blocks(&file, enough) > 8);
        BTreeSet::new()
    }));
    for dir in dirs.clone() {
        work.push(Box::new(move |enough| names(&dir, enough)));
    }
    let done = under_kills(&mounted, seed, work);
    let count = told.recv().unwrap();
    let expected: String = (0..count).map(|n| format!("line {n}\n")).collect();
    let check = || {
        assert!(count > 20, "only {count} lines");
        assert!(fs::read_to_string(&lines).unwrap() == expected, "the lines");
        for (dir, expected) in dirs.iter().zip(&done[2..]) {
            let entries = fs::read_dir(dir).unwrap();
            let found: BTreeSet<String> = entries
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            assert_eq!(&found, expected);
            for name in expected.iter().filter(|n| !n.starts_with("moved")) {
                assert_eq!(fs::read(dir.join(name)).unwrap(), [7; 300]);
            }
        }
    };
    check();
    mounted.verify();
    mounted.remount();
    check();
}

/// Snapshots and reverts go on too, and each is exact.
#[test]
fn snapshots_and_reverts_are_exact_under_kills() {
    let seed = seed();
    let mounted = mounted("failover-revert", |base| {
        tree::plant(base, seed, 60).unwrap()
    });
    // Pages, attributes and names of all states are cached, and a file is open and mapped.
    fs::write(mounted.path("mapped"), vec![0; 1 << 16]).unwrap();
    let open = File::options()
        .read(true)
        .write(true)
        .open(mounted.path("mapped"))
        .unwrap();
    mounted.snap("first");
    let first = mounted.manifest();
    let killer = Killer::start(&mounted.dir, mounted.pid(), seed, 150);
    let rounds = kills() / 3 + 2;
    for round in 0..rounds as u64 {
        tree::churn(&mounted.dir, seed + round, 40, true).unwrap();
        // It may have lost its name by now.
        open.write_all_at(&vec![round as u8 + 1; 1 << 16], 0)
            .unwrap();
        let name = format!("round-{round}");
        mounted.snap(&name);
        let here = mounted.manifest();
        mounted.revert("first");
        let mut byte = [9];
        open.read_exact_at(&mut byte, 4096).unwrap();
        assert_eq!(byte, [0], "the open file, round {round}");
        first.assert_same(&mounted.manifest(), Ignore::default(), "reverted");
        mounted.undo();
        here.assert_same(&mounted.manifest(), Ignore::default(), "undone");
        open.read_exact_at(&mut byte, 4096).unwrap();
        assert_eq!(byte, [round as u8 + 1], "the open file, round {round}");
        mounted.revert(&name);
        here.assert_same(&mounted.manifest(), Ignore::default(), "by name");
    }
    println!("{} kills", killer.stop());
    let list = mounted.json(&["list"]);
    assert_eq!(list["snapshots"].as_array().unwrap().len(), rounds + 1);
    mounted.verify();
}

/// A worker that is killed while it has the kernel forget pages that are dirty cannot be buried before somebody has taken
/// those pages: the next one.
#[test]
fn a_worker_that_is_killed_in_the_kernel_is_followed_by_another() {
    let seed = seed();
    let mounted = mounted("failover-stuck", |base| {
        for file in 0..8 {
            fs::write(base.join(format!("mapped{file}")), vec![0; 1 << 20]).unwrap();
        }
        fs::write(base.join("other"), "first").unwrap();
    });
    mounted.snap("first");
    let mut scribblers: Vec<_> = (0..2)
        .map(|file| {
            Run::new(env!("CARGO_BIN_EXE_llfs-scribble"))
                .arg(mounted.path(&format!("mapped{file}")))
                .start()
        })
        .collect();
    for scribbler in &mut scribblers {
        until("a mapping", Duration::from_secs(10), || {
            scribbler.output_so_far().contains("mapped").then_some(())
        });
    }
    let mut random = Random::new(seed);
    let log = mounted.store.join("llfs.log");
    let in_kernel = || {
        let log = fs::read_to_string(&log).unwrap();
        log.matches("killed while it told the kernel").count()
    };
    let mut rounds = 0;
    while rounds < kills() / 2 || in_kernel() == 0 {
        rounds += 1;
        assert!(rounds < 200, "no worker was killed in the kernel");
        for (args, expected) in [(&["revert", "first"][..], "first"), (&["undo"], "second")] {
            if args.len() > 1 {
                fs::write(mounted.path("other"), "second").unwrap();
            }
            let mut command = mounted.llctl(args).start();
            let wait = Duration::from_micros(random.below(40_000) as u64);
            if command.wait(wait).is_none() {
                kill_worker(mounted.pid());
            }
            let patience = Duration::from_secs(30);
            let status = command.wait(patience).expect("the next worker answers");
            assert!(status.success(), "{}", command.finish().text());
            let found = fs::read_to_string(mounted.path("other")).unwrap();
            assert_eq!(found, expected, "round {rounds}");
        }
    }
    println!("{rounds} rounds, {} killed in the kernel", in_kernel());
    for mut scribbler in scribblers {
        assert!(scribbler.wait(Duration::ZERO).is_none(), "it had an error");
        scribbler.kill();
    }
    mounted.verify();
}

const GIT: &str = r#"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@e GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@e
for round in 1 2 3; do
  rm -rf "clone$round"
  git clone -q --no-hardlinks origin "clone$round"
  cd "clone$round"; seq $round 2000 > new; git add -A; git commit -qm "$round"
  git fsck --strict --no-progress; git status --porcelain; cd ..
done
"#;

const SQLITE: &str = r#"
sqlite3 db 'pragma journal_mode=wal; create table t(n integer primary key, s text);' > /dev/null
for n in $(seq 40); do
  sqlite3 db ".timeout 20000" "insert into t values($n, hex(randomblob(500)));"
done
test "$(sqlite3 db 'select count(*), sum(n) from t;')" = "40|820"
sqlite3 db 'pragma integrity_check;' | grep -qx ok
"#;

/// A worker that is killed while the kernel waits for memory to copy a request to fails that request.
///
/// Pages that the kernel is just moving elsewhere (compaction) count as new ones, and nobody can help that; without the protection
/// every worker needs new ones.
#[test]
fn a_large_write_needs_no_new_memory_in_the_worker() {
    let mut taken = Vec::new();
    let few = |taken: &[u64]| taken.iter().filter(|pages| **pages < 128).count();
    while few(&taken) < 3 && taken.len() < 20 {
        let mounted = mounted("large-write", |_| ());
        let file = File::create(mounted.dir.join("file")).unwrap();
        let write = |at: u64, len: usize| file.write_all_at(&vec![7; len], at).unwrap();
        write(2 << 20, 4096);
        let worker = worker_of(mounted.pid()).unwrap();
        let before = faults(worker);
        write(0, 1 << 20);
        taken.push(faults(worker) - before);
    }
    assert_eq!(few(&taken), 3, "{taken:?} pages, of 256 written");
}

/// How often a process had a page that it had not touched before (`minflt`, proc_pid_stat(5)).
fn faults(pid: i32) -> u64 {
    stat(pid).unwrap()[7].parse().unwrap()
}

#[test]
fn programs_go_on_under_kills() {
    let seed = seed();
    let mounted = mounted("failover-programs", |base| {
        let make = "git init -q -b main origin; cd origin; for f in $(seq 80); do mkdir -p d$((f % 9)); \
            seq $((f * 9)) > d$((f % 9))/$f; done; git add -A; git -c user.name=t -c user.email=t@e commit -qm first";
        Run::shell(make).dir(base).ok();
    });
    let killer = Killer::start(&mounted.dir, mounted.pid(), seed, 200);
    let mut programs = [GIT, SQLITE].map(|script| {
        let patience = Duration::from_secs(120);
        Run::shell(script)
            .dir(&mounted.dir)
            .patience(patience)
            .start()
    });
    for program in &mut programs {
        until("a program's end", Duration::from_secs(120), || {
            program.wait(Duration::from_millis(200))
        });
    }
    println!("{} kills", killer.stop());
    for program in programs {
        program.finish().ok();
    }
    mounted.verify();
}

#[test]
fn what_is_open_mapped_locked_or_stood_in_stays_so() {
    let mounted = mounted("failover-open", |base| {
        fs::create_dir_all(base.join("a/b/c")).unwrap();
        fs::write(base.join("a/b/c/deep"), "from the base").unwrap();
        fs::write(base.join("locked"), "").unwrap();
    });
    let supervisor = mounted.pid();
    let of_base = File::open(mounted.path("a/b/c/deep")).unwrap();
    let mut unlinked = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(mounted.path("unlinked"))
        .unwrap();
    unlinked.write_all(b"still here").unwrap();
    fs::remove_file(mounted.path("unlinked")).unwrap();
    let mapped = mounted.path("mapped");
    fs::write(&mapped, vec![1; 8192]).unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .open(&mapped)
        .unwrap();
    let mapping = sys::Mapping::new(&file, 8192, true).unwrap();
    let lock = File::open(mounted.path("locked")).unwrap();
    lock.try_lock().unwrap();
    let mut shell =
        Run::shell("echo in; while test ! -e go; do sleep 0.02; done; pwd -P; cat deep")
            .dir(mounted.path("a/b/c"))
            .start();
    until("a shell in the mount", Duration::from_secs(10), || {
        shell.output_so_far().contains("in").then_some(())
    });
    for round in 1..=3u8 {
        mapping.write(4096, &[round]);
        kill_worker(supervisor);
        // Nothing of this is in a cache.
        sys::drop_caches(&of_base).unwrap();
        let mut text = String::new();
        (&of_base).rewind().unwrap();
        (&of_base).read_to_string(&mut text).unwrap();
        assert_eq!(text, "from the base");
        sys::drop_caches(&unlinked).unwrap();
        let mut text = String::new();
        unlinked.rewind().unwrap();
        unlinked.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still here".repeat(round.into()));
        unlinked.write_all(b"still here").unwrap();
        mapping.write(0, &[round]);
        let other = File::open(mounted.path("locked")).unwrap();
        assert!(other.try_lock().is_err(), "the lock is gone");
    }
    mounted.snap("with what is mapped");
    assert_eq!(fs::read(&mapped).unwrap()[..1], [3]);
    fs::write(mounted.path("a/b/c/go"), "").unwrap();
    let ended = until("the shell's end", Duration::from_secs(20), || {
        shell.wait(Duration::from_millis(100))
    });
    assert!(ended.success());
    let said = shell.output_so_far();
    assert!(said.ends_with("/a/b/c\nfrom the base"), "{said}");
    drop(unlinked);
    mounted.verify();
}

/// Each worker dies when a change is in the journal, before it answers it or knows more of it.
#[test]
fn a_change_that_was_done_and_not_answered_is_not_done_again() {
    let mut mounted = Mounted::prepare("failover-unanswered");
    mounted.allow(Duration::from_secs(120));
    mounted.mount_run().env("LLFS_TEST_UNANSWERED", "5").ok();
    fs::create_dir(mounted.path("dir")).unwrap();
    let enough = AtomicBool::new(false);
    let (expected, count) = std::thread::scope(|scope| {
        let lines = scope.spawn(|| append(&mounted.path("lines"), &enough));
        let names = scope.spawn(|| names(&mounted.path("dir"), &enough));
        until("some deaths", Duration::from_secs(60), || {
            let workers = mounted.json(&["status"])["workers"].as_u64().unwrap();
            (workers > 3 + kills() as u64 / 2).then_some(())
        });
        enough.store(true, Ordering::Relaxed);
        (names.join().unwrap(), lines.join().unwrap())
    });
    let lines: String = (0..count).map(|n| format!("line {n}\n")).collect();
    assert_eq!(fs::read_to_string(mounted.path("lines")).unwrap(), lines);
    let entries = fs::read_dir(mounted.path("dir")).unwrap();
    let found: BTreeSet<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected);
    mounted.verify();
}

/// The same, so early that the supervisor has not heard from any of them: as long as requests are answered it goes on.
#[test]
fn workers_that_die_before_they_serve_are_followed_by_others_as_long_as_requests_are_answered() {
    let mut mounted = Mounted::prepare("failover-early");
    mounted.allow(Duration::from_secs(120));
    mounted.mount_run().env("LLFS_TEST_UNANSWERED", "1,0").ok();
    let log = || fs::read_to_string(mounted.store.join("llfs.log")).unwrap();
    let most_in_a_row = || {
        let (mut row, mut most) = (0, 0);
        for line in log().lines() {
            match line {
                line if line.contains("the worker died") => row += 1,
                line if line.contains("another worker goes on") => row = 0,
                _ => {}
            }
            most = most.max(row);
        }
        most
    };
    let enough = AtomicBool::new(false);
    let there = std::thread::scope(|scope| {
        let names = scope.spawn(|| names(&mounted.dir, &enough));
        // With 5 in a row of which none was of use the supervisor would have ended.
        until(
            "deaths before they served",
            Duration::from_secs(100),
            || (names.is_finished() || most_in_a_row() > 6).then_some(()),
        );
        enough.store(true, Ordering::Relaxed);
        names.join().unwrap()
    });
    let entries = fs::read_dir(&mounted.dir).unwrap();
    let found: BTreeSet<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, there);
}

/// Each waits longer than the one before, or a daemon whose store is gone would do nothing but start workers.
#[test]
fn workers_that_die_at_once_follow_each_other_after_a_pause() {
    let mounted = Mounted::new("failover-pause");
    let supervisor = mounted.pid();
    let superblock = mounted.store.join("superblock");
    fs::rename(&superblock, mounted.store.join("elsewhere")).unwrap();
    let begun = Instant::now();
    kill_worker(supervisor);
    assert!(ended_within(supervisor, Duration::from_secs(60)));
    let took = begun.elapsed();
    let log = fs::read_to_string(mounted.store.join("llfs.log")).unwrap();
    assert_eq!(log.matches("the worker died").count(), 6, "{log}");
    // 20, 80, 320 and 1000 ms behind the first four that did not serve.
    assert!(took > Duration::from_millis(1400), "after {took:?}");
}

#[test]
fn a_request_that_kills_every_worker_is_answered_with_an_error() {
    let mounted = Mounted::prepare("failover-lethal");
    fs::write(mounted.dir.join("kept"), "kept").unwrap();
    let lethal = mounted.mount_run().env("LLFS_TEST_LETHAL_NAME", "lethal");
    lethal.ok();
    let open = File::open(mounted.path("kept")).unwrap();
    let error = fs::metadata(mounted.path("lethal")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
    assert_eq!(fs::read(mounted.path("kept")).unwrap(), b"kept");
    fs::write(mounted.path("new"), "new").unwrap();
    let mut byte = [0];
    open.read_exact_at(&mut byte, 3).unwrap();
    let log = fs::read_to_string(mounted.store.join("llfs.log")).unwrap();
    let told = log.lines().filter(|l| l.contains("kills workers"));
    assert!(told.clone().any(|l| l.contains("Lookup")), "{log}");
    let workers = mounted.json(&["status"])["workers"].as_u64();
    assert_eq!(workers, Some(4), "it had three tries");
}

#[test]
fn the_worker_ends_with_its_supervisor_and_the_next_mount_has_everything() {
    let mounted = mounted("failover-supervisor", |base| {
        fs::write(base.join("file"), "text").unwrap();
    });
    for round in 0..3 {
        let supervisor = mounted.pid();
        let worker = worker_of(supervisor).unwrap();
        fs::write(mounted.path("file"), format!("round {round}")).unwrap();
        kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
        assert!(ended_within(worker, Duration::from_secs(10)));
        let error = fs::metadata(mounted.path("other")).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::NotFound, "somebody answers");
        mounted.mount();
        let text = fs::read_to_string(mounted.path("file")).unwrap();
        assert_eq!(text, format!("round {round}"));
    }
    mounted.verify();
}

#[test]
fn an_upgrade_exchanges_the_worker_under_open_files() {
    let mounted = mounted("failover-upgrade", |base| {
        fs::write(base.join("file"), "text").unwrap();
    });
    let (supervisor, before) = (mounted.pid(), worker_of(mounted.pid()));
    let mut log = File::options()
        .append(true)
        .create(true)
        .open(mounted.path("log"))
        .unwrap();
    log.write_all(b"one ").unwrap();
    let said = mounted.llfs(&["upgrade"]).arg(&mounted.dir).ok().out();
    assert!(said.contains("now served by"), "{said}");
    log.write_all(b"two").unwrap();
    assert_eq!(fs::read(mounted.path("log")).unwrap(), b"one two");
    assert_eq!(mounted.pid(), supervisor);
    assert_ne!(worker_of(supervisor), before);
    assert_eq!(mounted.json(&["status"])["workers"], 2);
}

/// A worker of a binary that was not there when the mount began; and one of a binary that is none is followed by one of that
/// before it.
#[test]
fn an_upgrade_runs_what_is_on_the_disk_now_if_that_serves() {
    let mut mounted = Mounted::prepare("failover-upgrade-binary");
    let llfs = mounted.copy_programs().join("llfs");
    mounted.mount();
    let number = |path: &Path| fs::metadata(path).unwrap().ino();
    let install = |from: &Path| {
        let new = llfs.with_extension("new");
        binaries::copy(from, &new);
        fs::rename(&new, &llfs).unwrap();
        let upgrade = mounted.program(binaries::llfs()).arg("upgrade");
        upgrade.arg(&mounted.dir).finish()
    };
    let serves = || {
        let worker = worker_of(mounted.pid()).unwrap();
        fs::write(mounted.path("file"), "served").unwrap();
        number(Path::new(&format!("/proc/{worker}/exe")))
    };
    let before = number(&llfs);
    install(&binaries::llfs()).ok();
    let served = serves();
    assert_eq!(served, number(&llfs), "the old one serves");
    assert_ne!(served, before);
    let told = install(Path::new("/bin/false"));
    let told = told.expect_code(1).err();
    assert!(told.contains("is still served by"), "{told}");
    assert_eq!(serves(), served, "nobody serves");
}

#[test]
fn a_worker_that_dies_while_the_mount_is_taken_away_does_not_keep_it() {
    for round in 0..4 {
        let mounted = mounted("failover-unmount", |_| ());
        fs::write(mounted.path("file"), vec![3; 1 << 20]).unwrap();
        let supervisor = mounted.pid();
        let mut unmount = mounted.llfs(&["unmount"]).arg(&mounted.dir).start();
        std::thread::sleep(Duration::from_millis(round * 4));
        if worker_of(supervisor).is_some() {
            kill_worker(supervisor);
        }
        let ended = until("the unmount's end", Duration::from_secs(30), || {
            unmount.wait(Duration::from_millis(100))
        });
        assert!(ended.success(), "{}", unmount.finish().text());
        assert!(ended_within(supervisor, Duration::from_secs(10)));
        mounted.mount();
        assert_eq!(fs::read(mounted.path("file")).unwrap().len(), 1 << 20);
    }
}

#[test]
fn the_outage_is_short() {
    let mounted = mounted("failover-outage", |base| tree::plant(base, 5, 400).unwrap());
    let before = mounted.manifest();
    let supervisor = mounted.pid();
    let mut took: Vec<Duration> = (0..kills().max(9))
        .map(|round| {
            kill_worker(supervisor);
            let begun = Instant::now();
            // Nobody has asked for this name before.
            assert!(!mounted.path(&format!("nothing {round}")).exists());
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    let median = took[took.len() / 2];
    println!("median {median:?}, longest {:?}", took[took.len() - 1]);
    let most = if cfg!(debug_assertions) { 600 } else { 200 };
    assert!(median < Duration::from_millis(most), "{took:?}");
    before.assert_same(&mounted.manifest(), Ignore::default(), "afterwards");
}

/// A library that holds, as long as there is a file for it, the worker before it tells that it serves, and the supervisor when it has
/// heard a signal and done nothing about it yet; each says so by another file.
const HOLD: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static void stop(const char *what, int number) {
    char hold[4096], held[4096];
    snprintf(hold, sizeof hold, "%s/hold-%s%d", getenv("HOLDS"), what, number);
    snprintf(held, sizeof held, "%s/held-%s%d", getenv("HOLDS"), what, number);
    if (access(hold, F_OK)) return;
    close(open(held, O_CREAT | O_WRONLY, 0600));
    while (!access(hold, F_OK)) usleep(1000);
}
ssize_t recv(int fd, void *to, size_t room, int flags) {
    static ssize_t (*real)(int, void *, size_t, int);
    if (!real) real = dlsym(RTLD_NEXT, "recv");
    ssize_t length = real(fd, to, room, flags);
    if (length == 1 && room > 1 && gettid() == getpid()) stop("signal", *(char *)to);
    return length;
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    static ssize_t (*real)(int, const struct msghdr *, int);
    if (!real) real = dlsym(RTLD_NEXT, "sendmsg");
    struct iovec *first = message->msg_iov;
    if (first->iov_len < 64 && memmem(first->iov_base, first->iov_len, "Serving", 7)) stop("serving", 0);
    return real(fd, message, flags);
}
"#;

/// Where processes of a mount are held.
struct Held<'a>(&'a Mounted);

impl Held<'_> {
    fn mount(mounted: &Mounted) -> Held<'_> {
        let library = preload::library(mounted.scratch.path(), "hold", HOLD);
        let run = mounted.mount_run().env("LD_PRELOAD", library);
        run.env("HOLDS", mounted.scratch.path()).ok();
        Held(mounted)
    }

    fn hold(&self, what: &str) {
        fs::write(self.0.scratch.path().join(format!("hold-{what}")), "").unwrap();
    }

    fn wait(&self, what: &str) {
        let held = self.0.scratch.path().join(format!("held-{what}"));
        until(what, Duration::from_secs(60), || {
            held.exists().then_some(())
        });
    }

    fn let_go(&self, what: &str) {
        fs::remove_file(self.0.scratch.path().join(format!("hold-{what}"))).unwrap();
    }
}

/// A worker answers before its supervisor has heard that it does. Who asks for another one then gets one.
#[test]
fn an_upgrade_that_is_asked_for_while_a_worker_begins_is_made_when_it_serves() {
    let mounted = Mounted::prepare("failover-upgrade-early");
    let held = Held::mount(&mounted);
    let supervisor = mounted.pid();
    let first = worker_of(supervisor).unwrap();
    held.hold("serving0");
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    held.wait("serving0");
    let second = mounted.json(&["status"])["worker"].as_i64().unwrap();
    assert_ne!(second, i64::from(first));
    let signal = format!("signal{}", Signal::SIGUSR2 as i32);
    held.hold(&signal);
    kill(Pid::from_raw(supervisor), Signal::SIGUSR2).unwrap();
    held.wait(&signal);
    held.let_go("serving0");
    held.let_go(&signal);
    until("another worker", Duration::from_secs(20), || {
        let third = mounted.json(&["status"])["worker"].as_i64().unwrap();
        (third != second).then_some(())
    });
    fs::write(mounted.path("file"), "text").unwrap();
    mounted.unmount();
}

/// A library that holds the thread which answers the kernel before it has begun, as long as there is a file, and says when a client
/// has waited for a greeting in vain.
const SLOW: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int pthread_setname_np(pthread_t thread, const char *name) {
    static int (*real)(pthread_t, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "pthread_setname_np");
    if (!strcmp(name, "llfs-session")) while (!access(getenv("HOLD"), F_OK)) usleep(1000);
    return real(thread, name);
}
ssize_t recv(int fd, void *to, size_t room, int flags) {
    static ssize_t (*real)(int, void *, size_t, int);
    if (!real) real = dlsym(RTLD_NEXT, "recv");
    ssize_t length = real(fd, to, room, flags);
    int error = errno;
    if (length < 0 && error == EAGAIN && getenv("TOLD")) close(open(getenv("TOLD"), O_CREAT | O_WRONLY, 0600));
    errno = error;
    return length;
}
"#;

/// The next worker may have much to read before it greets anybody.
#[test]
fn an_upgrade_waits_for_a_worker_that_begins_slowly() {
    let mounted = Mounted::prepare("failover-upgrade-slow");
    let at = |name: &str| mounted.scratch.path().join(name);
    let library = preload::library(mounted.scratch.path(), "slow", SLOW);
    let (hold, told) = (at("hold"), at("told"));
    let run = mounted.mount_run().env("LD_PRELOAD", &library);
    run.env("HOLD", &hold).ok();
    fs::write(&hold, "").unwrap();
    let upgrade = mounted.llfs(&["upgrade"]).arg(&mounted.dir);
    let upgrade = upgrade.env("LD_PRELOAD", &library).env("HOLD", &hold);
    let mut upgrade = upgrade.env("TOLD", &told).start();
    until(
        "a greeting that does not come",
        Duration::from_secs(60),
        || {
            let ended = upgrade.wait(Duration::from_millis(1)).is_some();
            (told.exists() || ended).then_some(())
        },
    );
    fs::remove_file(&hold).unwrap();
    upgrade.finish().ok();
    mounted.unmount();
}

/// The order to end goes to a worker that has just died. The next one gets it, too.
#[test]
fn a_mount_in_use_that_is_to_end_ends_though_its_worker_dies() {
    let mounted = Mounted::prepare("failover-quit");
    let held = Held::mount(&mounted);
    let supervisor = mounted.pid();
    let worker = worker_of(supervisor).unwrap();
    fs::write(mounted.path("file"), "text").unwrap();
    let user = Run::new("sleep").arg("1000").dir(&mounted.dir).start();
    let terminate = || kill(Pid::from_raw(supervisor), Signal::SIGTERM).unwrap();
    terminate();
    // The thread that has detached it says so with its last step.
    until("the mount to be detached", Duration::from_secs(60), || {
        let tasks = fs::read_dir(format!("/proc/{supervisor}/task")).unwrap();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm"));
        let unmounts = tasks
            .flatten()
            .any(|task| name(task).is_ok_and(|name| name == "llfs-unmount\n"));
        (!mounted.is_mounted() && !unmounts).then_some(())
    });
    let signal = format!("signal{}", Signal::SIGTERM as i32);
    held.hold(&signal);
    terminate();
    held.wait(&signal);
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    until("the worker's death", Duration::from_secs(60), || {
        let state = stat(worker).map_or_else(|_| "X".to_owned(), |fields| fields[0].clone());
        ["Z", "X"].contains(&state.as_str()).then_some(())
    });
    held.let_go(&signal);
    assert!(
        ended_within(supervisor, Duration::from_secs(60)),
        "it goes on for whoever uses the mount"
    );
    drop(user);
    mounted.mount();
    assert_eq!(fs::read_to_string(mounted.path("file")).unwrap(), "text");
}
