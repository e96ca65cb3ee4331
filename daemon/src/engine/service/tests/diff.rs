//! What a diff says of each kind of change.

use std::fs;
use std::os::unix::fs::symlink;

use llctl::protocol::{ChangeKind, Content, FileType, Patch};

use super::*;

fn bench() -> Bench {
    let place = Place::new();
    place.put("README", b"read me\n");
    place.put("src/main.rs", b"fn main() {}\n");
    place.put("src/deep/er/lib.rs", b"// lib\n");
    place.put("src/deep/data", &[7; 20_000]);
    place.put("gone", b"to go\n");
    symlink("README", place.base("link")).unwrap();
    place.open()
}

#[test]
fn nothing_differs_at_first() {
    let b = bench();
    assert_eq!(b.lines("@base", "@live"), [""; 0]);
    assert_eq!(b.lines("@live", "@base"), [""; 0]);
}

#[test]
fn each_kind_of_change_has_its_name_in_both_directions() {
    let b = bench();
    b.file("new", b"new\n");
    b.dir("dir");
    b.file("dir/in", b"");
    b.remove("gone");
    b.write("README", 3, b"X");
    b.chmod("src/main.rs", 0o600);
    b.engine
        .setxattr(b.ino("src/deep/data"), b"user.k", b"v", 0, &me())
        .unwrap();
    b.utime("src/deep/er/lib.rs", Time { sec: 1, nsec: 2 });
    b.remove("link");
    b.file("link", b"a file now");
    let lines = b.lines("@base", "@live");
    let expected = [
        "M README",
        "A dir",
        "A dir/in",
        "D gone",
        "T link",
        "A new",
        "X src/deep/data",
        "C src/deep/er/lib.rs",
        "P src/main.rs",
    ];
    assert_eq!(lines, expected);
    let back: Vec<String> = expected
        .iter()
        .map(|l| match l.split_at(1) {
            ("A", rest) => format!("D{rest}"),
            ("D", rest) => format!("A{rest}"),
            _ => (*l).to_owned(),
        })
        .collect();
    assert_eq!(b.lines("@live", "@base"), back);
}

#[test]
fn a_snapshot_divides_what_is_told() {
    let b = bench();
    b.write("README", 0, b"1");
    b.snap("one");
    b.write("src/main.rs", 0, b"2");
    b.file("x", b"x");
    b.snap("two");
    b.remove("x");
    assert_eq!(b.lines("@base", "one"), ["M README"]);
    assert_eq!(b.lines("one", "two"), ["M src/main.rs", "A x"]);
    assert_eq!(b.lines("two", "@live"), ["D x"]);
    assert_eq!(b.lines("one", "@live"), ["M src/main.rs"]);
    let mut changes = Vec::new();
    let mut sink = |c: Change| {
        changes.push(c.path);
        Ok(())
    };
    b.host
        .diff(None, &StateRef::Live, &[], false, &mut sink)
        .unwrap();
    assert_eq!(
        changes,
        [BytePath::from("x")],
        "the last snapshot is the default"
    );
}

#[test]
fn sides_show_the_object_before_and_after() {
    let b = bench();
    b.write("README", 8, b"more\n");
    b.chmod("README", 0o640);
    let changes = b.changes("@base", "@live", false);
    let [change] = &changes[..] else {
        panic!("{changes:?}")
    };
    let (old, new) = (change.old.as_ref().unwrap(), change.new.as_ref().unwrap());
    assert_eq!((old.file_type, old.size), (FileType::File, 8));
    assert_eq!((new.size, new.mode, new.uid), (13, 0o640, me().uid));
    assert!(new.mtime > old.mtime);
    assert_eq!(change.patch, None);
}

#[test]
fn a_renamed_base_directory_is_one_change_and_what_is_below_is_told_where_it_is() {
    let b = bench();
    b.rename("src/deep", "moved", 0);
    assert_eq!(b.lines("@base", "@live"), ["R moved < src/deep"]);
    assert_eq!(b.lines("@live", "@base"), ["R src/deep < moved"]);
    b.snap("moved");
    b.write("moved/data", 0, b"changed");
    b.remove("moved/er/lib.rs");
    b.file("moved/er/new", b"");
    let inside = ["M moved/data", "D moved/er/lib.rs", "A moved/er/new"];
    assert_eq!(b.lines("moved", "@live"), inside);
    assert_eq!(
        b.lines("@base", "@live"),
        [
            "R moved < src/deep",
            "M moved/data",
            "A moved/er/new",
            "D src/deep/er/lib.rs"
        ],
        "a removed path is the older state's, all others are the newer's"
    );
}

#[test]
fn a_file_moved_out_of_a_removed_base_directory_is_renamed_and_the_rest_removed() {
    let b = bench();
    b.rename("src/deep/er/lib.rs", "lib.rs", 0);
    b.remove("src/deep/er");
    b.remove("src/deep/data");
    b.remove("src/deep");
    let lines = b.lines("@base", "@live");
    assert_eq!(
        lines,
        [
            "R lib.rs < src/deep/er/lib.rs",
            "D src/deep",
            "D src/deep/data",
            "D src/deep/er"
        ]
    );
    assert_eq!(
        b.lines("@live", "@base"),
        [
            "A src/deep",
            "A src/deep/data",
            "A src/deep/er",
            "R src/deep/er/lib.rs < lib.rs"
        ]
    );
}

