//! Running other programs without ever waiting for ever.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a program may take when the test does not say.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a finished program left.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// Everything it wrote to its standard error.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// The exit code; 128 + the signal's number when a signal ended it.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Both outputs, for assertions about messages that may be on either.
    #[must_use]
    pub fn text(&self) -> String {
        self.out() + &self.err()
    }

    /// Panics with everything the program said unless it exited with `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(
            self.code() == code,
            "`{}` exited with {}, expected {code}\nstdout: {}\nstderr: {}",
            self.line,
            self.code(),
            self.out(),
            self.err()
        );
        self
    }

    /// Panics with everything the program said unless it succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect_code(0)
    }
}

/// A program that is about to be run, in its own process group.
#[derive(Debug)]
pub struct Run {
    command: Command,
    patience: Duration,
}

impl Run {
    /// The program `program`, with nothing on its standard input.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).process_group(0);
        Run {
            command,
            patience: PATIENCE,
        }
    }

    /// `sh -e -u -c SCRIPT`.
    pub fn shell(script: &str) -> Self {
        Run::new("bash").args(["-eu", "-o", "pipefail", "-c", script])
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets environment variables.
    #[must_use]
    pub fn envs(mut self, variables: &[(OsString, OsString)]) -> Self {
        self.command
            .envs(variables.iter().map(|(name, value)| (name, value)));
        self
    }

    /// Removes an environment variable.
    #[must_use]
    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs in `directory`.
    #[must_use]
    pub fn dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Gives up after `patience`.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The command, for what the other methods cannot say.
    pub fn raw(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Starts the program and leaves it running.
    #[track_caller]
    pub fn start(mut self) -> Running {
        let line = line_of(&self.command);
        // Memory files rather than pipes: a daemon that inherits them keeps nobody waiting.
        let (stdout, stderr) = (memory_file(), memory_file());
        self.command
            .stdout(stdout.try_clone().expect("a descriptor is free"));
        self.command
            .stderr(stderr.try_clone().expect("a descriptor is free"));
        let child = match self.command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("`{line}` does not start: {error}"),
        };
        Running {
            line,
            child,
            stdout,
            stderr,
            patience: self.patience,
            ended: None,
        }
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// When it does not start, or takes longer than the patience; it is killed then, with its
    /// process group.
    #[track_caller]
    pub fn finish(self) -> Finished {
        self.start().finish()
    }

    /// Runs the program and panics unless it succeeds.
    #[track_caller]
    pub fn ok(self) -> Finished {
        self.finish().ok()
    }
}

/// A started program; dropping it kills it with its process group.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdout: File,
    stderr: File,
    patience: Duration,
    ended: Option<ExitStatus>,
}

impl Running {
    /// The process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids are below 2^22")
    }

    /// What it has written to its standard output so far.
    pub fn output_so_far(&mut self) -> String {
        String::from_utf8_lossy(&read_all(&mut self.stdout)).into_owned()
    }

    /// Kills the program (SIGKILL), alone.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
    }

    /// Kills the program with all that it has started in its process group.
    pub fn kill_group(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.pid());
        // Nobody may be left in it.
        let _gone = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it takes longer than the patience.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let Some(status) = self.wait(self.patience) else {
            let (out, err) = (read_all(&mut self.stdout), read_all(&mut self.stderr));
            panic!(
                "`{}` did not end within {:?}\nstdout: {}\nstderr: {}",
                self.line,
                self.patience,
                String::from_utf8_lossy(&out),
                String::from_utf8_lossy(&err)
            );
        };
        Finished {
            line: self.line.clone(),
            status,
            stdout: read_all(&mut self.stdout),
            stderr: read_all(&mut self.stderr),
        }
    }

    /// Waits at most `patience`; `None` when the program still runs.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        if self.ended.is_none() && ended_within(self.pid(), patience) {
            self.ended = Some(self.child.wait().expect("a child can be waited for"));
        }
        self.ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.wait(Duration::ZERO).is_some() {
            return;
        }
        self.kill_group();
        // A process stuck in a dead mount goes when the mount does; do not wait for it long.
        self.wait(Duration::from_secs(5));
    }
}

/// Waits until process `pid` has ended, at most `patience`. A process that is not there has ended.
pub fn ended_within(pid: i32, patience: Duration) -> bool {
    // SAFETY: pidfd_open takes two integers and gives a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return true;
    }
    // SAFETY: the descriptor was just made and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("descriptors are small")) };
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut watched = [PollFd::new(
            std::os::fd::AsFd::as_fd(&fd),
            PollFlags::POLLIN,
        )];
        match poll(&mut watched, timeout) {
            Ok(0) if Instant::now() < deadline => {}
            Ok(0) => return false,
            Ok(_) => return true,
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => panic!("poll on process {pid}: {error}"),
        }
    }
}

/// Waits until `done` gives something, asking every few milliseconds.
///
/// # Panics
/// After `patience`, naming `what` was waited for.
#[track_caller]
pub fn until<T>(what: &str, patience: Duration, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

fn memory_file() -> File {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    File::from(nix::sys::memfd::memfd_create(c"output", flags).expect("a memory file can be made"))
}

/// Reads from the start without moving the offset at which the program goes on writing.
fn read_all(file: &mut File) -> Vec<u8> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut fresh = File::open(path).expect("an open memory file can be opened again");
    let mut bytes = Vec::new();
    fresh.rewind().expect("a memory file can seek");
    fresh
        .read_to_end(&mut bytes)
        .expect("a memory file can be read");
    bytes
}

fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}
