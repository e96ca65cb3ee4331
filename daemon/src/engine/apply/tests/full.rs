//! A disk that is full: found out before anything is touched, or made good later.

use std::cell::Cell;

use nix::errno::Errno;

use super::super::{Apply, ApplyError};
use super::ground::{Ground, Paths, kill};
use super::manifest::{of_dir, of_engine, same};
use super::rich;

#[test]
fn too_little_space_is_told_before_anything_is_touched() {
    let ground = Ground::new();
    rich::build(&ground.base());
    let engine = ground.open().unwrap();
    rich::change(&engine);
    let (expected, before) = (of_engine(&engine), of_dir(&ground.base()));
    // The survey's own figures, and a disk that has one byte less than it wants.
    let plan = engine.plan_apply().unwrap();
    let (head, places) = engine.head_and_places();
    let layers = |layer, at, out: &mut [u8]| engine.get_bytes(layer, at, out);
    let hook = |_: &'static str| panic!("nothing may be changed");
    let work = engine.work(&head, &places, &layers, &hook);
    let short = super::super::ApplyPlan {
        bytes_free: plan.bytes_needed - 1,
        ..plan
    };
    let refused = super::super::Job::new(&work, None)
        .unwrap()
        .check(&short, false);
    match refused {
        Err(ApplyError::NoSpace { needed, free }) => assert_eq!(needed, free + 1),
        other => panic!("{other:?}"),
    }
    same(&before, &of_dir(&ground.base()), "the directory");
    same(&expected, &of_engine(&engine), "the engine");
}

/// The first step of its kind fails as on a full disk.
fn full_at(step: &'static str) -> impl Fn(&'static str) -> Result<(), Errno> {
    let failed = Cell::new(false);
    move |what| match what == step && !failed.replace(failed.get() || what == step) {
        true => Err(Errno::ENOSPC),
        false => Ok(()),
    }
}

#[test]
fn a_disk_that_fills_while_staging_leaves_everything_as_it_was() {
    for step in [
        "mkdir", "allocate", "create", "write", "truncate", "symlink", "syncfs",
    ] {
        let ground = Ground::new();
        rich::build(&ground.base());
        let engine = ground.open().unwrap();
        rich::change(&engine);
        let (expected, before) = (of_engine(&engine), of_dir(&ground.base()));
        let failed = engine
            .apply_with(None, &mut |_, _| (), &mut |_| (), &full_at(step))
            .unwrap_err();
        assert!(
            matches!(&failed, ApplyError::Unprepared(t) if t.errno == Errno::ENOSPC),
            "{failed}"
        );
        same(&before, &of_dir(&ground.base()), step);
        same(&expected, &of_engine(&engine), step);
        assert!(engine.store.is_readonly().is_none());
        // With space again it goes through, and so it does for the next process.
        engine.write_at("top", 0, b"the mount is as good as before");
        let expected = of_engine(&engine);
        kill(engine);
        let engine = ground.open().unwrap();
        engine.apply(&mut |_, _| ()).unwrap();
        same(&expected, &of_dir(&ground.base()), step);
    }
}

#[test]
fn a_disk_that_fills_while_moving_is_waited_for() {
    let ground = Ground::new();
    rich::build(&ground.base());
    let engine = ground.open().unwrap();
    rich::change(&engine);
    let expected = of_engine(&engine);
    let failed = engine
        .apply_with(None, &mut |_, _| (), &mut |_| (), &full_at("link"))
        .unwrap_err();
    assert!(
        matches!(&failed, ApplyError::Halfway(t) if t.errno == Errno::ENOSPC),
        "{failed}"
    );
    assert_eq!(engine.state.read().applying, Some(Apply::Staged));
    // Nothing is written any more by the one that failed.
    assert!(engine.store.is_readonly().is_some());
    kill(engine);
    let engine = ground.open().unwrap();
    same(&expected, &of_dir(&ground.base()), "after the next mount");
    assert!(engine.state.read().applying.is_none());
}

#[test]
fn damage_in_the_store_is_found_before_anything_is_touched() {
    use std::os::unix::fs::FileExt;
    let ground = Ground::new();
    std::fs::write(ground.base().join("old"), rich::bytes(50_000, 1)).unwrap();
    let engine = ground.open().unwrap();
    engine.write_at("old", 8192, &rich::bytes(4096, 2));
    // The checksums are made here, not by the engine's own thread at the same time.
    engine.house.stop();
    engine.snapshot(|_| "sealed".into(), "").unwrap();
    engine.store.finish_seals().unwrap();
    let layers = ground.store().join("layers");
    let mut flipped = 0;
    for entry in std::fs::read_dir(&layers).unwrap() {
        let path = entry.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        let wanted = rich::bytes(4096, 2);
        if let Some(at) = data.windows(4096).position(|w| w == wanted) {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.write_at(&[data[at + 7] ^ 1], at as u64 + 7).unwrap();
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1);
    let before = of_dir(&ground.base());
    let failed = engine.apply(&mut |_, _| ()).unwrap_err();
    assert!(
        matches!(&failed, ApplyError::Unprepared(t) if t.errno == Errno::EIO),
        "{failed}"
    );
    same(&before, &of_dir(&ground.base()), "the directory");
}
