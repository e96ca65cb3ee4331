//! Random histories of work, snapshots, reverts, undos, deletions, applies and deaths of the daemon, pruned by random rules in
//! between: what the rules keep is kept, what is kept is what it was to the byte, and undo goes on working.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use llctl::client::Snapped;
use llctl::config::{AppliesTo, Retention, Size, Span};
use llctl::protocol::{MetaEdit, Request, Response};
use proptest::prelude::*;

use super::random::{Manifest, Op, config, manifest, run, work};
use super::*;
use crate::engine::service::digest::check_all;
use crate::tree::{Meta, Record};

#[derive(Clone, Debug)]
enum Step {
    Work(Vec<Op>),
    /// Taken by itself, tagged, and so many minutes ago by a clock that may jump.
    Snap(bool, bool, i64),
    Pin(usize),
    Tag(usize),
    Revert(usize),
    Undo,
    Redo,
    Delete(usize),
    Prune(Retention),
    Apply,
    Kill,
}

fn rules() -> impl Strategy<Value = Retention> {
    let span = prop_oneof![
        2 => Just(None),
        1 => (1u64..72).prop_map(|hours| Some(Span::from_secs(hours * 3600 + 1800))),
    ];
    let size = prop_oneof![3 => Just(None), 1 => (0u64..200_000).prop_map(|n| Some(Size(n)))];
    (
        0u32..4,
        span,
        0u32..4,
        0u32..3,
        any::<bool>(),
        size,
        any::<bool>(),
    )
        .prop_map(
            |(keep_last, keep_for, hourly, daily, keep_tagged, max_size, all)| Retention {
                keep_last,
                keep_for,
                hourly,
                daily,
                keep_tagged,
                max_size,
                applies_to: if all {
                    AppliesTo::All
                } else {
                    AppliesTo::Automatic
                },
            },
        )
}

/// Minutes, up to four days. None are near a half hour: a slow test is none that fails.
fn ago() -> impl Strategy<Value = i64> {
    (0i64..100, 0i64..40).prop_map(|(hours, minutes)| hours * 60 + (minutes + 40) % 60)
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0usize..16;
    prop_oneof![
        8 => prop::collection::vec(work(), 1..5).prop_map(Step::Work),
        8 => (prop::bool::weighted(0.7), prop::bool::weighted(0.2), ago())
            .prop_map(|(own, tagged, ago)| Step::Snap(own, tagged, ago)),
        1 => which().prop_map(Step::Pin),
        1 => which().prop_map(Step::Tag),
        3 => which().prop_map(Step::Revert),
        2 => Just(Step::Undo),
        1 => Just(Step::Redo),
        2 => which().prop_map(Step::Delete),
        4 => rules().prop_map(Step::Prune),
        1 => Just(Step::Apply),
        2 => Just(Step::Kill),
    ]
}

/// A snapshot that there should be.
#[derive(Clone)]
struct Kept {
    name: String,
    minute: i64,
    own: bool,
    tagged: bool,
    pinned: bool,
    holds: Manifest,
}

impl Kept {
    fn local(&self, form: &str) -> String {
        let at = Timestamp::from_second(self.minute * 60).unwrap();
        at.to_zoned(TimeZone::system()).strftime(form).to_string()
    }
}

/// A state that undo or redo should bring back, newest last.
struct Aside {
    redo: bool,
    holds: Manifest,
}

struct Model {
    /// When it began, in minutes since 1970.
    begun: i64,
    snapshots: Vec<Kept>,
    aside: Vec<Aside>,
    taken: usize,
}

impl Model {
    fn new(begun: i64, taken: usize) -> Self {
        Model {
            begun,
            snapshots: Vec::new(),
            aside: Vec::new(),
            taken,
        }
    }

    fn one(&mut self, which: usize) -> Option<&mut Kept> {
        let count = self.snapshots.len();
        (count > 0).then(|| &mut self.snapshots[which % count])
    }

    /// The head is discarded.
    fn set_aside(&mut self, redo: bool, holds: Manifest) {
        self.aside.push(Aside { redo, holds });
    }

    /// What lies on top of a pile.
    fn top(&mut self, redo: bool) -> Option<Manifest> {
        let at = self.aside.iter().rposition(|a| a.redo == redo)?;
        Some(self.aside.remove(at).holds)
    }

