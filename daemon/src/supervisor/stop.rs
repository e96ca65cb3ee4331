//! What makes the daemon stop: a signal, or a request on the control socket.

use std::io;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Who wants the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// A client of the control socket.
    Asked,
    /// The signal of this number.
    Signal(i32),
}

/// Lets the service behind the control socket stop the daemon.
#[derive(Debug, Clone)]
pub struct Stop(Sender<Reason>);

impl Stop {
    /// Asks for the end and returns at once.
    pub fn ask(&self) {
        // The receiver is gone when the end is under way already.
        self.0.send(Reason::Asked).ok();
    }
}

/// Listens to SIGTERM and SIGINT from now on, and to SIGHUP, which counts as an end in the `foreground` (the terminal is
/// gone) and not at all in the background.
///
/// # Errors
/// The system's, if a handler or the thread cannot be installed.
pub(super) fn listen(foreground: bool) -> io::Result<(Stop, Receiver<Reason>)> {
    let (sender, reasons) = unbounded();
    let stop = Stop(sender.clone());
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new()
        .name("llfs-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if signal == SIGHUP && !foreground {
                    continue;
                }
                if sender.send(Reason::Signal(signal)).is_err() {
                    return;
                }
            }
        })?;
    Ok((stop, reasons))
}
