//! `llctl restore`: single files and directories as they were, everything else as it is.

use std::time::Duration;

use llctl::globs;
use llctl::protocol::{BytePath, Part, PartOf, RevertInfo};
use llctl::{Client, exit};

use super::args::{Global, RestoreArgs};
use super::diff::paths;
use super::fail::Fail;
use super::output::Output;
use super::{Outcome, diff, snapshots, units};

/// `llctl restore`
pub fn run(client: &mut Client, global: &Global, args: RestoreArgs, out: &mut Output) -> Outcome {
    let mountpoint = client.welcome().mountpoint.clone();
    let dir = global.directory.as_deref();
    let paths = paths::below_mount(mountpoint.as_path(), dir, &args.paths)?;
    let globs: Vec<String> = paths.iter().map(chosen).collect::<Result<_, Fail>>()?;
    // A path that is not there would make the revert of it a deletion. An older daemon looks for it now only, when the state may be another
    // one than the one that is gone back to.
    for path in &paths {
        client.stat(args.from.clone(), path.clone())?;
    }
    let part = Part {
        of: PartOf::To(args.from),
        globs,
        there: paths,
    };
    let on_conflict = args.on_conflict.into();
    if args.preview.dry_run {
        let shown = args.preview.as_diff();
        let counts = client.preview_part(part, on_conflict, shown.contents(), |change| {
            diff::show(change, &shown, out)
        })?;
        return diff::end(&counts, &shown, out);
    }
    let info = client.revert_part(part, on_conflict, args.force)?;
    match out.json {
        true => out.object(&info)?,
        false => out.line(told(&info))?,
    }
    Ok(exit::OK)
}

fn told(info: &RevertInfo) -> String {
    match info.discarded {
        None => "All of it is as it was already.".to_owned(),
        Some(_) => format!(
            "Restored {}, in {}. `llctl undo` takes it back.",
            snapshots::files(info, info.changed),
            units::took(Duration::from_micros(info.took_us))
        ),
    }
}

/// The pattern that means just this path and what is below it.
fn chosen(path: &BytePath) -> Result<String, Fail> {
    let refused = |message: String, hint: &str| Fail::Refused {
        code: exit::USAGE,
        kind: "invalid",
        message,
        hint: Some(hint.to_owned()),
    };
    if path.0.is_empty() {
        let hint = "`llctl revert NAME` makes everything what it was";
        return Err(refused("the mount's root is everything".to_owned(), hint));
    }
    match std::str::from_utf8(&path.0) {
        Ok(text) => Ok(globs::literal(text)),
        Err(_) => Err(refused(
            format!("the name {path} is not UTF-8"),
            "restore the directory that it is in, or copy it with `cp -a` from .llfs/NAME/ at the mount's root",
        )),
    }
}
