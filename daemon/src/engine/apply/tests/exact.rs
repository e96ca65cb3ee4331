//! What an apply does when nothing goes wrong.

use super::super::ApplyError;
use super::ground::{Ground, Paths, kill};
use super::manifest::{of_dir, of_engine, same};
use super::rich;
use crate::tree::ROOT;

#[test]
fn the_base_becomes_what_the_engine_showed() {
    let ground = Ground::new();
    rich::build(&ground.base());
    let engine = ground.open().unwrap();
    rich::change(&engine);
    let expected = of_engine(&engine);
    let plan = engine.plan_apply().unwrap();
    assert!(plan.bytes > 50_000 && plan.bytes_needed > 0, "{plan:?}");
    let mut last = (0, 0);
    let done = engine.apply(&mut |done, total| {
        assert!(done >= last.0 && done <= total);
        last = (done, total);
    });
    let done = super::super::ApplyPlan {
        // Others may write to the same disk.
        bytes_free: plan.bytes_free,
        ..done.unwrap().plan
    };
    assert_eq!(done, plan);
    assert!(last.0 == last.1 && last.1 >= plan.bytes, "{last:?}");
    same(&expected, &of_dir(&ground.base()), "the directory");
    // The engine that did it goes on, on an overlay that is empty.
    same(
        &of_dir(&ground.base()),
        &of_engine(&engine),
        "the same engine",
    );
    assert!(engine.state.read().head.inodes.is_empty());
    assert!(engine.state.read().snapshots.is_empty());
    kill(engine);
    let engine = ground.open().unwrap();
    same(
        &of_dir(&ground.base()),
        &of_engine(&engine),
        "the next engine",
    );
}

#[test]
fn it_can_be_done_again_and_again() {
    let ground = Ground::new();
    rich::build(&ground.base());
    let mut engine = ground.open().unwrap();
    rich::change(&engine);
    for round in 0..4u8 {
        engine.apply(&mut |_, _| ()).unwrap();
        engine.write_at("a/f1", 100, &[round; 5000]);
        engine.write_at("new/n2/file", 9000, &[round; 10]);
        engine.mv("new/n2", &format!("n{round}"), 0);
        engine.new_dir("new/n2");
        engine.new_file("new/n2/file", &[round; 100]);
        engine.rm("a/newlink");
        engine.ln("new/n2/file", "a/newlink");
        let expected = of_engine(&engine);
        if round % 2 == 0 {
            kill(engine);
            engine = ground.open().unwrap();
        }
        engine.apply(&mut |_, _| ()).unwrap();
        same(&expected, &of_dir(&ground.base()), "the directory");
    }
}

#[test]
fn one_byte_costs_a_block_and_the_file_stays_the_same_file() {
    use std::os::unix::fs::MetadataExt;
    let ground = Ground::new();
    let path = ground.base().join("big");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(10 << 30).unwrap();
    let before = path.metadata().unwrap();
    let engine = ground.open().unwrap();
    engine.write_at("big", 5 << 30, b"x");
    let plan = engine.plan_apply().unwrap();
    assert!(
        plan.bytes <= 4096 && plan.bytes_needed < 2 << 20,
        "{plan:?}"
    );
    engine.apply(&mut |_, _| ()).unwrap();
    let after = path.metadata().unwrap();
    assert_eq!((after.ino(), after.len()), (before.ino(), before.len()));
    assert!(
        after.blocks() - before.blocks() <= 64,
        "{} blocks",
        after.blocks()
    );
}

#[test]
fn overwriting_takes_no_space_where_the_disk_writes_in_place() {
    let ground = Ground::new();
    for n in 0..100 {
        std::fs::write(ground.base().join(n.to_string()), rich::bytes(5000 + n, 1)).unwrap();
    }
    let engine = ground.open().unwrap();
    let idle = engine.plan_apply().unwrap().bytes_needed;
    for n in 0..100 {
        engine.write_at(&n.to_string(), 4990, b"overwritten");
    }
    let plan = engine.plan_apply().unwrap();
    let needed = plan.bytes_needed - idle;
    // Elsewhere every block may have to be written to another place.
    let kind = nix::sys::statfs::statfs(&ground.base())
        .unwrap()
        .filesystem_type();
    let in_place = [
        nix::sys::statfs::TMPFS_MAGIC,
        nix::sys::statfs::EXT4_SUPER_MAGIC,
    ];
    let expected = if in_place.contains(&kind) {
        0
    } else {
        100 * 4096
    };
    assert!(
        (expected..expected + 100 * 1024).contains(&needed),
        "{needed} bytes"
    );
}

#[test]
fn nothing_to_do_changes_nothing() {
    let ground = Ground::new();
    rich::build(&ground.base());
    let before = of_dir(&ground.base());
    let engine = ground.open().unwrap();
    let plan = engine.plan_apply().unwrap();
    assert_eq!(
        (
            plan.added,
            plan.removed,
            plan.modified,
            plan.renamed,
            plan.attributes
        ),
        (0, 0, 0, 0, 0)
    );
    engine.apply(&mut |_, _| ()).unwrap();
    same(&before, &of_dir(&ground.base()), "the directory");
}

#[test]
fn the_plan_counts_what_changes() {
    let ground = Ground::new();
    let base = ground.base();
    for name in ["changed", "removed", "renamed", "mode", "replaced", "same"] {
        std::fs::write(base.join(name), name).unwrap();
    }
    let engine = ground.open().unwrap();
    engine.write_at("changed", 0, b"x");
    engine.rm("removed");
    engine.mv("renamed", "elsewhere", 0);
    let set = super::super::super::SetAttr {
        perm: Some(0o600),
        ..Default::default()
    };
    engine.set("mode", set);
    engine.rm("replaced");
    engine.new_dir("replaced");
    engine.new_file("replaced/added", b"12345");
    let plan = engine.plan_apply().unwrap();
    assert_eq!(
        (plan.added, plan.removed, plan.modified),
        (1, 1, 2),
        "{plan:?}"
    );
    assert_eq!((plan.renamed, plan.attributes), (1, 1), "{plan:?}");
    assert_eq!(plan.bytes, 7 + 5);
}

#[test]
fn a_name_that_is_needed_is_not_taken_from_its_owner() {
    let ground = Ground::new();
    let engine = ground.open().unwrap();
    let id: String = engine
        .store
        .uuid()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let dir = ground.base().join(format!(".llfs-apply-{id}@77.5"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("precious"), "precious").unwrap();
    engine.new_file("new", b"new");
    let refused = engine.apply(&mut |_, _| ()).unwrap_err();
    assert!(matches!(refused, ApplyError::Refused { .. }), "{refused}");
    assert!(dir.join("precious").exists());
    assert!(!ground.base().join("new").exists());
    // Nothing is broken by that.
    assert!(engine.lookup(ROOT, b"new").unwrap().is_some());
    engine.new_file("another", b"");
}
