//! The daemon's log: the terminal in the foreground, `llfs.log` in the store otherwise.
//!
//! Before the store is open there is no place for a log. Until then the daemon's standard error is a file in memory, which
//! its parent holds too: it shows it if the daemon dies; if all goes well it becomes the beginning of the log.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::fmt::{MakeWriter, SubscriberBuilder};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// The log's name in the store, and that of the one before it.
pub(super) const LOG: &str = "llfs.log";
const OLD_LOG: &str = "llfs.log.1";

/// A log longer than this at the start becomes the old one, in bytes.
const LOG_MAX: u64 = 10 << 20;

/// How it is logged: `text`, or `json`, one object a line.
const FORMAT: &str = "LLFS_LOG_FORMAT";

/// What is logged without `LLFS_LOG` or `RUST_LOG`.
const DEFAULT: &str = "info";

/// Logs to standard error from now on. A filter that makes no sense is reported there, and the default used.
pub(crate) fn start() {
    let wanted = env::var("LLFS_LOG").or_else(|_| env::var("RUST_LOG"));
    let parsed = wanted.map(|text| EnvFilter::try_new(&text).map_err(|error| (text, error)));
    let (filter, complaint) = match parsed {
        Ok(Ok(filter)) => (filter, None),
        Ok(Err(complaint)) => (EnvFilter::new(DEFAULT), Some(complaint)),
        Err(_) => (EnvFilter::new(DEFAULT), None),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let (started, strange) = match env::var(FORMAT).ok().as_deref() {
        Some("json") => (log.json().flatten_event(true).finish().try_init(), None),
        Some("text" | "") | None => (plain(log), None),
        Some(other) => (plain(log), Some(other.to_owned())),
    };
    if let Err(error) = started {
        eprintln!("llfs: no log: {error}");
    }
    if let Some(format) = strange {
        tracing::warn!(%format, "{FORMAT} is text or json; it is text");
    }
    if let Some((text, error)) = complaint {
        tracing::warn!(%text, %error, "the log filter makes no sense");
    }
}

/// Lines for people.
fn plain<W>(log: SubscriberBuilder<DefaultFields, Format, EnvFilter, W>) -> Result<(), TryInitError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    log.with_ansi(io::stderr().is_terminal())
        .finish()
        .try_init()
}

/// A file in memory for the log before there is one.
pub(super) fn early() -> io::Result<File> {
    Ok(File::from(nix::sys::memfd::memfd_create(
        "llfs-log",
        nix::sys::memfd::MFdFlags::MFD_CLOEXEC,
    )?))
}

/// What was written into it; of a very long text the beginning.
pub(super) fn said(early: &File) -> io::Result<String> {
    let mut text = vec![0; 64 << 10];
    let length = early.read_at(&mut text, 0)?;
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// Makes the log in `store` the standard error. Who is to `begin` puts what was written there before in front, and gives
/// a log that has grown too long another name.
pub(crate) fn redirect(store: &Path, begin: bool) -> io::Result<()> {
    let path = store.join(LOG);
    if begin && fs::symlink_metadata(&path).is_ok_and(|meta| meta.len() > LOG_MAX) {
        fs::rename(&path, store.join(OLD_LOG))?;
    }
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        // Not through a symbolic link, to wherever that leads.
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)?;
    let before = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    if begin && before.metadata()?.is_file() {
        match said(&before)? {
            text if text.is_empty() => {}
            text => writeln!(log, "{text}")?,
        }
    }
    nix::unistd::dup2_stderr(&log)?;
    Ok(())
}

/// As [`redirect`]. A store that is only looked at may be where nothing can be written; then nothing is.
pub(crate) fn redirect_for(store: &Path, begin: bool, read_only: bool) -> io::Result<()> {
    match redirect(store, begin) {
        Err(error) if read_only && error.raw_os_error() == Some(nix::libc::EROFS) => {
            let null = OpenOptions::new().write(true).open("/dev/null")?;
            nix::unistd::dup2_stderr(&null)?;
            Ok(())
        }
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_early_can_be_read_later() {
        let mut early = early().unwrap();
        assert_eq!(said(&early).unwrap(), "");
        writeln!(early, "one\ntwo").unwrap();
        assert_eq!(said(&early).unwrap(), "one\ntwo");
    }
}
