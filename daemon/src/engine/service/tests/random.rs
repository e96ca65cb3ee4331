//! Diffs of random histories, carried out on the older state by hand: what comes out must be the newer state, and what a
//! diff does not mention must be equal in every attribute.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::engine::service::diff::{Names, Peeks};
use crate::engine::service::states::View;

pub(super) const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
pub(super) enum Op {
    File(Path, u8),
    Dir(Path),
    Symlink(Path, u8),
    Write(Path, u64, u8),
    Chmod(Path, u16),
    Remove(Path),
    RemoveAll(Path),
    Rename(Path, Path, bool),
    Link(Path, Path),
    Snap,
    Revert(usize),
    Base,
    Undo,
}

/// One to three names.
pub(super) type Path = Vec<usize>;

pub(super) fn text(path: &Path) -> String {
    let names: Vec<&str> = path.iter().map(|n| NAMES[*n]).collect();
    names.join("/")
}

pub(super) fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec(0..NAMES.len(), 1..4)
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(p, b)| Op::File(p, b)),
        4 => path().prop_map(Op::Dir),
        1 => (path(), any::<u8>()).prop_map(|(p, b)| Op::Symlink(p, b)),
        3 => (path(), 0u64..9000, any::<u8>()).prop_map(|(p, o, b)| Op::Write(p, o, b)),
        2 => (path(), 0u16..0o1000).prop_map(|(p, m)| Op::Chmod(p, m)),
        3 => path().prop_map(Op::Remove),
        2 => path().prop_map(Op::RemoveAll),
        7 => (path(), path(), prop::bool::weighted(0.3)).prop_map(|(p, q, x)| Op::Rename(p, q, x)),
        1 => (path(), path()).prop_map(|(p, q)| Op::Link(p, q)),
        3 => Just(Op::Snap),
        1 => (0usize..4).prop_map(Op::Revert),
        1 => Just(Op::Base),
        1 => Just(Op::Undo),
    ]
}

/// A change of the tree, nothing that has to do with states.
pub(super) fn work() -> impl Strategy<Value = Op> {
    op().prop_filter("a change of the tree", |op| {
        !matches!(op, Op::Snap | Op::Revert(_) | Op::Base | Op::Undo)
    })
}

/// Does it, if it can be done.
pub(super) fn run(b: &Bench, op: &Op, snaps: &mut usize) {
    let done = match op {
        Op::Snap => {
            b.snap(&format!("s{snaps}"));
            *snaps += 1;
            Some(())
        }
        Op::Revert(n) => {
            let name = format!("s{n}").parse().unwrap();
            b.host.revert(&name, false).ok().map(drop)
        }
        Op::Base => b.host.revert(&StateRef::Base, false).ok().map(drop),
        Op::Undo => b.host.undo(1).ok().map(drop),
        op => change(&b.engine, op),
    };
    // What cannot be done is a step of a history as well.
    done.unwrap_or_default();
}

