//! `llctl delete`: what would go, the question, the deletion.

use llctl::escape::escaped;
use llctl::protocol::{ErrorKind, SnapInfo};
use llctl::{Client, ClientError, Failure, SnapName, exit};

use super::fail::Fail;
use super::output::Output;
use super::{Outcome, confirm, snapshots, units};

/// `llctl delete`
pub fn run(
    client: &mut Client,
    names: Vec<SnapName>,
    yes: bool,
    dry_run: bool,
    out: &mut Output,
) -> Outcome {
    if dry_run {
        let going = going(client, &names)?;
        if out.json {
            out.keyed("would_delete", &going)?;
        } else {
            for snap in &going {
                out.line(told(snap, out))?;
            }
        }
        return Ok(exit::OK);
    }
    let mut shown = None;
    if !yes {
        // Where somebody can be asked, with what is at stake.
        if super::interactive() && !out.json {
            let going = going(client, &names)?;
            for snap in &going {
                eprintln!("{}", told(snap, out));
            }
            shown = Some(going.iter().map(|snap| snap.id).collect());
        }
        confirm::ask(
            out,
            &format!(
                "Delete {} for good?",
                units::count(names.len() as u64, "snapshot")
            ),
            "a deleted snapshot cannot be brought back, so this needs a yes",
            "`llctl delete --yes` does it without asking",
        )?;
    }
    let deleted = client.delete_shown(names, shown)?;
    if out.json {
        out.keyed("deleted", &deleted)?;
    } else {
        let names: Vec<String> = (deleted.iter())
            .map(|name| snapshots::bold(out, name))
            .collect();
        out.line(format!("Deleted {}.", names.join(", ")))?;
    }
    Ok(exit::OK)
}

/// The snapshots of these names, which must all exist.
fn going(client: &mut Client, names: &[SnapName]) -> Result<Vec<SnapInfo>, Fail> {
    let listing = client.list()?;
    names
        .iter()
        .map(|name| {
            let found = listing.snapshots.iter().find(|s| s.name == name.as_str());
            found.cloned().ok_or_else(|| {
                let message = format!("there is no snapshot named {:?}", name.as_str());
                let failure = Failure::new(ErrorKind::NotFound, message)
                    .with_hint("`llctl list` shows those there are");
                ClientError::Failure(failure).into()
            })
        })
        .collect()
}

fn told(snap: &SnapInfo, out: &Output) -> String {
    let mut text = format!(
        "would delete {}, of {}",
        out.paint(super::output::Style::Bold, &escaped(snap.name.as_bytes())),
        units::local(snap.created)
    );
    if let Some(bytes) = snap.bytes {
        text += &format!("; it alone holds {}", units::size(bytes));
    }
    text
}
