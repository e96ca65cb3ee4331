//! `llctl revert`: the whole tree or a part, for real or as a preview; and `llctl can-revert`.

mod outside;
mod part;
pub(super) mod warn;

use std::time::{Duration, Instant};

use llctl::escape::escaped;
use llctl::protocol::{ErrorKind, RevertCheck, RevertInfo};
use llctl::writers::{self, Writer};
use llctl::{Client, StateRef, exit};
use serde::Serialize;

use super::args::{Global, PreviewArgs, RevertArgs};
use super::output::{Output, Style};
use super::{Outcome, diff, snapshots, units};

/// How long `can-revert` looks for programs.
const LOOK: Duration = Duration::from_secs(5);

/// `llctl revert`
pub fn run(client: &mut Client, global: &Global, args: RevertArgs, out: &mut Output) -> Outcome {
    let part = part::wanted(client, global, &args)?;
    let on_conflict = args.on_conflict.into();
    if args.preview.dry_run {
        let shown = args.preview.as_diff();
        let counts = match part {
            Some(part) => client.preview_part(part, on_conflict, shown.contents(), |change| {
                diff::show(change, &shown, out)
            })?,
            None => client.diff(
                Some(StateRef::Live),
                args.to.clone().unwrap_or_default(),
                Vec::new(),
                shown.contents(),
                |change| diff::show(change, &shown, out),
            )?,
        };
        return diff::end(&counts, &shown, out);
    }
    if !args.force {
        outside::check(client.welcome().mountpoint.as_path())?;
    }
    let looked = warn::begin(client.welcome().mountpoint.as_path());
    let info = match part {
        Some(part) => client.revert_part(part, on_conflict, args.force)?,
        None => client.revert_with(args.to.unwrap_or_default(), args.force)?,
    };
    let programs = if info.discarded.is_some() {
        looked.end()
    } else {
        Vec::new()
    };
    tell(&info, &programs, out)?;
    Ok(exit::OK)
}

/// `llctl undo --dry-run`
pub fn preview_undo(
    client: &mut Client,
    steps: u32,
    preview: &PreviewArgs,
    out: &mut Output,
) -> Outcome {
    if steps != 1 {
        return Err(super::fail::Fail::Refused {
            code: exit::USAGE,
            kind: "invalid",
            message: "only one step has a preview".to_owned(),
            hint: Some("`llctl undo --dry-run` shows it".to_owned()),
        });
    }
    let shown = preview.as_diff();
    let (from, to) = (Some(StateRef::Live), StateRef::Undo);
    let counts = client.diff(from, to, Vec::new(), shown.contents(), |change| {
        diff::show(change, &shown, out)
    })?;
    diff::end(&counts, &shown, out)
}

#[derive(Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    info: &'a RevertInfo,
    #[serde(skip_serializing_if = "<[Writer]>::is_empty")]
    open_for_writing: &'a [Writer],
}

fn tell(info: &RevertInfo, programs: &[Writer], out: &mut Output) -> std::io::Result<()> {
    if out.json {
        return out.object(&Done {
            info,
            open_for_writing: programs,
        });
    }
    let to = snapshots::bold(out, &info.to);
    if info.discarded.is_none() {
        return out.line(format!("Everything is as in {to} already."));
    }
    out.line(format!(
        "Reverted to {to}: {}. `llctl undo` takes it back.",
        snapshots::effort(info)
    ))?;
    if let Some(unsaved @ 1..) = info.unsaved {
        out.line(format!(
            "No snapshot holds what was changed last, in {}; only undo does.",
            snapshots::files(info, unsaved)
        ))?;
    }
    out.finish()?;
    warn::print(programs);
    Ok(())
}

/// `llctl can-revert`
pub fn can_revert(client: &mut Client, to: StateRef, force: bool, out: &mut Output) -> Outcome {
    let check = client.can_revert(to)?;
    let mountpoint = client.welcome().mountpoint.clone();
    let outside = outside::underway(mountpoint.as_path());
    let mut programs = Vec::new();
    let complete = writers::find(mountpoint.as_path(), Instant::now() + LOOK, &mut |writer| {
        programs.push(writer);
    });
    let code = match (&check.damage[..], &check.underway, &outside) {
        _ if force => exit::OK,
        ([_, ..], _, _) => exit::of_kind(ErrorKind::Damaged),
        ([], Some(_), _) | ([], _, Some(_)) => exit::of_kind(ErrorKind::Underway),
        ([], None, None) => exit::OK,
    };
    if out.json {
        out.object(&Answer {
            can_revert: code == exit::OK,
            check: &check,
            outside: outside.as_deref(),
            open_for_writing: &programs,
        })?;
        return Ok(code);
    }
    print(&check, outside.as_deref(), &programs, out)?;
    if !complete {
        out.line("           not all programs could be looked at in time")?;
    }
    Ok(code)
}

#[derive(Serialize)]
struct Answer<'a> {
    can_revert: bool,
    #[serde(flatten)]
    check: &'a RevertCheck,
    outside: Option<&'a str>,
    open_for_writing: &'a [Writer],
}

fn print(
    check: &RevertCheck,
    outside: Option<&str>,
    programs: &[Writer],
    out: &mut Output,
) -> std::io::Result<()> {
    let to = escaped(check.to.as_bytes());
    let mut line = |style, word: &str, text: String| {
        let word = out.paint(style, &format!("{word:<10}"));
        out.line(format!("{word} {text}"))
    };
    line(Style::Good, "ok", format!("{to} exists"))?;
    let format = check.format;
    line(
        Style::Good,
        "ok",
        format!("the store's format is version {format}, which this daemon knows"),
    )?;
    if check.damage.is_empty() {
        line(
            Style::Good,
            "ok",
            "no damage is known; `llctl verify` reads everything".to_owned(),
        )?;
    }
    for damage in &check.damage {
        line(Style::Bad, "damaged", damage.clone())?;
    }
    if check.underway.is_none() && outside.is_none() {
        line(
            Style::Good,
            "ok",
            "git is in the middle of nothing that would end".to_owned(),
        )?;
    }
    for underway in check.underway.as_deref().into_iter().chain(outside) {
        line(
            Style::Bad,
            "underway",
            format!("{underway}; --force reverts all the same"),
        )?;
    }
    match check.unsaved {
        0 => line(
            Style::Good,
            "ok",
            "a snapshot holds everything as it is now".to_owned(),
        )?,
        n => {
            let files = units::count(n, "file");
            let text = format!(
                "no snapshot holds what was changed last, in {files}; undo would bring it back"
            );
            line(Style::Notice, "note", text)?;
        }
    }
    for program in programs {
        line(Style::Notice, "note", warn::sentence(program))?;
    }
    let changed = units::count(check.changed, "file");
    line(
        Style::Plain,
        "",
        format!("A revert to {to} would change {changed}."),
    )
}
