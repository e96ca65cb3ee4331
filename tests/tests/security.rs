//! What others may do in a mount, and what a mount does not make possible: docs/SECURITY.md.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use llfs_tests::command::{Finished, Run};
use llfs_tests::mounted::Mounted;
use llfs_tests::scratch::Scratch;

const STRANGER: u32 = 1234;
const NOBODY: u32 = 65_534;

fn open_up(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A shell script as somebody else, in the mount.
fn stranger(mounted: &Mounted, script: &str) -> Finished {
    let id = STRANGER.to_string();
    let script = format!("cd '{}' && {script}", mounted.dir.display());
    Run::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .args(["sh", "-c", &script])
        .dir("/")
        .finish()
}

/// The flags of the mount, as /proc/self/mountinfo has them.
fn flags(mounted: &Mounted) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let dir = mounted.dir.to_str().unwrap();
    let line = table
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(dir))
        .unwrap_or_else(|| panic!("{dir} is not mounted: {table}"));
    let found = line.split(' ').nth(5).unwrap().split(',');
    found.map(ToOwned::to_owned).collect()
}

#[test]
fn strangers_may_do_in_roots_mount_what_the_modes_say() {
    let mounted = Mounted::prepare("strangers");
    open_up(mounted.scratch.path(), 0o755);
    open_up(&mounted.dir, 0o755);
    fs::write(mounted.path("mine"), "secret").unwrap();
    open_up(&mounted.path("mine"), 0o600);
    fs::write(mounted.path("readable"), "text").unwrap();
    open_up(&mounted.path("readable"), 0o644);
    fs::create_dir(mounted.path("shared")).unwrap();
    open_up(&mounted.path("shared"), 0o1777);
    fs::write(mounted.path("setuid"), "program").unwrap();
    open_up(&mounted.path("setuid"), 0o4777);
    mounted.mount();
    assert_eq!(stranger(&mounted, "cat readable").ok().out(), "text");
    stranger(&mounted, "echo mine > shared/file").ok();
    for denied in [
        "cat mine",
        "echo x > readable",
        "touch new",
        "mv mine shared",
        "chmod 666 mine",
        "chown 0 shared/file",
        "chown 1234 readable",
        "mknod shared/null c 1 3",
        "setfattr -n security.capability -v 0x01 shared/file",
        "setfattr -n trusted.x -v 1 shared/file",
    ] {
        let answer = stranger(&mounted, denied);
        assert_ne!(answer.code(), 0, "{denied}: {}", answer.text());
    }
    // Whoever writes into a program does not get its owner's rights with it.
    assert_eq!(mode(&mounted.path("setuid")), 0o4777);
    stranger(&mounted, "echo x >> setuid").ok();
    assert_eq!(mode(&mounted.path("setuid")), 0o777);
}

#[test]
fn a_link_is_followed_by_who_reads_it_and_not_by_the_daemon() {
    let mounted = Mounted::prepare("link");
    open_up(mounted.scratch.path(), 0o755);
    open_up(&mounted.dir, 0o755);
    let secret = mounted.scratch.path().join("secret");
    fs::write(&secret, "of root").unwrap();
    open_up(&secret, 0o600);
    symlink("../secret", mounted.path("link")).unwrap();
    mounted.mount();
    assert_eq!(
        fs::read_link(mounted.path("link")).unwrap(),
        Path::new("../secret")
    );
    assert_ne!(stranger(&mounted, "cat link").code(), 0);
    assert_ne!(stranger(&mounted, "cat ./../secret").code(), 0);
}

#[test]
fn a_store_is_its_owners_alone() {
    let mounted = Mounted::prepare("modes");
    let store = mounted.scratch.path().join("another/store");
    fs::write(mounted.path("file"), "x").unwrap();
    mounted
        .llfs(&["mount"])
        .arg(&mounted.dir)
        .arg("--store")
        .arg(&store)
        .ok();
    fs::write(mounted.path("file"), "y").unwrap();
    mounted.snap("one");
    mounted.unmount();
    assert_eq!(mode(&store), 0o700);
    let mut dirs = vec![store];
    let mut files = 0;
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
            if path.is_dir() {
                dirs.push(path);
            } else {
                files += 1;
            }
        }
    }
    assert!(files > 4, "only {files} files were looked at");
}

#[test]
fn a_store_that_others_may_write_to_is_refused() {
    let mounted = Mounted::prepare("open-store");
    let store = mounted.scratch.dir("store");
    let refused = |what: &str| {
        let answer = mounted
            .llfs(&["mount"])
            .arg(&mounted.dir)
            .arg("--store")
            .arg(&store)
            .finish();
        assert_ne!(answer.code(), 0, "{what}");
        assert!(answer.text().contains(what), "{}", answer.text());
        let check = mounted.llfs(&["check"]).arg(&mounted.dir);
        let checked = check.arg("--store").arg(&store).finish();
        assert_ne!(checked.code(), 0, "{what}");
        assert!(checked.text().contains(what), "{}", checked.text());
        assert!(
            fs::read_dir(&store).unwrap().next().is_none(),
            "{what}: it was written to"
        );
    };
    open_up(&store, 0o777);
    refused("others may write to it");
    open_up(&store, 0o700);
    std::os::unix::fs::chown(&store, Some(STRANGER), Some(STRANGER)).unwrap();
    refused("it belongs to somebody else");
}

