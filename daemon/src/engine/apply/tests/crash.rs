//! The process dies before any step, or one step fails: nothing is lost, and the next mount finishes what must be.

use std::cell::Cell;

use nix::errno::Errno;

use super::super::{Apply, ApplyError, resume_with};
use super::ground::{Ground, kill};
use super::manifest::{Manifest, of_dir, of_engine, same};
use super::rich;
use crate::base::Base;

/// A rich tree with changes, whose engine is at the point of applying.
fn ready() -> (Ground, std::sync::Arc<super::super::Engine>, Manifest) {
    let ground = Ground::new();
    rich::build(&ground.base());
    let engine = ground.open().unwrap();
    rich::change(&engine);
    let expected = of_engine(&engine);
    (ground, engine, expected)
}

/// Number of steps of a whole apply.
fn steps() -> u64 {
    let (_ground, engine, _) = ready();
    let count = Cell::new(0);
    let hook = |_: &'static str| {
        count.set(count.get() + 1);
        Ok(())
    };
    engine
        .apply_with(None, &mut |_, _| (), &mut |_| (), &hook)
        .unwrap();
    kill(engine);
    count.get()
}

/// Fails before step `n` and before every one after it, as nothing is done after a death.
pub fn dead_from(n: u64) -> impl Fn(&'static str) -> Result<(), Errno> {
    let count = Cell::new(0);
    move |_| {
        count.set(count.get() + 1);
        if count.get() > n {
            Err(Errno::ECANCELED)
        } else {
            Ok(())
        }
    }
}

#[test]
fn killed_before_any_step_the_next_mount_shows_the_same_and_an_apply_makes_it_so() {
    let total = steps();
    assert!(total > 200, "only {total} steps");
    let (mut forgotten, mut finished) = (0, 0);
    for n in 0..total {
        let (ground, engine, expected) = ready();
        engine
            .apply_with(None, &mut |_, _| (), &mut |_| (), &dead_from(n))
            .expect_err("a step failed");
        kill(engine);
        let engine = ground.open().unwrap_or_else(|e| panic!("step {n}: {e}"));
        let when = format!("killed before step {n}");
        if engine.state.read().head.inodes.is_empty() {
            finished += 1;
        } else {
            forgotten += 1;
            same(&expected, &of_engine(&engine), &when);
            engine.apply(&mut |_, _| ()).unwrap();
        }
        same(&expected, &of_dir(&ground.base()), &when);
    }
    assert!(
        forgotten > 50 && finished > 100,
        "{forgotten} forgotten, {finished} finished"
    );
}

#[test]
fn killed_again_and_again_while_finishing_it_ends_at_the_same() {
    let total = steps();
    for first in (total / 3..total).step_by(7) {
        let (ground, engine, expected) = ready();
        engine
            .apply_with(None, &mut |_, _| (), &mut |_| (), &dead_from(first))
            .expect_err("a step failed");
        let staged = engine.state.read().applying == Some(Apply::Staged);
        let (head, places) = engine.head_and_places();
        let mut deaths = 0;
        if staged {
            // Each attempt comes a few steps further into what the one before left.
            for n in (1..).step_by(9) {
                let base = Base::open(&ground.base()).unwrap();
                let mut state = crate::tree::State {
                    head: head.clone(),
                    places: places.clone(),
                    applying: Some(Apply::Staged),
                    ..Default::default()
                };
                // The latch of the engine that failed is not that of the next process: only the steps count here.
                let done = resume_with(&base, &engine.store, &mut state, &dead_from(n));
                match done {
                    Err(ApplyError::Halfway(t)) if t.errno == Errno::ECANCELED => deaths += 1,
                    // All steps are done, and the journal of the latched store is not ours to write.
                    _ => break,
                }
            }
            assert!(deaths > 0, "it never died again");
        }
        kill(engine);
        let engine = ground
            .open()
            .unwrap_or_else(|e| panic!("first at {first}: {e}"));
        if !staged {
            engine.apply(&mut |_, _| ()).unwrap();
        }
        let when = format!("killed before step {first} and {deaths} times more");
        same(&expected, &of_dir(&ground.base()), &when);
    }
}

#[test]
fn a_step_that_fails_leaves_all_or_is_made_good() {
    let total = steps();
    for n in (0..total).step_by(5) {
        let (ground, engine, expected) = ready();
        let before = of_dir(&ground.base());
        let count = Cell::new(0);
        let hook = |_: &'static str| {
            count.set(count.get() + 1);
            if count.get() == n + 1 {
                Err(Errno::EIO)
            } else {
                Ok(())
            }
        };
        let failed = match engine.apply_with(None, &mut |_, _| (), &mut |_| (), &hook) {
            // Errors of cleaning up are not the apply's.
            Ok(_) => {
                same(&expected, &of_dir(&ground.base()), "done all the same");
                continue;
            }
            Err(e) => e,
        };
        let when = format!("step {n} failed: {failed}");
        match failed {
            ApplyError::Unprepared(_) => {
                same(&before, &of_dir(&ground.base()), &when);
                same(&expected, &of_engine(&engine), &when);
                // The same engine can do it at once.
                engine.apply(&mut |_, _| ()).unwrap();
            }
            _ => {
                assert!(engine.store.is_readonly().is_some(), "{when}");
                kill(engine);
                ground.open().unwrap_or_else(|e| panic!("{when}, then {e}"));
            }
        }
        same(&expected, &of_dir(&ground.base()), &when);
    }
}

#[test]
fn a_staging_area_that_somebody_took_away_is_noticed() {
    let (ground, engine, _) = ready();
    let hook = |what: &'static str| match what {
        // The first thing that is moved, after everything was staged.
        "rename" => Err(Errno::ECANCELED),
        _ => Ok(()),
    };
    engine
        .apply_with(None, &mut |_, _| (), &mut |_| (), &hook)
        .unwrap_err();
    kill(engine);
    for entry in std::fs::read_dir(ground.base()).unwrap() {
        let entry = entry.unwrap();
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(".llfs-apply-")
        {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    for _ in 0..2 {
        let refused = ground
            .open()
            .err()
            .expect("there is nothing to finish it with");
        assert!(refused.to_string().contains("taken away"), "{refused}");
    }
}
