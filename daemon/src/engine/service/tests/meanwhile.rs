//! What programs do in the middle of something else: after it looked at the tree and before the tree stands still, and while the kernel
//! is told what became of it.

use std::collections::VecDeque;
use std::io;
use std::sync::Weak;

use llctl::protocol::ErrorKind;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::super::states::View;
use super::random::{Manifest, Op, change, config, manifest, manifest_of, path, text, work};
use super::*;
use crate::engine::service::digest::check_all;
use crate::engine::{Attr, Kernel};
use std::collections::BTreeMap;

type Act = Box<dyn FnOnce(&Engine) + Send>;

/// A kernel whose programs go on while it is asked for dirty pages, and while it is told what changed.
pub(super) struct Programs {
    engine: Weak<Engine>,
    before: Mutex<VecDeque<Act>>,
    told: Mutex<VecDeque<Act>>,
    /// The tree after the last of what was done before, and as it was when the kernel was first told.
    saw: Mutex<Option<Manifest>>,
    switched: Mutex<Option<Manifest>>,
}

impl Programs {
    /// One of these is done at each time at which dirty pages are asked for.
    pub(super) fn before<A: FnOnce(&Engine) + Send + 'static>(
        &self,
        acts: impl IntoIterator<Item = A>,
    ) {
        let acts = acts.into_iter().map(|act| Box::new(act) as Act);
        self.before.lock().extend(acts);
    }

    /// The same, of changes of the tree.
    pub(super) fn work(&self, ops: Vec<Op>) {
        self.before([move |engine: &Engine| all(engine, &ops)]);
    }

    /// One of these is done each time the kernel is told something.
    fn when_told(&self, ops: Vec<Op>) {
        let act = ops
            .into_iter()
            .map(|op| Box::new(move |engine: &Engine| all(engine, &[op])) as Act);
        self.told.lock().extend(act);
    }

    /// The tree at the last time at which dirty pages were asked for; if none were, as it is now.
    pub(super) fn saw(&self) -> Manifest {
        let saw = self.saw.lock().take();
        saw.unwrap_or_else(|| live(&self.engine.upgrade().unwrap()))
    }

    /// The tree at the first time at which the kernel was told something; if it was told nothing, as it is now.
    fn switched(&self) -> Manifest {
        self.told.lock().clear();
        let switched = self.switched.lock().take();
        switched.unwrap_or_else(|| live(&self.engine.upgrade().unwrap()))
    }

    fn tell(&self) {
        let engine = self.engine.upgrade().unwrap();
        let act = self.told.lock().pop_front();
        if let Some(act) = act {
            let mut switched = self.switched.lock();
            switched.get_or_insert_with(|| live(&engine));
            act(&engine);
        }
    }
}

fn live(engine: &Engine) -> Manifest {
    manifest_of(engine, &StateRef::Live)
}

fn all(engine: &Engine, ops: &[Op]) {
    for op in ops {
        // What cannot be done is a step as well.
        change(engine, op).unwrap_or_default();
    }
}

/// The engine has it, and whoever says what is done.
struct Asked(Arc<Programs>);

impl Kernel for Asked {
    fn flush(&self) -> io::Result<()> {
        let engine = self.0.engine.upgrade().unwrap();
        let act = self.0.before.lock().pop_front();
        if let Some(act) = act {
            act(&engine);
        }
        *self.0.saw.lock() = Some(live(&engine));
        Ok(())
    }
    fn answers(&self) -> io::Result<()> {
        Ok(())
    }
    fn forget_inode(&self, _: Ino) {
        self.0.tell();
    }
    fn forget_name(&self, _: Ino, _: &[u8]) {
        self.0.tell();
    }
    fn forget_all_names(&self) -> io::Result<()> {
        Ok(())
    }
    fn look_up(&self, _: &std::path::Path) {
        self.0.tell();
    }
}

impl Bench {
    /// The programs that go on; once.
    pub(super) fn programs(&self) -> Arc<Programs> {
        let programs = Arc::new(Programs {
            engine: Arc::downgrade(&self.engine),
            before: Mutex::default(),
            told: Mutex::default(),
            saw: Mutex::default(),
            switched: Mutex::default(),
        });
        self.engine.attach(Box::new(Asked(programs.clone())));
        programs
    }
}

