use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn hold(table: &mut NodeTable, ino: u64, parent: u64, name: &str) {
    table
        .add(ino, parent, name.as_bytes(), Reason::Hold)
        .unwrap();
}

fn path(table: &NodeTable, ino: u64) -> Option<String> {
    let chain = table.chain(ino).ok()?;
    let names = chain.iter().rev();
    let names: Vec<_> = names
        .map(|(_, n)| String::from_utf8_lossy(n).into_owned())
        .collect();
    Some(names.join("/"))
}

#[test]
fn a_forgotten_directory_stays_for_its_children() {
    let mut table = NodeTable::new();
    hold(&mut table, 10, ROOT, "a");
    hold(&mut table, 11, 10, "b");
    table.forget(10);
    assert_eq!(path(&table, 11).as_deref(), Some("a/b"));
    table.forget(11);
    assert_eq!(table.len(), 1);
    assert_eq!(path(&table, 10), None);
}

#[test]
fn a_pinned_place_survives_forgetting_and_so_do_its_parents() {
    let mut table = NodeTable::new();
    hold(&mut table, 10, ROOT, "a");
    table.add(11, 10, b"b", Reason::Pin).unwrap();
    table.forget(11);
    table.forget(10);
    assert_eq!(path(&table, 11).as_deref(), Some("a/b"));
}

#[test]
fn places_may_come_before_their_parents() {
    let mut table = NodeTable::new();
    table.add(11, 10, b"b", Reason::Pin).unwrap();
    assert_eq!(table.chain(11), Err(Errno::ESTALE));
    assert_eq!(table.place(10), None);
    assert!(!table.is_held(10));
    table.add(10, ROOT, b"a", Reason::Pin).unwrap();
    assert_eq!(path(&table, 11).as_deref(), Some("a/b"));
}

#[test]
fn the_first_place_of_a_hard_link_stays() {
    let mut table = NodeTable::new();
    hold(&mut table, 10, ROOT, "first");
    hold(&mut table, 10, ROOT, "second");
    assert_eq!(path(&table, 10).as_deref(), Some("first"));
    table.forget(10);
    hold(&mut table, 10, ROOT, "second");
    assert_eq!(path(&table, 10).as_deref(), Some("second"));
}

#[test]
fn relocating_moves_a_subtree_and_lets_the_old_parent_go() {
    let mut table = NodeTable::new();
    hold(&mut table, 10, ROOT, "old");
    hold(&mut table, 11, 10, "dir");
    hold(&mut table, 12, 11, "file");
    hold(&mut table, 20, ROOT, "new");
    table.forget(10);
    table.relocate(11, 20, b"moved").unwrap();
    assert_eq!(path(&table, 12).as_deref(), Some("new/moved/file"));
    assert_eq!(path(&table, 10), None);
    // Under the same parent: the parent must not go for a moment.
    table.forget(20);
    table.relocate(11, 20, b"again").unwrap();
    assert_eq!(path(&table, 12).as_deref(), Some("new/again/file"));
}

#[test]
fn places_that_cannot_be_are_refused() {
    let mut table = NodeTable::new();
    for name in ["", ".", "..", "a/b", "/", "a\0b"] {
        let refused = table.add(10, ROOT, name.as_bytes(), Reason::Pin);
        assert_eq!(refused, Err(Errno::EINVAL), "{name:?}");
    }
    let long = table.add(10, ROOT, &[b'x'; 256], Reason::Pin);
    assert_eq!(long, Err(Errno::ENAMETOOLONG));
    assert_eq!(table.add(ROOT, 10, b"x", Reason::Pin), Err(Errno::EINVAL));
    assert_eq!(table.add(10, 10, b"x", Reason::Pin), Err(Errno::EINVAL));
    assert_eq!(table.len(), 1);
    table.add(10, ROOT, &[b'x'; 255], Reason::Pin).unwrap();
}

#[test]
fn a_ring_of_places_ends_in_an_error() {
    let mut table = NodeTable::new();
    table.add(10, 11, b"a", Reason::Pin).unwrap();
    table.add(11, 10, b"b", Reason::Pin).unwrap();
    assert_eq!(table.chain(10), Err(Errno::ELOOP));
}

/// A table of nodes with names made of `stem`, just past a doubling of the index, as 1,000,000 would be.
fn large(stem: &str) -> (NodeTable, u64) {
    let mut table = NodeTable::new();
    let count = 250_000;
    for i in 0..count {
        let parent = if i < 20 { ROOT } else { 100 + i / 20 };
        hold(&mut table, 100 + i, parent, &format!("{stem}_{i:07}.rs"));
    }
    assert_eq!(table.len() as u64, count + 1);
    (table, count)
}

