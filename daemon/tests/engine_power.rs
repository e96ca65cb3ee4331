//! The power is cut during random histories of the engine on a simulated disk, and what then comes up is compared with
//! every moment of the history that it may be: the namespace is that of one moment, at or past the last one that an
//! `fsync` or a returned snapshot acknowledged; content that was acknowledged is there, later content is old or new
//! block by block; every acknowledged snapshot is exact.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod simdisk;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use llfs::base::Base;
use llfs::engine::{Caller, Engine, Make, SetAttr, WriteHow};
use llfs::tree::{Ino, Kind, ROOT};
use proptest::prelude::*;
use simdisk::choices::Random;
use simdisk::history::{BOOT, NEXT_BOOT, options};
use simdisk::{Medium, SimDisk};

const WHO: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Op {
    Create(usize),
    Write(usize, u64, usize, u8),
    Truncate(usize, u64),
    Rename(usize, usize),
    Unlink(usize),
    Link(usize, usize),
    Fsync,
    Snap,
    Revert(usize),
    Undo,
    Delete(usize),
    Image,
    Apply,
}

fn op() -> impl Strategy<Value = Op> {
    let name = || 0..NAMES.len();
    prop_oneof![
        3 => name().prop_map(Op::Create),
        8 => (name(), 0u64..20_000, 1usize..14_000, 1u8..).prop_map(|(n, o, l, b)| Op::Write(n, o, l, b)),
        2 => (name(), 0u64..20_000).prop_map(|(n, s)| Op::Truncate(n, s)),
        2 => (name(), name()).prop_map(|(a, b)| Op::Rename(a, b)),
        2 => name().prop_map(Op::Unlink),
        1 => (name(), name()).prop_map(|(a, b)| Op::Link(a, b)),
        3 => Just(Op::Fsync),
        3 => Just(Op::Snap),
        2 => (0usize..5).prop_map(Op::Revert),
        1 => Just(Op::Undo),
        1 => (0usize..5).prop_map(Op::Delete),
        1 => Just(Op::Image),
        1 => Just(Op::Apply),
    ]
}

/// A tree: name to inode number, links, size and content.
type Tree = BTreeMap<String, (Ino, u32, Vec<u8>)>;

fn tree(e: &Engine) -> Tree {
    let mut found = Vec::new();
    e.readdir(ROOT, 0, true, &mut |l| {
        if let Some(entry) = l.entry {
            found.push((String::from_utf8_lossy(l.name).into_owned(), entry.attr));
        }
        false
    })
    .unwrap();
    let content = |a: &llfs::engine::Attr| {
        let mut bytes = vec![0; a.size as usize];
        assert_eq!(e.read(a.ino, 0, &mut bytes, true).unwrap(), bytes.len());
        bytes
    };
    found
        .into_iter()
        .map(|(n, a)| (n, (a.ino, a.nlink, content(&a))))
        .collect()
}

/// What there was when an operation had returned.
#[derive(Clone)]
struct Moment {
    tree: Tree,
    snapshots: BTreeMap<String, Tree>,
    /// The disk's step at which the operation began, and at which it had returned.
    begun: usize,
    returned: usize,
    /// Everything up to here was acknowledged.
    durable: bool,
}

struct World {
    dir: PathBuf,
    disk: SimDisk,
    moments: Vec<Moment>,
    /// Cuts before this are not looked at: the last apply has changed the base, which is no part of the simulated disk. What a
    /// crash within an apply leaves is tested beside it.
    from: usize,
}

static WORLDS: AtomicU32 = AtomicU32::new(0);

