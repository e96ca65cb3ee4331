//! `llctl run` through a real mount: what a failed command did is gone, with everything that it started.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use llfs_tests::command::{Finished, Run, until};
use llfs_tests::manifest::{Ignore, Manifest};
use llfs_tests::mounted::Mounted;
use llfs_tests::preload;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(60);

fn mounted(name: &str) -> Mounted {
    Mounted::over(name, |base| fs::write(base.join("kept"), "before").unwrap())
}

fn run(mounted: &Mounted, args: &[&str], script: &str) -> Run {
    let llctl = mounted.llctl(&["run"]).args(args);
    llctl.args(["--", "sh", "-c", script]).dir(&mounted.dir)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn says(finished: &Finished, text: &str) {
    assert!(finished.err().contains(text), "{}", finished.err());
}

#[track_caller]
fn same(before: &Manifest, mounted: &Mounted) {
    before.assert_same(&mounted.manifest(), Ignore::default(), "after the run");
}

#[test]
fn a_failure_leaves_nothing_and_can_be_undone() {
    let mounted = mounted("run-fails");
    let before = mounted.manifest();
    let script = "echo half > kept; mkdir new; echo x > new/x; rm -rf .git; exit 9";
    let done = run(&mounted, &[], script).finish().expect_code(9);
    says(&done, "exited with 9; reverted to");
    same(&before, &mounted);
    mounted.undo();
    assert_eq!(read(&mounted.path("kept")), "half\n");
    // A command that succeeds is kept, and its snapshot says what it is of.
    run(&mounted, &[], "echo whole > kept").ok();
    assert_eq!(read(&mounted.path("kept")), "whole\n");
    let list = mounted.json(&["list"]);
    let last = list["snapshots"].as_array().unwrap().last().unwrap();
    assert_eq!(last["message"], "before: sh -c 'echo whole > kept'");
    mounted.revert(last["name"].as_str().unwrap());
    assert_eq!(read(&mounted.path("kept")), "half\n");
}

#[test]
fn nothing_of_a_failed_command_goes_on_writing() {
    let mounted = mounted("run-leaves");
    // One in the group, one that ignores SIGTERM, one that left group, session and parent. Each must be there before the
    // command fails.
    let script = "
        writer() { while :; do echo \"$1\" >> written; echo > \"there-$1\"; sleep 0.01; done; }
        writer a & \
        (trap '' TERM; writer b) & \
        setsid sh -c 'while :; do echo c >> written; echo > there-c; sleep 0.01; done' & \
        while ! [ -e there-a -a -e there-b -a -e there-c ]; do sleep 0.01; done
        exit 1";
    let done = run(&mounted, &[], script).finish().expect_code(1);
    says(&done, "reverted to");
    assert!(!done.err().contains("warning"), "{}", done.err());
    // Any that lived would have made it anew by now: they write a hundred times a second.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!mounted.path("written").exists());
}

#[test]
fn what_succeeds_may_leave_something_running() {
    let mounted = mounted("run-serves");
    let script = "(while ! [ -e stop ]; do sleep 0.01; done; echo > stopped) & exit 0";
    run(&mounted, &[], script).ok();
    fs::write(mounted.path("stop"), "").unwrap();
    until("the process goes on", SOON, || {
        mounted.path("stopped").exists().then_some(())
    });
}

#[test]
fn a_timeout_ends_and_reverts() {
    let mounted = mounted("run-timeout");
    let before = mounted.manifest();
    let script = "trap '' TERM; echo x > kept; while :; do sleep 0.05; done";
    let done = run(&mounted, &["--timeout", "1"], script).finish();
    says(&done.expect_code(124), "took longer than 1.0 s");
    same(&before, &mounted);
}

#[test]
fn a_signal_to_llctl_reaches_the_command() {
    let mounted = mounted("run-signal");
    let before = mounted.manifest();
    let script = "trap 'echo got it; exit 4' TERM; echo x > kept; echo > there; while :; do sleep 0.01; done";
    let mut running = run(&mounted, &[], script).start();
    until("the command runs", SOON, || {
        mounted.path("there").exists().then_some(())
    });
    kill(Pid::from_raw(running.pid()), Signal::SIGTERM).unwrap();
    assert!(running.wait(SOON).is_some());
    let done = running.finish().expect_code(4);
    assert_eq!(done.out(), "got it\n");
    same(&before, &mounted);
}

#[test]
fn runs_are_nested() {
    let mounted = mounted("run-nested");
    let llctl = llfs_tests::binaries::llctl();
    let llctl = llctl.to_str().unwrap();
    // The inner failure takes back what the inner one did only.
    let script = format!(
        "echo outer > kept; {llctl} run -- sh -c 'echo inner > kept; exit 5' || echo $? > code"
    );
    run(&mounted, &[], &script).ok();
    assert_eq!(read(&mounted.path("kept")), "outer\n");
    assert_eq!(read(&mounted.path("code")), "5\n");
    // The outer failure takes back both, whatever the inner one came to.
    let before = mounted.manifest();
    let script = format!("echo 1 > kept; {llctl} run -- sh -c 'echo 2 > kept'; exit 6");
    run(&mounted, &[], &script).finish().expect_code(6);
    same(&before, &mounted);
    // An outer timeout ends the inner run with its command.
    let script = format!("{llctl} run -- sh -c 'while :; do echo x >> kept; sleep 0.01; done'");
    let done = run(&mounted, &["--timeout", "1"], &script).finish();
    done.expect_code(124);
    same(&before, &mounted);
    std::thread::sleep(Duration::from_millis(300));
    same(&before, &mounted);
}

#[test]
fn a_check_that_fails_reverts() {
    let mounted = mounted("run-check");
    let check = ["--verify", "grep -q good kept"];
    run(&mounted, &check, "echo good > kept").ok();
    assert_eq!(read(&mounted.path("kept")), "good\n");
    let done = run(&mounted, &check, "echo bad > kept").finish();
    says(&done.expect_code(1), "the check exited with 1; reverted");
    assert_eq!(read(&mounted.path("kept")), "good\n");
}

#[test]
fn the_directory_it_stands_in_may_go() {
    let mounted = mounted("run-cwd");
    fs::create_dir(mounted.path("in")).unwrap();
    let before = mounted.manifest();
    let llctl = mounted.program(llfs_tests::binaries::llctl());
    let script = "rm -rf ../in; exit 1";
    let done = llctl
        .args(["run", "--", "sh", "-c", script])
        .dir(mounted.path("in"))
        .finish();
    done.expect_code(1);
    same(&before, &mounted);
}

/// A pseudoterminal with a shell's worth of a session around one `llctl run`.
struct Session {
    screen: File,
    seen: String,
    child: std::process::Child,
}

impl Session {
    fn start(mounted: &Mounted, args: &[&str], script: &str) -> Self {
        use std::os::unix::process::CommandExt;
        let pty = nix::pty::openpty(None, None).unwrap();
        // Neither end is for the programs of other tests.
        for end in [&pty.master, &pty.slave] {
            let flag = nix::fcntl::FdFlag::FD_CLOEXEC;
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFD(flag)).unwrap();
        }
        // What a pager needs of a terminal this one has not.
        let mut run = run(mounted, args, script)
            .env("NO_COLOR", "1")
            .env("LLFS_PAGER", "cat");
        let command = run.raw();
        let slave = File::from(pty.slave);
        command
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap());
        let tty = slave.as_raw_fd();
        // A leader of a group cannot begin a session.
        let mut command = std::mem::replace(command, std::process::Command::new("false"));
        command.process_group(nix::unistd::getpgrp().as_raw());
        // SAFETY: setsid, signal and ioctl may be called between fork and exec, and the descriptor is open until after it.
        unsafe {
            command.pre_exec(move || {
                nix::unistd::setsid()?;
                // Tests that run in a shell's background have it ignored, and what they start too.
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                if libc::ioctl(tty, libc::TIOCSCTTY, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        Session {
            screen: File::from(pty.master),
            seen: String::new(),
            child,
        }
    }

    /// Reads until `text` was on the screen.
    fn see(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.seen.contains(text) {
            match self.screen.read(&mut bytes) {
                Ok(0) | Err(_) => panic!("the terminal closed before {text:?}: {}", self.seen),
                Ok(n) => self.seen += &String::from_utf8_lossy(&bytes[..n]),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).unwrap();
    }

    fn code(&mut self) -> i32 {
        let mut rest = Vec::new();
        // Ends with EIO when the last process has closed the terminal.
        self.screen.read_to_end(&mut rest).ok();
        self.seen += &String::from_utf8_lossy(&rest);
        self.child.wait().unwrap().code().expect("not killed")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A test that failed leaves nobody at a question that is never answered.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn the_command_has_the_terminal() {
    let mounted = mounted("run-terminal");
    let before = mounted.manifest();
    // Who is in the background is stopped when it reads.
    let script = "echo ready; read answer; echo \"it is $answer\" > kept; echo wrote; exec cat";
    let mut session = Session::start(&mounted, &[], script);
    session.see("ready");
    session.press("yes\n");
    session.see("wrote");
    assert_eq!(read(&mounted.path("kept")), "it is yes\n");
    // Ctrl-C ends the command, and llctl lives to revert.
    session.press("\x03");
    session.see("was ended by SIGINT; reverted to");
    assert_eq!(session.code(), 130);
    same(&before, &mounted);
}

#[test]
fn a_person_is_asked() {
    let mounted = mounted("run-ask");
    let before = mounted.manifest();
    let ask = ["--on-failure", "ask"];
    let mut session = Session::start(&mounted, &ask, "echo new > kept; exit 3");
    session.see("exited with 3. Revert to ");
    session.see("see what changed] ");
    session.press("d\n");
    session.see("M  kept");
    session.press("n\n");
    session.see("its changes are kept");
    assert_eq!(session.code(), 3);
    assert_eq!(read(&mounted.path("kept")), "new\n");
    mounted.revert("@base");
    let mut session = Session::start(&mounted, &ask, "echo new > kept; exit 3");
    session.see("see what changed] ");
    session.press("\n");
    session.see("reverted to");
    assert_eq!(session.code(), 3);
    same(&before, &mounted);
}

/// A library that says when a group gets a signal that was found gone.
const LATE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int killpg(int group, int signal) {
    static int (*real)(int, int);
    static int gone;
    if (!real) real = dlsym(RTLD_NEXT, "killpg");
    int done = real(group, signal), error = errno;
    if (signal && group == gone) close(open(getenv("LATE"), O_CREAT | O_WRONLY, 0600));
    if (!signal && done && error == ESRCH) gone = group;
    errno = error;
    return done;
}
"#;

/// Somebody who is asked may take hours: by then others may have the numbers of what was ended.
#[test]
fn what_was_ended_is_not_ended_again() {
    let mounted = mounted("run-ended");
    let before = mounted.manifest();
    let library = preload::library(mounted.scratch.path(), "late", LATE);
    let late = mounted.scratch.path().join("late");
    let run = run(&mounted, &["--timeout", "0.2"], "echo > new; sleep 1000");
    let run = run.env("LD_PRELOAD", library).env("LATE", &late);
    let done = run.finish().expect_code(124);
    says(&done, "reverted to");
    same(&before, &mounted);
    assert!(!late.exists());
}
