//! `llctl apply`: the plan, the question, the progress.

use std::io;
use std::time::Duration;

use llctl::client::ApplyEvent;
use llctl::escape::escaped_text;
use llctl::protocol::ApplyPlan;
use llctl::{Client, exit};

use super::confirm;
use super::output::Output;
use super::progress::Bar;
use super::{Outcome, units};

/// `llctl apply`
pub fn run(client: &mut Client, yes: bool, dry_run: bool, out: &mut Output) -> Outcome {
    let mut shown = None;
    if !yes {
        let plan = client.plan_apply()?;
        show_plan(&plan, out)?;
        out.finish()?;
        if dry_run || plan.changes.total() == 0 {
            return Ok(exit::OK);
        }
        confirm::ask(
            out,
            "Write all this into the directory?",
            "apply changes the directory for good and needs a yes",
            "`llctl apply --yes` does it without asking",
        )?;
        shown = plan.shown;
    }
    let mut bar = Bar::new(out.json);
    let done = client.apply_shown(shown, |event| match event {
        // Who was asked has seen it.
        ApplyEvent::Plan(plan) if yes => show_plan(&plan, out).and_then(|()| out.finish()),
        ApplyEvent::Plan(_) => Ok(()),
        ApplyEvent::Progress(progress) => {
            bar.show(&progress);
            Ok(())
        }
    });
    bar.clear();
    let done = done?;
    if out.json {
        out.keyed("applied", &done)?;
    } else {
        let took = units::took(Duration::from_millis(done.took_ms));
        out.line(format!(
            "Applied: {}, {} written in {took}.",
            units::counts(&done.changes),
            units::size(done.bytes)
        ))?;
    }
    Ok(exit::OK)
}

fn show_plan(plan: &ApplyPlan, out: &mut Output) -> io::Result<()> {
    if out.json {
        return out.keyed("plan", plan);
    }
    if plan.changes.total() == 0 {
        return out
            .line("There is nothing to apply: the directory below holds everything already.");
    }
    out.line(format!(
        "To be written into the directory below the mount: {}.",
        units::counts(&plan.changes)
    ))?;
    out.line(format!(
        "Content to write: {}; space needed meanwhile: {}; free: {}.",
        units::size(plan.bytes),
        units::size(plan.bytes_needed),
        units::size(plan.bytes_free)
    ))?;
    if plan.snapshots_kept + plan.snapshots_lost > 0 {
        out.line(format!(
            "Snapshots: {} kept, {} lost.",
            plan.snapshots_kept, plan.snapshots_lost
        ))?;
    }
    if !plan.snapshots_note.is_empty() {
        out.line(escaped_text(&plan.snapshots_note))?;
    }
    Ok(())
}