#[test]
fn the_log_is_not_written_through_a_link() {
    let mounted = Mounted::prepare("log-link");
    let store = mounted.scratch.path().join("linked");
    let mount = || {
        mounted
            .llfs(&["mount"])
            .arg(&mounted.dir)
            .arg("--store")
            .arg(&store)
            .finish()
    };
    assert_eq!(mount().code(), 0);
    mounted.unmount();
    let victim = mounted.scratch.path().join("victim");
    fs::write(&victim, "").unwrap();
    fs::remove_file(store.join("llfs.log")).unwrap();
    symlink(&victim, store.join("llfs.log")).unwrap();
    assert_ne!(mount().code(), 0);
    assert_eq!(fs::read(&victim).unwrap(), b"");
}

#[test]
fn what_the_mount_below_forbids_stays_forbidden() {
    let scratch = Scratch::new("forbidden");
    let disk = scratch.dir("disk");
    let options = [
        "-t",
        "tmpfs",
        "-o",
        "nosuid,nodev,noexec,nosymfollow",
        "none",
    ];
    Run::new("mount").args(options).arg(&disk).ok();
    let base = disk.join("base");
    fs::create_dir(&base).unwrap();
    let mounted = Mounted::prepare_in(scratch, Some(&base), None);
    mounted.mount();
    for flag in ["nosuid", "nodev", "noexec", "nosymfollow"] {
        let found = flags(&mounted);
        assert!(
            found.iter().any(|f| f == flag),
            "{flag} is missing: {found:?}"
        );
    }
}

#[test]
fn an_ordinary_users_mount_gives_no_rights_and_lets_nobody_in() {
    let mut mounted = Mounted::prepare("ordinary");
    open_up(mounted.scratch.path(), 0o755);
    // Something of root's in the user's own directory.
    fs::write(mounted.path("roots"), "secret").unwrap();
    open_up(&mounted.path("roots"), 0o600);
    mounted.become_user(NOBODY);
    mounted.mount();
    let found = flags(&mounted);
    for flag in ["nosuid", "nodev"] {
        assert!(
            found.iter().any(|f| f == flag),
            "{flag} is missing: {found:?}"
        );
    }
    let script = format!("cd '{}' && cat roots", mounted.dir.display());
    let read = mounted.program("sh").args(["-c", &script]).finish();
    assert_ne!(
        read.code(),
        0,
        "the user read what root keeps: {}",
        read.text()
    );
    let conf = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if !conf.lines().any(|line| line.trim() == "user_allow_other") {
        assert_ne!(stranger(&mounted, "ls").code(), 0, "a stranger came in");
        assert!(fs::read_dir(&mounted.dir).is_err(), "root came in");
    }
}

/// Whoever changes a program, or gives it away, leaves nobody the rights that it had.
#[test]
fn rights_of_programs_go_when_they_are_changed_or_given_away() {
    let mounted = Mounted::prepare("set-ids");
    open_up(mounted.scratch.path(), 0o755);
    open_up(&mounted.dir, 0o755);
    let put = |name: &str, bits: u32| {
        fs::write(mounted.path(name), "program").unwrap();
        open_up(&mounted.path(name), bits);
    };
    for name in ["group", "cut", "group-only", "given", "plain"] {
        put(name, if name == "group-only" { 0o2767 } else { 0o6777 });
    }
    put("able", 0o777);
    mounted.mount();
    // cap_net_raw, in the form that the kernel takes.
    let able = "setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 able";
    let script = format!("cd '{}' && {able}", mounted.dir.display());
    Run::shell(&script).ok();
    let capability = || {
        let run = Run::new("getfattr").args(["-n", "security.capability"]);
        run.arg(mounted.path("able")).finish().code() == 0
    };
    assert!(capability());
    assert_eq!(mode(&mounted.path("group")), 0o6777);
    stranger(&mounted, "echo x >> group && : > cut && echo x >> able").ok();
    assert_eq!(mode(&mounted.path("group")), 0o777);
    assert_eq!(mode(&mounted.path("cut")), 0o777);
    assert!(!capability(), "it is another program now");
    std::os::unix::fs::chown(mounted.path("given"), Some(STRANGER), None).unwrap();
    assert_eq!(mode(&mounted.path("given")), 0o777);
    std::os::unix::fs::chown(mounted.path("group-only"), None, Some(STRANGER)).unwrap();
    // That bit means something else where the group may not execute the file.
    assert_eq!(mode(&mounted.path("group-only")), 0o2767);
    // Nothing happened to this one.
    assert_eq!(mode(&mounted.path("plain")), 0o6777);
}

#[test]
fn an_ordinary_users_mount_runs_no_programs_where_none_may_run() {
    let scratch = Scratch::new("user-noexec");
    let disk = scratch.dir("disk");
    let options = ["-t", "tmpfs", "-o", "noexec,mode=755", "none"];
    Run::new("mount").args(options).arg(&disk).ok();
    let base = disk.join("base");
    fs::create_dir(&base).unwrap();
    let mut mounted = Mounted::prepare_in(scratch, Some(&base), None);
    open_up(mounted.scratch.path(), 0o755);
    mounted.become_user(NOBODY);
    mounted.mount();
    let found = flags(&mounted);
    assert!(found.iter().any(|flag| flag == "noexec"), "{found:?}");
}
