//! What makes the daemon stop, or exchange its worker: signals, and requests on the control socket, which the worker
//! hands on.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

/// The signal that asks for a worker of the binary on disk.
pub(super) const UPGRADE: i32 = SIGUSR2;

/// Who wants the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// A client of the control socket.
    Asked,
    /// The signal of this number.
    Signal(i32),
}

/// Listens to SIGTERM, SIGINT and [`UPGRADE`] from now on, and to SIGHUP, which counts as an end in the `foreground` (the
/// terminal is gone) and not at all in the background. Each is a byte of the stream, its number.
///
/// # Errors
/// The system's, if a handler or the thread cannot be installed.
pub(super) fn listen(foreground: bool) -> io::Result<UnixStream> {
    let (mut to, from) = UnixStream::pair()?;
    from.set_nonblocking(true)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, UPGRADE])?;
    thread::Builder::new()
        .name("llfs-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if signal == SIGHUP && !foreground {
                    continue;
                }
                if to.write_all(&[signal as u8]).is_err() {
                    return;
                }
            }
        })?;
    Ok(from)
}

/// The signals that have come since.
pub(super) fn heard(mut from: &UnixStream) -> Vec<i32> {
    let mut numbers = [0; 16];
    let count = from.read(&mut numbers).unwrap_or(0);
    numbers[..count].iter().map(|n| i32::from(*n)).collect()
}
