//! The power is cut behind every step on the disk of a history that has all that a service does: parts of the tree reverted, hard
//! links renamed, snapshots that take themselves and are pruned, marks, checksums, rules, notes and acts.

use super::sim::simdisk::choices::each;
use super::sim::simdisk::history::{BOOT, NEXT_BOOT};
use super::sim::simdisk::{Medium, SimDisk};
use super::sim::{Alive, RULES, STEPS, Tree, base, open, tree};
use super::*;
use crate::engine::bulk::Said;
use crate::engine::snapshot::Taken;

/// What there was when a step, or a part of one, was done.
#[derive(Clone)]
struct Moment {
    what: &'static str,
    tree: Tree,
    snapshots: Snapshots,
    rules: bool,
    begun: usize,
    returned: usize,
    /// All of it was acknowledged.
    durable: bool,
}

type Snapshots = std::collections::BTreeMap<String, Tree>;

/// Runs the history.
fn run(place: &Place, disk: &SimDisk) -> Vec<Moment> {
    let b = open(place, disk, BOOT).unwrap();
    let mut moments = vec![Moment {
        what: "the beginning",
        tree: tree(&b.engine),
        snapshots: Snapshots::new(),
        rules: false,
        begun: 0,
        returned: disk.now(),
        durable: true,
    }];
    for (what, durable, step) in STEPS {
        let begun = disk.now();
        step(&b).unwrap_or_else(|why| panic!("{what}: {why}"));
        let last = moments.last().unwrap().clone();
        let now = Moment {
            what,
            tree: tree(&b.engine),
            snapshots: with_names(&last, &b),
            rules: last.rules || *what == "rules",
            begun,
            returned: disk.now(),
            durable: *durable,
        };
        // A mark is there before what it was taken for.
        if now.snapshots.len() > last.snapshots.len() && now.tree != last.tree {
            moments.push(Moment {
                tree: last.tree,
                returned: usize::MAX,
                durable: false,
                ..now.clone()
            });
        }
        moments.push(now);
    }
    moments
}

/// The snapshots there are now: a new one is of the tree as it was before the step.
fn with_names(last: &Moment, b: &Alive) -> Snapshots {
    let names = b.engine.snapshot_names();
    let tree_of = |name: &String| last.snapshots.get(name).unwrap_or(&last.tree).clone();
    names.iter().map(|n| (n.clone(), tree_of(n))).collect()
}

/// Compares what comes up with the moments that it may be.
fn check(place: &Place, moments: &[Moment], cut: usize, disk: &SimDisk) -> Result<(), String> {
    let b = open(place, disk, NEXT_BOOT).map_err(|e| format!("recovery: {e}"))?;
    let last = moments.iter().rposition(|m| m.begun <= cut).unwrap_or(0);
    let first = (moments.iter()).rposition(|m| m.durable && m.returned <= cut);
    let first = first.unwrap_or(0);
    let possible = &moments[first..=last];
    let (now, mut names) = (tree(&b.engine), b.engine.snapshot_names());
    names.sort();
    let same = |m: &&Moment| {
        let shape = |t: &Tree| -> Vec<_> {
            let of = t.iter();
            of.map(|(n, (i, l, p, c))| (n.clone(), *i, *l, *p, c.len()))
                .collect()
        };
        names.iter().eq(m.snapshots.keys()) && shape(&m.tree) == shape(&now)
    };
    let Some(moment) = possible.iter().find(same) else {
        let whats: Vec<&str> = possible.iter().map(|m| m.what).collect();
        return Err(format!(
            "{:?} with {names:?} is none of {whats:?}",
            now.keys()
        ));
    };
    for (name, (ino, _, _, content)) in &now {
        for (at, byte) in content.iter().enumerate() {
            let trees = possible.iter().flat_map(|m| m.tree.values());
            let mut of_inode = trees.filter(|(i, ..)| i == ino);
            if !of_inode.any(|(_, _, _, c)| c.get(at).unwrap_or(&0) == byte) {
                return Err(format!("{name}: byte {at} is that of no moment"));
            }
        }
    }
    let trusted = b.engine.rules().trusted.is_some();
    let told = moments.iter().find(|m| m.what == "rules").unwrap();
    if trusted && cut < told.begun || !trusted && cut >= told.returned {
        return Err("the rules are not those in force".to_owned());
    }
    if trusted && b.host.config().unwrap().text.as_deref() != Some(RULES) {
        return Err("the rules are not what was trusted".to_owned());
    }
    for (name, then) in &moment.snapshots {
        b.engine.revert(name).map_err(|e| e.to_string())?;
        if tree(&b.engine) != *then {
            return Err(format!("snapshot {name} is not what it was"));
        }
    }
    // With the checksums that were recorded.
    let mut findings = Vec::new();
    let mut sink = |event| {
        // The store is in no directory.
        if let llctl::client::VerifyEvent::Finding(finding) = event
            && !finding.what.starts_with("the store's directory")
        {
            findings.push(finding);
        }
        Ok(())
    };
    b.host.verify(&mut sink).map_err(|e| e.to_string())?;
    // The authors and the history are needed by nothing, and reading them fails nobody.
    b.host
        .history(&Default::default())
        .map_err(|e| e.to_string())?;
    b.engine
        .read_authors(&mut |_| ())
        .map_err(|e| e.to_string())?;
    match findings.is_empty() {
        true => Ok(()),
        false => Err(format!("{findings:?}")),
    }
}

