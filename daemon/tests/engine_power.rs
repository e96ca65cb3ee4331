//! The power is cut during random histories of the engine on a simulated disk, and what then comes up is compared with
//! every moment of the history that it may be: the namespace is that of one moment, at or past the last one that an
//! `fsync` or a returned snapshot acknowledged; content that was acknowledged is there, later content is old or new
//! block by block; every acknowledged snapshot is exact. Operations come in the middle of others, too: just before one of
//! their syncs, as from another thread.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod simdisk;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use llfs::base::Base;
use llfs::engine::{Caller, Engine, Make, SetAttr, WriteHow};
use llfs::tree::{Ino, Kind, ROOT};
use proptest::prelude::*;
use simdisk::choices::Random;
use simdisk::history::{BOOT, NEXT_BOOT, options};
use simdisk::{Medium, SimDisk, Syncing};

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

/// An operation, and perhaps one in the middle of it: at the sync with this number of those at which that can be.
type Step = (Op, Option<(usize, Op)>);

fn history() -> impl Strategy<Value = Vec<Step>> {
    let open = prop_oneof![4 => Just(Op::Fsync), 2 => Just(Op::Snap), 1 => Just(Op::Image)];
    let amid = (open, (0usize..3, op())).prop_map(|(outer, inner)| (outer, Some(inner)));
    let step = prop_oneof![3 => op().prop_map(|op| (op, None)), 2 => amid];
    prop::collection::vec(step, 1..40)
}

impl Op {
    /// Whether it syncs on the thread that asked for it, with nothing held that others need.
    fn is_open(&self) -> bool {
        matches!(self, Op::Fsync | Op::Snap | Op::Image)
    }

    /// Whether it can be done in the middle of another one.
    fn fits(&self, syncing: Syncing) -> bool {
        let flushes = match self {
            Op::Image | Op::Apply => return false,
            Op::Fsync | Op::Snap | Op::Revert(_) | Op::Undo | Op::Delete(_) => true,
            _ => false,
        };
        match syncing {
            Syncing::Held => false,
            // One flush at a time, and a snapshot that is waited for has the turn.
            Syncing::Flush => !flushes,
            Syncing::Image | Syncing::Sums | Syncing::Pack => true,
        }
    }
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

/// What there was when an operation had taken effect.
#[derive(Clone, PartialEq)]
struct Moment {
    tree: Tree,
    snapshots: BTreeMap<String, Tree>,
    /// The disk's step at which the operation began.
    begun: usize,
}

/// What is known of a history while it goes on.
struct Told {
    moments: Vec<Moment>,
    /// Moments that were acknowledged, and the step at which that had happened.
    durable: Vec<(usize, usize)>,
    snapshots_taken: u32,
}

impl Told {
    fn last(&self) -> usize {
        self.moments.len() - 1
    }

    /// Notes what there is, if that is new.
    fn look(&mut self, e: &Engine, begun: usize) {
        let last = self.moments.last();
        let (now, names) = (tree(e), e.snapshot_names());
        let then = |name: &String| {
            let known = last.and_then(|m| m.snapshots.get(name).or(Some(&m.tree)));
            known.unwrap_or(&now).clone()
        };
        let snapshots = names.iter().map(|n| (n.clone(), then(n))).collect();
        let moment = Moment {
            tree: now,
            snapshots,
            // What came in the middle of it took effect before this did, or this is nothing new.
            begun: begun.max(last.map_or(0, |m| m.begun)),
        };
        if last.is_none_or(|m| (&m.tree, &m.snapshots) != (&moment.tree, &moment.snapshots)) {
            self.moments.push(moment);
        }
    }
}

/// An engine, with somebody who watches.
#[derive(Clone)]
struct Watched {
    e: Arc<Engine>,
    disk: SimDisk,
    told: Arc<Mutex<Told>>,
}

impl Watched {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// One operation, and perhaps another one in the middle of it.
    fn act(&self, op: &Op, amid: Option<(usize, Op)>) {
        let begun = self.disk.now();
        let before = self.told().last();
        if let Some((at, inner)) = amid.filter(|_| op.is_open()) {
            self.disturb(begun, at, inner);
        }
        let acknowledged = self.step(op);
        self.disk.undisturbed();
        self.told().look(&self.e, begun);
        let mut told = self.told();
        let upto = match acknowledged {
            Acknowledged::Nothing => return,
            Acknowledged::Before => before,
            Acknowledged::All => told.last(),
            Acknowledged::Snapshot(name) => {
                let has = |m: &Moment| m.snapshots.contains_key(&name);
                let taken = told.moments.iter().position(has);
                taken.expect("a snapshot that was taken is there")
            }
        };
        told.durable.push((upto, self.disk.now()));
    }

