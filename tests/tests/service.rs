//! Under a service manager: readiness, watchdog, a killed supervisor whose mount the next one goes on with, and the units.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use llfs_tests::command::{PATIENCE, Run, Running, until};
use llfs_tests::dice::Random;
use llfs_tests::killer::{stat, worker_of};
use llfs_tests::mounted::Mounted;
use llfs_tests::scratch::Scratch;
use llfs_tests::{binaries, loopback, preload, seeded, sys};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A mount that a service manager keeps up.
struct Service {
    manager: Running,
    mounted: Mounted,
}

impl Service {
    fn start(name: &str, watchdog: Duration, fill: impl FnOnce(&Path)) -> Service {
        let mounted = Mounted::prepare(name);
        fill(&mounted.dir);
        Self::of(mounted, watchdog, &[])
    }

    fn of(mounted: Mounted, watchdog: Duration, env: &[(&str, &str)]) -> Service {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/service/manager");
        let manager = mounted
            .program(script)
            .arg(mounted.scratch.path().join("notify"))
            .arg(watchdog.as_micros().to_string())
            .arg(binaries::llfs())
            .args(["mount", "--foreground", "--store"])
            .args([&mounted.store, &mounted.dir])
            .patience(Duration::from_secs(60));
        let manager = env
            .iter()
            .fold(manager, |run, (name, value)| run.env(name, value));
        let manager = manager.start();
        let mut service = Service { manager, mounted };
        service.wait_for("ready 1", 1);
        service
    }

    /// How often the manager has said this.
    fn said(&mut self, line: &str) -> usize {
        let output = self.manager.output_so_far();
        output.lines().filter(|said| said.starts_with(line)).count()
    }

    fn wait_for(&mut self, line: &str, times: usize) {
        let begun = std::time::Instant::now();
        while self.said(line) < times {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "no {line:?} in\n{}",
                self.manager.output_so_far()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The supervisor that runs now.
    fn pid(&mut self) -> i32 {
        let output = self.manager.output_so_far();
        let last = output.lines().rfind(|l| l.starts_with("started ")).unwrap();
        last.rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn kill_supervisor(&mut self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGKILL).unwrap();
    }

    /// Unmounts; the manager ends with its service.
    fn end(self) -> String {
        self.mounted.llfs(&["unmount"]).arg(&self.mounted.dir).ok();
        let said = self.manager.finish().ok().out();
        assert!(!said.contains("too early"), "{said}");
        said
    }
}

#[test]
fn a_supervisor_that_is_killed_is_followed_by_one_that_goes_on_with_the_mount() {
    let seed = seeded::first_seed();
    println!("LLFS_SEED={seed}");
    let mut random = Random::new(seed);
    let mut service = Service::start("service", Duration::ZERO, |base| {
        fs::write(base.join("of the base"), "from the base").unwrap();
    });
    let path = service.mounted.path("lines");
    let mut of_base = File::open(service.mounted.path("of the base")).unwrap();
    let stands = Run::new("sleep")
        .arg("600")
        .dir(&service.mounted.dir)
        .start();
    service.mounted.snap("first");
    let enough = AtomicBool::new(false);
    let kills = seeded::number("LLFS_KILLS").unwrap_or(6);
    let lines = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut options = OpenOptions::new();
            let mut file = options.append(true).create(true).open(&path).unwrap();
            for number in 0.. {
                if enough.load(Ordering::Relaxed) {
                    return number;
                }
                file.write_all(format!("line {number}\n").as_bytes())
                    .unwrap();
            }
            unreachable!()
        });
        for round in 1..=kills {
            std::thread::sleep(Duration::from_millis(random.below(300) as u64));
            service.kill_supervisor();
            // Asked while there is nobody.
            sys::drop_caches(&of_base).unwrap();
            of_base.rewind().unwrap();
            let mut text = String::new();
            of_base.read_to_string(&mut text).unwrap();
            assert_eq!(text, "from the base");
            service.wait_for("ready 1", 1 + round as usize);
        }
        enough.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    let expected: String = (0..lines).map(|n| format!("line {n}\n")).collect();
    assert!(lines > 20, "only {lines} lines");
    assert!(fs::read_to_string(&path).unwrap() == expected);
    let status = service.mounted.json(&["status"]);
    assert!(status["workers"].as_u64().unwrap() > kills, "{status}");
    drop((stands, of_base));
    service.mounted.revert("first");
    assert!(!path.exists());
    service.mounted.undo();
    service.mounted.verify();
    let said = service.end();
    assert!(said.ends_with("keeps at the end 0\n"), "{said}");
}

