//! Programs that write while everything is reverted below them: a warning, never a refusal.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use llctl::writers::{self, Writer};

use crate::cli::output::{Style, on_stderr};

/// How long is looked at all, from the beginning on. A revert takes a few milliseconds and a machine has hundreds of processes: the
/// look goes on beside it, and nobody waits longer than this for the rest.
const LIMIT: Duration = Duration::from_millis(40);
/// Files named of each program.
const NAMED: usize = 3;

/// A look that goes on.
pub struct Look {
    found: Receiver<Writer>,
    until: Instant,
}

/// Begins to look, in a thread of its own.
pub fn begin(mountpoint: &Path) -> Look {
    begin_for(mountpoint, LIMIT)
}

/// The same for at most so long.
pub fn begin_for(mountpoint: &Path, limit: Duration) -> Look {
    let (send, found) = channel();
    let until = Instant::now() + limit;
    let mountpoint = mountpoint.to_path_buf();
    thread::spawn(move || {
        writers::find(&mountpoint, until, &mut |writer| {
            // Nobody listens any more when the program is about to end.
            drop(send.send(writer));
        });
    });
    Look { found, until }
}

impl Look {
    /// What was found in time.
    pub fn end(self) -> Vec<Writer> {
        let mut all = Vec::new();
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            match self.found.recv_timeout(left) {
                Ok(writer) => all.push(writer),
                Err(_) => return all,
            }
        }
    }
}

/// Says so on standard error.
pub fn print(programs: &[Writer]) {
    for program in programs {
        eprintln!(
            "{} {}",
            on_stderr(Style::Notice, "warning:"),
            sentence(program)
        );
    }
}

/// `vim (4711) has src/main.rs open for writing`
pub fn sentence(program: &Writer) -> String {
    let mut paths: Vec<String> = (program.paths.iter().take(NAMED))
        .map(ToString::to_string)
        .collect();
    if program.paths.len() > NAMED {
        paths.push(format!("{} more", program.paths.len() - NAMED));
    }
    format!(
        "{} ({}) has {} open for writing",
        program.command,
        program.pid,
        paths.join(", ")
    )
}
