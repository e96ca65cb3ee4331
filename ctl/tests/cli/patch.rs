//! Patches: their text, and that git makes the newer state of the older one with them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use llctl::protocol::{BytePath, Change, ChangeKind, Content, FileType, Patch};

use super::diff::{answer, change, side, text};
use super::fake::Fake;

fn with(mut change: Change, old: Content, new: Content) -> Change {
    change.patch = Some(Patch { old, new });
    change
}

fn changes() -> Vec<Change> {
    use ChangeKind::{Added, Mode, Modified, Removed, Renamed, TypeChanged};
    use FileType::{Directory, File, Symlink};
    let file = || side(File, 1, 0o644);
    let long: String = (0..30).map(|n| format!("line {n}\n")).collect();
    vec![
        with(
            change("a b/new", Added, None, side(File, 1, 0o755)),
            Content::Absent,
            text("one\ntwo\n"),
        ),
        change("dir", Added, None, side(Directory, 0, 0o755)),
        with(
            change("empty", Added, None, file()),
            Content::Absent,
            text(""),
        ),
        with(
            change("gone", Removed, file(), None),
            text("x\n"),
            Content::Absent,
        ),
        with(
            change("link", TypeChanged, file(), side(Symlink, 6, 0o777)),
            text("file\n"),
            text("target"),
        ),
        with(
            change("long", Modified, file(), file()),
            text(&long),
            text(
                &long
                    .replace("line 5\n", "changed\n")
                    .replace("line 25\n", ""),
            ),
        ),
        change("mode", Mode, file(), side(File, 1, 0o755)),
        with(
            Change {
                from: Some(BytePath::from("moved from")),
                ..change("moved to", Renamed, file(), file())
            },
            text("a\nb\n"),
            text("a\nc"),
        ),
        with(
            change("odd \"\\\té\n", Modified, file(), file()),
            text("no newline"),
            text("no newline\n\r\n"),
        ),
    ]
}

const PATCH: &str = r#"diff --git a/a b/new b/a b/new
new file mode 100755
--- /dev/null
+++ b/a b/new
@@ -0,0 +1,2 @@
+one
+two
# A  dir/
diff --git a/empty b/empty
new file mode 100644
diff --git a/gone b/gone
deleted file mode 100644
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/link b/link
deleted file mode 100644
--- a/link
+++ /dev/null
@@ -1 +0,0 @@
-file
diff --git a/link b/link
new file mode 120000
--- /dev/null
+++ b/link
@@ -0,0 +1 @@
+target
\ No newline at end of file
"#;

#[test]
fn a_patch_is_as_git_writes_it() {
    let fake = Fake::new(answer(changes()[..5].to_vec()));
    assert_eq!(fake.output(&["diff", "-p"]), PATCH);
}

#[test]
fn what_a_patch_cannot_say_is_a_remark() {
    use ChangeKind::{Mode, Modified, Xattrs};
    let file = |mode| side(FileType::File, 1, mode);
    let fake = Fake::new(answer(vec![
        change("secret", Mode, file(0o644), file(0o600)),
        change("tagged", Xattrs, file(0o644), file(0o644)),
        with(
            change("pic", Modified, file(0o644), file(0o644)),
            Content::Binary,
            Content::Binary,
        ),
        with(
            change("disk", Modified, file(0o644), file(0o644)),
            Content::TooLarge,
            text(""),
        ),
    ]));
    assert_eq!(
        fake.output(&["diff", "-p"]),
        "\
# m  secret  (mode 0644 -> 0600)
# x  tagged
diff --git a/pic b/pic
Binary files a/pic and b/pic differ
diff --git a/disk b/disk
# a/disk and b/disk differ, too large to compare
"
    );
}

#[test]
fn a_patch_in_json_is_text_or_bytes() {
    let file = || side(FileType::File, 1, 0o644);
    let latin = Content::Bytes(b"\xe9\n".to_vec().into());
    let fake = Fake::new(answer(vec![
        with(
            change("a", ChangeKind::Modified, file(), file()),
            text("x\n"),
            text("y\n"),
        ),
        with(
            change("b", ChangeKind::Modified, file(), file()),
            text("x\n"),
            latin,
        ),
    ]));
    let output = fake.output(&["diff", "-p", "--json"]);
    let lines: Vec<serde_json::Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines[0]["change"]["patch"],
        "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x\n+y\n"
    );
    assert!(
        lines[1]["change"]["patch"]["bytes"]
            .as_str()
            .unwrap()
            .ends_with("2be90a")
    );
}

#[test]
fn git_applies_the_patch() {
    let fake = Fake::new(answer(changes()));
    let tree = fake.dir.join("tree");
    fs::create_dir(&tree).unwrap();
    for change in changes() {
        let path = tree.join(change.from.as_ref().unwrap_or(&change.path).as_path());
        match change.patch.map(|patch| patch.old) {
            Some(Content::Bytes(bytes)) => fs::write(path, bytes).unwrap(),
            None if change.old.is_some() => fs::write(path, "m").unwrap(),
            _ => {}
        }
    }
    let patch = fake.dir.join("patch");
    fs::write(&patch, fake.output(&["diff", "--patch"])).unwrap();
    let applied = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .arg(&patch)
        .current_dir(&tree)
        .output()
        .unwrap();
    assert!(
        applied.status.success(),
        "{}",
        String::from_utf8_lossy(&applied.stderr)
    );

    let expected = fake.dir.join("expected");
    fs::create_dir(&expected).unwrap();
    for change in changes() {
        let path = expected.join(change.path.as_path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let Some(new) = &change.new else { continue };
        match change.patch.map(|patch| patch.new) {
            Some(Content::Bytes(bytes)) if new.file_type == FileType::Symlink => {
                symlink(std::str::from_utf8(&bytes).unwrap(), path).unwrap();
                continue;
            }
            Some(Content::Bytes(bytes)) => fs::write(&path, bytes).unwrap(),
            _ if new.file_type == FileType::File => fs::write(&path, "m").unwrap(),
            _ => continue,
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(new.mode)).unwrap();
    }
    assert_eq!(manifest(&tree), manifest(&expected));
}

/// Path, whether it can be executed, and content of each file and link.
fn manifest(root: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let meta = entry.path().symlink_metadata().unwrap();
            let name = format!("{:?}", entry.path().strip_prefix(root).unwrap());
            if meta.is_dir() {
                pending.push(entry.path());
            } else if meta.is_symlink() {
                found.push((
                    name,
                    0,
                    fs::read_link(entry.path())
                        .unwrap()
                        .into_os_string()
                        .into_encoded_bytes(),
                ));
            } else {
                found.push((
                    name,
                    meta.permissions().mode() & 0o100,
                    fs::read(entry.path()).unwrap(),
                ));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}
