//! After a revert nobody sees reverted state: not through a descriptor, a mapping, a cached
//! directory, a remembered absence or a working directory.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::process::{Command, Stdio};

use llfs_tests::dice::pattern;
use llfs_tests::manifest::Ignore;
use llfs_tests::mounted::Mounted;
use llfs_tests::sys::Mapping;
use llfs_tests::tree;

fn with_file(name: &str, content: &[u8]) -> Mounted {
    Mounted::over(name, |base| {
        fs::write(base.join("file"), content).expect("the base is writable")
    })
}

fn write_in_place(mounted: &Mounted, name: &str, content: &[u8]) {
    let file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .create(true)
        .open(mounted.path(name));
    file.unwrap().write_all(content).unwrap();
}

#[test]
fn an_open_descriptor_reads_the_snapshot() {
    let mounted = with_file("descriptor", b"before");
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(mounted.path("file"))
        .unwrap();
    mounted.snap("s");
    file.write_all_at(b"after, and longer", 0).unwrap();
    let mut cached = String::new();
    file.read_to_string(&mut cached).unwrap();
    assert_eq!(cached, "after, and longer");
    mounted.revert("s");
    assert_eq!(file.metadata().unwrap().len(), 6);
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before");
    // And it is the same file as the one at the path.
    file.write_all_at(b"BE", 0).unwrap();
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"BEfore");
}

#[test]
fn size_and_attributes_come_back_with_no_read_between() {
    let mounted = with_file("attributes", &pattern(1, 100_000));
    let file = File::options()
        .read(true)
        .write(true)
        .open(mounted.path("file"))
        .unwrap();
    let before = file.metadata().unwrap();
    mounted.snap("s");
    file.set_len(10).unwrap();
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    fs::hard_link(mounted.path("file"), mounted.path("second")).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 2);
    mounted.revert("s");
    let after = file.metadata().unwrap();
    assert_eq!(after.len(), 100_000);
    assert_eq!(after.mode(), before.mode());
    assert_eq!(after.nlink(), 1);
    assert_eq!(
        (after.mtime(), after.mtime_nsec()),
        (before.mtime(), before.mtime_nsec())
    );
    assert_eq!(after.ino(), before.ino());
}

#[test]
fn a_shared_mapping_shows_the_snapshot() {
    let old = pattern(2, 64 << 10);
    let mounted = with_file("mapping", &old);
    let file = File::options()
        .read(true)
        .write(true)
        .open(mounted.path("file"))
        .unwrap();
    let mapping = Mapping::new(&file, old.len(), false).unwrap();
    assert_eq!(mapping.read(0, old.len()), old);
    mounted.snap("s");
    file.write_all_at(&pattern(3, 64 << 10), 0).unwrap();
    assert_eq!(mapping.read(0, old.len()), pattern(3, 64 << 10));
    mounted.revert("s");
    assert_eq!(mapping.read(0, old.len()), old);
    mounted.undo();
    assert_eq!(mapping.read(0, old.len()), pattern(3, 64 << 10));
}

#[test]
fn a_snapshot_holds_synced_stores_through_a_mapping() {
    let mounted = with_file("synced", &[1; 32 << 10]);
    let file = File::options()
        .read(true)
        .write(true)
        .open(mounted.path("file"))
        .unwrap();
    let mapping = Mapping::new(&file, 32 << 10, true).unwrap();
    mapping.write(5000, b"stored and synced");
    mapping.sync().unwrap();
    mounted.snap("s");
    mapping.write(5000, b"discarded, never ");
    mounted.revert("s");
    assert_eq!(mapping.read(5000, 17), b"stored and synced");
    let mut found = [0; 17];
    file.read_exact_at(&mut found, 5000).unwrap();
    assert_eq!(&found, b"stored and synced");
    // What was dirty in the mapping at the revert must not come back later.
    mapping.sync().unwrap();
    drop(mapping);
    drop(file);
    mounted.remount();
    assert_eq!(
        &fs::read(mounted.path("file")).unwrap()[5000..5017],
        b"stored and synced"
    );
}

#[test]
fn a_snapshot_holds_unsynced_stores_through_a_live_mapping() {
    let mounted = with_file("unsynced", &[1; 8192]);
    let file = File::options()
        .read(true)
        .write(true)
        .open(mounted.path("file"))
        .unwrap();
    let mapping = Mapping::new(&file, 8192, true).unwrap();
    mapping.write(100, b"only stored");
    mounted.snap("s");
    mapping.write(100, b"OVERWRITTEN");
    mounted.revert("s");
    assert_eq!(mapping.read(100, 11), b"only stored");
}