#[test]
fn a_tree_made_anew_with_the_same_content_differs_in_times_only() {
    let b = bench();
    b.remove("src/main.rs");
    b.remove("src/deep/er/lib.rs");
    b.remove("src/deep/er");
    b.remove("src/deep/data");
    b.remove("src/deep");
    b.remove("src");
    b.dir("src");
    b.file("src/main.rs", b"fn main() {}\n");
    b.dir("src/deep");
    b.file("src/deep/data", &[7; 20_001]);
    assert_eq!(
        b.lines("@base", "@live"),
        [
            "M src/deep/data",
            "D src/deep/er",
            "D src/deep/er/lib.rs",
            "C src/main.rs"
        ]
    );
}

#[test]
fn a_file_replaced_by_rename_is_modified_and_a_moved_one_renamed() {
    let b = bench();
    b.file("README.tmp", b"new text\n");
    b.rename("README.tmp", "README", 0);
    assert_eq!(b.lines("@base", "@live"), ["M README"]);
    b.rename("gone", "src/main.rs", 0);
    assert_eq!(
        b.lines("@base", "@live"),
        ["M README", "R src/main.rs < gone"]
    );
    b.snap("s");
    b.rename("README", "src/main.rs", 2);
    assert_eq!(
        b.lines("s", "@live"),
        ["R README < src/main.rs", "R src/main.rs < README"]
    );
    b.rename("README", "src/main.rs", 2);
    assert_eq!(b.lines("s", "@live"), [""; 0]);
}

#[test]
fn what_was_written_with_the_same_bytes_is_not_modified() {
    let b = bench();
    b.snap("s");
    let mtime = b.engine.getattr(b.ino("src/deep/data")).unwrap().mtime;
    b.write("src/deep/data", 0, &[7; 20_000]);
    b.utime("src/deep/data", mtime);
    assert_eq!(b.lines("s", "@live"), [""; 0]);
    b.write("src/deep/data", 19_999, &[8]);
    b.utime("src/deep/data", mtime);
    assert_eq!(b.lines("s", "@live"), ["M src/deep/data"]);
}

#[test]
fn a_file_that_was_cut_and_grew_again_is_modified() {
    let b = bench();
    let size = |size| SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    b.set("src/deep/data", size(4096));
    b.set("src/deep/data", size(20_000));
    assert_eq!(b.lines("@base", "@live"), ["M src/deep/data"]);
}

#[test]
fn hard_links_are_told_under_each_name() {
    let b = bench();
    b.link("README", "src/second");
    assert_eq!(b.lines("@base", "@live"), ["A src/second"]);
    b.snap("linked");
    b.write("README", 0, b"W");
    assert_eq!(b.lines("linked", "@live"), ["M README", "M src/second"]);
    b.remove("README");
    assert_eq!(b.lines("linked", "@live"), ["D README", "M src/second"]);
    // Seen from the base, the first name went and another came: that is a renaming.
    assert_eq!(b.lines("@base", "@live"), ["R src/second < README"]);
}

#[test]
fn base_hard_links_lose_one_name_each() {
    let place = Place::new();
    place.put("a", b"two names");
    fs::hard_link(place.base("a"), place.base("b")).unwrap();
    let b = place.open();
    b.remove("b");
    assert_eq!(b.lines("@base", "@live"), ["D b"]);
    b.rename("a", "c", 0);
    assert_eq!(b.lines("@base", "@live"), ["D b", "R c < a"]);
}

#[test]
fn names_are_bytes() {
    let b = bench();
    let odd = b"odd\xff\n name";
    b.file(odd, b"1");
    b.snap("s");
    b.rename(odd, b"\x80\x81", 0);
    b.write(b"\x80\x81", 0, b"2");
    let changes = b.changes("s", "@live", true);
    let [change] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(change.kind, ChangeKind::Renamed);
    assert_eq!(change.path.0, b"\x80\x81");
    assert_eq!(change.from.as_ref().unwrap().0, odd);
}

#[test]
fn paths_select_what_is_told_and_counted() {
    let b = bench();
    b.write("README", 0, b"1");
    b.write("src/main.rs", 0, b"1");
    b.rename("gone", "src/kept", 0);
    let told = |paths: &[&str]| {
        let paths: Vec<BytePath> = paths.iter().map(|p| BytePath::from(*p)).collect();
        let mut told = Vec::new();
        let mut sink = |c: Change| {
            told.push(c.path.to_string());
            Ok(())
        };
        let host = &b.host;
        let counts = host.diff(
            Some(&StateRef::Base),
            &StateRef::Live,
            &paths,
            false,
            &mut sink,
        );
        assert_eq!(counts.unwrap().total(), told.len() as u64);
        told
    };
    assert_eq!(told(&["src"]), ["src/kept", "src/main.rs"]);
    assert_eq!(told(&["gone"]), ["src/kept"], "by the older name as well");
    assert_eq!(told(&["sr"]), [""; 0]);
    assert_eq!(told(&[""]).len(), 3);
}

