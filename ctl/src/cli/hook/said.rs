//! What was said in a session already.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use llctl::hook::Agent;
use llctl::locate;

/// Sessions are taken to be over after this.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);

/// Whether this is the first time that something of this kind is to be said in the session. Without a place to remember it,
/// each time is the first.
pub fn first(agent: Agent, session: Option<&str>, kind: &str) -> bool {
    // An agent that does not name its sessions is one session for as long as it runs.
    let session = match session {
        Some(session) => session.to_owned(),
        None => format!("pid {}", nix::unistd::getppid()),
    };
    let Ok(directory) = locate::create_runtime_dir() else {
        return true;
    };
    let directory = directory.join("said");
    let made = fs::DirBuilder::new().mode(0o700).create(&directory);
    let name = locate::plain_name(Path::new(&format!("/{agent}/{kind}\n{session}")), 0);
    let marker = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(directory.join(name));
    if made.is_err() && marker.is_ok() {
        forget(&directory);
    }
    !marker.is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
}

/// Takes away what old sessions left.
fn forget(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|meta| meta.modified());
        if modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > FORGOTTEN)) {
            // Another session may have been quicker.
            drop(fs::remove_file(entry.path()));
        }
    }
}
