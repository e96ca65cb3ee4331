//! kill -9 in the middle of a snapshot, a revert, an undo or a delete: it is done or it is not.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use llfs_tests::command::{Run, ended_within, until};
use llfs_tests::dice::Random;
use llfs_tests::manifest::Ignore;
use llfs_tests::mounted::Mounted;
use llfs_tests::scratch::{self, Scratch};
use llfs_tests::{loopback, seeded, tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Starts `llctl ARGS`, kills the daemon a little later, and mounts again. Whether llctl had
/// reported success by then.
fn kill_during(mounted: &Mounted, args: &[&str], random: &mut Random) -> bool {
    let pid = mounted.pid();
    // Longer where commands take longer just now.
    let begun = Instant::now();
    mounted.llctl(&["list"]).ok();
    let most = (begun.elapsed().as_micros() as usize * 4).max(25_000);
    let mut command = mounted.llctl(args).start();
    let delay = Duration::from_micros(random.below(most) as u64);
    let ended = command.wait(delay);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    assert!(llfs_tests::command::ended_within(
        pid,
        Duration::from_secs(10)
    ));
    command
        .wait(Duration::from_secs(20))
        .expect("llctl ends when its daemon does");
    mounted.mount();
    ended.is_some_and(|status| status.success())
}

#[test]
fn a_killed_revert_is_whole_or_not_there() {
    let seed = seeded::first_seed();
    println!("LLFS_SEED={seed}");
    let mut random = Random::new(seed);
    let mounted = Mounted::over("killed-revert", |base| {
        tree::plant(base, seed, 200).unwrap()
    });
    mounted.snap("one");
    let one = mounted.manifest();
    tree::churn(&mounted.dir, seed, 400, true).unwrap();
    mounted.snap("two");
    let two = mounted.manifest();
    let (mut done, mut undone) = (0, 0);
    let mut at_one = false;
    // What brings the other state back: undo after a revert, redo after an undo.
    let mut back = "undo";
    for round in 0..16 {
        let (target, here, there) = if at_one {
            ("two", &one, &two)
        } else {
            ("one", &two, &one)
        };
        // To the other state by its name, or by undo or redo once there is something to undo.
        let by_undo = round > 4 && random.below(3) == 0;
        let named = ["revert", target];
        let walked = [back];
        let args: &[&str] = if by_undo { &walked } else { &named };
        let before = mounted.json(&["list"])["discarded"]
            .as_array()
            .unwrap()
            .len();
        let reported = kill_during(&mounted, args, &mut random);
        let found = mounted.manifest();
        let arrived = there.differences(&found, Ignore::default()).is_empty();
        let stayed = here.differences(&found, Ignore::default()).is_empty();
        assert!(
            arrived || stayed,
            "round {round}: neither before nor after: {:?}",
            here.differences(&found, Ignore::default())
        );
        assert!(
            arrived || !reported,
            "round {round}: a reported revert is gone"
        );
        let after = mounted.json(&["list"])["discarded"]
            .as_array()
            .unwrap()
            .len();
        assert!(after >= before, "round {round}: discarded states are lost");
        (done, undone) = (done + usize::from(arrived), undone + usize::from(stayed));
        at_one ^= arrived;
        if arrived {
            back = if args == ["undo"] { "redo" } else { "undo" };
        }
    }
    println!("{done} arrived, {undone} stayed");
    assert!(done > 0, "no revert ever arrived");
    mounted.verify();
}

#[test]
fn a_killed_snapshot_is_whole_or_not_there() {
    let seed = seeded::first_seed() + 1;
    println!("LLFS_SEED={}", seed - 1);
    let mut random = Random::new(seed);
    let mounted = Mounted::over("killed-snap", |base| tree::plant(base, seed, 100).unwrap());
    let mut taken = Vec::new();
    for round in 0..12u64 {
        tree::churn(&mounted.dir, seed + round, 40, true).unwrap();
        let (name, state) = (format!("s{round}"), mounted.manifest());
        let reported = kill_during(&mounted, &["snap", &name], &mut random);
        state.assert_same(
            &mounted.manifest(),
            Ignore::default(),
            &format!("round {round}"),
        );
        let list = mounted.json(&["list"]);
        let there = list["snapshots"]
            .as_array()
            .unwrap()
            .iter()
            .any(|s| s["name"] == *name);
        assert!(
            there || !reported,
            "round {round}: a reported snapshot is gone"
        );
        if there {
            taken.push((name, state));
        }
    }
    assert!(!taken.is_empty(), "no snapshot was ever taken");
    for (name, state) in &taken {
        mounted.revert(name);
        state.assert_same(&mounted.manifest(), Ignore::default(), name);
    }
    // Deleting under the same conditions: nothing else is lost.
    while let Some((name, _)) = taken.pop() {
        kill_during(&mounted, &["delete", "-y", &name], &mut random);
        for (other, state) in taken.iter().rev().take(2) {
            mounted.revert(other);
            state.assert_same(&mounted.manifest(), Ignore::default(), other);
        }
    }
    mounted.verify();
}

/// A daemon that is killed while it has the kernel flush its own mount must not hang in a call that
/// only it could answer: no kill and no mount would help then.
#[test]
fn a_daemon_killed_while_it_flushes_is_gone() {
    let mut random = Random::new(7);
    let scratch = Scratch::new("flushing");
    // A store that syncs at once: the daemon does little else than flushing.
    let disk = scratch.dir("disk");
    loopback::mount("tmpfs", 256, Path::new(""), &disk);
    let mounted = Mounted::prepare_in(scratch, None, Some(&disk.join("store")));
    mounted.mount();
    let path = mounted.path("mapped");
    std::fs::write(&path, vec![1; 1 << 20]).unwrap();
    for round in 0..20 {
        // Dirty pages without an end: there is always something to flush.
        let mut scribbler = Run::new(env!("CARGO_BIN_EXE_llfs-scribble"))
            .arg(&path)
            .start();
        until("a mapping", Duration::from_secs(10), || {
            scribbler.output_so_far().contains("mapped").then_some(())
        });
        let pid = mounted.pid();
        let snap = |n: usize| mounted.llctl(&["snap", &format!("s{round}-{n}")]).start();
        let mut commands: Vec<_> = (0..8).map(snap).collect();
        commands[7].wait(Duration::from_micros(random.below(15_000) as u64));
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        let gone = ended_within(pid, Duration::from_secs(10));
        scribbler.kill();
        if !gone {
            // Only this ends it.
            scratch::unmount_below(&mounted.dir);
        }
        assert!(
            gone,
            "round {round}: the daemon was killed and hangs in its own mount"
        );
        for mut command in commands {
            command
                .wait(Duration::from_secs(20))
                .expect("llctl ends when its daemon does");
        }
        mounted.mount();
    }
    mounted.verify();
}
