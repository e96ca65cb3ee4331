//! An ordinary user applies: modes that keep the owner out are in the way, and what others own is not touched.

use std::os::unix::fs::PermissionsExt;

use super::super::ApplyError;
use super::crash::dead_from;
use super::ground::{Ground, Paths, kill};
use super::manifest::{of_dir, of_engine, same};
use super::rich;

const USER: u32 = 54_321;

/// Runs `f` as an ordinary user, in a thread of its own: the bare system calls change that thread alone.
fn as_user<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let id = libc::c_long::from(USER);
            let none = std::ptr::null::<libc::gid_t>();
            // SAFETY: numbers only, and a list of no groups.
            let done = unsafe {
                [
                    libc::syscall(libc::SYS_setgroups, 0, none),
                    libc::syscall(libc::SYS_setresgid, id, id, id),
                    libc::syscall(libc::SYS_setresuid, id, id, id),
                ]
            };
            assert_eq!(done, [0; 3], "only root can become another user");
            f()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Tests that need root to become somebody else say nothing where there is no root: then all others are unprivileged.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn an_ordinary_user_applies_and_is_killed_at_it() {
    if !is_root() {
        return;
    }
    let mut finished = 0;
    for death in (5..260).step_by(8) {
        let ground = Ground::of(USER);
        let (expected, done) = as_user(|| {
            rich::build(&ground.base());
            let engine = ground.open().unwrap();
            rich::change(&engine);
            let expected = of_engine(&engine);
            let applied = engine.apply_with(None, &mut |_, _| (), &mut |_| (), &dead_from(death));
            kill(engine);
            if applied.is_ok() {
                return (expected, true);
            }
            let engine = ground.open().unwrap_or_else(|e| panic!("{death}: {e}"));
            let done = engine.state.read().head.inodes.is_empty();
            if !done {
                engine.apply(&mut |_, _| ()).unwrap();
            }
            kill(engine);
            (expected, done)
        });
        finished += usize::from(done);
        let when = format!("killed before step {death}");
        same(&expected, &of_dir(&ground.base()), &when);
    }
    assert!(
        finished > 10,
        "{finished} deaths after everything was staged"
    );
}

#[test]
fn what_somebody_else_owns_is_refused_before_anything_is_touched() {
    if !is_root() {
        return;
    }
    let ground = Ground::of(USER);
    let theirs = ground.base().join("theirs");
    std::fs::write(&theirs, "of root").unwrap();
    std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o644)).unwrap();
    let before = of_dir(&ground.base());
    as_user(|| {
        let engine = ground.open().unwrap();
        // A whole block: reading what others own would leave a trace in its atime.
        engine.write_at("theirs", 0, &rich::bytes(4096, 1));
        let refused = engine.apply(&mut |_, _| ()).unwrap_err();
        match &refused {
            ApplyError::Refused { path, .. } => assert_eq!(path.to_str(), Some("theirs")),
            other => panic!("{other}"),
        }
        assert!(
            refused
                .to_string()
                .contains("cannot be written by this user"),
            "{refused}"
        );
        kill(engine);
    });
    same(&before, &of_dir(&ground.base()), "the directory");
    // To be rid of it, and to move it, one need not own it.
    let expected = as_user(|| {
        let engine = ground.open().unwrap();
        engine.write_at("theirs", 0, b"mine");
        engine.rm("theirs");
        let expected = of_engine(&engine);
        engine.apply(&mut |_, _| ()).unwrap();
        kill(engine);
        expected
    });
    same(&expected, &of_dir(&ground.base()), "afterwards");
}
