//! Many mounts at once, and mounts in namespaces of their own.
//!
//! `LLFS_MOUNTS` is how many (a small number without it; 100 is what the project looks at).

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use llfs_tests::command::Run;
use llfs_tests::killer::{kill_worker, stat, worker_of};
use llfs_tests::mounted::Mounted;
use llfs_tests::{binaries, seeded, tree};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What one mount may take: memory that only it has, in KiB, descriptors, threads. Supervisor, worker and visitor together.
const MEMORY: u64 = 24 << 10;
const DESCRIPTORS: u64 = 80;
const THREADS: u64 = 32;

/// The processes of a mount.
fn processes(supervisor: i32) -> Vec<i32> {
    let children = |pid: i32| -> Vec<i32> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children"));
        let all = tasks.flatten().filter_map(|task| of(task).ok());
        all.flat_map(|text| {
            let pids = text.split_whitespace().map(|pid| pid.parse().unwrap());
            pids.collect::<Vec<i32>>()
        })
        .collect()
    };
    let mut all = vec![supervisor];
    for pid in children(supervisor) {
        all.push(pid);
        all.extend(children(pid));
    }
    all
}

/// Private memory in KiB, descriptors, threads.
fn taken(pid: i32) -> [u64; 3] {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    let kib = private.map(|line| {
        let number = line.split_whitespace().nth(1).unwrap();
        number.parse::<u64>().unwrap()
    });
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count() as u64;
    [kib.sum(), count("fd"), count("task")]
}

/// Clock ticks of all threads of a process so far.
fn ticks(pid: i32) -> u64 {
    let fields = stat(pid).unwrap();
    [11, 12]
        .iter()
        .map(|i| fields[*i].parse::<u64>().unwrap())
        .sum()
}

/// A shell gives its programs 1,024 descriptors, as a rule, of as many as they may have.
#[test]
fn a_daemon_takes_as_many_descriptors_as_it_may_have() {
    let mounted = Mounted::prepare("descriptors");
    let mut run = mounted.mount_run();
    let few = || {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        Ok(setrlimit(Resource::RLIMIT_NOFILE, 100, most)?)
    };
    // SAFETY: two system calls, which may be made between fork and exec.
    unsafe { run.raw().pre_exec(few) };
    run.ok();
    let supervisor = mounted.pid();
    for pid in [supervisor, worker_of(supervisor).unwrap()] {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits
            .lines()
            .find(|l| l.starts_with("Max open files"))
            .unwrap();
        let [soft, hard] = [3, 4].map(|n| line.split_whitespace().nth(n).unwrap());
        assert_eq!(soft, hard, "{line}");
        assert_ne!(soft, "100");
    }
}

#[test]
fn many_mounts_at_once_take_little_and_do_not_disturb_each_other() {
    let count = seeded::number("LLFS_MOUNTS").unwrap_or(10);
    let begun = Instant::now();
    let mounts: Vec<Mounted> = (0..count)
        .map(|n| {
            let mut mounted = Mounted::prepare(&format!("many{n}"));
            mounted.allow(Duration::from_secs(150 + 4 * count));
            tree::plant(&mounted.dir, n, 30).unwrap();
            mounted.mount();
            mounted
        })
        .collect();
    println!("{count} mounts in {:?}", begun.elapsed());
    for (n, mounted) in mounts.iter().enumerate() {
        fs::write(mounted.path("mine"), format!("{n}")).unwrap();
        mounted.snap("first");
        fs::write(mounted.path("mine"), "changed").unwrap();
    }
    let supervisors: Vec<i32> = mounts.iter().map(Mounted::pid).collect();
    let all: Vec<i32> = supervisors.iter().flat_map(|s| processes(*s)).collect();
    let mut sum = [0; 3];
    for pid in &all {
        for (total, one) in sum.iter_mut().zip(taken(*pid)) {
            *total += one;
        }
    }
    let each = sum.map(|total| total / count);
    println!(
        "each: {} KiB, {} descriptors, {} threads",
        each[0], each[1], each[2]
    );
    assert!(each[0] < MEMORY, "{} KiB", each[0]);
    assert!(each[1] < DESCRIPTORS, "{} descriptors", each[1]);
    assert!(each[2] < THREADS, "{} threads", each[2]);
    // Nobody asks for anything: nobody does anything.
    let before: u64 = all.iter().map(|pid| ticks(*pid)).sum();
    std::thread::sleep(Duration::from_secs(3));
    let idle = all.iter().map(|pid| ticks(*pid)).sum::<u64>() - before;
    println!("{idle} ticks of 10 ms in 3 s of rest");
    assert!(idle <= 10 + count, "{idle} ticks while nothing was asked");
    // One dies, the others do not notice.
    let others: Vec<Option<i32>> = supervisors[1..].iter().map(|s| worker_of(*s)).collect();
    kill_worker(supervisors[0]);
    for (n, mounted) in mounts.iter().enumerate() {
        mounted.revert("first");
        let text = fs::read_to_string(mounted.path("mine")).unwrap();
        assert_eq!(text, format!("{n}"));
    }
    let now: Vec<Option<i32>> = supervisors[1..].iter().map(|s| worker_of(*s)).collect();
    assert_eq!(others, now);
    for mounted in &mounts {
        mounted.unmount();
    }
}