/// Changes the tree; `None` if that cannot be done.
pub(super) fn change(engine: &Engine, op: &Op) -> Option<()> {
    let at = |p: &Path| {
        let p = text(p).into_bytes();
        let (dir, name) = match p.iter().rposition(|c| *c == b'/') {
            Some(i) => (p[..i].to_vec(), p[i + 1..].to_vec()),
            None => (Vec::new(), p),
        };
        let is_dir = |dir: &Ino| engine.getattr(*dir).unwrap().kind == Kind::Dir;
        let dir = walk(engine, &dir).filter(is_dir)?;
        Some((dir, name))
    };
    let make = |p: &Path, kind, target: &[u8]| {
        let make = Make {
            kind,
            perm: 0o755,
            umask: 0,
            rdev: 0,
            target,
        };
        let (dir, name) = at(p)?;
        Some(engine.make(dir, &name, &make, &me()).ok()?.attr.ino)
    };
    let ino = |p: &Path| walk(engine, text(p).as_bytes());
    let how = WriteHow::default();
    match op {
        Op::File(p, byte) => {
            let ino = make(p, Kind::File, b"")?;
            engine.write(ino, 0, &[*byte; 5000], how).unwrap();
        }
        Op::Dir(p) => drop(make(p, Kind::Dir, b"")?),
        Op::Symlink(p, byte) => drop(make(p, Kind::Symlink, &[b'a' + byte % 4])?),
        Op::Write(p, off, byte) => drop(engine.write(ino(p)?, *off, &[*byte; 700], how).ok()?),
        Op::Chmod(p, perm) => {
            let set = SetAttr {
                perm: Some(*perm),
                ..SetAttr::default()
            };
            engine.setattr(ino(p)?, &set, &me()).unwrap();
        }
        Op::Remove(p) => {
            let (dir, name) = at(p)?;
            let removed = engine.unlink(dir, &name);
            removed.or_else(|_| engine.rmdir(dir, &name)).ok()?;
        }
        Op::RemoveAll(p) => {
            let (dir, name) = at(p)?;
            remove_all(engine, dir, &name);
        }
        Op::Rename(p, q, exchange) => {
            // The kernel refuses to move a directory below itself.
            if q.starts_with(p) || p.starts_with(q) {
                return None;
            }
            let ((dir, name), (to, new)) = (at(p)?, at(q)?);
            let flags = if *exchange { 2 } else { 0 };
            engine.rename(dir, &name, to, &new, flags).ok()?;
        }
        Op::Link(p, q) => {
            let (dir, name) = at(q)?;
            engine.link(ino(p)?, dir, &name).ok()?;
        }
        Op::Snap | Op::Revert(_) | Op::Base | Op::Undo => return None,
    }
    Some(())
}

fn walk(engine: &Engine, path: &[u8]) -> Option<Ino> {
    let mut at = ROOT;
    for name in path.split(|c| *c == b'/').filter(|n| !n.is_empty()) {
        if engine.getattr(at).unwrap().kind != Kind::Dir {
            return None;
        }
        at = engine.lookup(at, name).unwrap()?.attr.ino;
    }
    Some(at)
}

fn remove_all(engine: &Engine, dir: Ino, name: &[u8]) {
    let Some(found) = engine.lookup(dir, name).unwrap() else {
        return;
    };
    if found.attr.kind != Kind::Dir {
        return engine.unlink(dir, name).unwrap();
    }
    let mut names = Vec::new();
    let mut note = |entry: &crate::engine::Listed<'_>| {
        if entry.name != b"." && entry.name != b".." {
            names.push(entry.name.to_vec());
        }
        false
    };
    engine.readdir(found.attr.ino, 0, false, &mut note).unwrap();
    for name in names {
        remove_all(engine, found.attr.ino, &name);
    }
    engine.rmdir(dir, name).unwrap();
}

/// All that can be seen of an object but its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub kind: Kind,
    pub perm: u16,
    pub content: Vec<u8>,
}

pub(super) type Manifest = BTreeMap<Vec<u8>, Seen>;

/// Everything in a state, by walking it.
pub(super) fn manifest(b: &Bench, state: &StateRef) -> Manifest {
    manifest_of(&b.engine, state)
}

pub(super) fn manifest_of(engine: &Engine, state: &StateRef) -> Manifest {
    let view = View::of(engine, state).unwrap();
    let peeks = Peeks::new(engine);
    let names = Names::new(&peeks, &view);
    let mut seen = Manifest::new();
    let mut dirs = vec![ROOT];
    while let Some(dir) = dirs.pop() {
        for (slot, ino, kind) in names.children(dir).unwrap() {
            let (perm, content) = match names.object(ino).unwrap() {
                super::super::diff::Object::Over(i) => (
                    i.perm,
                    i.target.as_ref().map_or_else(Vec::new, |t| t.to_vec()),
                ),
                super::super::diff::Object::Base(s) => (s.perm, Vec::new()),
            };
            let content = match kind {
                Kind::File => {
                    let mut bytes = vec![0; 20_000];
                    let n = view.read(engine, ino, 0, &mut bytes).unwrap();
                    bytes.truncate(n);
                    bytes
                }
                _ => content,
            };
            if kind == Kind::Dir {
                dirs.push(ino);
            }
            let path = names.path(&slot).unwrap();
            seen.insert(
                path,
                Seen {
                    kind,
                    perm,
                    content,
                },
            );
        }
    }
    seen
}