    fn disturb(&self, begun: usize, mut left: usize, inner: Op) {
        let (watched, mut inner) = (self.clone(), Some(inner));
        self.disk.between(move |syncing| {
            let Some(op) = inner.take_if(|op| op.fits(syncing)) else {
                return;
            };
            if let Some(fewer) = left.checked_sub(1) {
                (left, inner) = (fewer, Some(op));
                return;
            }
            // The outer one has taken effect: it waits for the disk.
            watched.told().look(&watched.e, begun);
            watched.act(&op, None);
        });
    }
}

struct World {
    dir: PathBuf,
    disk: SimDisk,
    moments: Vec<Moment>,
    durable: Vec<(usize, usize)>,
    /// Cuts before this are not looked at: the last apply has changed the base, which is no part of the simulated disk. What a
    /// crash within an apply leaves is tested beside it.
    from: usize,
}

static WORLDS: AtomicU32 = AtomicU32::new(0);

impl World {
    fn run(steps: &[Step]) -> World {
        let n = WORLDS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("llfs-power-{}-{n}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("a"), vec![b'A'; 9000]).unwrap();
        fs::write(dir.join("b"), b"base").unwrap();
        let disk = SimDisk::new();
        let e = open(&dir, &disk, true).unwrap();
        let told = Told {
            moments: Vec::new(),
            durable: Vec::new(),
            snapshots_taken: 0,
        };
        let told = Arc::new(Mutex::new(told));
        let mut from = disk.now();
        let watched = Watched { e, disk, told };
        watched.told().look(&watched.e, 0);
        for (op, amid) in steps {
            watched.act(op, amid.clone());
            if matches!(op, Op::Apply) {
                from = watched.disk.now();
            }
        }
        let told = watched.told();
        World {
            dir,
            disk: watched.disk.clone(),
            moments: told.moments.clone(),
            durable: told.durable.clone(),
            from,
        }
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
        let kept = self.durable.iter().filter(|(_, when)| *when <= cut);
        let first = kept.map(|(moment, _)| *moment).max().unwrap_or(0);
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

/// What an operation acknowledged when it returned.
enum Acknowledged {
    Nothing,
    /// What there was when it began.
    Before,
    /// What there is.
    All,
    /// What there was when this snapshot was taken.
    Snapshot(String),
}

impl Watched {
    fn step(&self, op: &Op) -> Acknowledged {
        let e = &self.e;
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
                    Ok(_) | Err(nix::errno::Errno::EEXIST) => {}
                    Err(errno) => panic!("{errno}"),
                }
            }
            Op::Write(n, off, len, byte) => {
                if let Some(ino) = find(n) {
                    e.write(ino, off, &vec![byte; len], WriteHow::default())
                        .unwrap();
                }
            }
            Op::Truncate(n, size) => {
                if let Some(ino) = find(n) {
                    let set = SetAttr {
                        size: Some(size),
                        ..SetAttr::default()
                    };
                    e.setattr(ino, &set, &WHO).unwrap();
                }
            }
            Op::Rename(a, b) => {
                if a != b && find(a).is_some() {
                    e.rename(ROOT, name(a), ROOT, name(b), 0).unwrap();
                }
            }
            Op::Unlink(n) => {
                if let Some(ino) = find(n) {
                    e.unlink(ROOT, name(n)).unwrap();
                    e.forget(ino, 1_000_000);
                }
            }
            Op::Link(a, b) => {
                if let (Some(ino), None) = (find(a), find(b)) {
                    e.link(ino, ROOT, name(b)).unwrap();
                }
            }
            Op::Fsync => {
                e.fsync(ROOT, false).unwrap();
                return Acknowledged::Before;
            }
            Op::Snap => {
                let mut told = self.told();
                told.snapshots_taken += 1;
                let name = format!("s{:03}", told.snapshots_taken);
                drop(told);
                e.snapshot(|_| name.clone(), "").unwrap();
                return Acknowledged::Snapshot(name);
            }
            Op::Revert(n) => {
                if let Some(name) = e.snapshot_names().get(n) {
                    e.revert(name).unwrap();
                    return Acknowledged::All;
                }
            }
            Op::Undo => {
                if e.undo(1).is_ok() {
                    return Acknowledged::All;
                }
            }
            Op::Delete(n) => {
                if let Some(name) = e.snapshot_names().get(n) {
                    e.delete(std::slice::from_ref(name)).unwrap();
                }
            }
            Op::Image => {
                e.checkpoint().unwrap();
                return Acknowledged::Before;
            }
            Op::Apply => {
                e.apply(&mut |_, _| ()).unwrap();
                return Acknowledged::All;
            }
        }
        Acknowledged::Nothing
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
    fn after_a_power_cut_it_is_a_moment_of_its_history(history in history(), seed: u64) {
        let world = World::run(&history);
        let steps = world.disk.steps();
        let made = world.from;
        let mut random = Random::new(seed);
        let cuts: BTreeSet<usize> = (0..STATES).map(|_| made + random.below(steps.len() - made + 1)).collect();
        let mut medium = Medium::default();
        for (i, step) in steps.iter().enumerate() {
            medium.apply(step);
            let cut = i + 1;
            let look = |choose: &mut dyn FnMut(usize) -> usize| {
                let after = SimDisk::from_image(medium.crash(choose));
                let found = world.check(cut, &after);
                found.map_err(|what| format!("seed {seed}, cut {cut} of {}: {what}", steps.len()))
            };
            if cuts.contains(&cut) {
                look(&mut |n| random.below(n)).map_err(TestCaseError::fail)?;
            }
            // Just behind a promise, of a medium that has nothing but what it was made to have.
            if cut >= made && world.durable.iter().any(|(_, when)| *when == cut) {
                look(&mut |_| 0).map_err(TestCaseError::fail)?;
            }
        }
    }
}
