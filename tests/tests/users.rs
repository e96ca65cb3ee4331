//! As root and as an ordinary user, over every filesystem that a base is likely to be on.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::{Mutex, MutexGuard, PoisonError};

use llfs_tests::command::Finished;
use llfs_tests::dice::{Dice, Random};
use llfs_tests::loopback;
use llfs_tests::manifest::{Ignore, Manifest, walk};
use llfs_tests::model::Model;
use llfs_tests::mounted::Mounted;
use llfs_tests::op::{Flavour, World, roll};
use llfs_tests::scratch::Scratch;
use llfs_tests::tree;

const NOBODY: u32 = 65_534;

/// One at a time: root cannot look into another user's mount, and the programs that make
/// filesystems look into every mount.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn on(kind: &str, megabytes: u64) -> Mounted {
    let scratch = Scratch::new(kind);
    let disk = scratch.dir("disk");
    loopback::mount(kind, megabytes, &scratch.path().join("image"), &disk);
    let base = disk.join("base");
    fs::create_dir(&base).unwrap();
    Mounted::prepare_in(scratch, Some(&base), None)
}

/// The whole way of a base on this filesystem: mounted, changed, snapped, reverted, killed,
/// applied; and random operations answered as the filesystem itself answers them.
fn goes_all_the_way(mounted: &Mounted) {
    tree::plant(&mounted.dir, 41, 250).unwrap();
    let base = mounted.base_manifest();
    mounted.mount();
    let ignore = Ignore {
        dir_links: true,
        ..Ignore::another_tree()
    };
    base.assert_same(&mounted.manifest(), ignore, "the base through the mount");
    let same_inodes = same_inodes(&base, &mounted.manifest());
    assert!(
        same_inodes,
        "an object of the base has another inode number in the mount"
    );
    let clean = mounted.manifest();
    mounted.snap("clean");
    tree::churn(&mounted.dir, 42, 400, true).unwrap();
    let head = mounted.manifest();
    mounted.revert("clean");
    clean.assert_same(&mounted.manifest(), Ignore::default(), "reverted");
    mounted.undo();
    head.assert_same(&mounted.manifest(), Ignore::default(), "undone");
    mounted.kill9();
    mounted.mount();
    head.assert_same(
        &mounted.manifest(),
        Ignore::default(),
        "killed and mounted again",
    );
    base.assert_same(
        &mounted.base_manifest(),
        Ignore::default(),
        "the base below",
    );
    mounted.verify();
    mounted
        .llfs(&["unmount", "--apply", "--yes"])
        .arg(&mounted.dir)
        .ok();
    head.assert_same(&walk(&mounted.dir), ignore, "applied");
}

fn same_inodes(base: &Manifest, mount: &Manifest) -> bool {
    base.0
        .iter()
        .all(|(path, entry)| path.is_empty() || mount.0[path].ino == entry.ino)
}

/// The model's operations, which answer alike on every filesystem.
fn answers_like_the_model(mounted: &Mounted, seed: u64) {
    let (mut model, mut world) = (Model::default(), World::new(&mounted.dir));
    model.learn_root(&mounted.dir);
    let mut random = Random::new(seed);
    for number in 0..400 {
        let op = roll(&mut Dice::new(&random.row::<10>()), Flavour::Modelled);
        let begin = Model::begin();
        assert_eq!(
            model.perform(&op),
            world.perform(&op),
            "{number} of seed {seed}: {op:?}"
        );
        model
            .learn(&mounted.dir, begin)
            .unwrap_or_else(|why| panic!("{op:?}: {why}"));
        if number == 200 {
            mounted.mount();
            world.close_all();
            model.close_all();
            model.learn_root_inode(&mounted.dir);
        }
    }
    let ignore = Ignore {
        dir_sizes: true,
        dir_links: true,
        ..Ignore::default()
    };
    model
        .manifest()
        .assert_same(&mounted.manifest(), ignore, "model and mount");
}

#[test]
fn over_ext4() {
    let _turn = turn();
    goes_all_the_way(&on("ext4", 64));
    answers_like_the_model(&on("ext4", 64), 1);
}

#[test]
fn over_tmpfs() {
    let _turn = turn();
    goes_all_the_way(&on("tmpfs", 64));
    answers_like_the_model(&on("tmpfs", 64), 2);
}

#[test]
fn over_xfs() {
    let _turn = turn();
    goes_all_the_way(&on("xfs", 320));
    answers_like_the_model(&on("xfs", 320), 3);
}