/// What has to do with states.
#[derive(Clone, Debug)]
enum Step {
    Snap,
    Revert(usize),
    Base,
    Part(usize, Vec<super::random::Path>, bool),
    Undo,
    Redo,
    Delete(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0usize..8;
    prop_oneof![
        4 => Just(Step::Snap),
        4 => which().prop_map(Step::Revert),
        1 => Just(Step::Base),
        4 => (which(), prop::collection::vec(path(), 1..3), any::<bool>())
            .prop_map(|(n, globs, keep)| Step::Part(n, globs, keep)),
        3 => Just(Step::Undo),
        2 => Just(Step::Redo),
        1 => which().prop_map(Step::Delete),
    ]
}

/// What there should be.
#[derive(Default)]
struct Model {
    snapshots: Vec<(String, Manifest)>,
    /// What was discarded, and whether it is to be redone; the newest last.
    aside: Vec<(bool, Manifest)>,
    taken: usize,
}

impl Model {
    fn one(&self, which: usize) -> Option<&(String, Manifest)> {
        let count = self.snapshots.len();
        (count > 0).then(|| &self.snapshots[which % count])
    }

    fn reverted(&mut self, before: Manifest) {
        self.aside.iter_mut().for_each(|(redo, _)| *redo = false);
        self.aside.push((false, before));
    }
}

/// Carries a step out; the tree must be what it says at the moment at which nothing went on.
fn carry_out(b: &Bench, programs: &Programs, model: &mut Model, step: &Step) {
    match step {
        Step::Snap => {
            let name = format!("s{}", model.taken);
            model.taken += 1;
            b.snap(&name);
            model.snapshots.push((name, programs.saw()));
        }
        Step::Revert(_) | Step::Base => {
            let (to, holds) = match step {
                Step::Revert(which) => match model.one(*which) {
                    Some((name, holds)) => (name.parse().unwrap(), holds.clone()),
                    None => return,
                },
                _ => (StateRef::Base, manifest(b, &StateRef::Base)),
            };
            let done = b.host.revert(&to, false).unwrap();
            let before = programs.saw();
            match done.discarded {
                Some(_) => model.reverted(before),
                None => assert_eq!(before, holds),
            }
            assert_eq!(programs.switched(), holds, "reverted to {to}");
        }
        Step::Part(which, globs, keep) => {
            use llctl::protocol::{OnConflict, Part, PartOf};
            let Some((name, _)) = model.one(*which) else {
                return;
            };
            let part = Part {
                of: PartOf::To(name.parse().unwrap()),
                globs: globs.iter().map(text).collect(),
                there: Vec::new(),
            };
            let winner = match keep {
                true => OnConflict::Keep,
                false => OnConflict::Revert,
            };
            let done = b.revert_part(&part, winner);
            let before = programs.saw();
            match done.ok().and_then(|done| done.discarded) {
                Some(_) => model.reverted(before),
                None => assert_eq!(programs.switched(), before, "nothing was done"),
            }
        }
        Step::Undo | Step::Redo => {
            let redo = matches!(step, Step::Redo);
            let done = match redo {
                true => b.host.redo(1),
                false => b.host.undo(1),
            };
            let Some(at) = model.aside.iter().rposition(|(r, _)| *r == redo) else {
                done.unwrap_err();
                return;
            };
            done.unwrap();
            let (_, holds) = model.aside.remove(at);
            model.aside.push((!redo, programs.saw()));
            assert_eq!(programs.switched(), holds, "{step:?}");
        }
        Step::Delete(which) => {
            if let Some((name, _)) = model.one(*which).cloned() {
                b.host
                    .delete(&[SnapName::new(&name).unwrap()], None)
                    .unwrap();
                model.snapshots.retain(|(n, _)| *n != name);
            }
        }
    }
}

proptest! {
    #![proptest_config(config())]

    /// What a snapshot holds, and what a revert, an undo or a redo discards, is the tree at the moment at which it stood still, whatever
    /// was done since it was asked for; and what is there then is what was asked for.
    #[test]
    fn states_are_exchanged_while_programs_go_on(
        steps in prop::collection::vec(
            (
                prop::collection::vec(work(), 0..6),
                step(),
                prop::collection::vec(prop::collection::vec(work(), 0..4), 0..3),
                prop::collection::vec(work(), 0..6),
            ),
            1..12,
        ),
    ) {
        let b = super::part::linked_base();
        let programs = b.programs();
        let mut model = Model::default();
        for (ops, step, meanwhile, told) in steps {
            all(&b.engine, &ops);
            for ops in meanwhile {
                programs.work(ops);
            }
            programs.when_told(told);
            carry_out(&b, &programs, &mut model, &step);
            // What nobody asked for.
            programs.before.lock().clear();
            programs.switched();
            programs.saw();
            b.counted()?;
        }
        for (name, holds) in &model.snapshots {
            prop_assert_eq!(&manifest(&b, &name.parse().unwrap()), holds, "{}", name);
        }
        check_all(&b);
        b.sound();
    }
}

/// A session that has found out what to answer, and has not answered yet, when the head is exchanged.
#[derive(Default)]
struct Slow {
    engine: Weak<Engine>,
    /// What it is asked for while dirty pages are sent.
    asked: Vec<Ino>,
    answer: Mutex<Vec<(Ino, Attr)>>,
    /// What the kernel has.
    cache: Mutex<BTreeMap<Ino, Attr>>,
}

impl Slow {
    fn send(&self) {
        self.cache.lock().extend(self.answer.lock().drain(..));
    }
}

struct Sent(Arc<Slow>);

impl Kernel for Sent {
    fn flush(&self) -> io::Result<()> {
        let engine = self.0.engine.upgrade().unwrap();
        for ino in &self.0.asked {
            let attr = engine.getattr(*ino).unwrap();
            self.0.answer.lock().push((*ino, attr));
        }
        Ok(())
    }
    fn answers(&self) -> io::Result<()> {
        self.0.send();
        Ok(())
    }
    fn forget_inode(&self, ino: Ino) {
        self.0.cache.lock().remove(&ino);
    }
    fn forget_name(&self, _: Ino, _: &[u8]) {}
    fn forget_all_names(&self) -> io::Result<()> {
        Ok(())
    }
    fn look_up(&self, _: &std::path::Path) {}
}

/// The kernel does not know an inode of which the first answer is under way, and forgets nothing of it: it is told when it has the answer.
#[test]
fn what_was_answered_late_is_forgotten_with_the_rest() {
    let place = Place::new();
    place.put("f", b"base");
    let b = place.open();
    b.file("new", b"new");
    b.snap("s");
    b.write("f", 0, &[1; 5000]);
    b.write("new", 0, &[1; 5000]);
    let asked = vec![b.ino("f"), b.ino("new")];
    let slow = Arc::new(Slow {
        engine: Arc::downgrade(&b.engine),
        asked: asked.clone(),
        ..Slow::default()
    });
    b.engine.attach(Box::new(Sent(slow.clone())));
    let check = |asked: &[Ino], what: &str| {
        slow.send();
        for ino in asked {
            if let Some(has) = slow.cache.lock().get(ino) {
                assert_eq!(has, &b.engine.getattr(*ino).unwrap(), "{what}");
            }
        }
    };
    b.host_revert("s");
    check(&asked, "reverted");
    b.host.undo(1).unwrap();
    check(&asked, "undone");
    b.engine.apply(&mut |_, _| ()).unwrap();
    check(&asked[..1], "applied");
}

/// The kernel refuses to move a directory below itself by what it knows, and a revert may have changed that since.
#[test]
fn a_directory_is_not_moved_into_what_a_revert_has_put_below_it() {
    for exchange in [false, true] {
        let place = Place::new();
        place.put("a/b/c/file", b"text");
        place.put("d/e/file", b"text");
        let b = place.open();
        b.snap("below");
        b.rename("a/b", "b", 0);
        b.dir("b/c/x");
        b.snap("beside");
        let (a, c) = (b.ino("a"), b.ino("b/c"));
        b.host_revert("below");
        let before = b.live();
        // What a program began while `b` was beside `a`.
        let moved = match exchange {
            false => b.engine.rename(ROOT, b"a", c, b"y", 0),
            true => b.engine.rename(ROOT, b"a", c, b"file", 2),
        };
        assert_eq!(moved, Err(nix::errno::Errno::ESTALE), "{exchange}");
        assert_eq!(b.live(), before);
        // The other way round, where it is the second of two that are exchanged.
        let moved = b.engine.rename(c, b"file", ROOT, b"a", 2);
        assert_eq!(moved, Err(nix::errno::Errno::ESTALE), "{exchange}");
        assert_eq!(b.live(), before);
        assert_eq!(b.ino("a"), a);
        // Elsewhere it may go.
        b.rename("a", "d/e/a", 0);
        b.rename("d/e/a/b", "b", 0);
        b.rename("b/c/file", "d/e", 2);
        b.sound();
    }
}

/// While the base is written, nobody is told that it is what an old state had there.
#[test]
fn an_old_state_is_not_read_from_what_an_apply_has_written() {
    let place = Place::new();
    for name in ["a", "b", "c"] {
        place.put(name, &[b'o'; 10_000]);
    }
    let b = place.open();
    b.snap("old");
    for name in ["a", "b", "c"] {
        b.write(name, 0, &[b'n'; 10_000]);
    }
    let inos = ["a", "b", "c"].map(|name| b.ino(name));
    let views = ["old", "@base"].map(|state| View::of(&b.engine, &state.parse().unwrap()).unwrap());
    let mut looks = 0;
    let mut look = |done: u64, all: u64| {
        for (view, ino) in views.iter().flat_map(|v| inos.map(|ino| (v, ino))) {
            let mut bytes = vec![0; 10_000];
            if let Ok(n) = view.read(&b.engine, ino, 0, &mut bytes) {
                assert_eq!(bytes, [b'o'; 10_000], "{n} bytes, {done} of {all}");
            }
            looks += 1;
        }
    };
    // Whoever takes space back would wait for the apply's end, and have this look wait for its own.
    let nobody = b.engine.reclaiming.lock();
    b.engine.apply(&mut look).unwrap();
    drop(nobody);
    assert!(looks > 12, "{looks}");
    let gone = views[0].read(&b.engine, inos[0], 0, &mut [0; 10]);
    assert_eq!(gone, Err(nix::errno::Errno::ESTALE));
}

/// What is told of states while an apply makes another base is told as no answer.
#[test]
fn who_asks_about_states_while_an_apply_goes_on_is_told_so() {
    fn once<T>(b: &Bench) -> impl FnMut(T) -> io::Result<()> {
        let engine = b.engine.clone();
        let mut applied = false;
        move |_| {
            if !std::mem::replace(&mut applied, true) {
                engine.apply(&mut |_, _| ()).unwrap();
            }
            Ok(())
        }
    }
    type Ask = fn(&Bench) -> Result<(), llctl::protocol::Failure>;
    let asks: [(&str, Ask); 5] = [
        ("diff", |b| {
            let (from, to) = (StateRef::Base, "s".parse().unwrap());
            (b.host.diff(Some(&from), &to, &[], true, &mut once(b))).map(drop)
        }),
        ("log", |b| b.host.log(&"f".into(), None, &mut once(b))),
        ("cat", |b| {
            b.host.cat(&StateRef::Base, &"f".into(), 0, &mut once(b))
        }),
        ("export", |b| {
            let names = [SnapName::new("s").unwrap()];
            b.host.export(&names, None, (0, 0), &mut once(b))
        }),
        ("preview", |b| {
            let part = llctl::protocol::Part {
                of: llctl::protocol::PartOf::To(StateRef::Base),
                globs: Vec::new(),
                there: Vec::new(),
            };
            let keep = llctl::protocol::OnConflict::Keep;
            (b.host.preview_part(&part, keep, true, &mut once(b))).map(drop)
        }),
    ];
    for (what, ask) in asks {
        let place = Place::new();
        for path in ["d/a", "d/b", "d/c", "f"] {
            place.put(path, &[b'o'; 600_000]);
        }
        let b = place.open();
        for path in ["d/a", "f", "d/c"] {
            b.write(path, 0, &[b'n'; 400_000]);
        }
        b.snap("s");
        b.rename("d", "e", 0);
        match ask(&b) {
            Err(failure) => assert_eq!(failure.kind, ErrorKind::Conflict, "{what}: {failure}"),
            Ok(()) => panic!("{what} was told"),
        }
    }
}

/// Names of the base that were looked for while an apply changed them are not kept.
#[test]
fn what_was_found_of_the_base_before_an_apply_is_not_kept() {
    let place = Place::new();
    for path in ["a/1", "b/1", "c/1"] {
        place.put(path, path.as_bytes());
    }
    std::fs::hard_link(place.base("a/1"), place.base("c/2")).unwrap();
    let b = place.open();
    b.rename("c/2", "c/3", 0);
    b.link("b/1", "b/2");
    let mut applied = false;
    let found = super::super::linked::look(&b.engine, &mut || {
        if !std::mem::replace(&mut applied, true) {
            b.engine.apply(&mut |_, _| ()).unwrap();
        }
    });
    assert!(found.is_err() && b.engine.linked.lock().is_none());
    b.snap("s");
    b.write("a/1", 0, b"A");
    b.write("b/1", 0, b"B");
    let part = llctl::protocol::Part {
        of: llctl::protocol::PartOf::To("s".parse().unwrap()),
        globs: vec!["*/1".to_owned()],
        there: Vec::new(),
    };
    b.revert_part(&part, llctl::protocol::OnConflict::Revert)
        .unwrap();
    b.counted().unwrap();
    b.sound();
}

/// A file of the base that a state does not have, and that a program has open since another state, gets no name and no content there.
#[test]
fn an_open_file_of_the_base_that_a_revert_took_away_stays_away() {
    let place = Place::new();
    place.put("f", b"base");
    let b = place.open();
    b.remove("f");
    b.snap("without");
    b.host.revert(&StateRef::Base, false).unwrap();
    let ino = b.ino("f");
    b.host_revert("without");
    let before = b.live();
    let tried = [
        b.engine.link(ino, ROOT, b"back").map(drop),
        b.engine
            .write(ino, 0, b"text", WriteHow::default())
            .map(drop),
        b.engine.getattr(ino).map(drop),
    ];
    eprintln!("{tried:?}");
    assert_eq!(b.live(), before);
    b.counted().unwrap();
    b.sound();
}

/// An apply that could not begin leaves everything as it was.
#[test]
fn imports_and_checksums_go_on_after_an_apply_that_could_not_begin() {
    let place = Place::new();
    place.put("f", b"base");
    let b = place.open();
    b.file("new", &[7; 20_000]);
    b.snap("s");
    b.engine
        .commit(
            &mut b.engine.state.write(),
            &crate::tree::Record::Apply(crate::tree::Apply::Begin),
        )
        .unwrap();
    crate::engine::service::digest::compute_all(&b.engine);
    let state = b.engine.state.read();
    assert!(state.snapshots.values().all(|s| s.digest.is_some()));
}

/// A snapshot that is there only until it is known whether many files are removed is an ordinary one for who reverted to it.
#[test]
fn a_mark_that_was_reverted_to_stays() {
    let b = super::part::linked_base();
    b.engine.mark_bulk(10, crate::engine::bulk::Said::default());
    b.remove("d");
    // Its process has stopped.
    b.engine.mark_bulk(0, crate::engine::bulk::Said::default());
    let marks = b.engine.snapshot_names();
    assert_eq!(marks.len(), 1);
    b.host_revert(&marks[0]);
    assert!(!b.engine.is_mark(1), "nobody may give it up from here on");
    b.engine.settle_marks();
    assert_eq!(b.engine.snapshot_names(), marks);
}

/// A moment means the snapshot of then, whatever it and others are called since.
#[test]
fn a_moment_means_the_same_snapshot_under_any_name() {
    let b = super::part::linked_base();
    b.file("f", b"one");
    b.snap("one");
    b.write("f", 0, b"two");
    b.snap("two");
    let at = b.engine.state.read().snapshot("one").unwrap().1.at;
    let at = StateRef::At(llctl::Moment(super::super::listing::nanos(at)));
    let rename = |from: &str, to: &str| b.engine.rename_snapshot(from, to).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for (from, to) in [("one", "x"), ("two", "one"), ("x", "two")] {
                    rename(from, to);
                }
            }
        });
        let mut right = true;
        for _ in 0..300 {
            right &= b.host.revert(&at, false).is_ok() && b.text("f").unwrap() == "one";
            b.write("f", 0, b"new");
        }
        done.store(true, Ordering::Relaxed);
        assert!(right);
    });
}

