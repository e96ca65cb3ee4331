//! Several `llfs` at the same directory at the same moment: one of them mounts, and what it has mounted stays.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use llfs_tests::command::{Run, Running, until};
use llfs_tests::mounted::Mounted;
use llfs_tests::{mountinfo, preload};

const PATIENCE: Duration = Duration::from_secs(60);

/// A library that holds a process where it makes its socket or removes it, or takes a mount away, as long as there is a file of that name in HOLDS,
/// and says so by another; and that says when a lock had to be waited for.
const HOLD: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static void at(const char *how, const char *what, char *path) { snprintf(path, 4096, "%s/%s-%s", getenv("HOLDS"), how, what); }
static void say(const char *how, const char *what) {
    char path[4096];
    at(how, what, path);
    close(open(path, O_CREAT | O_WRONLY, 0600));
}
static void stop(const char *what) {
    char hold[4096];
    at("hold", what, hold);
    if (access(hold, F_OK)) return;
    say("held", what);
    while (!access(hold, F_OK)) usleep(1000);
}
int bind(int fd, const struct sockaddr *to, socklen_t length) {
    static int (*real)(int, const struct sockaddr *, socklen_t);
    if (!real) real = dlsym(RTLD_NEXT, "bind");
    stop("bind");
    return real(fd, to, length);
}
int umount2(const char *path, int flags) {
    static int (*real)(const char *, int);
    if (!real) real = dlsym(RTLD_NEXT, "umount2");
    stop("umount");
    return real(path, flags);
}
int unlink(const char *path) {
    static int (*real)(const char *);
    size_t length = strlen(path);
    if (!real) real = dlsym(RTLD_NEXT, "unlink");
    if (length > 5 && !strcmp(path + length - 5, ".sock")) stop("unlink");
    return real(path);
}
int flock(int fd, int how) {
    static int (*real)(int, int);
    if (!real) real = dlsym(RTLD_NEXT, "flock");
    int done = real(fd, how), error = errno;
    if (done) say("waits", "lock");
    errno = error;
    return done;
}
"#;

/// A mount that is being made, and where it is held.
struct One {
    run: Option<Running>,
    holds: std::path::PathBuf,
}

impl One {
    fn start(mounted: &Mounted, run: Run, name: &str, holds: &[&str]) -> One {
        let dir = mounted.scratch.dir(name);
        for what in holds {
            fs::write(dir.join(format!("hold-{what}")), "").unwrap();
        }
        let library = preload::library(&dir, "hold", HOLD);
        let run = run.env("LD_PRELOAD", library).env("HOLDS", &dir).start();
        One {
            run: Some(run),
            holds: dir,
        }
    }

    fn wait(&self, what: &str) {
        until(what, PATIENCE, || {
            self.holds.join(what).exists().then_some(())
        });
    }

    /// Until it has to wait for somebody, or has ended.
    fn wait_or_end(&mut self) {
        let run = self.run.as_mut().unwrap();
        let waits = self.holds.join("waits-lock");
        until("it to wait or to end", PATIENCE, || {
            (waits.exists() || run.wait(Duration::from_millis(1)).is_some()).then_some(())
        });
    }

    fn let_go(&self, what: &str) {
        fs::remove_file(self.holds.join(format!("hold-{what}"))).unwrap();
    }

    /// What it said of its failure; none: it has mounted.
    fn end(&mut self) -> Option<String> {
        let mut run = self.run.take().unwrap();
        run.wait(PATIENCE).expect("an end");
        let done = run.finish();
        (done.code() != 0).then(|| done.err())
    }
}

/// How the first one ends, which is held at something, and the other, which is started meanwhile.
fn race(mounted: &Mounted, first: Run, held: &str, other: Run) -> [Option<String>; 2] {
    let mut first = One::start(mounted, first, "one", &[held]);
    first.wait(&format!("held-{held}"));
    let mut other = One::start(mounted, other, "two", &[]);
    other.wait_or_end();
    first.let_go(held);
    [first.end(), other.end()]
}

/// Neither knows of the other by its store. The second one has sockets elsewhere, as a service of the system has.
#[test]
fn of_two_mounts_with_two_stores_there_is_one() {
    for elsewhere in [false, true] {
        let mounted = Mounted::prepare("at-once-stores");
        let other = mounted.llfs(&["mount"]).arg(&mounted.dir).arg("--store");
        let other = other.arg(mounted.scratch.path().join("other"));
        let elsewhere = elsewhere.then(|| mounted.scratch.dir("elsewhere"));
        let other = with_sockets_in(other, elsewhere.as_deref());
        let ends = race(&mounted, mounted.mount_run(), "bind", other);
        assert_eq!(mountinfo::stacked(&mounted.dir), 1, "{ends:?}");
        let [None, Some(why)] = ends else {
            panic!("who was first mounts: {ends:?}");
        };
        assert!(why.contains("is already mounted"), "{why}");
        fs::write(mounted.path("file"), "text").unwrap();
        mounted.llctl(&["status"]).ok();
        mounted.unmount();
    }
}

