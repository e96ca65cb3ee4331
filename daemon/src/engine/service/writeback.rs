//! Writing the head into the base, as far as clients are concerned.

use llctl::protocol::{ApplyDone, ApplyPlan, ErrorKind, Failure, Progress};

use crate::control::Sink;
use crate::engine::Engine;

/// What an apply would do.
pub(super) fn plan(_engine: &Engine) -> Result<ApplyPlan, Failure> {
    Err(unsupported())
}

/// Writes the head into the base.
pub(super) fn apply(_engine: &Engine, _sink: Sink<'_, Progress>) -> Result<ApplyDone, Failure> {
    Err(unsupported())
}

fn unsupported() -> Failure {
    Failure::new(ErrorKind::Unsupported, "this llfs cannot apply yet")
}