/// What a listing hands out has its place in the base, also if whoever had it until then lets go of it at that moment.
#[test]
fn what_a_listing_hands_out_keeps_its_place() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    place.put("d/f", b"text");
    place.put("d/g", b"text");
    let other = std::fs::metadata(place.base("d/g")).unwrap().ino();
    let b = place.open();
    let (dir, ino) = (b.ino("d"), b.ino("d/f"));
    let (listed, locked) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut emit = |entry: &crate::engine::Listed<'_>| {
                if entry.ino == ino {
                    listed.store(nix::unistd::gettid().as_raw() as u32, Ordering::Release);
                    while locked.load(Ordering::Acquire) == 0 {
                        std::hint::spin_loop();
                    }
                }
                false
            };
            b.engine.readdir(dir, 0, true, &mut emit).unwrap();
        });
        while listed.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let mut held = b.engine.held.lock();
        locked.store(1, Ordering::Release);
        let tid = nix::unistd::Pid::from_raw(listed.load(Ordering::Acquire) as i32);
        until_asleep(tid, || b.engine.base.place_of(other).is_some());
        // As when it is forgotten.
        assert!(held.forget(ino, 1));
        b.engine.base.forget(ino);
    });
    assert_eq!(b.engine.getattr(ino).unwrap().kind, Kind::File);
}

