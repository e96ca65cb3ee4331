//! Events for those who watch.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use llctl::protocol::{ErrorKind, Event, Failure};

use crate::control::Feed;
use crate::engine::Engine;
use crate::engine::events::Watcher;

struct Told {
    engine: Arc<Engine>,
    watcher: Watcher,
}

/// What happens from now on, or after the event of that number.
pub(super) fn feed(engine: &Arc<Engine>, after: Option<u64>) -> Result<Box<dyn Feed>, Failure> {
    let watcher = engine.watcher(after).ok_or_else(|| {
        let why = "so many watch this mount that there is no room for one more";
        Failure::new(ErrorKind::Busy, why).with_hint("one `llctl watch` can feed many programs")
    })?;
    let engine = engine.clone();
    Ok(Box::new(Told { engine, watcher }))
}

impl Feed for Told {
    fn last(&self) -> u64 {
        self.watcher.told()
    }

    fn news(&mut self) -> Vec<Event> {
        self.engine.news(&mut self.watcher)
    }

    fn bell(&self) -> BorrowedFd<'_> {
        self.watcher.bell()
    }

    fn heard(&self) {
        self.watcher.heard();
    }
}
