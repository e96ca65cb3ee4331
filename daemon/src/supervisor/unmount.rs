//! `llfs unmount`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use llctl::client::ApplyEvent;
use llctl::escape::Shown;
use llctl::escape::escaped_text;
use llctl::locate::{self, LocateError, Mount};
use llctl::protocol::{ApplyDone, ApplyPlan, BytePath, ChangeCounts};
use llctl::{Client, exit};

use super::args::UnmountArgs;
use super::checks::{self, Health, health};
use super::process::Watched;
use super::progress::Bar;
use super::trouble::{Trouble, argument};
use super::turn::{self, Turn};
use crate::fuse::{self, UnmountError, users};

/// After so long the user is told what is being waited for.
const SOON: Duration = Duration::from_secs(2);
/// After so long the daemon's end is no longer waited for.
const LATE: Duration = Duration::from_secs(600);

/// What became of it.
#[derive(Default)]
struct Outcome {
    store: Option<BytePath>,
    was_dead: bool,
    applied: Option<ApplyDone>,
}

/// Unmounts, with `--apply` after the tree was written into the directory, and waits for the daemon's end.
pub(super) fn run(args: &UnmountArgs) -> Result<(), Trouble> {
    let mount = find(&args.dir)?;
    // A directory that this process stands in would be in use.
    std::env::set_current_dir("/")
        .map_err(|error| Trouble::because("cannot leave the current directory", error))?;
    let mut result = Outcome::default();
    let mut found = health(&mount.mountpoint);
    let turn = match found {
        Health::Dead => Some(Turn::take(&mount.mountpoint)?),
        _ => None,
    };
    let _beside = turn.as_ref().and_then(|_| turn::beside(&mount.mountpoint));
    if turn.is_some() {
        // Somebody may have mounted it again meanwhile.
        found = health(&mount.mountpoint);
    }
    match found {
        Health::Dead => {
            clean(&mount, args.apply)?;
            result.was_dead = true;
        }
        Health::Silent => {
            return Err(Trouble::new(format!("the daemon of {} does not answer", mount.mountpoint.shown()))
                .hint("wait, or kill it and run `llfs unmount` again: nothing that was acknowledged is lost")
                .code(exit::NO_MOUNT));
        }
        Health::Alive => served(&mount, args, &mut result)?,
    }
    print(&mount.mountpoint, &result, args.json);
    Ok(())
}

/// The mount at exactly this directory.
pub(super) fn find(dir: &Path) -> Result<Mount, Trouble> {
    let none = |error: LocateError| match error {
        LocateError::NoMount { .. } => Trouble::new(error.to_string()).code(exit::NO_MOUNT),
        error => Trouble::new(error.to_string()),
    };
    let path = locate::resolve(dir).map_err(none)?;
    let mount = locate::locate_path(&path).map_err(none)?;
    if mount.mountpoint != path {
        let root = mount.mountpoint.shown();
        return Err(Trouble::new(format!(
            "{} is inside the llfs mount at {root}",
            path.shown()
        ))
        .hint(format!(
            "unmount that: llfs unmount {}",
            argument(&mount.mountpoint)
        ))
        .code(exit::NO_MOUNT));
    }
    Ok(mount)
}

fn clean(mount: &Mount, apply: bool) -> Result<(), Trouble> {
    let path = mount.mountpoint.shown();
    if apply {
        return Err(Trouble::new(format!(
            "the daemon of {path} has died, so nothing can be applied"
        ))
        .hint(format!(
            "mount it again, then apply: llfs mount {arg} && llfs unmount --apply {arg}",
            arg = argument(&mount.mountpoint)
        ))
        .code(exit::NO_MOUNT));
    }
    Ok(fuse::detach(&mount.mountpoint)?)
}