/// A mark that goes while a list is made is not listed.
#[test]
fn a_mark_that_goes_while_snapshots_are_listed_is_none() {
    let b = super::part::linked_base();
    b.snap("s");
    b.file("new", b"new");
    b.engine.mark_bulk(10, crate::engine::bulk::Said::default());
    b.remove("d");
    // Its process has stopped.
    b.engine.mark_bulk(0, crate::engine::bulk::Said::default());
    assert_eq!(b.engine.snapshot_names().len(), 2);
    let lister = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let spans = b.engine.spans.lock();
        let listed = scope.spawn(|| {
            lister.store(nix::unistd::gettid().as_raw() as u32, Ordering::Release);
            b.host.list(&ListQuery::default()).unwrap()
        });
        while lister.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let tid = nix::unistd::Pid::from_raw(lister.load(Ordering::Acquire) as i32);
        until_asleep(tid, || false);
        b.engine.settle_marks();
        drop(spans);
        let names: Vec<String> = listed
            .join()
            .unwrap()
            .snapshots
            .into_iter()
            .map(|s| s.name)
            .collect();
        assert_eq!(names, ["s"]);
    });
    assert_eq!(b.engine.snapshot_names(), ["s"]);
}

/// A snapshot that is there only until it is known whether many files are removed is an ordinary one for who gives it a name, or says
/// something of it.
#[test]
fn a_mark_that_was_named_or_described_stays() {
    for renamed in [false, true] {
        let b = super::part::linked_base();
        b.engine.mark_bulk(10, crate::engine::bulk::Said::default());
        b.remove("d");
        let mark = b.engine.snapshot_names().remove(0);
        let name = match renamed {
            true => "mine",
            false => &mark,
        };
        if renamed {
            b.engine.rename_snapshot(&mark, name).unwrap();
        } else {
            let edit = llctl::protocol::MetaEdit {
                message: Some("mine".to_owned()),
                ..llctl::protocol::MetaEdit::default()
            };
            b.engine.describe(&mark, &edit).unwrap();
        }
        b.engine.mark_bulk(0, crate::engine::bulk::Said::default());
        b.engine.settle_marks();
        assert_eq!(b.engine.snapshot_names(), [name]);
    }
}