#[test]
fn a_node_takes_60_bytes_and_what_a_long_name_needs() {
    for (stem, bytes) in [("module_name", 60.0), ("some_module_name", 110.0)] {
        let (table, count) = large(stem);
        let each = table.memory() as f64 / count as f64;
        assert!(each <= bytes, "{each} bytes");
    }
}

#[test]
fn free_slots_are_used_again() {
    let (mut table, count) = large("name");
    let before = table.slots.len();
    for i in 0..count {
        table.forget(100 + i);
    }
    assert_eq!(table.len(), 1);
    hold(&mut table, 7, ROOT, "again");
    assert_eq!(table.slots.len(), before);
}

/// The table without the economy: everything ever recorded, and who keeps what worked out on demand.
#[derive(Default)]
struct Model {
    nodes: BTreeMap<u64, Entry>,
}

#[derive(Default)]
struct Entry {
    place: Option<(u64, String)>,
    pinned: bool,
    held: bool,
}

impl Model {
    fn add(&mut self, ino: u64, parent: u64, name: &str, why: Reason) {
        if ino == ROOT || ino == parent {
            return;
        }
        if parent != ROOT {
            self.nodes.entry(parent).or_default();
        }
        let node = self.nodes.entry(ino).or_default();
        node.place.get_or_insert_with(|| (parent, name.into()));
        match why {
            Reason::Pin => node.pinned = true,
            Reason::Hold => node.held = true,
        }
        self.sweep();
    }

    fn relocate(&mut self, ino: u64, parent: u64, name: &str) {
        if ino != ROOT && ino != parent {
            self.add(ino, parent, name, Reason::Pin);
            if parent != ROOT {
                self.nodes.entry(parent).or_default();
            }
            self.nodes.get_mut(&ino).unwrap().place = Some((parent, name.into()));
            self.sweep();
        }
    }

    fn forget(&mut self, ino: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.held = false;
        }
        self.sweep();
    }

    fn sweep(&mut self) {
        loop {
            let parents: Vec<u64> = self
                .nodes
                .values()
                .filter_map(|n| Some(n.place.as_ref()?.0))
                .collect();
            let before = self.nodes.len();
            self.nodes
                .retain(|ino, n| n.pinned || n.held || parents.contains(ino));
            if self.nodes.len() == before {
                return;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Hold(u64, u64, u8),
    Pin(u64, u64, u8),
    Relocate(u64, u64, u8),
    Forget(u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Parents have smaller numbers, so no ring arises: rings are kept for ever, which is fine, by both.
    let place = || (2..16u64).prop_flat_map(|ino| (Just(ino), 1..ino, 0..3u8));
    prop_oneof![
        6 => place().prop_map(|(ino, parent, name)| Step::Hold(ino, parent, name)),
        1 => place().prop_map(|(ino, parent, name)| Step::Pin(ino, parent, name)),
        1 => place().prop_map(|(ino, parent, name)| Step::Relocate(ino, parent, name)),
        8 => (1..16u64).prop_map(Step::Forget),
    ]
}

proptest! {
    #[test]
    fn the_table_keeps_exactly_what_something_keeps(steps in prop::collection::vec(step(), 1..60)) {
        let (mut table, mut model) = (NodeTable::new(), Model::default());
        for step in steps {
            match step {
                Step::Hold(ino, parent, name) => {
                    table.add(ino, parent, &[b'a' + name], Reason::Hold).unwrap();
                    model.add(ino, parent, &char::from(b'a' + name).to_string(), Reason::Hold);
                }
                Step::Pin(ino, parent, name) => {
                    table.add(ino, parent, &[b'a' + name], Reason::Pin).unwrap();
                    model.add(ino, parent, &char::from(b'a' + name).to_string(), Reason::Pin);
                }
                Step::Relocate(ino, parent, name) => {
                    table.relocate(ino, parent, &[b'a' + name]).unwrap();
                    model.relocate(ino, parent, &char::from(b'a' + name).to_string());
                }
                Step::Forget(ino) => {
                    table.forget(ino);
                    model.forget(ino);
                }
            }
            prop_assert_eq!(table.len(), model.nodes.len() + 1);
            for ino in 2..16 {
                let found = table.place(ino).map(|(p, n)| (p, String::from_utf8_lossy(n).into_owned()));
                prop_assert_eq!(found, model.nodes.get(&ino).and_then(|n| n.place.clone()));
            }
        }
    }
}
