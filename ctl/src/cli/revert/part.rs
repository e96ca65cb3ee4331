//! Which part of the tree is to be reverted.

use std::path::Path;

use llctl::globs::{self, Globs};
use llctl::lineage::Work;
use llctl::protocol::{Part, PartOf};
use llctl::{Client, SnapName, components, exit, locate};

use crate::cli::args::{Global, RevertArgs};
use crate::cli::fail::Fail;

fn refused(message: String, hint: Option<&str>) -> Fail {
    Fail::Refused {
        code: exit::USAGE,
        kind: "invalid",
        message,
        hint: hint.map(str::to_owned),
    }
}

/// The part that the arguments choose; none: everything.
pub fn wanted(
    client: &mut Client,
    global: &Global,
    args: &RevertArgs,
) -> Result<Option<Part>, Fail> {
    let mountpoint = client.welcome().mountpoint.clone();
    let mut globs = from_here(mountpoint.as_path(), global, &args.paths)?;
    let components = components::patterns(mountpoint.as_path(), &args.components)
        .map_err(|e| refused(e.to_string(), None))?;
    globs.extend(components);
    Globs::new(&globs).map_err(|e| refused(e.to_string(), None))?;
    let of = match &args.to {
        Some(to) => PartOf::To(to.clone()),
        None => PartOf::Snapshots(of_work(client, args)?),
    };
    let whole = matches!(of, PartOf::To(_)) && globs.is_empty();
    Ok((!whole).then_some(Part {
        of,
        globs,
        there: Vec::new(),
    }))
}

/// The snapshots whose work is to be undone.
fn of_work(client: &mut Client, args: &RevertArgs) -> Result<Vec<SnapName>, Fail> {
    let mut names = args.checkpoints.clone();
    let work = Work {
        sessions: args.sessions.clone(),
        tasks: args.tasks.clone(),
        cascade: args.cascade,
        preserve: args.preserve.clone(),
    };
    if work.is_empty() {
        return Ok(names);
    }
    let all = client.list()?.snapshots;
    let found = work.of(&all);
    if found.is_empty() {
        return Err(Fail::Refused {
            code: exit::NOT_FOUND,
            kind: "not_found",
            message: format!(
                "no snapshot is of {}",
                [&work.tasks[..], &work.sessions[..]].concat().join(" or ")
            ),
            hint: Some(
                "`llctl snap --task TASK --session SESSION` says so of a snapshot".to_owned(),
            ),
        });
    }
    for snap in found {
        let name = SnapName::new(snap.name.clone());
        let name = name.map_err(|why| llctl::ClientError::Unexpected(why.to_string()))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Patterns as they are from the mount's root on: the user means the current directory, or DIR.
fn from_here(mountpoint: &Path, global: &Global, globs: &[String]) -> Result<Vec<String>, Fail> {
    if globs.is_empty() {
        return Ok(Vec::new());
    }
    let here = match &global.directory {
        Some(dir) => locate::resolve(dir),
        None => locate::current_dir(),
    };
    let here = here.map_err(llctl::ClientError::from)?;
    let Ok(below) = here.strip_prefix(mountpoint) else {
        return Ok(globs.to_vec());
    };
    let below = below.to_str().ok_or_else(|| {
        let hint = "begin the pattern with a slash, from the mount's root on";
        refused(
            "the current directory's name is not UTF-8".to_owned(),
            Some(hint),
        )
    })?;
    let prefix = if below.is_empty() {
        String::new()
    } else {
        globs::literal(below) + "/"
    };
    globs
        .iter()
        .map(|glob| {
            if glob.starts_with('/') {
                return Ok(glob.clone());
            }
            let plain = glob.strip_prefix("./").unwrap_or(glob);
            if plain.split('/').any(|part| part == "..") {
                let hint = "begin it with a slash, from the mount's root on";
                return Err(refused(format!("{glob:?} leads upwards"), Some(hint)));
            }
            Ok(match plain {
                "." | "" if prefix.is_empty() => "**".to_owned(),
                "." | "" => prefix.trim_end_matches('/').to_owned(),
                plain => format!("{prefix}{plain}"),
            })
        })
        .collect()
}