#[test]
fn a_patch_has_both_contents() {
    let b = bench();
    b.snap("s");
    b.write("README", 0, b"W");
    b.file("new", b"fresh\n");
    b.remove("gone");
    b.file("bin", b"a\0b");
    b.chmod("src/main.rs", 0o600);
    b.remove("link");
    b.make("link", Kind::Symlink, b"elsewhere");
    let text = |t: &str| Content::Bytes(t.as_bytes().to_vec().into());
    let patches: Vec<(String, Option<Patch>)> = b
        .changes("s", "@live", true)
        .into_iter()
        .map(|c| (c.path.to_string(), c.patch))
        .collect();
    let both = |old, new| Some(Patch { old, new });
    let expected = [
        ("README", both(text("read me\n"), text("Wead me\n"))),
        ("bin", both(Content::Absent, Content::Binary)),
        ("gone", both(text("to go\n"), Content::Absent)),
        ("link", both(text("README"), text("elsewhere"))),
        ("new", both(Content::Absent, text("fresh\n"))),
        ("src/main.rs", None),
    ];
    assert_eq!(
        patches,
        expected.map(|(path, patch)| (path.to_owned(), patch))
    );
}

#[test]
fn the_patch_of_an_old_state_is_not_what_was_written_later() {
    let b = bench();
    b.write("README", 0, b"1");
    b.snap("one");
    b.write("README", 0, b"2");
    b.snap("two");
    b.write("README", 0, b"3");
    let changes = b.changes("one", "two", true);
    let text = |t: &[u8]| Content::Bytes(t.to_vec().into());
    let patch = changes[0].patch.as_ref().unwrap();
    assert_eq!(patch.old, text(b"1ead me\n"));
    assert_eq!(patch.new, text(b"2ead me\n"));
}

#[test]
fn undo_and_base_can_be_compared() {
    let b = bench();
    b.file("kept", b"");
    b.snap("s");
    b.file("lost", b"");
    let missing = b
        .host
        .diff(None, &StateRef::Undo, &[], false, &mut |_| Ok(()));
    assert!(missing.is_err());
    b.host.revert(&"s".parse().unwrap(), false).unwrap();
    assert_eq!(b.lines("@undo", "@live"), ["D lost"]);
    assert_eq!(b.lines("@base", "@undo"), ["A kept", "A lost"]);
}

#[test]
fn the_root_itself_can_change() {
    let b = bench();
    b.chmod("", 0o700);
    assert_eq!(b.lines("@base", "@live"), ["P ."]);
}

#[test]
fn a_client_that_leaves_stops_the_diff() {
    let b = bench();
    b.file("x", b"");
    b.file("y", b"");
    let mut sent = 0;
    let mut sink = |_| {
        sent += 1;
        Err(std::io::ErrorKind::BrokenPipe.into())
    };
    b.host
        .diff(None, &StateRef::Live, &[], false, &mut sink)
        .unwrap();
    assert_eq!(sent, 1);
}

/// The base has two names of a file, and nobody ever looked at one of them.
#[test]
fn a_second_hard_link_that_nobody_looked_at_changes_too() {
    let place = Place::new();
    place.put("a", b"a");
    place.put("d/e/x", b"x");
    fs::hard_link(place.base("a"), place.base("d/e/b")).unwrap();
    let b = place.open();
    b.write("a", 0, b"A");
    b.snap("s");
    assert_eq!(b.lines("@base", "s"), ["M a", "M d/e/b"]);
    b.rename("d/e", "f", 0);
    b.write("a", 0, b"Z");
    assert_eq!(b.lines("s", "@live"), ["M a", "R f < d/e", "M f/b"]);
    b.remove("a");
    assert_eq!(b.lines("s", "@live"), ["D a", "R f < d/e", "M f/b"]);
}

/// What is remembered is where a file was put last.
#[test]
fn a_file_whose_last_name_went_is_found_under_the_one_that_stayed() {
    let place = Place::new();
    place.put("a", b"a");
    place.put("d/x", b"x");
    fs::hard_link(place.base("d/x"), place.base("y")).unwrap();
    place.put("gone/z", b"z");
    let b = place.open();
    b.file("new", b"n");
    // Its place in the base is in a directory that is not there any more.
    b.rename("gone/z", "z", 0);
    b.remove("gone");
    b.rename("a", "moved", 0);
    for name in ["new", "moved", "z"] {
        b.link(name, "other");
        b.remove("other");
    }
    b.write("d/x", 0, b"X");
    b.remove("d/x");
    b.snap("s");
    for name in ["new", "moved", "y", "z"] {
        b.write(name, 0, b"Z");
    }
    assert_eq!(b.lines("s", "@live"), ["M moved", "M new", "M y", "M z"]);
    b.snap("t");
    super::super::digest::check_all(&b);
}