/// A program that goes on removing after the tree was exchanged removes what no mark from before has.
#[test]
fn what_is_removed_after_an_undo_has_a_mark_of_its_own() {
    let b = super::part::linked_base();
    for name in ["1", "2", "3", "4"] {
        b.file(name, name.as_bytes());
    }
    b.host.revert(&StateRef::Base, false).unwrap();
    b.engine.grow_up();
    b.engine.mark_bulk(3, crate::engine::bulk::Said::default());
    b.remove("d");
    b.host.undo(1).unwrap();
    let before = b.live();
    for name in ["1", "2", "3", "4"] {
        b.remove(name);
    }
    assert_eq!(b.engine.settle_marks().len(), 1);
    let names = b.engine.snapshot_names();
    let holds = names
        .iter()
        .map(|name| manifest(&b, &name.parse().unwrap()));
    assert!(holds.into_iter().any(|holds| holds == before), "{names:?}");
}

/// Rules of which a hook waits until something else was done.
struct Hooked<'a> {
    b: &'a Bench,
    begun: std::path::PathBuf,
    go: std::path::PathBuf,
}

impl<'a> Hooked<'a> {
    fn new(b: &'a Bench, hook: &str, rules: &str) -> Hooked<'a> {
        let [begun, go] = ["begun", "go"].map(|name| b.place.0.join(name));
        let made = std::process::Command::new("mkfifo")
            .args([&begun, &go])
            .status();
        assert!(made.unwrap().success());
        let command = format!("echo > {}; cat {}", begun.display(), go.display());
        let text = format!("[hooks]\ntimeout = \"10m\"\n{hook} = \"{command}\"\n{rules}");
        b.host.trust(&text).unwrap();
        Hooked { b, begun, go }
    }

    /// Does `act`, and `meanwhile` while its hook runs.
    fn run<T: Send>(
        &self,
        act: impl FnOnce(&Bench) -> T + Send,
        meanwhile: impl FnOnce(&Bench),
    ) -> T {
        std::thread::scope(|scope| {
            let act = scope.spawn(|| act(self.b));
            std::fs::read(&self.begun).unwrap();
            meanwhile(self.b);
            std::fs::write(&self.go, b"").unwrap();
            act.join().unwrap()
        })
    }
}

/// Rules that keep so many, and no others.
fn keep_last(count: u32) -> String {
    format!(
        "[retention]\nkeep_last = {count}\nkeep_for = \"off\"\nhourly = 0\ndaily = 0\nmax_size = \"off\"\n"
    )
}

fn automatic(b: &Bench, names: &[&str]) {
    for name in names {
        b.file(name, name.as_bytes());
        b.snap_automatic(name);
    }
}

/// What the rules keep is kept, although it goes with others that somebody deleted after it was found out what goes.
#[test]
fn retention_thinks_again_if_others_delete_meanwhile() {
    let place = Place::new();
    let b = place.open();
    let hooked = Hooked::new(&b, "before_prune", &keep_last(3));
    automatic(&b, &["1", "2", "3", "4", "5"]);
    let more = hooked.run(
        |b| super::super::keeper::give_up(&b.host),
        |b| b.engine.delete(&["4".to_owned(), "5".to_owned()]).unwrap(),
    );
    assert_eq!(b.engine.snapshot_names(), ["1", "2", "3"]);
    assert!(more.unwrap(), "it is looked at again");
    assert!(!super::super::keeper::give_up(&b.host).unwrap());
    assert_eq!(b.engine.snapshot_names(), ["1", "2", "3"]);
}

/// Rules that came into force before anything was given up are those that say what is.
#[test]
fn what_new_rules_keep_is_not_given_up_by_old_ones() {
    type Ask = fn(&Bench);
    let asks: [Ask; 2] = [
        |b| {
            super::super::keeper::give_up(&b.host).unwrap();
        },
        |b| drop(b.host.prune(None, true, None).unwrap()),
    ];
    for ask in asks {
        let place = Place::new();
        let b = place.open();
        let hooked = Hooked::new(&b, "before_prune", &keep_last(2));
        automatic(&b, &["1", "2", "3", "4"]);
        hooked.run(ask, |b| {
            drop(b.host.trust(&keep_last(10)).unwrap());
        });
        assert_eq!(b.engine.snapshot_names(), ["1", "2", "3", "4"]);
    }
}

/// What was changed while a snapshot that nobody asked for was finished is in the next one.
#[test]
fn what_comes_while_an_automatic_snapshot_is_taken_is_in_the_next() {
    use super::super::keeper::{Spell, save};
    use std::time::{Duration, Instant};
    let place = Place::new();
    let b = place.open();
    let hooked = Hooked::new(&b, "after_snap", "");
    let rules = llctl::config::Checkpoints::default();
    let begun = Instant::now();
    let at = |minutes: u64| begun + Duration::from_secs(60 * minutes);
    let mut spell = Spell::new(begun, 0);
    b.file("f", b"one");
    save(&b.host, &mut spell, at(0), &rules);
    hooked.run(
        |b| save(&b.host, &mut spell, at(1), &rules),
        |b| b.write("f", 0, b"two"),
    );
    assert_eq!(b.engine.snapshot_names().len(), 1);
    // Nothing else comes.
    b.host.trust("").unwrap();
    for minute in 2..6 {
        save(&b.host, &mut spell, at(minute), &rules);
    }
    let names = b.engine.snapshot_names();
    assert_eq!(names.len(), 2);
    assert_eq!(manifest(&b, &names[1].parse().unwrap()), b.live());
}

/// Rules that are there at the next start are in force now, too.
#[test]
fn rules_that_are_kept_are_in_force_although_older_ones_cannot_go() {
    let place = Place::new();
    let b = place.open();
    let dir = b.place.0.join("store/rules");
    std::fs::create_dir_all(dir.join("00000001.toml")).unwrap();
    for number in 2..300 {
        std::fs::write(dir.join(format!("{number:08}.toml")), b"").unwrap();
    }
    let said = b.host.trust("[retention]\nkeep_last = 7\n").map(drop);
    let now = b.engine.rules().config.retention.keep_last;
    let b = b.killed();
    let then = b.engine.rules().config.retention.keep_last;
    assert_eq!((said.is_ok(), now, then), (true, 7, 7));
}

/// A disk that fails when the rules are read first changes nothing of what is in force, and nothing is given up by others meanwhile.
#[test]
fn rules_that_could_not_be_read_at_first_are_read_again() {
    let place = Place::new();
    let b = place.open();
    automatic(&b, &["1", "2", "3"]);
    for count in [1, 3] {
        b.host.trust(&keep_last(count)).unwrap();
    }
    let [text, aside] = ["store/rules/00000002.toml", "aside"].map(|name| b.place.0.join(name));
    std::fs::rename(&text, &aside).unwrap();
    // Reading it is an error.
    std::fs::create_dir(&text).unwrap();
    let b = b.killed();
    let retention = || b.engine.rules().config.retention.clone();
    let defaults = llctl::config::Config::default().retention;
    assert_eq!((retention(), b.engine.rules().unread), (defaults, true));
    assert!(!super::super::keeper::give_up(&b.host).unwrap());
    assert_eq!(
        b.host.prune(None, true, None).unwrap_err().kind,
        ErrorKind::Io
    );
    assert_eq!(b.host.config().unwrap_err().kind, ErrorKind::Io);
    assert_eq!(b.engine.snapshot_names(), ["1", "2", "3"]);
    std::fs::remove_dir(&text).unwrap();
    std::fs::rename(&aside, &text).unwrap();
    assert_eq!(retention().keep_last, 3);
    assert!(b.host.config().is_ok());
}

/// A file of the live tree that is removed while it is shown is told as that.
#[test]
fn a_file_that_is_removed_while_it_is_shown_is_not_there() {
    let b = super::part::linked_base();
    b.file("f", &[1; 300_000]);
    let mut pieces = 0;
    let shown = b.host.cat(&StateRef::Live, &"f".into(), 0, &mut |_| {
        b.remove("f");
        pieces += 1;
        Ok(())
    });
    assert_eq!((pieces, shown.unwrap_err().kind), (1, ErrorKind::NotFound));
}

/// A preview shows what the revert would bring back, though all of it is given up while the client reads.
#[test]
fn what_a_preview_shows_stays_until_it_is_shown() {
    use llctl::protocol::{Content, OnConflict, Part, PartOf};
    let b = super::part::linked_base();
    let text = |byte: u8| vec![byte; 200 << 10];
    b.snap("0");
    b.file("m", b"new");
    b.snap("1");
    b.file("z", &text(b'2'));
    b.snap("2");
    b.write("z", 0, &text(b'3'));
    b.snap("3");
    let part = Part {
        of: PartOf::Snapshots(["1", "3"].map(|n| SnapName::new(n).unwrap()).to_vec()),
        globs: Vec::new(),
        there: Vec::new(),
    };
    let mut shown = Vec::new();
    let counts = b
        .host
        .preview_part(&part, OnConflict::Stop, true, &mut |change: Change| {
            if shown.is_empty() {
                let all = ["0", "1", "2", "3"].map(str::to_owned);
                b.engine.delete(&all).unwrap();
                b.engine.reclaim().unwrap();
            }
            shown.push((change.path.to_string(), change.patch.unwrap().new));
            Ok(())
        });
    counts.unwrap();
    let expected = [
        ("m".to_owned(), Content::Absent),
        ("z".to_owned(), Content::of(text(b'2'))),
    ];
    assert!(shown == expected, "{:?}", shown.len());
    // Then it goes.
    assert!(b.engine.reclaim().unwrap() > 0);
    assert_eq!(b.engine.reclaim().unwrap(), 0);
}

/// A snapshot from before many removals that turned out to be one just before the end is told, too.
#[test]
fn a_mark_that_is_kept_at_the_end_is_told() {
    use super::super::keeper::Keeper;
    let b = super::part::linked_base();
    for name in ["1", "2", "3", "4"] {
        b.file(name, name.as_bytes());
    }
    let rules = "[checkpoints]\nquiet = \"off\"\nevery = \"off\"\nbulk = 3\n";
    b.host.trust(rules).unwrap();
    let host = Arc::new(Host::new(b.engine.clone(), b.place.root(), Box::new(|| ())));
    let keeper = Keeper::start(&host).unwrap().unwrap();
    for name in ["1", "2", "3", "4"] {
        b.remove(name);
    }
    keeper.stop();
    let acts = b.host.history(&Default::default()).unwrap();
    let told: Vec<String> = acts.into_iter().flat_map(|act| act.targets).collect();
    assert_eq!(told, b.engine.snapshot_names());
    assert_eq!(told.len(), 1);
}
