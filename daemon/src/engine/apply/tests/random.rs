//! Random changes, applied with a death somewhere, round after round on what the one before left.

use std::cell::Cell;

use nix::errno::Errno;
use proptest::prelude::*;

use super::super::super::{Engine, Make, SetAttr, SetTime, WriteHow};
use super::ground::{Ground, Paths, kill, me};
use super::manifest::{of_dir, of_engine, same};
use super::rich::bytes;
use crate::tree::{Ino, Kind, ROOT, Time};

const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"long name \xff", b"f"];

/// An object under one of its names, and the directories above it.
struct Thing {
    name: Vec<u8>,
    ino: Ino,
    kind: Kind,
    above: Vec<Ino>,
}

impl Thing {
    fn parent(&self) -> Ino {
        self.above.last().copied().unwrap_or(ROOT)
    }
}

fn things(engine: &Engine) -> Vec<Thing> {
    let mut all = Vec::new();
    let mut queue = vec![(ROOT, vec![ROOT])];
    while let Some((dir, above)) = queue.pop() {
        for (name, ino, kind) in engine.children(dir) {
            engine.lookup(dir, &name).unwrap().unwrap();
            if kind == Kind::Dir {
                queue.push((ino, [&above[..], &[ino]].concat()));
            }
            let above = above.clone();
            all.push(Thing {
                name,
                ino,
                kind,
                above,
            });
        }
    }
    all
}

type Step = (u8, u8, u8, u8);

/// Does one step, if it can be done: refusals are answers like others.
fn act(engine: &Engine, (what, a, b, c): Step) -> Result<(), Errno> {
    let all = things(engine);
    let dirs: Vec<(Ino, Vec<Ino>)> = std::iter::once((ROOT, vec![ROOT]))
        .chain(
            (all.iter())
                .filter(|t| t.kind == Kind::Dir)
                .map(|t| (t.ino, [&t.above[..], &[t.ino]].concat())),
        )
        .collect();
    let (dir, trail) = &dirs[usize::from(a) % dirs.len()];
    let name = NAMES[usize::from(b) % NAMES.len()];
    let thing = match all.len() {
        0 => None,
        n => all.get(usize::from(c) % n),
    };
    let off = u64::from(b) * 211;
    match (what, thing) {
        (0..=4, _) => {
            let kind = match what {
                0 | 1 => Kind::File,
                2 | 3 => Kind::Dir,
                _ if c % 2 == 0 => Kind::Symlink,
                _ => Kind::Fifo,
            };
            let perm = if kind == Kind::Symlink {
                0o777
            } else {
                0o700 + u16::from(c) % 0o100
            };
            let make = Make {
                kind,
                perm,
                umask: 0,
                rdev: 0,
                target: b"target",
            };
            let made = engine.make(*dir, name, &make, &me())?;
            if kind == Kind::File {
                let data = bytes(usize::from(c) * 60, c);
                engine.write(made.attr.ino, 0, &data, WriteHow::default())?;
            }
        }
        (5 | 6, Some(t)) if t.kind == Kind::File => {
            engine.write(
                t.ino,
                off,
                &bytes(usize::from(a) * 40, c),
                WriteHow::default(),
            )?;
        }
        (7, Some(t)) if t.kind == Kind::File => {
            let size = Some(off);
            engine.setattr(
                t.ino,
                &SetAttr {
                    size,
                    ..Default::default()
                },
                &me(),
            )?;
        }
        (8, Some(t)) if t.kind == Kind::File => {
            let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            engine.fallocate(t.ino, off, u64::from(a) * 100 + 1, punch, &me())?;
        }
        (9 | 10, Some(t)) if t.kind == Kind::Dir => engine.rmdir(t.parent(), &t.name)?,
        (9 | 10, Some(t)) => engine.unlink(t.parent(), &t.name)?,
        // The kernel refuses to move a directory below itself, so the engine is never asked to.
        (11..=15, Some(t)) if !trail.contains(&t.ino) => {
            let exchange = what == 15 && {
                let target = all.iter().find(|o| o.parent() == *dir && o.name == name);
                target.is_some_and(|o| !t.above.contains(&o.ino))
            };
            engine.rename(
                t.parent(),
                &t.name,
                *dir,
                name,
                if exchange { 2 } else { 0 },
            )?;
        }
        (16 | 17, Some(t)) => drop(engine.link(t.ino, *dir, name)?),
        (18, Some(t)) => {
            let set = SetAttr {
                perm: (t.kind != Kind::Symlink).then_some(0o600 | u16::from(b)),
                uid: Some(u32::from(a) % 3),
                mtime: Some(SetTime::To(Time {
                    sec: i64::from(a) - 9,
                    nsec: u32::from(b),
                })),
                ..Default::default()
            };
            engine.setattr(t.ino, &set, &me())?;
        }
        (19, Some(t)) if matches!(t.kind, Kind::File | Kind::Dir) => {
            engine.setxattr(t.ino, b"user.x", &[a], 0, &me())?;
        }
        (20, _) => drop(engine.snapshot(|_| format!("{a}-{b}-{c}"), "")),
        _ => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(10)))]

    #[test]
    fn whatever_was_done_the_base_becomes_it(
        rounds in prop::collection::vec(
            (prop::collection::vec((0u8..21, any::<u8>(), any::<u8>(), any::<u8>()), 1..60), 0u32..220),
            3,
        )
    ) {
        let ground = Ground::new();
        let mut engine = ground.open().unwrap();
        for (round, (steps, death)) in rounds.into_iter().enumerate() {
            for step in steps {
                match act(&engine, step) {
                    Ok(()) | Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::EPERM) => {}
                    Err(Errno::EISDIR | Errno::ENOTDIR | Errno::ENOENT) => {}
                    Err(e) => panic!("{step:?}: {e}"),
                }
            }
            let expected = of_engine(&engine);
            let count = Cell::new(0);
            let hook = |_: &'static str| {
                count.set(count.get() + 1);
                if count.get() > death { Err(Errno::ECANCELED) } else { Ok(()) }
            };
            if engine.apply_with(None, &mut |_, _| (), &mut |_| (), &hook).is_err() {
                kill(engine);
                engine = ground.open().unwrap();
                if !engine.state.read().head.inodes.is_empty() {
                    same(&expected, &of_engine(&engine), "after a death that changed nothing");
                    engine.apply(&mut |_, _| ()).unwrap();
                }
            }
            same(&expected, &of_dir(&ground.base()), &format!("round {round}, death {death}"));
            same(&of_dir(&ground.base()), &of_engine(&engine), "what the engine shows afterwards");
        }
        kill(engine);
    }
}