#[test]
fn over_btrfs() {
    let _turn = turn();
    goes_all_the_way(&on("btrfs", 160));
    answers_like_the_model(&on("btrfs", 160), 4);
}

fn as_nobody(name: &str) -> Mounted {
    let mode = fs::metadata("/dev/fuse")
        .expect("these tests need /dev/fuse")
        .permissions()
        .mode();
    assert_eq!(
        mode & 0o006,
        0o006,
        "/dev/fuse is not for everybody: chmod 666 /dev/fuse, as udev does and as tests/run does"
    );
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test becomes another user: run it as root"
    );
    let mut mounted = Mounted::prepare(name);
    let open: fs::Permissions = PermissionsExt::from_mode(0o755);
    fs::set_permissions(mounted.scratch.path(), open).unwrap();
    mounted.become_user(NOBODY);
    mounted
}

/// Runs a script in the mount as its user, who goes there: root may not.
fn inside(mounted: &Mounted, text: &str) -> Finished {
    let script = format!("cd '{}'; {text}", mounted.dir.display());
    mounted.program("bash").args(["-euc", &script]).finish()
}

/// Runs a script in the mount, which must succeed.
#[track_caller]
fn script(mounted: &Mounted, text: &str) -> String {
    inside(mounted, text).ok().out()
}

#[test]
fn an_ordinary_user_goes_all_the_way() {
    let _turn = turn();
    let mounted = as_nobody("nobody");
    script(
        &mounted,
        "mkdir old; echo text > old/file; echo gone > gone; ln old/file linked",
    );
    mounted.mount();
    // The same commands through fusermount3's mount as through root's.
    script(
        &mounted,
        "echo more >> old/file; rm gone; mv old new; mkdir -p a/b; echo new > a/b/c; chmod 640 a/b/c",
    );
    assert_eq!(
        script(&mounted, "cat new/file linked; stat -c %a,%U a/b/c"),
        TEXT
    );
    script(&mounted, &format!("{} snap one", llctl(&mounted)));
    script(&mounted, "rm -rf a new; echo changed > linked");
    script(&mounted, &format!("{} revert one", llctl(&mounted)));
    assert_eq!(
        script(&mounted, "cat new/file linked; stat -c %a,%U a/b/c"),
        TEXT
    );
    mounted.kill9();
    mounted.mount();
    assert_eq!(
        script(&mounted, "cat new/file linked; stat -c %a,%U a/b/c"),
        TEXT
    );
    mounted.verify();
    mounted
        .llfs(&["unmount", "--apply", "--yes"])
        .arg(&mounted.dir)
        .ok();
    assert_eq!(
        script(&mounted, "cat new/file linked; stat -c %a,%U a/b/c"),
        TEXT
    );
    assert_eq!(fs::metadata(mounted.path("a/b/c")).unwrap().uid(), NOBODY);
}

const TEXT: &str = "text\nmore\ntext\nmore\n640,nobody\n";

fn llctl(mounted: &Mounted) -> String {
    mounted
        .scratch
        .path()
        .join("programs/llctl")
        .display()
        .to_string()
}

/// The kernel checks permissions in the mount as it does elsewhere.
#[test]
fn permissions_hold_in_an_ordinary_users_mount() {
    let _turn = turn();
    let mounted = as_nobody("denied");
    script(&mounted, "mkdir -m 555 dir");
    mounted.mount();
    script(&mounted, "echo secret > file; chmod 0 file");
    for denied in ["cat file", "echo x > file", "touch dir/new", "chown 0 file"] {
        assert_ne!(inside(&mounted, denied).code(), 0, "{denied} was allowed");
    }
    script(
        &mounted,
        "chmod 600 file; cat file; chmod 755 dir; touch dir/new",
    );
}