/// Whoever asks while supervisors are killed is answered by the next one, which is who it says it is; what was asked is done once.
#[test]
fn what_is_asked_while_supervisors_are_killed_is_done_once() {
    let seed = seeded::first_seed();
    println!("LLFS_SEED={seed}");
    let mut random = Random::new(seed);
    let mut service = Service::start("service-asked", Duration::ZERO, |_| ());
    let run = service.mounted.scratch.path().join("run/llfs");
    let socket = fs::read_dir(run).unwrap().next().unwrap().unwrap().path();
    let mut client = llctl::Client::connect_socket(&socket).unwrap();
    let before = client.welcome().clone();
    assert_eq!(before.pid, u32::try_from(service.pid()).unwrap());
    let (kills, mut asked) = (5, 0);
    for round in 1..=kills {
        let pid = Pid::from_raw(service.pid());
        let moment = Duration::from_millis(random.below(120) as u64);
        std::thread::scope(|scope| {
            let killer = scope.spawn(move || {
                std::thread::sleep(moment);
                kill(pid, Signal::SIGKILL).unwrap();
            });
            let mut more = 3;
            while more > 0 {
                fs::write(service.mounted.path("file"), format!("{asked}")).unwrap();
                let name = llctl::SnapName::new(format!("s{asked}")).unwrap();
                let taken = client.snap(Some(name), None).unwrap();
                assert_eq!(taken.name, format!("s{asked}"));
                asked += 1;
                more -= i32::from(killer.is_finished());
            }
        });
        service.wait_for("ready 1", 1 + round);
        let status = client.status().unwrap();
        assert_eq!(i64::from(status.pid), i64::from(service.pid()));
        assert_eq!(client.welcome().pid, status.pid, "the one before is dead");
        assert_eq!(client.welcome().mount, before.mount);
    }
    let listed = client.list().unwrap().snapshots;
    let names: Vec<&str> = listed.iter().map(|s| s.name.as_str()).collect();
    let expected: Vec<String> = (0..asked).map(|n| format!("s{n}")).collect();
    assert_eq!(names, expected);
    service.mounted.verify();
    // The mount that follows is another one.
    service.end();
}

/// What is kept of a mount that was taken away meanwhile is of no use: there is a new one.
#[test]
fn a_mount_that_is_gone_when_its_supervisor_comes_back_is_made_anew() {
    let mut service = Service::start("service-gone", Duration::ZERO, |_| ());
    fs::write(service.mounted.path("file"), "text").unwrap();
    // Together, and before the manager has started the next one.
    kill(Pid::from_raw(service.pid()), Signal::SIGKILL).unwrap();
    Run::new("umount").arg("-l").arg(&service.mounted.dir).ok();
    service.wait_for("ready 1", 2);
    let text = fs::read_to_string(service.mounted.path("file")).unwrap();
    assert_eq!(text, "text");
    assert_eq!(service.mounted.json(&["status"])["workers"], 1);
    service.end();
}

/// Such as what a supervisor of another version of llfs left.
#[test]
fn what_is_kept_and_cannot_be_used_is_given_up_for_a_new_mount() {
    let mounted = Mounted::prepare("service-spoilt");
    let mut service = Service::of(mounted, Duration::ZERO, &[("MANAGER_SPOILS", "1")]);
    fs::write(service.mounted.path("file"), "text").unwrap();
    service.kill_supervisor();
    service.wait_for("ready 1", 2);
    let text = fs::read_to_string(service.mounted.path("file")).unwrap();
    assert_eq!(text, "text");
    assert_eq!(service.mounted.json(&["status"])["workers"], 1);
    service.mounted.verify();
    service.end();
}

