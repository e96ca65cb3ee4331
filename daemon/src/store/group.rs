//! Group commit: whoever asks while a flush runs shares the next one.

use nix::errno::Errno;
use parking_lot::{Condvar, Mutex};
use std::io;

#[derive(Default)]
struct State {
    /// Flushes that began, and that ended.
    begun: u64,
    ended: u64,
    running: bool,
    /// How the last one ended.
    answer: Option<i32>,
}

/// Lets one flush run at a time.
#[derive(Default)]
pub(super) struct Group {
    state: Mutex<State>,
    ended: Condvar,
}

impl Group {
    /// Returns when a flush that began after this call has ended, running it if nobody else does.
    pub fn run(&self, flush: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state.lock();
        let wanted = state.begun + 1;
        while state.running {
            self.ended.wait(&mut state);
            if state.ended >= wanted {
                return match state.answer {
                    None => Ok(()),
                    Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                };
            }
        }
        state.begun += 1;
        state.running = true;
        drop(state);
        let answer = flush();
        let mut state = self.state.lock();
        state.running = false;
        state.ended = state.begun;
        state.answer = answer
            .as_ref()
            .err()
            .map(|error| error.raw_os_error().unwrap_or(Errno::EIO as i32));
        self.ended.notify_all();
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flush that runs may have begun before the caller's work: it does not count.
    #[test]
    fn who_comes_during_a_flush_waits_for_one_that_begins_later() {
        let (group, flushes) = (Group::default(), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            let first = group.run(|| {
                scope.spawn(|| {
                    let second = group.run(|| {
                        flushes.lock().push("second");
                        Ok(())
                    });
                    second.unwrap();
                });
                // Until that one waits: it is told, and finds that this has not ended.
                while group.ended.notify_all() == 0 {
                    std::thread::yield_now();
                }
                flushes.lock().push("first");
                Ok(())
            });
            first.unwrap();
        });
        assert_eq!(*flushes.lock(), ["first", "second"]);
    }
}
