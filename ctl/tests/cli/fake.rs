//! A daemon of a few lines, and runs of `llctl` against it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use llctl::codec::{self, HELLO_MAX, REPLY_MAX, REQUEST_MAX};
use llctl::protocol::{
    BytePath, ErrorKind, Failure, Hello, HelloReply, PROTOCOL_VERSION, Refused, Request, Response,
    SnapInfo, SnapMeta, UnixNanos, Welcome,
};

/// 2026-11-21 11:44:02 UTC.
pub const WHEN: UnixNanos = UnixNanos(1_795_261_442_000_000_000);

/// What is answered to a request.
type Answer = Box<dyn Fn(&Request) -> Vec<Response> + Send>;

/// A daemon that does nothing but answer.
pub struct Fake {
    /// Its directory, which is also the mountpoint that it claims.
    pub dir: PathBuf,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Fake {
    /// A daemon of this version that gives `answer`.
    pub fn new(answer: Vec<Response>) -> Self {
        Self::answering(move |_| answer.clone())
    }

    /// A daemon of this version that answers each request with what `answer` says.
    pub fn answering(answer: impl Fn(&Request) -> Vec<Response> + Send + 'static) -> Self {
        Self::start(None, Box::new(answer))
    }

    /// A daemon that says why not.
    pub fn refusing(kind: ErrorKind, why: &str, server_version: u32) -> Self {
        let refused = Refused {
            kind,
            why: why.to_owned(),
            server_version,
            daemon: "9.0.0".to_owned(),
        };
        Self::start(Some(refused), Box::new(|_| Vec::new()))
    }

    /// A daemon that fails at everything.
    pub fn failing(kind: ErrorKind) -> Self {
        Self::new(vec![Response::Error(
            Failure::new(kind, "it did not work").with_hint("do something else"),
        )])
    }

    fn start(refused: Option<Refused>, answer: Answer) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("llctl-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let listener = UnixListener::bind(dir.join("sock")).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, mountpoint) = (Arc::clone(&requests), BytePath::from(dir.as_path()));
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(
                    stream.unwrap(),
                    refused.as_ref(),
                    &mountpoint,
                    &answer,
                    &seen,
                );
            }
        });
        Self { dir, requests }
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// `llctl` with these arguments, at this daemon.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = llctl();
        command
            .arg("--socket")
            .arg(self.dir.join("sock"))
            .args(args)
            .current_dir(&self.dir);
        command
    }

    /// Runs `llctl` with these arguments.
    pub fn run(&self, args: &[&str]) -> Run {
        finish(self.command(args))
    }

    /// Runs `llctl` on a terminal at which somebody says yes, and gives all that is written there.
    pub fn with_a_yes(&self, args: &[&str]) -> (i32, String) {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
        let mut command = self.command(args);
        command.stdin(slave()).stdout(slave()).stderr(slave());
        let mut child = command.spawn().unwrap();
        drop(command);
        drop(terminal.slave);
        let mut master = std::fs::File::from(terminal.master);
        master.write_all(b"y\n").unwrap();
        let mut text = Vec::new();
        // The end of a terminal is an error.
        master.read_to_end(&mut text).unwrap_or(0);
        let code = child.wait().unwrap().code().unwrap();
        (code, String::from_utf8(text).unwrap())
    }

    /// Runs `llctl`, which must succeed in silence on stderr, and gives its output.
    pub fn output(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{args:?}");
        run.stdout
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn serve(
    mut stream: UnixStream,
    refused: Option<&Refused>,
    mountpoint: &BytePath,
    answer: &Answer,
    seen: &Mutex<Vec<Request>>,
) {
    let hello: Hello = codec::read(&mut stream, HELLO_MAX).unwrap();
    assert_eq!(hello.version, PROTOCOL_VERSION);
    let reply = match refused {
        Some(refused) => HelloReply::Refused(refused.clone()),
        None => HelloReply::Welcome(Welcome {
            version: PROTOCOL_VERSION,
            daemon: "0.1.0".to_owned(),
            pid: 7,
            mountpoint: mountpoint.clone(),
            store: BytePath::from("/store"),
            mount: 0,
        }),
    };
    codec::write(&mut stream, &reply, HELLO_MAX).unwrap();
    while let Ok(request) = codec::read::<Request>(&mut stream, REQUEST_MAX) {
        let planned_only = matches!(request, Request::Apply { yes: false, .. });
        let responses = answer(&request);
        seen.lock().unwrap().push(request);
        for response in responses {
            if codec::write(&mut stream, &response, REPLY_MAX).is_err() {
                return;
            }
            if response.is_last(planned_only) {
                break;
            }
        }
    }
}

/// `llctl` in an environment that is the same everywhere.
pub fn llctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llctl"));
    for variable in [
        "LLFS_MOUNT",
        "XDG_RUNTIME_DIR",
        "NO_COLOR",
        "CLICOLOR_FORCE",
        "TRACEPARENT",
    ] {
        command.env_remove(variable);
    }
    command
        .env("TZ", "UTC")
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    command
}

/// Runs `command` to its end.
pub fn finish(mut command: Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().expect("not killed by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A snapshot.
pub fn snap(name: &str) -> SnapInfo {
    SnapInfo {
        name: name.to_owned(),
        id: 3,
        created: WHEN,
        message: None,
        changed: None,
        bytes: None,
        shared: None,
        hash: None,
        meta: SnapMeta::default(),
    }
}