#[test]
fn there_are_signs_of_life_as_long_as_the_mount_answers() {
    let mut service = Service::start("service-watchdog", Duration::from_millis(600), |_| ());
    service.wait_for("watchdog 1", 3);
    let worker = worker_of(service.pid()).unwrap();
    kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
    // One may be on its way.
    std::thread::sleep(Duration::from_millis(500));
    let before = service.said("watchdog 1");
    // Longer than the daemon waits for its mount before it believes that it hangs.
    std::thread::sleep(Duration::from_secs(12));
    let after = service.said("watchdog 1");
    kill(Pid::from_raw(worker), Signal::SIGCONT).unwrap();
    assert_eq!(before, after, "signs of life of a mount that hangs");
    service.wait_for("watchdog 1", after + 3);
    service.end();
}

/// A library that holds the thread which answers the kernel before it has begun, as long as there is a file, and says so by another.
const HOLD: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int pthread_setname_np(pthread_t thread, const char *name) {
    static int (*real)(pthread_t, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "pthread_setname_np");
    if (!strcmp(name, "llfs-session")) {
        close(open(getenv("HELD"), O_CREAT | O_WRONLY, 0600));
        while (!access(getenv("HOLD"), F_OK)) usleep(1000);
    }
    return real(thread, name);
}
"#;

/// Between mount(2) and the first answer whoever looks at the mount waits. Nobody is told before that is over. A mount in the
/// background is none of the service's in which somebody asks for it.
#[test]
fn a_mount_is_told_of_only_when_it_answers() {
    let long = Duration::from_secs(1);
    for foreground in [true, false] {
        let mounted = Mounted::prepare("told");
        let at = |name: &str| mounted.scratch.path().join(name);
        let library = preload::library(mounted.scratch.path(), "hold", HOLD);
        let (hold, held) = (at("hold"), at("held"));
        fs::write(&hold, "").unwrap();
        let manager = UnixDatagram::bind(at("notify")).unwrap();
        manager.set_read_timeout(Some(long)).unwrap();
        let run = mounted.mount_run().env("LD_PRELOAD", library);
        let run = run.env("HOLD", &hold).env("HELD", &held);
        let run = run.env("NOTIFY_SOCKET", at("notify"));
        let run = match foreground {
            true => run.arg("--foreground"),
            false => run,
        };
        let mut run = run.start();
        until("a worker that begins", PATIENCE, || {
            held.exists().then_some(())
        });
        assert!(mounted.is_mounted());
        // Until nothing has come for so long.
        let mut message = [0; 4096];
        while let Ok(length) = manager.recv(&mut message) {
            let text = String::from_utf8_lossy(&message[..length]);
            assert!(foreground, "nobody waits for this: {text}");
            assert!(!text.contains("READY=1"), "nobody answers yet: {text}");
        }
        assert!(run.wait(long).is_none(), "nobody answers yet");
        assert_eq!(run.output_so_far(), "");
        fs::remove_file(&hold).unwrap();
        if foreground {
            manager.set_read_timeout(Some(PATIENCE)).unwrap();
            let ready = |message: &mut [u8]| {
                let length = manager.recv(message).unwrap();
                message[..length].starts_with(b"READY=1\n")
            };
            while !ready(&mut message) {}
        } else {
            run.wait(PATIENCE).unwrap();
        }
        fs::write(mounted.path("file"), "text").unwrap();
        mounted.unmount();
        run.finish().ok();
        manager.set_nonblocking(true).unwrap();
        assert_eq!(manager.recv(&mut message).is_ok(), foreground);
    }
}

