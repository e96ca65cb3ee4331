//! Several `llfs` at the same directory at the same moment: one of them mounts, and what it has mounted stays.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs;
use std::time::Duration;

use llfs_tests::command::{Run, Running, until};
use llfs_tests::mounted::Mounted;
use llfs_tests::{mountinfo, preload};

const PATIENCE: Duration = Duration::from_secs(60);

/// A library that holds a process where it makes its socket, or takes a mount away, as long as there is a file of that name in HOLDS,
/// and says so by another; and that says when a lock had to be waited for.
const HOLD: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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
        let other = match elsewhere {
            true => other.env("XDG_RUNTIME_DIR", mounted.scratch.dir("elsewhere")),
            false => other,
        };
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

/// Both see that the mount is dead. What the one has mounted in its place is not what the other takes away.
#[test]
fn a_dead_mount_is_taken_away_once() {
    let mounted = Mounted::new("at-once-dead");
    fs::write(mounted.path("before"), "text").unwrap();
    mounted.kill9();
    let again = mounted.mount_run();
    let ends = race(&mounted, mounted.mount_run(), "umount", again);
    let [None, Some(why)] = ends else {
        panic!("one of them mounts: {ends:?}");
    };
    assert!(why.contains("is already mounted"), "{why}");
    assert_eq!(mountinfo::stacked(&mounted.dir), 1);
    assert_eq!(fs::read_to_string(mounted.path("before")).unwrap(), "text");
    mounted.unmount();
}

/// `llfs unmount` of a dead mount takes away what is dead, and not what somebody mounts in its place.
#[test]
fn a_mount_that_is_made_anew_is_not_cleaned_away() {
    let mounted = Mounted::new("at-once-unmount");
    fs::write(mounted.path("before"), "text").unwrap();
    mounted.kill9();
    let unmount = mounted.llfs(&["unmount"]).arg(&mounted.dir);
    let ends = race(&mounted, unmount, "umount", mounted.mount_run());
    assert_eq!(ends, [None, None]);
    assert_eq!(mountinfo::stacked(&mounted.dir), 1);
    assert_eq!(fs::read_to_string(mounted.path("before")).unwrap(), "text");
    mounted.unmount();
}