/// What somebody does with a mount of their own; its worker is killed in between.
const SESSION: &str = r#"
mkdir -p "$XDG_RUNTIME_DIR" "$1/base"
cd "$1/base"; echo text > kept; mkdir dir; ln kept dir/link; cd ..
"$BIN/llfs" mount base --store "$1/store"
cd base
echo more >> kept
"$BIN/llctl" snap first > /dev/null
rm -r dir; echo other > kept; ln -s kept symlink
test "$("$BIN/llctl" diff first | wc -l)" -ge 3
"$BIN/llctl" revert first > /dev/null
test "$(cat kept)" = "$(printf 'text\nmore')"; test -e dir/link; test ! -e symlink
test "$(stat -c %h kept)" = 2
"$BIN/llctl" undo > /dev/null; test "$(cat kept)" = other
supervisor=$("$BIN/llctl" status --json | sed 's/.*"pid":\([0-9]*\).*/\1/')
kill -KILL $(cat /proc/$supervisor/task/$supervisor/children)
echo after > later; test "$(cat later)" = after
"$BIN/llctl" status --json | grep -q '"workers":2'
"$BIN/llctl" verify > /dev/null
cd ..; test "$(cat base/kept)" = other
"$BIN/llfs" unmount base
test "$(cat base/kept)" = text; test ! -e base/later
echo all is well
"#;

/// Whether this system says that ordinary users may make no user namespaces.
fn forbids_user_namespaces() -> bool {
    let says = |name: &str, value: &str| {
        let found = fs::read_to_string(Path::new("/proc/sys").join(name));
        found.is_ok_and(|found| found.trim() == value)
    };
    says("kernel/unprivileged_userns_clone", "0")
        || says("kernel/apparmor_restrict_unprivileged_userns", "1")
        || says("user/max_user_namespaces", "0")
}

/// In a container: its own mounts, its own root, who is nobody outside.
#[test]
fn a_mount_works_in_a_user_namespace() {
    if forbids_user_namespaces() {
        println!("users may make no namespaces here");
        return;
    }
    let mounted = of_nobody("namespace");
    let place = mounted.scratch.path().join("place");
    let run = mounted.program("unshare");
    let run = run.args(["-Urm", "bash", "-euc", SESSION, "bash"]);
    session_is_well(run.arg(&place), &mounted, &place);
}

/// As a container's init would see it: process ids, mounts and names of its own.
#[test]
fn a_mount_works_in_namespaces_of_processes_and_mounts() {
    let mut mounted = Mounted::prepare("container");
    mounted.copy_programs();
    let place = mounted.scratch.dir("place");
    let script = format!("mount -t proc proc /proc; {SESSION}");
    let run = Run::new("unshare").args(["-mpiuf", "bash", "-euc", &script, "bash"]);
    session_is_well(run.arg(&place), &mounted, &place);
}

/// As the user of a container: fusermount3 has the right to mount, and nobody else has.
#[test]
fn a_user_mounts_in_such_namespaces_by_way_of_fusermount() {
    let mounted = of_nobody("container-user");
    let place = mounted.scratch.path().join("place");
    let script = "mount -t proc proc /proc; \
        exec setpriv --reuid 65534 --regid 65534 --clear-groups bash -euc \"$@\"";
    let run = Run::new("unshare").args(["-mpiuf", "bash", "-euc", script, "bash"]);
    let run = run.args([SESSION, "bash"]).arg(&place);
    session_is_well(run, &mounted, &place);
}

/// A container's root has no right to mount, as a rule: that is said, and what to do about it.
#[test]
fn a_root_that_may_not_mount_is_told_what_it_needs() {
    let mounted = Mounted::prepare("container-poor");
    let run = mounted.program("setpriv").arg("--bounding-set=-sys_admin");
    let run = run.arg("--inh-caps=-sys_admin").arg(binaries::llfs());
    let run = run.arg("mount").arg(&mounted.dir).arg("--store");
    let failed = run.arg(&mounted.store).finish().expect_code(1).err();
    assert!(failed.contains("--cap-add SYS_ADMIN"), "{failed}");
    assert!(!mounted.is_mounted());
    // The store, which was opened before, is as it must be.
    mounted.mount();
    mounted.verify();
}

/// A directory `place` and the programs, all of them a user's.
fn of_nobody(name: &str) -> Mounted {
    let mut mounted = Mounted::prepare(name);
    let place = mounted.scratch.dir("place");
    mounted.become_user(65534);
    std::os::unix::fs::chown(&place, Some(65534), Some(65534)).unwrap();
    mounted
}

fn session_is_well(run: Run, mounted: &Mounted, place: &Path) {
    let done = run
        .env("BIN", mounted.scratch.path().join("programs"))
        .env("XDG_RUNTIME_DIR", place.join("run"))
        .ok();
    assert!(done.out().ends_with("all is well\n"), "{}", done.text());
}