    /// What the rules keep, each by itself, without the limit of size.
    fn kept_by(&self, rules: &Retention) -> BTreeSet<String> {
        let applies = |k: &Kept| {
            !(k.pinned || rules.keep_tagged && k.tagged)
                && (k.own || rules.applies_to == AppliesTo::All)
        };
        let newest: Vec<&Kept> = self.snapshots.iter().rev().filter(|k| applies(k)).collect();
        let mut kept: BTreeSet<String> = (self.snapshots.iter())
            .filter(|k| !applies(k))
            .map(|k| k.name.clone())
            .collect();
        for (place, one) in newest.iter().enumerate() {
            // How many hours, or days, are newer: in the order in which they were taken, whatever the clock said.
            let newer = |unit: fn(&Kept) -> String| {
                let units: Vec<String> = newest[..place].iter().map(|k| unit(k)).collect();
                let new = !units.contains(&unit(one));
                (new, units.into_iter().collect::<BTreeSet<_>>().len())
            };
            let (hour, hours) = newer(|k| k.local("%F %H %z"));
            let (day, days) = newer(|k| k.local("%F"));
            let span = rules.keep_for.map(|span| span.get().as_secs() as i64 / 60);
            if place < rules.keep_last as usize
                || span.is_some_and(|span| self.begun - one.minute <= span)
                || hour && hours < rules.hourly as usize
                || day && days < rules.daily as usize
            {
                kept.insert(one.name.clone());
            }
        }
        kept
    }
}

/// A snapshot as [`Engine`] takes them, by another clock.
fn snap_at(b: &Bench, name: &str, meta: SnapMeta, minute: i64) {
    let _turn = b.engine.turn.lock();
    let _gate = b.engine.gate.write();
    let mut state = b.engine.state.write();
    let record = Record::Snap {
        id: state.next_state,
        name: name.to_owned(),
        message: String::new(),
        at: Time {
            sec: minute * 60,
            nsec: 0,
        },
        meta: Meta::from(meta),
    };
    b.engine.commit_reserved(&mut state, &record).unwrap();
    b.engine.seal_written();
}

fn live(b: &Bench) -> Manifest {
    manifest(b, &StateRef::Live)
}

fn carry_out(b: Bench, model: &mut Model, step: &Step) -> Bench {
    match step {
        Step::Work(ops) => {
            for op in ops {
                run(&b, op, &mut 0);
            }
        }
        Step::Snap(own, tagged, ago) => {
            let name = format!("s{}", model.taken);
            model.taken += 1;
            let meta = SnapMeta {
                reason: own.then(|| "automatic".to_owned()),
                tags: tagged.then(|| "good".to_owned()).into_iter().collect(),
                ..SnapMeta::default()
            };
            let minute = model.begun - ago;
            snap_at(&b, &name, meta, minute);
            model.snapshots.push(Kept {
                name,
                minute,
                own: *own,
                tagged: *tagged,
                pinned: false,
                holds: live(&b),
            });
        }
        Step::Pin(which) | Step::Tag(which) => {
            if let Some(one) = model.one(*which) {
                let mut edit = MetaEdit::default();
                match step {
                    Step::Pin(_) => {
                        one.pinned = true;
                        edit.pinned = Some(true);
                    }
                    _ => {
                        one.tagged = true;
                        edit.set.tags.insert("good".to_owned());
                    }
                }
                let name = SnapName::new(&one.name).unwrap();
                b.host.describe(&name, &edit).unwrap();
            }
        }
        Step::Revert(which) => {
            if let Some(one) = model.one(*which).cloned() {
                let before = live(&b);
                let done = b.host.revert(&one.name.parse().unwrap(), false).unwrap();
                match done.discarded {
                    Some(_) => {
                        model.aside.iter_mut().for_each(|a| a.redo = false);
                        model.set_aside(false, before);
                    }
                    // Where nothing differs, nothing was done.
                    None => assert_eq!(before, one.holds),
                }
                assert_eq!(live(&b), one.holds, "reverted to {}", one.name);
            }
        }
        Step::Undo | Step::Redo => {
            let redo = matches!(step, Step::Redo);
            let before = live(&b);
            let done = match redo {
                true => b.host.redo(1),
                false => b.host.undo(1),
            };
            let Some(expected) = model.top(redo) else {
                done.unwrap_err();
                return b;
            };
            done.unwrap();
            model.set_aside(!redo, before);
            assert_eq!(live(&b), expected, "{step:?}");
        }
        Step::Delete(which) => {
            if let Some(one) = model.one(*which).cloned() {
                let name = SnapName::new(&one.name).unwrap();
                b.host.delete(&[name], None).unwrap();
                model.snapshots.retain(|k| k.name != one.name);
            }
        }
        Step::Prune(rules) => prune(&b, model, rules),
        Step::Apply => {
            b.host.apply(None, &mut |_| Ok(())).unwrap();
            *model = Model::new(model.begun, model.taken);
        }
        Step::Kill => {
            let before = live(&b);
            let b = b.killed();
            assert_eq!(live(&b), before, "after a death");
            check(&b, model);
            return b;
        }
    }
    b
}