/// States behind each cut, besides the newest and the oldest.
fn states() -> usize {
    let wanted = std::env::var("LLFS_CUTS").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(1)
}

#[test]
fn whatever_is_cut_it_is_a_moment_of_the_history() {
    let (place, disk) = (base(), SimDisk::new());
    let moments = run(&place, &disk);
    let rest = moments.iter().rfind(|m| m.what == "the end").unwrap();
    let began = moments[0].returned;
    let mut medium = Medium::default();
    let mut checked = 0;
    for (at, step) in disk.steps().iter().enumerate().take(rest.returned) {
        medium.apply(step);
        let cut = at + 1;
        if cut < began {
            continue;
        }
        checked += each(states(), cut as u64, |state, choose| {
            let after = SimDisk::from_image(medium.crash(choose));
            if let Err(why) = check(&place, &moments, cut, &after) {
                panic!("cut {cut} of {}, {state}: {why}", rest.returned);
            }
        });
    }
    println!("{checked} states behind {} cuts", rest.returned - began);
    assert!(checked > 300, "only {checked} states");
}

/// A mark is not synced when it is taken. Who asks for a snapshot of the same state is told that there is one.
#[test]
fn a_snapshot_that_is_there_already_is_durable_when_that_is_told() {
    for hooks in [false, true] {
        let (place, disk) = (base(), SimDisk::new());
        let b = open(&place, &disk, BOOT).unwrap();
        let ino = b.engine.lookup(ROOT, b"a").unwrap().unwrap().attr.ino;
        let write = |byte| b.engine.write(ino, 0, &[byte; 100], WriteHow::default());
        write(1).unwrap();
        b.engine.sync().unwrap();
        write(2).unwrap();
        b.engine.mark_bulk(2, Said::default());
        b.engine.grow_up();
        assert!(b.engine.unlink(ROOT, b"nothing").is_err());
        let [name] = &b.engine.snapshot_names()[..] else {
            panic!("there is no mark");
        };
        match hooks {
            true => assert!(b.engine.saved_as().is_some()),
            false => {
                let taken = (b.engine)
                    .snapshot_if_changed(|_| "other".into(), "", SnapMeta::default())
                    .unwrap();
                assert!(matches!(taken, Taken::Unchanged(_)), "{taken:?}");
            }
        }
        let then = tree(&b.engine);
        let mut medium = Medium::default();
        disk.steps().iter().for_each(|step| medium.apply(step));
        let after = SimDisk::from_image(medium.crash(&mut |_| 0));
        let b = open(&place, &after, NEXT_BOOT).unwrap();
        assert_eq!(&b.engine.snapshot_names(), std::slice::from_ref(name));
        assert_eq!(tree(&b.engine), then);
    }
}