/// Where a path of the older state is in the newer one, as the renames have it.
fn carried(path: &[u8], renames: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut end = path.len();
    loop {
        if let Some(to) = renames.get(&path[..end]) {
            return [to.as_slice(), &path[end..]].concat();
        }
        match path[..end].iter().rposition(|c| *c == b'/') {
            Some(at) => end = at,
            None => return path.to_vec(),
        }
    }
}

fn check(b: &Bench, from: &StateRef, to: &StateRef) {
    let (old, new) = (manifest(b, from), manifest(b, to));
    let changes = b.changes(&from.to_string(), &to.to_string(), false);
    let context = || {
        format!(
            "{from} to {to}: {changes:#?}\n{:?}\n{:?}",
            old.keys(),
            new.keys()
        )
    };
    let mut renames = BTreeMap::new();
    let mut by_path = BTreeMap::new();
    let mut removed = std::collections::BTreeSet::new();
    for change in &changes {
        match (change.kind, &change.from) {
            (ChangeKind::Removed, _) => assert!(removed.insert(change.path.0.clone())),
            (_, from) => {
                assert!(
                    by_path.insert(change.path.0.clone(), change).is_none(),
                    "{}",
                    context()
                );
                if let Some(from) = from {
                    renames.insert(from.0.clone(), change.path.0.clone());
                }
            }
        }
    }
    let mut made: BTreeMap<Vec<u8>, Option<&Seen>> = BTreeMap::new();
    for (path, seen) in &old {
        if removed.remove(path) {
            continue;
        }
        let there = carried(path, &renames);
        // Under a rename's new name, what it replaced is gone.
        let replaced = by_path
            .get(&there)
            .is_some_and(|c| c.kind == ChangeKind::Renamed && !renames.contains_key(path));
        if !replaced {
            assert!(made.insert(there, Some(seen)).is_none(), "{}", context());
        }
    }
    assert!(removed.is_empty(), "removed, but never there: {removed:?}");
    for (path, change) in &by_path {
        if change.kind == ChangeKind::Added {
            assert!(made.insert(path.clone(), None).is_none(), "{}", context());
        }
    }
    assert_eq!(
        made.keys().collect::<Vec<_>>(),
        new.keys().collect::<Vec<_>>(),
        "{}",
        context()
    );
    for (path, seen) in &new {
        let Some(was) = made[path] else { continue };
        let same = |differs: bool| assert!(!differs, "{path:?}: {}", context());
        match by_path.get(path).map(|c| c.kind) {
            None | Some(ChangeKind::Times) => same(was != seen),
            Some(ChangeKind::TypeChanged) => same(was.kind == seen.kind),
            Some(ChangeKind::Modified) => {
                same(was.kind != seen.kind || was.content == seen.content)
            }
            Some(ChangeKind::Mode) => same(was.content != seen.content || was.perm == seen.perm),
            Some(ChangeKind::Renamed) => {}
            Some(other) => panic!("{path:?} {other:?}: {}", context()),
        }
    }
}

/// Few cases, unless `PROPTEST_CASES` asks for more.
pub(super) fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 48;
    }
    config
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn a_diff_leads_from_one_state_to_the_other(
        ops in prop::collection::vec(op(), 1..40),
        pairs in prop::collection::vec((0usize..6, 0usize..6), 1..5),
    ) {
        let place = Place::new();
        for path in ["a/a/a", "a/a/b", "a/b/c", "a/c", "b/a/a", "b/b", "d"] {
            place.put(path, path.as_bytes());
        }
        let b = place.open();
        let mut snaps = 0;
        for op in &ops {
            run(&b, op, &mut snaps);
        }
        let mut states: Vec<StateRef> = (0..snaps).map(|n| format!("s{n}").parse().unwrap()).collect();
        states.extend([StateRef::Base, StateRef::Live]);
        check(&b, &StateRef::Base, &StateRef::Live);
        for (i, k) in pairs {
            check(&b, &states[i % states.len()], &states[k % states.len()]);
        }
        crate::engine::service::digest::check_all(&b);
        let mut findings = Vec::new();
        b.host.verify(&mut |event| {
            if let llctl::client::VerifyEvent::Finding(f) = event {
                findings.push(f);
            }
            Ok(())
        }).unwrap();
        prop_assert!(findings.is_empty(), "{:?}", findings);
    }
}