fn prune(b: &Bench, model: &mut Model, rules: &Retention) {
    let kept = model.kept_by(rules);
    let before = live(b);
    let plan = b.host.prune(Some(rules), false, None).unwrap();
    assert_eq!(b.engine.snapshot_names().len(), model.snapshots.len());
    let done = b.host.prune(Some(rules), true, None).unwrap();
    assert_eq!(
        plan.snapshots, done.snapshots,
        "what was said is what is done"
    );
    let gone: BTreeSet<String> = done.snapshots.iter().map(|s| s.name.clone()).collect();
    let all: BTreeSet<String> = model.snapshots.iter().map(|k| k.name.clone()).collect();
    let expected: BTreeSet<String> = all.difference(&kept).cloned().collect();
    if rules.max_size.is_none() {
        assert_eq!(gone, expected, "{rules:?}");
    }
    assert!(
        gone.is_superset(&expected),
        "{rules:?}: {gone:?}, not {expected:?}"
    );
    // Of those that any rule keeps the newest stays, whatever the size.
    let newest = model
        .snapshots
        .iter()
        .rev()
        .find(|k| kept.contains(&k.name));
    assert!(
        newest.is_none_or(|k| !gone.contains(&k.name)),
        "{rules:?}: {gone:?}"
    );
    model.snapshots.retain(|k| !gone.contains(&k.name));
    assert_eq!(live(b), before);
    check(b, model);
}

/// All that should be there is, and is what it was.
fn check(b: &Bench, model: &Model) {
    let names: Vec<String> = model.snapshots.iter().map(|k| k.name.clone()).collect();
    assert_eq!(b.engine.snapshot_names(), names);
    for kept in &model.snapshots {
        let state: StateRef = kept.name.parse().unwrap();
        assert_eq!(manifest(b, &state), kept.holds, "{}", kept.name);
    }
    check_all(b);
}

/// The worker that did it died before it could say so.
#[test]
fn what_was_pruned_is_told_to_who_asks_again() {
    let place = Place::new();
    place.put("a", b"a");
    let b = place.open();
    for number in 0..4 {
        b.write("a", 0, &[number; 3000]);
        let meta = SnapMeta {
            reason: Some("automatic".to_owned()),
            ..SnapMeta::default()
        };
        snap_at(&b, &format!("s{number}"), meta, i64::from(number));
    }
    let rules = Retention {
        keep_last: 1,
        ..Retention::default()
    };
    let request = Request::Prune {
        rules: Some(rules.clone()),
        yes: true,
        shown: None,
    };
    assert!(b.host.begin(7, 1, &request).is_none());
    let told = b.host.prune(Some(&rules), true, None).unwrap();
    b.host.end();
    assert_eq!(told.snapshots.len(), 3, "{told:?}");
    let again = b.host.begin(7, 1, &request);
    assert_eq!(again.unwrap().unwrap(), Response::Pruned(told));
    // Another request is another one.
    assert!(b.host.begin(7, 2, &request).is_none());
    assert_eq!(
        b.host.prune(Some(&rules), true, None).unwrap().snapshots,
        []
    );
    b.host.end();
}

/// Programs go on meanwhile.
#[test]
fn a_phase_or_session_that_is_asked_for_again_takes_no_second_snapshot() {
    let place = Place::new();
    place.put("a", b"a");
    let b = place.open();
    let phase = Request::Phase {
        name: "build".to_owned(),
        session: None,
    };
    let session = Request::Session {
        id: "s2".to_owned(),
    };
    for (number, request) in [(1, phase), (2, session)] {
        b.write("a", 0, &[number; 3000]);
        assert!(b.host.begin(7, number.into(), &request).is_none());
        let told = match &request {
            Request::Phase { name, .. } => b.host.phase(name, None),
            _ => b.host.session("s2"),
        };
        b.host.end();
        let Snapped::Taken(told) = told.unwrap() else {
            panic!("nothing was taken")
        };
        b.write("a", 0, &[number; 4000]);
        let again = b.host.begin(7, number.into(), &request);
        match again.expect("it would be done twice").unwrap() {
            Response::Snap(info) => assert_eq!(info.name, told.name),
            other => panic!("{other:?}"),
        }
        b.host.end();
    }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn pruning_leaves_what_it_keeps(steps in prop::collection::vec(step(), 1..40)) {
        let place = Place::new();
        for path in ["a/a/a", "a/a/b", "a/b/c", "a/c", "b/a/a", "b/b", "d"] {
            place.put(path, path.as_bytes());
        }
        let mut b = place.open();
        let mut model = Model::new(Timestamp::now().as_second() / 60, 0);
        for step in &steps {
            b = carry_out(b, &mut model, step);
        }
        // Space is taken back at last, and nothing of it was needed.
        b.engine.reclaim().unwrap();
        check(&b, &model);
        while let Some(expected) = model.top(false) {
            b.host.undo(1).unwrap();
            assert_eq!(live(&b), expected, "undo at the end");
        }
        let mut findings = Vec::new();
        b.host.verify(&mut |event| {
            if let llctl::client::VerifyEvent::Finding(finding) = event {
                findings.push(finding);
            }
            Ok(())
        }).unwrap();
        prop_assert!(findings.is_empty(), "{:?}", findings);
    }
}