/// The default store of an ordinary user is in its own state directory.
#[test]
fn an_ordinary_users_store_is_its_own() {
    let _turn = turn();
    let mounted = as_nobody("state");
    mounted.llfs(&["mount"]).arg(&mounted.dir).ok();
    script(&mounted, "echo text > file");
    mounted.unmount();
    let stores: Vec<_> = fs::read_dir(mounted.scratch.path().join("state/llfs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        stores.len() == 1 && stores[0].starts_with("base-"),
        "{stores:?}"
    );
    let mode = fs::metadata(mounted.scratch.path().join("state/llfs").join(&stores[0]));
    assert_eq!(mode.unwrap().mode() & 0o077, 0, "others can read the store");
}

#[test]
fn a_missing_fusermount_is_named() {
    let _turn = turn();
    let mounted = as_nobody("no-fusermount");
    let script = "for f in $(type -ap fusermount3 fusermount); do mount --bind /dev/null $f; done; \
        exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    let run = llfs_tests::command::Run::new("unshare").args(["-m", "bash", "-c", script, "bash"]);
    let llfs = mounted.scratch.path().join("programs/llfs");
    let run = run
        .envs(&mounted.env)
        .arg(llfs)
        .arg("mount")
        .arg(&mounted.dir);
    let finished = run.arg("--store").arg(&mounted.store).finish();
    assert_ne!(finished.code(), 0);
    assert!(finished.err().contains("fusermount3"), "{}", finished.err());
    assert!(!mounted.is_mounted());
    mounted.mount();
}

/// The control socket is the user's own, even where its directory lets others in.
#[test]
fn another_user_cannot_control_a_mount() {
    let _turn = turn();
    let mounted = as_nobody("control");
    mounted.mount();
    let runtime = mounted.scratch.path().join("run/llfs");
    let mode = fs::metadata(&runtime).unwrap().permissions().mode();
    assert_eq!(
        mode & 0o077,
        0,
        "others can enter the directory of the sockets"
    );
    let socket = fs::read_dir(&runtime)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "sock")
        });
    let socket = socket.expect("a mount has a socket");
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o077,
        0
    );
    let places = [&mounted.scratch.path().join("run"), &runtime, &socket];
    let open_to = |others: u32| {
        for path in places {
            fs::set_permissions(path, PermissionsExt::from_mode(0o700 | others)).unwrap();
        }
    };
    open_to(0o077);
    let as_user = |uid: &str, name: &str| {
        let id = ["--reuid", uid, "--regid", uid, "--clear-groups"];
        let program = mounted.scratch.path().join("programs/llctl");
        let run = llfs_tests::command::Run::new("setpriv")
            .args(id)
            .arg(program)
            .dir("/");
        run.arg("--socket")
            .arg(&socket)
            .args(["snap", name])
            .finish()
    };
    let stolen = as_user("1234", "stolen");
    assert_ne!(
        stolen.code(),
        0,
        "another user took a snapshot: {}",
        stolen.text()
    );
    as_user("65534", "own").ok();
    as_user("0", "roots").ok();
    open_to(0);
    let list = mounted.llctl(&["list"]).ok().out();
    assert!(
        list.contains("own") && list.contains("roots") && !list.contains("stolen"),
        "{list}"
    );
}

/// What root has exported means in a user's mount what it would mean on a disk of the user: programs of other users run as
/// who calls them, and devices cannot be opened.
#[test]
fn a_users_import_of_roots_files_gives_no_rights() {
    let _turn = turn();
    let root = Mounted::over("import-root", |base| {
        let made = "cp -L $(command -v id) id; chmod 6755 id; mknod null c 1 3; chmod 666 null; mkfifo pipe; \
            echo secret > secret; chmod 600 secret; chown 1234:5678 secret";
        llfs_tests::command::Run::shell(made).dir(base).ok();
    });
    root.snap("roots");
    let export = root.scratch.path().join("export");
    root.llctl(&["export", "roots", "-o", export.to_str().unwrap()])
        .ok();
    let mounted = as_nobody("import-user");
    let copy = mounted.scratch.path().join("export");
    fs::copy(&export, &copy).unwrap();
    fs::set_permissions(&copy, PermissionsExt::from_mode(0o644)).unwrap();
    mounted.mount();
    let import = format!("{} import '{}'", llctl(&mounted), copy.display());
    script(&mounted, &import);
    for place in [".llfs/roots", "."] {
        if place == "." {
            script(&mounted, &format!("{} revert roots", llctl(&mounted)));
        }
        let shown = script(
            &mounted,
            &format!("cd {place}; stat -c '%a %u %g %F %t:%T' id null pipe secret"),
        );
        assert_eq!(
            shown,
            "6755 0 0 regular file 0:0\n666 0 0 character special file 1:3\n\
            644 0 0 fifo 0:0\n600 1234 5678 regular file 0:0\n"
        );
        assert_eq!(script(&mounted, &format!("{place}/id -u")), "65534\n");
        for denied in ["cat null", "echo x > null", "cat secret"] {
            let run = inside(&mounted, &format!("cd {place}; {denied}"));
            assert_ne!(run.code(), 0, "{denied} was allowed in {place}");
        }
    }
    mounted.verify().ok();
}