#[test]
fn absences_and_listings_are_forgotten() {
    let mounted = with_file("absences", b"text");
    fs::create_dir(mounted.path("dir")).unwrap();
    fs::write(mounted.path("dir/one"), "1").unwrap();
    mounted.snap("s");
    fs::remove_file(mounted.path("dir/one")).unwrap();
    fs::write(mounted.path("dir/two"), "2").unwrap();
    // Make the kernel remember: an absence, a listing, an attribute.
    for _ in 0..3 {
        assert!(!mounted.path("dir/one").exists());
        assert!(mounted.path("dir/two").exists());
        assert_eq!(names(&mounted, "dir"), ["two"]);
    }
    mounted.revert("s");
    assert!(!mounted.path("dir/two").exists());
    assert_eq!(fs::read(mounted.path("dir/one")).unwrap(), b"1");
    assert_eq!(names(&mounted, "dir"), ["one"]);
    mounted.undo();
    assert!(!mounted.path("dir/one").exists());
    assert_eq!(fs::read(mounted.path("dir/two")).unwrap(), b"2");
    assert_eq!(names(&mounted, "dir"), ["two"]);
}

fn names(mounted: &Mounted, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(mounted.path(dir)).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_open_directory_lists_the_snapshot() {
    let mounted = Mounted::new("opendir");
    fs::create_dir(mounted.path("dir")).unwrap();
    let fill = || {
        for number in 0..50 {
            fs::write(mounted.path(&format!("dir/{number}")), "").unwrap();
        }
    };
    fill();
    let dir = File::open(mounted.path("dir")).unwrap();
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dir));
    mounted.snap("s");
    for number in 0..40 {
        fs::remove_file(mounted.path(&format!("dir/{number}"))).unwrap();
    }
    assert_eq!(fs::read_dir(&link).unwrap().count(), 10);
    mounted.revert("s");
    assert_eq!(fs::read_dir(&link).unwrap().count(), 50);
}

/// The kernel calls a removed directory dead for as long as anybody holds it. What comes back
/// must be alive for everybody who comes by its path, whoever still holds the dead one.
#[test]
fn a_removed_directory_comes_back_alive_though_it_is_held_open() {
    let mounted = Mounted::new("deaddir");
    fs::create_dir_all(mounted.path("dir/sub")).unwrap();
    fs::write(mounted.path("dir/sub/file"), "text").unwrap();
    let held = [
        File::open(mounted.path("dir")),
        File::open(mounted.path("dir/sub")),
    ];
    mounted.snap("s");
    let before = mounted.manifest();
    fs::remove_dir_all(mounted.path("dir")).unwrap();
    mounted.revert("s");
    before.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "while it is held open",
    );
    fs::write(mounted.path("dir/sub/new"), "new").unwrap();
    fs::rename(mounted.path("dir/sub/file"), mounted.path("dir/moved")).unwrap();
    assert_eq!(names(&mounted, "dir"), ["moved", "sub"]);
    drop(held);
    assert_eq!(names(&mounted, "dir/sub"), ["new"]);
}

/// A shell that stands in a directory goes on there, whatever happens around it.
#[test]
fn a_working_directory_survives_a_revert() {
    let mounted = Mounted::new("cwd");
    fs::create_dir_all(mounted.path("a/b")).unwrap();
    fs::write(mounted.path("a/b/file"), "kept\n").unwrap();
    mounted.snap("s");
    let mut shell = Shell::in_directory(&mounted.path("a/b"));
    assert_eq!(shell.ask("cat file"), "kept\n");
    fs::rename(mounted.path("a"), mounted.path("z")).unwrap();
    fs::write(mounted.path("z/b/file"), "changed\n").unwrap();
    fs::write(mounted.path("z/b/more"), "more\n").unwrap();
    assert_eq!(shell.ask("cat file more"), "changed\nmore\n");
    mounted.revert("s");
    assert_eq!(
        shell.ask("/bin/pwd"),
        format!("{}\n", mounted.path("a/b").display())
    );
    assert_eq!(shell.ask("cat file"), "kept\n");
    assert_eq!(shell.ask("ls"), "file\n");
    assert_eq!(shell.ask("echo more > other && ls"), "file\nother\n");
    assert_eq!(shell.ask("ls .."), "b\n");
    assert!(mounted.path("a/b/other").exists());
    shell.leave();
}

/// A shell whose directory was removed goes on after the revert once it enters the path again.
#[test]
fn a_removed_working_directory_can_be_entered_again() {
    let mounted = Mounted::new("cwd-removed");
    fs::create_dir_all(mounted.path("a/b")).unwrap();
    fs::write(mounted.path("a/b/file"), "kept\n").unwrap();
    mounted.snap("s");
    let mut shell = Shell::in_directory(&mounted.path("a/b"));
    assert_eq!(shell.ask("cat file"), "kept\n");
    fs::remove_dir_all(mounted.path("a")).unwrap();
    assert_eq!(shell.ask("cat file 2>&-"), "");
    mounted.revert("s");
    assert_eq!(shell.ask("cd \"$PWD\" && cat file"), "kept\n");
    assert_eq!(shell.ask("echo more > other && ls"), "file\nother\n");
    assert_eq!(shell.ask("cd .. && ls"), "b\n");
    shell.leave();
}

/// A shell that stands somewhere and does what it is told.
struct Shell {
    child: std::process::Child,
    input: std::process::ChildStdin,
    output: BufReader<std::process::ChildStdout>,
}

impl Shell {
    fn in_directory(directory: &std::path::Path) -> Shell {
        let mut child = Command::new("bash")
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Shell {
            child,
            input,
            output,
        }
    }