impl World {
    fn run(ops: &[Op]) -> World {
        let n = WORLDS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("llfs-power-{}-{n}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("a"), vec![b'A'; 9000]).unwrap();
        fs::write(dir.join("b"), b"base").unwrap();
        let disk = SimDisk::new();
        let e = open(&dir, &disk, true).unwrap();
        let mut world = World {
            dir,
            disk,
            moments: Vec::new(),
            from: 0,
        };
        let mut snapshots = BTreeMap::new();
        world.note(&e, &snapshots, 0, true);
        let mut count = 0;
        for op in ops {
            let begun = world.disk.now();
            let durable = step(&e, op, &mut snapshots, &mut count);
            if matches!(op, Op::Apply) {
                world.from = world.disk.now();
            }
            world.note(&e, &snapshots, begun, durable);
        }
        world
    }

    fn note(
        &mut self,
        e: &Engine,
        snapshots: &BTreeMap<String, Tree>,
        begun: usize,
        durable: bool,
    ) {
        self.moments.push(Moment {
            tree: tree(e),
            snapshots: snapshots.clone(),
            begun,
            returned: self.disk.now(),
            durable,
        });
    }

    /// Compares what comes up after a cut with the moments that it may be.
    fn check(&self, cut: usize, after: &SimDisk) -> Result<(), String> {
        let e = open(&self.dir, after, false).map_err(|e| format!("recovery: {e}"))?;
        let now = tree(&e);
        // Checksums for what has none, and nothing that is reachable is freed.
        e.checkpoint().map_err(|e| format!("after it: {e}"))?;
        if tree(&e) != now {
            return Err("it is another after its layers were sealed".to_owned());
        }
        let names: Vec<String> = e.snapshot_names();
        let last = self
            .moments
            .iter()
            .rposition(|m| m.begun <= cut)
            .unwrap_or(0);
        let first = self
            .moments
            .iter()
            .rposition(|m| m.durable && m.returned <= cut)
            .unwrap_or(0);
        let possible = &self.moments[first..=last];
        let mut why = Vec::new();
        for m in possible {
            match self.is(&e, &now, &names, m, possible) {
                Ok(()) => return Ok(()),
                Err(what) => why.push(what),
            }
        }
        Err(format!(
            "it is none of the moments {first}..={last}: {why:?}"
        ))
    }

    fn is(
        &self,
        e: &Engine,
        now: &Tree,
        names: &[String],
        m: &Moment,
        possible: &[Moment],
    ) -> Result<(), String> {
        if !names.iter().eq(m.snapshots.keys()) {
            return Err(format!("snapshots {names:?}, not {:?}", m.snapshots.keys()));
        }
        let shape = |t: &Tree| -> Vec<_> {
            t.iter()
                .map(|(n, (i, l, c))| (n.clone(), *i, *l, c.len()))
                .collect()
        };
        if shape(now) != shape(&m.tree) {
            return Err(format!("{:?}, not {:?}", shape(now), shape(&m.tree)));
        }
        for (name, (ino, _, content)) in now {
            // Bytes that any possible moment had there for this inode. Not sectors: what a moment with a shorter file wrote
            // into its last block lies beside what the block held behind that file's end.
            for (at, sector) in content.chunks(512).enumerate() {
                let known = sector.iter().enumerate().all(|(n, byte)| {
                    let of_inode = possible.iter().flat_map(|p| p.tree.values());
                    let mut contents = of_inode.filter(|(i, ..)| i == ino).map(|(_, _, c)| c);
                    contents.any(|c| c.get(at * 512 + n).unwrap_or(&0) == byte)
                });
                if !known {
                    return Err(format!(
                        "{name}: bytes from {} on are those of no moment",
                        at * 512
                    ));
                }
            }
        }
        for (name, tree_then) in &m.snapshots {
            e.revert(name).map_err(|e| e.to_string())?;
            if tree(e) != *tree_then {
                return Err(format!("snapshot {name} is not what it was"));
            }
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.dir) {
            eprintln!("{}: {e}", self.dir.display());
        }
    }
}

fn open(base: &Path, disk: &SimDisk, before: bool) -> Result<Arc<Engine>, llfs::engine::OpenError> {
    let base = Base::open(base)?;
    let boot = if before { BOOT } else { NEXT_BOOT };
    Engine::open_on(
        base,
        Arc::new(disk.clone()),
        Path::new("simulated"),
        &options(boot),
    )
}

/// One operation; whether it acknowledged everything before it.
fn step(e: &Engine, op: &Op, snapshots: &mut BTreeMap<String, Tree>, count: &mut u32) -> bool {
    let find = |n: usize| {
        e.lookup(ROOT, NAMES[n].as_bytes())
            .unwrap()
            .map(|f| f.attr.ino)
    };
    let name = |n: usize| NAMES[n].as_bytes();
    // What cannot be done (no such file, no such snapshot) is left out: an errno changes nothing, others test that.
    match *op {
        Op::Create(n) => {
            let make = Make {
                kind: Kind::File,
                perm: 0o644,
                umask: 0,
                rdev: 0,
                target: b"",
            };
            match e.make(ROOT, name(n), &make, &WHO) {
                Ok(_) | Err(nix::errno::Errno::EEXIST) => false,
                Err(errno) => panic!("{errno}"),
            }
        }
        Op::Write(n, off, len, byte) => {
            if let Some(ino) = find(n) {
                e.write(ino, off, &vec![byte; len], WriteHow::default())
                    .unwrap();
            }
            false
        }
        Op::Truncate(n, size) => {
            if let Some(ino) = find(n) {
                let set = SetAttr {
                    size: Some(size),
                    ..SetAttr::default()
                };
                e.setattr(ino, &set, &WHO).unwrap();
            }
            false
        }
        Op::Rename(a, b) => {
            if a != b && find(a).is_some() {
                e.rename(ROOT, name(a), ROOT, name(b), 0).unwrap();
            }
            false
        }
        Op::Unlink(n) => {
            if let Some(ino) = find(n) {
                e.unlink(ROOT, name(n)).unwrap();
                e.forget(ino, 1_000_000);
            }
            false
        }
        Op::Link(a, b) => {
            if let (Some(ino), None) = (find(a), find(b)) {
                e.link(ino, ROOT, name(b)).unwrap();
            }
            false
        }
        Op::Fsync => {
            e.fsync(ROOT, false).unwrap();
            true
        }
        Op::Snap => {
            *count += 1;
            let name = format!("s{count:03}");
            let then = tree(e);
            e.snapshot(|_| name.clone(), "").unwrap();
            snapshots.insert(name, then);
            true
        }
        Op::Revert(n) => {
            let Some(name) = snapshots.keys().nth(n).cloned() else {
                return false;
            };
            e.revert(&name).unwrap();
            true
        }
        Op::Undo => e.undo(1).is_ok(),
        Op::Delete(n) => {
            if let Some(name) = snapshots.keys().nth(n).cloned() {
                e.delete(std::slice::from_ref(&name)).unwrap();
                snapshots.remove(&name);
            }
            false
        }
        Op::Image => {
            e.checkpoint().unwrap();
            true
        }
        Op::Apply => {
            e.apply(&mut |_, _| ()).unwrap();
            snapshots.clear();
            true
        }
    }
}

/// Cases, more with `LLFS_CASES`.
fn cases() -> u32 {
    std::env::var("LLFS_CASES")
        .ok()
        .and_then(|c| c.parse().ok())
        .unwrap_or(60)
}

/// States looked at in each history.
const STATES: usize = 40;

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn after_a_power_cut_it_is_a_moment_of_its_history(ops in prop::collection::vec(op(), 1..40), seed: u64) {
        let world = World::run(&ops);
        let steps = world.disk.steps();
        let made = world.moments[0].returned.max(world.from);
        let mut random = Random::new(seed);
        let cuts: BTreeSet<usize> = (0..STATES).map(|_| made + random.below(steps.len() - made + 1)).collect();
        let mut medium = Medium::default();
        for (i, step) in steps.iter().enumerate() {
            medium.apply(step);
            if cuts.contains(&(i + 1)) {
                let after = SimDisk::from_image(medium.crash(&mut |n| random.below(n)));
                if let Err(what) = world.check(i + 1, &after) {
                    prop_assert!(false, "seed {}, cut {} of {}: {}", seed, i + 1, steps.len(), what);
                }
            }
        }
    }
}
