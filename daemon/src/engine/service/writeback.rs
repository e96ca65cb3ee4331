//! Writing the head into the base, as far as clients are concerned.

use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use llctl::protocol::{
    ApplyDone, ApplyPlan, ChangeCounts, ErrorKind, Failure, Progress, ProgressUnit,
};

use super::states::View;
use super::{diff, failure};
use crate::control::Sink;
use crate::engine::Engine;
use crate::engine::apply::{self, ApplyError};

/// How often the client is told how far it is.
const TOLD: Duration = Duration::from_millis(100);

/// What an apply would do.
pub(super) fn plan(engine: &Engine) -> Result<ApplyPlan, Failure> {
    // As an apply begins. First, since it stands for what is told then.
    engine.flush_mappings();
    let shown = Some(engine.fingerprint());
    let changes = counts(engine)?;
    let plan = engine.plan_apply().map_err(|e| failed(engine, &e))?;
    let (snapshots, discarded) = {
        let state = engine.state.read();
        (state.snapshots.len() as u64, state.discarded.len() as u64)
    };
    Ok(ApplyPlan {
        changes,
        bytes: plan.bytes,
        bytes_needed: plan.bytes_needed,
        bytes_free: plan.bytes_free,
        snapshots_kept: 0,
        snapshots_lost: snapshots,
        snapshots_note: note(snapshots, discarded),
        shown,
    })
}

/// Whether an apply would write what was shown.
///
/// # Errors
/// It would not.
pub(super) fn check(engine: &Engine, shown: Option<u64>) -> Result<(), Failure> {
    engine.flush_mappings();
    let checked = engine.check_shown(shown);
    checked.map_err(|error| failed(engine, &error))
}

/// Snapshots are relative to the base as it is, and are worth nothing once it is another.
fn note(snapshots: u64, discarded: u64) -> String {
    match (snapshots, discarded) {
        (0, 0) => "there are no snapshots to lose".to_owned(),
        (0, _) => "what reverts discarded is given up and cannot be brought back".to_owned(),
        (1, _) => "the snapshot is given up, and nothing can be undone".to_owned(),
        (n, _) => format!("all {n} snapshots are given up, and nothing can be undone"),
    }
}

fn counts(engine: &Engine) -> Result<ChangeCounts, Failure> {
    let live = View::live(&engine.state.read());
    diff::count(engine, &View::base(), &live)
}

/// An apply that failed.
pub(super) struct Unfinished {
    /// What the client is told.
    pub failure: Failure,
    /// What the mount shows means nothing any more: the daemon must end.
    pub fatal: bool,
}

/// Writes the head into the base. The client is told from another thread than the one that writes, which so never waits
/// for it; whether it is still there makes no difference.
pub(super) fn apply(
    engine: &Engine,
    shown: Option<u64>,
    sink: Sink<'_, Progress>,
) -> Result<ApplyDone, Unfinished> {
    let changes = counts(engine).map_err(|failure| Unfinished {
        failure,
        fatal: false,
    })?;
    let errand = engine.relay().pass_errand();
    let begun = Instant::now();
    let done_by = |bytes| ApplyDone {
        changes,
        bytes,
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let (to, from) = bounded(1);
    let done = std::thread::scope(|scope| {
        let work = scope.spawn(move || {
            let mut told = Instant::now();
            let mut tell = |done, total| {
                if told.elapsed() >= TOLD {
                    told = Instant::now();
                    // While the client reads the last one, it does without this one.
                    to.try_send((done, total)).unwrap_or_default();
                }
            };
            engine.apply_for(shown, &mut tell, &mut |plan| {
                let answer = rmp_serde::to_vec_named(&done_by(plan.bytes));
                if let (Some(errand), Ok(answer)) = (errand, answer) {
                    engine.relay().carry_out(errand, answer);
                }
            })
        });
        let mut listens = true;
        for (done, total) in from {
            listens = listens && sink(progress(done, total)).is_ok();
        }
        // A panic aborts the process, so there is always an answer.
        work.join().expect("the apply does not panic")
    });
    let done: apply::ApplyDone = done.map_err(|error| Unfinished {
        failure: failed(engine, &error),
        fatal: matches!(error, ApplyError::Halfway(_) | ApplyError::Lost { .. }),
    })?;
    Ok(done_by(done.plan.bytes))
}

fn progress(done: u64, total: u64) -> Progress {
    Progress {
        what: "applying".to_owned(),
        done,
        total: Some(total),
        unit: ProgressUnit::Bytes,
    }
}

fn failed(engine: &Engine, error: &ApplyError) -> Failure {
    let text = format!("the changes were not applied: {error}");
    match error {
        ApplyError::Refused { .. } => Failure::new(ErrorKind::Invalid, text)
            .with_hint("put that right, then apply again; nothing was lost"),
        ApplyError::Changed => Failure::new(ErrorKind::Conflict, text)
            .with_hint("look again; where programs go on writing, `--yes` applies what is there at that moment"),
        ApplyError::NoSpace { .. } => Failure::new(ErrorKind::NoSpace, text)
            .with_hint("free space on the directory's disk, then apply again"),
        ApplyError::Unprepared(trouble) => failure::failed(engine, &text, trouble.errno),
        ApplyError::Halfway(_) | ApplyError::Lost { .. } => {
            Failure::new(ErrorKind::Io, format!("the apply was interrupted: {error}"))
                .with_hint("the daemon stops now; mount the directory again to finish the apply")
        }
    }
}
