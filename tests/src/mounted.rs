//! One llfs mount with everything that belongs to it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::binaries;
use crate::command::{Finished, Run, ended_within, until};
use crate::manifest::{Manifest, walk};
use crate::mountinfo;
use crate::scratch::{self, Scratch};
use crate::watchdog::Watchdog;

/// How long a test may use one mount, unless it says otherwise.
const TIME_OF_A_TEST: Duration = Duration::from_secs(150);
/// Set to 0, nothing happens by itself, which most tests would trip over.
const AUTOMATIC: &str = "LLFS_AUTOMATIC";

/// A base directory, a store and the directories of the environment, all in one scratch
/// directory. Dropping it takes down what is left of the mount and removes everything.
#[derive(Debug)]
pub struct Mounted {
    /// The base directory, and the mount point.
    pub dir: PathBuf,
    /// The store.
    pub store: PathBuf,
    /// What programs get in their environment.
    pub env: Vec<(OsString, OsString)>,
    /// What comes before every command line, such as the program that changes the user.
    prefix: Vec<OsString>,
    /// Where llfs and llctl are.
    programs: PathBuf,
    below: File,
    watchdog: Option<Watchdog>,
    /// Dropped last.
    pub scratch: Scratch,
}

impl Mounted {
    /// Mounts an empty base.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        Mounted::over(name, |_| {})
    }

    /// Mounts a base that `fill` has filled.
    #[track_caller]
    pub fn over(name: &str, fill: impl FnOnce(&Path)) -> Self {
        let site = Mounted::prepare(name);
        fill(&site.dir);
        site.mount();
        site
    }

    /// Everything but the mount.
    #[track_caller]
    pub fn prepare(name: &str) -> Self {
        Mounted::prepare_in(Scratch::new(name), None, None)
    }

    /// Everything but the mount, with the base and the store at places in `scratch` that the
    /// caller may have mounted something on.
    ///
    /// # Panics
    /// Without /dev/fuse: these tests need it.
    #[track_caller]
    pub fn prepare_in(scratch: Scratch, base: Option<&Path>, store: Option<&Path>) -> Self {
        assert!(
            Path::new("/dev/fuse").exists(),
            "these tests need /dev/fuse: load the fuse module, or give the container the device"
        );
        let dir = base.map_or_else(|| scratch.dir("base"), Path::to_path_buf);
        let store = store.map_or_else(|| scratch.path().join("store"), Path::to_path_buf);
        let env = [
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_STATE_HOME", "state"),
            ("HOME", "home"),
        ]
        .map(|(name, place)| (name.into(), scratch.dir(place).into_os_string()));
        // Snapshots that take themselves would be in what tests list; those that want them say so.
        let env = env
            .into_iter()
            .chain([(AUTOMATIC.into(), "0".into())])
            .collect();
        let below = File::open(&dir).expect("the base directory was just made");
        let watchdog = Some(Watchdog::new(scratch.path().to_path_buf(), TIME_OF_A_TEST));
        Mounted {
            dir,
            store,
            env,
            prefix: Vec::new(),
            programs: binaries::directory().to_path_buf(),
            below,
            watchdog,
            scratch,
        }
    }

    /// Gives the test another time limit.
    pub fn allow(&mut self, time: Duration) {
        self.watchdog = Some(Watchdog::new(self.scratch.path().to_path_buf(), time));
    }

    /// Runs llfs and llctl as another user, to whom everything is given.
    pub fn become_user(&mut self, uid: u32) {
        let id = uid.to_string();
        let command = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
        self.prefix = command.map(OsString::from).to_vec();
        for entry in ["base", "run", "state", "home", "."] {
            let path = self.scratch.path().join(entry);
            if path.exists() {
                std::os::unix::fs::lchown(&path, Some(uid), Some(uid)).expect("root may chown");
            }
        }
        std::os::unix::fs::lchown(&self.dir, Some(uid), Some(uid)).expect("root may chown");
        // The programs may lie where only root can go.
        self.copy_programs();
    }

    /// Uses copies of the programs from here on; where they are.
    pub fn copy_programs(&mut self) -> PathBuf {
        let programs = self.scratch.dir("programs");
        for program in [binaries::llfs(), binaries::llctl()] {
            let name = program.file_name().expect("programs have names");
            binaries::copy(&program, &programs.join(name));
        }
        self.programs = programs.clone();
        programs
    }

    /// From the next mount on everything happens by itself that does so for users, too.
    pub fn by_itself(&mut self) {
        self.env.retain(|(name, _)| name != AUTOMATIC);
    }

    /// A program with this mount's environment, as this mount's user.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Run {
        let run = match self.prefix.split_first() {
            Some((first, rest)) => Run::new(first).args(rest).arg(program),
            None => Run::new(program),
        };
        run.envs(&self.env)
            .env_remove("LLFS_MOUNT")
            .env_remove("RUST_LOG")
            .dir("/")
    }

    /// `llfs` with arguments.
    pub fn llfs<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        self.program(self.programs.join("llfs")).args(args)
    }

    /// `llctl -C DIR` with arguments.
    pub fn llctl<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        self.program(self.programs.join("llctl"))
            .arg("-C")
            .arg(&self.dir)
            .args(args)
    }

    /// A typed client of the mount.
    ///
    /// # Panics
    /// When nobody answers.
    #[must_use]
    pub fn client(&self) -> llctl::Client {
        let run = self.store.with_file_name("run").join("llfs");
        let found = std::fs::read_dir(run).expect("there is a directory of sockets");
        let mut alive =
            found.filter_map(|found| llctl::Client::connect_socket(&found.ok()?.path()).ok());
        alive.next().expect("a daemon answers")
    }

    /// `llfs mount DIR --store STORE`, which must succeed.
    #[track_caller]
    pub fn mount(&self) {
        self.mount_run().ok();
        let mounted = mountinfo::at(&self.dir);
        assert!(
            mounted.is_some(),
            "llfs mount succeeded but {} is no mount",
            self.dir.display()
        );
    }

    /// `llfs mount DIR --store STORE`, ready to run.
    pub fn mount_run(&self) -> Run {
        self.llfs(&["mount"])
            .arg(&self.dir)
            .arg("--store")
            .arg(&self.store)
    }

    /// `llfs unmount DIR`, which must succeed; the daemon must be gone after it.
    #[track_caller]
    pub fn unmount(&self) {
        let pid = self.pid();
        self.llfs(&["unmount"]).arg(&self.dir).ok();
        assert!(
            !self.is_mounted(),
            "llfs unmount succeeded but the mount is there"
        );
        assert!(
            ended_within(pid, Duration::from_secs(10)),
            "the daemon outlives its mount"
        );
    }

    /// Unmounts and mounts again.
    #[track_caller]
    pub fn remount(&self) {
        self.unmount();
        self.mount();
    }

    /// Whether llfs is mounted on the directory.
    #[must_use]
    pub fn is_mounted(&self) -> bool {
        mountinfo::at(&self.dir).is_some_and(|mount| mount.kind == "fuse.llfs")
    }

    /// Kills the daemon (SIGKILL) and waits until it is gone.
    #[track_caller]
    pub fn kill9(&self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
    }

    /// Sends the daemon a signal that ends it, and waits until it is gone.
    #[track_caller]
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = self.pid();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("the daemon runs");
        assert!(
            ended_within(pid, Duration::from_secs(20)),
            "the daemon outlives {signal}"
        );
    }

    /// The daemon's process id, by `llctl status`.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let status = self.json(&["status"]);
        let pid = status["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok());
        pid.unwrap_or_else(|| panic!("no pid in {status}"))
    }

    /// The one JSON value that `llctl --json ARGS` prints.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let finished = self.llctl(args).arg("--json").ok();
        match serde_json::from_slice(&finished.stdout) {
            Ok(value) => value,
            Err(error) => panic!("`{}`: {error} in {}", finished.line, finished.out()),
        }
    }

    /// The names of the snapshots, oldest first.
    #[track_caller]
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let listed = self.json(&["list"]);
        let all = listed["snapshots"].as_array();
        let all = all.expect("snapshots are listed").iter();
        let names = all.map(|s| s["name"].as_str().expect("a snapshot has a name"));
        names.map(str::to_owned).collect()
    }

    /// Writes `llfs.toml` and puts it in force.
    #[track_caller]
    pub fn rules(&self, text: &str) {
        let file = self.path("llfs.toml");
        std::fs::write(file, text).expect("the mount can be written");
        self.llctl(&["config", "trust", "--yes"]).ok();
    }

    /// `llctl snap NAME`.
    #[track_caller]
    pub fn snap(&self, name: &str) {
        self.llctl(&["snap", name, "-m", "a test"]).ok();
    }

    /// The checksum of what a snapshot holds. It is computed behind the scenes, and waited for.
    #[track_caller]
    pub fn hash(&self, name: &str) -> String {
        let wait = Duration::from_secs(60);
        until("the checksum of a snapshot", wait, || {
            let shown = self.json(&["show", name])["snapshot"].clone();
            shown["hash"].as_str().map(str::to_owned)
        })
    }

    /// `llctl revert NAME`.
    #[track_caller]
    pub fn revert(&self, name: &str) {
        self.llctl(&["revert", name]).ok();
    }

    /// `llctl undo`.
    #[track_caller]
    pub fn undo(&self) {
        self.llctl(&["undo"]).ok();
    }

    /// `llctl redo`.
    #[track_caller]
    pub fn redo(&self) {
        self.llctl(&["redo"]).ok();
    }

    /// `llctl delete NAME`.
    #[track_caller]
    pub fn delete(&self, name: &str) {
        self.llctl(&["delete", "--yes", name]).ok();
    }

    /// `llctl verify`, which must find nothing.
    #[track_caller]
    pub fn verify(&self) -> Finished {
        self.llctl(&["verify"]).ok()
    }

    /// What the directory shows.
    #[track_caller]
    pub fn manifest(&self) -> Manifest {
        walk(&self.dir)
    }

    /// The base below the mount, by a descriptor from before it.
    #[must_use]
    pub fn base(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.below.as_raw_fd()))
    }

    /// What the base below the mount holds.
    #[track_caller]
    pub fn base_manifest(&self) -> Manifest {
        walk(&self.base())
    }

    /// A path in the mount.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        if self.is_mounted() && !std::thread::panicking() {
            let mut unmount = self.llfs(&["unmount"]).arg(&self.dir).start();
            if unmount.wait(Duration::from_secs(20)).is_none() {
                eprintln!("{}: llfs unmount hangs", self.dir.display());
            }
        }
        scratch::unmount_below(self.scratch.path());
        for pid in scratch::daemons_of(self.scratch.path()) {
            if !ended_within(pid, Duration::from_secs(3)) {
                scratch::kill_daemons_of(self.scratch.path());
            }
        }
    }
}

impl Mounted {
    /// Prints the end of every log in the scratch directory: the test has failed.
    fn show_logs(&self) {
        let places = [self.store.clone(), self.scratch.path().join("state/llfs")];
        for entry in places
            .iter()
            .filter_map(|place| std::fs::read_dir(place).ok())
            .flatten()
        {
            let Ok(path) = entry.map(|entry| entry.path()) else {
                continue;
            };
            if path.extension() != Some(OsStr::new("log")) {
                continue;
            }
            let text = std::fs::read(&path).unwrap_or_default();
            let tail = &text[text.len().saturating_sub(4000)..];
            eprintln!(
                "--- {}\n{}---",
                path.display(),
                String::from_utf8_lossy(tail)
            );
        }
    }
}