/// A program that such a process has started inherits what tells of a watchdog and of descriptors, and neither is for it.
#[test]
fn what_a_manager_means_for_another_process_is_not_used() {
    let watches = [("MANAGER_WATCHES_ITSELF", "1")];
    let mounted = Mounted::prepare("service-another");
    let service = Service::of(mounted, Duration::from_millis(150), &watches);
    fs::write(service.mounted.path("file"), "text").unwrap();
    service.mounted.verify();
    let said = service.end();
    assert!(!said.contains("watchdog"), "{said}");
    // Who has this descriptor open may mean something by that, such as a lock.
    let mounted = Mounted::prepare("service-inherits");
    let theirs = mounted.scratch.path().join("theirs");
    fs::write(&theirs, "").unwrap();
    let run = mounted.program("bash").arg("-c");
    let run = run.arg("exec 3< \"$1\"; shift; exec \"$@\"").arg("bash");
    let run = run.arg(&theirs).arg(binaries::llfs());
    let run = run.args(["mount", "--foreground", "--store"]);
    let run = run.arg(&mounted.store).arg(&mounted.dir);
    let run = run.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let mut run = run.env("LISTEN_FDNAMES", "llfs-device").start();
    until("the mount", PATIENCE, || {
        run.output_so_far().starts_with("mounted").then_some(())
    });
    let open = fs::read_link(format!("/proc/{}/fd/3", run.pid())).unwrap();
    assert_eq!(open, theirs);
    mounted.unmount();
    run.finish().ok();
}

/// A filesystem whose writes wait, and with them, in a way that no signal ends, whoever writes.
struct Frozen(PathBuf);

impl Frozen {
    fn new(at: &Path) -> Frozen {
        Run::new("fsfreeze").arg("-f").arg(at).ok();
        Frozen(at.to_path_buf())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        Run::new("fsfreeze").arg("-u").arg(&self.0).finish();
    }
}

/// A worker that was killed goes on as long as the disk keeps it. What it writes then must not meet what the next one writes.
#[test]
fn the_worker_of_a_dead_supervisor_is_waited_for() {
    let scratch = Scratch::new("service-frozen");
    let disk = scratch.dir("disk");
    loopback::mount("ext4", 80, &scratch.path().join("image"), &disk);
    let mounted = Mounted::prepare_in(scratch, None, Some(&disk.join("store")));
    let mut service = Service::of(mounted, Duration::ZERO, &[]);
    let path = service.mounted.path("file");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"before\n").unwrap();
    let old = worker_of(service.pid()).unwrap();
    let frozen = Frozen::new(&disk);
    let writer = std::thread::spawn(move || file.write_all(b"meanwhile\n").unwrap());
    until("a write that waits for the disk", PATIENCE, || {
        waits(old).then_some(())
    });
    service.kill_supervisor();
    service.wait_for("started", 2);
    let next = service.pid();
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        assert!(stat(old).is_ok(), "the disk does not keep it");
        let second = worker_of(next);
        assert_eq!(second, None, "there are two of them");
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(frozen);
    service.wait_for("ready 1", 2);
    writer.join().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"before\nmeanwhile\n");
    service.mounted.verify();
    service.end();
}

/// So does one that had not begun to serve: it has a part of the journal to begin first.
#[test]
fn a_worker_that_opens_the_store_when_its_supervisor_dies_is_waited_for() {
    let scratch = Scratch::new("service-opens");
    let disk = scratch.dir("disk");
    loopback::mount("ext4", 80, &scratch.path().join("image"), &disk);
    let mounted = Mounted::prepare_in(scratch, None, Some(&disk.join("store")));
    let mut service = Service::of(mounted, Duration::ZERO, &[]);
    let path = service.mounted.path("file");
    fs::write(&path, "before").unwrap();
    let first = worker_of(service.pid()).unwrap();
    let frozen = Frozen::new(&disk);
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let pid = service.pid();
    let opens = until("a worker that waits for the disk", PATIENCE, || {
        worker_of(pid).filter(|worker| *worker != first && waits(*worker))
    });
    service.kill_supervisor();
    service.wait_for("started", 2);
    let next = service.pid();
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        assert!(stat(opens).is_ok(), "the disk does not keep it");
        assert_eq!(worker_of(next), None, "there are two of them");
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(frozen);
    service.wait_for("ready 1", 2);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before");
    service.mounted.verify();
    service.end();
}