fn served(mount: &Mount, args: &UnmountArgs, result: &mut Outcome) -> Result<(), Trouble> {
    let client = match Client::connect_mount(mount) {
        Ok(mut client) => {
            result.store = Some(client.welcome().store.clone());
            if args.apply {
                result.applied = apply(&mut client, mount, args)?;
            }
            Some(client)
        }
        Err(error) if args.apply => return Err(error.into()),
        // Unmounting needs no daemon that speaks to us.
        Err(_) => None,
    };
    let daemon = client
        .as_ref()
        .map(|client| client.welcome().pid)
        .or_else(|| checks::server(mount))
        .and_then(|pid| Watched::find(pid).ok().flatten());
    drop(client);
    fuse::unmount(&mount.mountpoint).map_err(|error| {
        let mut trouble = Trouble::from(error);
        if result.applied.is_some() {
            trouble.message.push_str(
                "\nThe changes are in the directory already; only the mount is still there.",
            );
        }
        trouble
    })?;
    match daemon {
        Some(daemon) => wait_for(&daemon),
        None => Ok(()),
    }
}

/// The daemon writes its last image when the mount is gone; then its store is free for the next.
fn wait_for(daemon: &Watched) -> Result<(), Trouble> {
    let failed = |error| Trouble::because("cannot wait for the daemon", error);
    if daemon.ends_within(SOON).map_err(failed)? {
        return Ok(());
    }
    eprintln!("Unmounted; waiting for the daemon to finish ...");
    if daemon.ends_within(LATE).map_err(failed)? {
        return Ok(());
    }
    Err(
        Trouble::new("the directory is unmounted, but its daemon has not ended")
            .hint("its log, llfs.log in the store, may tell why"),
    )
}

fn apply(
    client: &mut Client,
    mount: &Mount,
    args: &UnmountArgs,
) -> Result<Option<ApplyDone>, Trouble> {
    // A program that goes on changing files would be applied in part, and would keep the mount busy afterwards.
    let users = users::users_of(&mount.mountpoint);
    if !users.is_empty() {
        return Err(UnmountError::Busy {
            path: mount.mountpoint.clone(),
            users,
        }
        .into());
    }
    let plan = client.plan_apply()?;
    if plan.changes == ChangeCounts::default() {
        return Ok(None);
    }
    confirm(&plan, &mount.mountpoint, args)?;
    // Who was asked said yes to this.
    let shown = plan.shown.filter(|_| !args.yes);
    let bar = Bar::new(!args.json);
    let done = client.apply_shown(shown, |event| {
        if let ApplyEvent::Progress(progress) = event {
            bar.show(&progress);
        }
        Ok(())
    })?;
    Ok(Some(done))
}

/// Shows what is about to happen and asks, on a terminal; elsewhere `--yes` must have been given.
fn confirm(plan: &ApplyPlan, mountpoint: &Path, args: &UnmountArgs) -> Result<(), Trouble> {
    let path = mountpoint.shown();
    if !args.json {
        let changes = &plan.changes;
        eprintln!("This writes the present state of the tree into {path}:");
        eprintln!(
            "  {} added, {} modified, {} removed, {} renamed, {} with other attributes; {} bytes of content",
            changes.added,
            changes.modified,
            changes.removed,
            changes.renamed,
            changes.attributes,
            plan.bytes
        );
        eprintln!("  {}", escaped_text(&plan.snapshots_note));
    }
    if args.yes {
        return Ok(());
    }
    let refused = |why: &str| {
        Err(Trouble::new(why)
            .hint("nothing was changed; --yes applies without asking")
            .code(exit::REFUSED))
    };
    if args.json || !io::stdin().is_terminal() {
        return refused("applying needs a confirmation");
    }
    eprint!("Apply? [y/N] ");
    let mut answer = String::new();
    let asked = io::stderr()
        .flush()
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    asked.map_err(|error| Trouble::because("cannot ask", error))?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        refused("not applied")
    }
}

fn print(mountpoint: &Path, result: &Outcome, json: bool) {
    let path = mountpoint.shown();
    let line = if json {
        serde_json::json!({
            "unmounted": BytePath::from(mountpoint),
            "store": result.store,
            "daemon_was_dead": result.was_dead,
            "applied": result.applied,
        })
        .to_string()
    } else if result.was_dead {
        format!("cleaned away {path}, whose daemon had died; its changes are in the store")
    } else if result.applied.is_some() {
        format!("applied the changes and unmounted {path}")
    } else {
        let store = result
            .store
            .as_ref()
            .map_or_else(|| "the store".to_owned(), ToString::to_string);
        format!("unmounted {path}; its changes are in {store}")
    };
    // It is unmounted, whether or not anybody reads that.
    drop(writeln!(io::stdout(), "{line}"));
}