    /// What a command prints.
    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}; echo .").unwrap();
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 || line == ".\n" {
                return answer;
            }
            answer += &line;
        }
    }

    fn leave(mut self) {
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn a_file_that_was_unlinked_while_open_comes_back() {
    let mounted = with_file("unlinked", b"precious");
    let file = File::options()
        .read(true)
        .write(true)
        .open(mounted.path("file"))
        .unwrap();
    mounted.snap("s");
    fs::remove_file(mounted.path("file")).unwrap();
    file.write_all_at(b"scribble", 0).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    mounted.revert("s");
    assert_eq!(file.metadata().unwrap().nlink(), 1);
    let mut text = [0; 8];
    file.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"precious");
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"precious");
    file.write_all_at(b"shared  ", 0).unwrap();
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"shared  ");
}

#[test]
fn an_unlinked_open_file_goes_on_without_a_revert() {
    let mounted = with_file("orphan", b"base text");
    let file = File::options()
        .read(true)
        .write(true)
        .open(mounted.path("file"))
        .unwrap();
    fs::remove_file(mounted.path("file")).unwrap();
    mounted.snap("s");
    file.write_all_at(&pattern(9, 9000), 100).unwrap();
    let mut found = vec![0; 9000];
    file.read_exact_at(&mut found, 100).unwrap();
    assert_eq!(found, pattern(9, 9000));
    assert_eq!(file.metadata().unwrap().len(), 9100);
    assert!(!mounted.path("file").exists());
}

#[test]
fn appending_goes_to_the_snapshots_end() {
    let mounted = with_file("append", b"12345");
    let mut file = OpenOptions::new()
        .append(true)
        .open(mounted.path("file"))
        .unwrap();
    mounted.snap("s");
    file.write_all(b"67890").unwrap();
    mounted.revert("s");
    file.write_all(b"abc").unwrap();
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"12345abc");
}

#[test]
fn a_truncating_open_truncates_after_a_revert() {
    let mounted = with_file("truncating", b"a longer text");
    mounted.snap("s");
    write_in_place(&mounted, "file", b"x");
    mounted.revert("s");
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"a longer text");
    let direct = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_TRUNC)
        .open(mounted.path("file"));
    drop(direct.unwrap());
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"");
}

#[test]
fn everything_deleted_comes_back_and_goes_and_comes() {
    let mounted = Mounted::over("rm-rf", |base| {
        tree::plant(base, 3, 1500).expect("it can be made")
    });
    let before = mounted.manifest();
    mounted.snap("all");
    for entry in fs::read_dir(&mounted.dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() && !path.is_symlink() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
    let emptied = mounted.manifest();
    assert_eq!(emptied.len(), 1);
    mounted.revert("all");
    before.assert_same(&mounted.manifest(), Ignore::default(), "reverted");
    mounted.undo();
    emptied.assert_same(&mounted.manifest(), Ignore::default(), "undone");
    mounted.redo();
    before.assert_same(&mounted.manifest(), Ignore::default(), "redone");
    mounted.remount();
    before.assert_same(&mounted.manifest(), Ignore::default(), "mounted again");
    mounted.undo();
    emptied.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "undone after mounting again",
    );
}

#[test]
fn undo_keeps_what_came_after_the_revert_for_its_own_undo() {
    let mounted = with_file("undo", b"one");
    mounted.snap("s");
    write_in_place(&mounted, "file", b"two");
    mounted.revert("s");
    write_in_place(&mounted, "file", b"three");
    mounted.undo();
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"two");
    mounted.redo();
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"three");
    // The snapshot is there all the time.
    mounted.revert("s");
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"one");
}

#[test]
fn a_snapshot_never_says_busy() {
    let mounted = with_file("busy", b"text");
    let writer = File::options()
        .read(true)
        .write(true)
        .open(mounted.path("file"))
        .unwrap();
    let mapping = Mapping::new(&writer, 4, true).unwrap();
    mapping.write(0, b"TEXT");
    writer.try_lock().expect("nobody else locks it");
    mounted.snap("while-open");
    mounted.revert("while-open");
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"TEXT");
}

#[test]
fn inode_numbers_stay_and_are_not_given_twice() {
    let mounted = with_file("inodes", b"text");
    let of = |name: &str| fs::symlink_metadata(mounted.path(name)).unwrap().ino();
    let base = of("file");
    assert_eq!(
        fs::symlink_metadata(mounted.base().join("file"))
            .unwrap()
            .ino(),
        base
    );
    mounted.snap("s");
    fs::write(mounted.path("new"), "").unwrap();
    let new = of("new");
    fs::rename(mounted.path("new"), mounted.path("file")).unwrap();
    assert_eq!(of("file"), new);
    mounted.revert("s");
    assert_eq!(of("file"), base);
    fs::write(mounted.path("another"), "").unwrap();
    assert_ne!(of("another"), new, "a discarded object's number came again");
    mounted.kill9();
    mounted.mount();
    fs::write(mounted.path("third"), "").unwrap();
    assert!(![new, base, of("another")].contains(&of("third")));
    assert_eq!(of("file"), base);
}