/// With sockets in this directory, or where they usually are.
fn with_sockets_in(run: Run, dir: Option<&Path>) -> Run {
    match dir {
        Some(dir) => run.env("XDG_RUNTIME_DIR", dir),
        None => run,
    }
}

/// Both see that the mount is dead. What the one has mounted in its place is not what the other takes away.
#[test]
fn a_dead_mount_is_taken_away_once() {
    for elsewhere in [false, true] {
        let mounted = Mounted::new("at-once-dead");
        fs::write(mounted.path("before"), "text").unwrap();
        mounted.kill9();
        let elsewhere = elsewhere.then(|| mounted.scratch.dir("elsewhere"));
        let again = with_sockets_in(mounted.mount_run(), elsewhere.as_deref());
        let ends = race(&mounted, mounted.mount_run(), "umount", again);
        let [None, Some(why)] = ends else {
            panic!("one of them mounts: {ends:?}");
        };
        assert!(why.contains("is already mounted"), "{why}");
        assert_eq!(mountinfo::stacked(&mounted.dir), 1);
        assert_eq!(fs::read_to_string(mounted.path("before")).unwrap(), "text");
        mounted.unmount();
    }
}

/// `llfs unmount` of a dead mount takes away what is dead, and not what somebody mounts in its place.
#[test]
fn a_mount_that_is_made_anew_is_not_cleaned_away() {
    for elsewhere in [false, true] {
        let mounted = Mounted::new("at-once-unmount");
        fs::write(mounted.path("before"), "text").unwrap();
        mounted.kill9();
        let unmount = mounted.llfs(&["unmount"]).arg(&mounted.dir);
        let elsewhere = elsewhere.then(|| mounted.scratch.dir("elsewhere"));
        let mount = with_sockets_in(mounted.mount_run(), elsewhere.as_deref());
        let ends = race(&mounted, unmount, "umount", mount);
        assert_eq!(ends, [None, None]);
        assert_eq!(mountinfo::stacked(&mounted.dir), 1);
        assert_eq!(fs::read_to_string(mounted.path("before")).unwrap(), "text");
        let unmount = mounted.llfs(&["unmount"]).arg(&mounted.dir);
        with_sockets_in(unmount, elsewhere.as_deref()).ok();
    }
}

/// Whoever unmounts has no seat at the daemon, and waits for its end all the same: its store is free then.
#[test]
fn the_end_of_a_daemon_without_a_free_seat_is_waited_for() {
    let mounted = Mounted::prepare("at-once-seats");
    let holds = mounted.scratch.dir("holds");
    let library = preload::library(&holds, "hold", HOLD);
    let mount = mounted.mount_run().env("LD_PRELOAD", library);
    mount.env("HOLDS", &holds).ok();
    fs::write(mounted.path("file"), "text").unwrap();
    let (daemon, mut seats) = (mounted.pid(), Vec::new());
    let run = mounted.store.with_file_name("run").join("llfs");
    let socket = run.join(llctl::locate::socket_name(&mounted.dir));
    loop {
        match llctl::Client::connect_socket(&socket) {
            Ok(client) => seats.push(client),
            Err(llctl::ClientError::Refused(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    // At its end, with the mount gone, and its store not free.
    fs::write(holds.join("hold-unlink"), "").unwrap();
    let said = mounted.scratch.path().join("said");
    let script = "exec \"$0\" unmount \"$1\" 2>\"$2\"";
    let llfs = llfs_tests::binaries::llfs();
    let unmount = mounted.program("sh").args(["-c", script]).arg(llfs);
    let mut unmount = unmount.arg(&mounted.dir).arg(&said).start();
    until("the daemon to be at its end", PATIENCE, || {
        holds.join("held-unlink").exists().then_some(())
    });
    let mut ended = false;
    until("it to wait or to end", PATIENCE, || {
        ended = unmount.wait(Duration::from_millis(1)).is_some();
        let waits = fs::read_to_string(&said).is_ok_and(|said| said.contains("waiting for"));
        (ended || waits).then_some(())
    });
    let lives = fs::exists(format!("/proc/{daemon}")).unwrap();
    fs::remove_file(holds.join("hold-unlink")).unwrap();
    assert!(lives && !ended, "the daemon is there still");
    unmount.finish().ok();
    mounted.mount();
    assert_eq!(fs::read_to_string(mounted.path("file")).unwrap(), "text");
    mounted.unmount();
}