/// Who made the control socket is dead then, and the mount is not.
#[test]
fn a_second_mount_leaves_one_alone_whose_supervisor_is_the_second() {
    let mut service = Service::start("service-second", Duration::ZERO, |_| ());
    let mut file = File::create(service.mounted.path("file")).unwrap();
    file.write_all(b"one\n").unwrap();
    service.kill_supervisor();
    service.wait_for("ready 1", 2);
    let refused = service.mounted.mount_run().finish().expect_code(1);
    assert!(
        refused.err().contains("is already mounted"),
        "{}",
        refused.err()
    );
    file.write_all(b"two\n").unwrap();
    let text = fs::read_to_string(service.mounted.path("file")).unwrap();
    assert_eq!(text, "one\ntwo\n");
    drop(file);
    assert_eq!(service.said("started"), 2);
    service.end();
}

/// Whether a thread of a process waits where no signal ends it.
fn waits(pid: i32) -> bool {
    let all = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    all.flatten().any(|task| {
        let tid = task.file_name().to_str().unwrap().parse().unwrap();
        stat(tid).is_ok_and(|fields| fields[0] == "D")
    })
}

fn unit(kind: &str) -> PathBuf {
    let file = format!("../systemd/{kind}/llfs@.service");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// systemd finds nothing to complain about in the units.
#[test]
fn the_units_are_understood() {
    let mounted = Mounted::prepare("units");
    for (kind, manager) in [("system", "--system"), ("user", "--user")] {
        let text = fs::read_to_string(unit(kind)).unwrap();
        let llfs = binaries::llfs();
        let text = text.replace("=:llfs ", &format!("=:{} ", llfs.display()));
        let path = mounted.scratch.dir(kind).join("llfs@srv-data.service");
        fs::write(&path, text).unwrap();
        understood(&mounted, manager, &path);
    }
}

/// `systemd-analyze` is of the package systemd, which `tests/packages` installs.
fn understood(mounted: &Mounted, manager: &str, unit: &Path) {
    let run = mounted.program("systemd-analyze");
    let checked = run.args([manager, "verify", "--man=no"]).arg(unit).ok();
    assert_eq!(checked.text(), "", "{}", unit.display());
}

/// A systemctl that writes down how it was called.
const SYSTEMCTL: &str = "#!/bin/sh\necho \"$@\" >> \"$(dirname \"$0\")/called\"\n";

fn with_systemctl(mounted: &Mounted, run: Run) -> Run {
    use std::os::unix::fs::PermissionsExt;
    let bin = mounted.scratch.dir("bin");
    fs::write(bin.join("text"), SYSTEMCTL).unwrap();
    fs::set_permissions(bin.join("text"), PermissionsExt::from_mode(0o755)).unwrap();
    binaries::copy(&bin.join("text"), &bin.join("systemctl"));
    let path = std::env::var("PATH").unwrap();
    run.env("PATH", format!("{}:{path}", bin.display()))
}

fn called(mounted: &Mounted) -> String {
    let path = mounted.scratch.dir("bin").join("called");
    let text = fs::read_to_string(&path).unwrap_or_default();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    text
}

#[test]
fn install_service_says_what_it_does_and_takes_it_back() {
    let mut mounted = Mounted::prepare("install");
    mounted.become_user(65534);
    called(&mounted);
    let units = mounted.scratch.path().join("home/.config/systemd/user");
    let name = mounted.dir.to_str().unwrap().trim_start_matches('/');
    let name = name.replace('-', "\\x2d").replace('/', "-");
    let unit = format!("llfs@{name}.service");
    let run = |args: &[&str]| {
        let run = mounted
            .llfs(&["install-service"])
            .args(args)
            .arg(&mounted.dir);
        with_systemctl(&mounted, run).env_remove("XDG_CONFIG_HOME")
    };
    let installed = run(&[]).ok();
    let template = units.join("llfs@.service");
    let expected = format!(
        "wrote {}\nran   systemctl --user daemon-reload\nran   systemctl --user enable --now {unit}\n",
        template.display()
    );
    assert_eq!(installed.out(), expected);
    assert!(installed.err().contains("loginctl enable-linger"));
    let calls = format!("--user daemon-reload\n--user enable --now {unit}\n");
    assert_eq!(called(&mounted), calls);
    let text = fs::read_to_string(&template).unwrap();
    let start = text.lines().find(|l| l.starts_with("ExecStart=")).unwrap();
    assert!(
        start.contains("programs/llfs mount --foreground %f"),
        "{start}"
    );
    // With a store of its own; the template stays.
    let store = mounted.scratch.path().join("a store");
    let again = run(&["--store", store.to_str().unwrap()]).ok().out();
    let added = units.join(format!("{unit}.d/llfs.conf"));
    assert!(again.starts_with("kept "), "{again}");
    let text = fs::read_to_string(&added).unwrap();
    let store = format!("--store \"{}\" %f", store.display());
    assert!(text.contains(&store), "{text}");
    // One that is mounted already is left alone.
    mounted.mount();
    called(&mounted);
    let noted = run(&[]).ok();
    assert!(noted.err().contains("mounted already"), "{}", noted.err());
    assert!(!called(&mounted).contains("--now"));
    assert!(!added.exists());
    mounted.unmount();
    called(&mounted);
    let account = run(&["--remove", "--json"]).ok().out();
    let account: serde_json::Value = serde_json::from_str(&account).unwrap();
    assert_eq!(
        (&account["unit"], &account["removed"]),
        (&unit.into(), &true.into())
    );
    assert!(!template.exists());
    assert!(called(&mounted).contains("--user disable --now"));
    let nothing = run(&["--remove"]).finish();
    assert_eq!(nothing.code(), 3, "{}", nothing.text());
}

/// It runs the program that installed it, wherever that is, or that one says that systemd cannot.
#[test]
fn an_installed_unit_runs_the_program_at_any_path() {
    let mut mounted = Mounted::prepare("install-odd");
    mounted.become_user(65534);
    called(&mounted);
    let template = ".config/systemd/user/llfs@.service";
    let template = mounted.scratch.path().join("home").join(template);
    for (number, name) in ["a b", "100%h", "$HOME", "ü;#x", "it's", "\"q\"", "b\\x20"]
        .into_iter()
        .enumerate()
    {
        let place = mounted.scratch.dir(name);
        binaries::copy(&binaries::llfs(), &place.join("llfs"));
        let run = mounted.program(place.join("llfs")).arg("install-service");
        let run = with_systemctl(&mounted, run).env_remove("XDG_CONFIG_HOME");
        if name.contains(['\'', '"', '\\']) {
            let failed = run.arg(&mounted.dir).finish().expect_code(1).err();
            assert!(failed.contains("systemd does not run"), "{failed}");
            assert!(!template.exists(), "a unit that cannot run was written");
            continue;
        }
        let store = mounted.scratch.path().join("of it's \"100%\\");
        run.arg("--store").arg(store).arg(&mounted.dir).ok();
        let unit = fs::read_dir(template.parent().unwrap()).unwrap();
        let unit = unit
            .map(|found| found.unwrap().path())
            .find(|path| path.extension().is_some_and(|e| e == "d"))
            .unwrap();
        let added = fs::read_to_string(unit.join("llfs.conf")).unwrap();
        let text = fs::read_to_string(&template).unwrap();
        // Each of them alone, without what else this user has.
        let alone = mounted.scratch.dir(&format!("units{number}"));
        let (one, other) = (
            alone.join("llfs@srv-data.service"),
            alone.join("llfs@srv.service"),
        );
        fs::write(&one, &text).unwrap();
        fs::write(&other, text + &added).unwrap();
        understood(&mounted, "--user", &one);
        understood(&mounted, "--user", &other);
        fs::remove_dir_all(template.parent().unwrap()).unwrap();
    }
}

#[test]
fn without_systemd_install_service_says_what_failed() {
    let mut mounted = Mounted::prepare("install-none");
    mounted.become_user(65534);
    let run = mounted.llfs(&["install-service"]).arg(&mounted.dir);
    let run = with_systemctl(&mounted, run);
    let absent = "#!/bin/sh\necho no bus here >&2; exit 1\n";
    fs::write(mounted.scratch.path().join("bin/systemctl"), absent).unwrap();
    let failed = run.finish();
    assert_eq!(failed.code(), 1);
    let text = failed.err();
    let expected = "`systemctl --user daemon-reload` failed: no bus here";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("hint: "), "{text}");
}
