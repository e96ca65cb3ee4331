//! The daemon's log: the terminal in the foreground, `llfs.log` in the store otherwise.
//!
//! Before the store is open there is no place for a log. Until then the daemon's standard error is a file in memory, which
//! its parent holds too: it shows it if the daemon dies; if all goes well it becomes the beginning of the log.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use llctl::plain::is_at;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::fmt::{MakeWriter, SubscriberBuilder};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// The log's name in the store, that of the one before it, and that of one that is about to be it.
pub(super) const LOG: &str = "llfs.log";
const OLD_LOG: &str = "llfs.log.1";
const NEXT_LOG: &str = "llfs.log.next";

/// A log longer than this becomes the old one, in bytes.
const LOG_MAX: u64 = 10 << 20;
/// Of a limited store, one part in so many is enough.
const LOG_PART: u64 = 32;

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
        .with_writer(|| Out);
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
    let mut log = open(&path)?;
    let before = stderr()?;
    if begin && before.metadata()?.is_file() {
        match said(&before)? {
            text if text.is_empty() => {}
            text => match writeln!(log, "{text}") {
                // Where the store's disk is full there is no log, and a mount all the same.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                answer => answer?,
            },
        }
    }
    nix::unistd::dup2_stderr(&log)?;
    Ok(())
}

/// From here on there is a new log in `store`, which may take `limit` bytes, when the one there is has grown too long: whoever
/// makes this process say much, again and again, fills no disk with that. To be called once.
pub(crate) fn keep_short(store: &Path, limit: Option<u64>) {
    let most = limit.map_or(LOG_MAX, |limit| LOG_MAX.min(limit / LOG_PART));
    let length = fs::metadata(store.join(LOG)).map_or(0, |log| log.len());
    let store = store.to_path_buf();
    let short = Short {
        store,
        most,
        length: AtomicU64::new(length),
    };
    if SHORT.set(short).is_err() {
        tracing::debug!("the log is kept short already");
    }
}

/// How long the log may be that this process keeps short.
static SHORT: OnceLock<Short> = OnceLock::new();

struct Short {
    store: PathBuf,
    most: u64,
    /// Bytes that it has, but for what the other process of this mount wrote.
    length: AtomicU64,
}

impl Short {
    /// So many bytes more were written.
    fn grown(&self, bytes: usize) {
        let bytes = bytes as u64;
        let too_long = |before: u64| before >= self.most;
        // Of several threads one finds it too long.
        if too_long(self.length.fetch_add(bytes, Relaxed) + bytes)
            && too_long(self.length.swap(0, Relaxed))
        {
            // If there is no space for another one, the old one goes on, and there is nowhere to say so.
            self.begin_another().unwrap_or_default();
        }
    }

    fn begin_another(&self) -> io::Result<()> {
        let (log, now) = (self.store.join(LOG), stderr()?);
        if !now.metadata()?.is_file() || !is_at(&now, &log) {
            return Ok(());
        }
        let next = self.store.join(NEXT_LOG);
        let file = open(&next)?;
        fs::rename(&log, self.store.join(OLD_LOG))?;
        fs::rename(&next, &log)?;
        nix::unistd::dup2_stderr(&file)?;
        Ok(())
    }
}

/// Standard error, which is kept short if it is the log. What cannot be written there is lost: the disk may be full, and who logs would
/// say so in the same place and panic when that fails, too.
struct Out;

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Ok(written) = io::stderr().write(bytes) else {
            return Ok(bytes.len());
        };
        if let Some(short) = SHORT.get() {
            short.grown(written);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Goes on in the log that another process of this mount has begun.
pub(super) fn follow(store: &Path) -> io::Result<()> {
    let now = stderr()?;
    match now.metadata()?.is_file() && !is_at(&now, &store.join(LOG)) {
        true => redirect(store, false),
        false => Ok(()),
    }
}

fn stderr() -> io::Result<File> {
    Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?))
}

/// Opens a log, not through a symbolic link, to wherever that leads.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
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
