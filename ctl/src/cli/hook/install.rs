//! `llctl hook install`: the hook in an agent's settings, and out of them again.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use llctl::hook::{Agent, Scope, edit};
use llctl::protocol::BytePath;
use llctl::{exit, locate};
use serde::Serialize;
use similar::TextDiff;

use crate::cli::args::{Global, InstallArgs};
use crate::cli::fail::Fail;
use crate::cli::file::{read, shown};
use crate::cli::output::{Output, Style};
use crate::cli::{Outcome, confirm};

/// The longest settings, in bytes.
const SETTINGS_MAX: usize = 16 << 20;

/// What was done, in JSON.
#[derive(Serialize)]
struct Report {
    agent: &'static str,
    file: BytePath,
    changed: bool,
    diff: String,
}

/// `llctl hook install`
pub fn run(global: &Global, args: InstallArgs, out: &mut Output) -> Outcome {
    let agent = Agent::from(args.agent);
    let file = settings(global, &args, agent)?;
    let old = read(&file, SETTINGS_MAX)?;
    let command = (!args.remove).then(|| command(agent, args.project));
    let new = edit(
        agent,
        old.as_deref().unwrap_or_default(),
        command.as_deref(),
    )
    .map_err(|error| Fail::Refused {
        code: exit::REFUSED,
        kind: "invalid",
        message: format!("{} was not changed: {error}", shown(&file)),
        hint: Some("put it right by hand, and try again".to_owned()),
    })?;
    let new = if old.is_none() && args.remove {
        None
    } else {
        new
    };
    let diff = diff(&file, old.as_deref(), new.as_deref());
    let changed = old != new;
    if !out.json {
        show(&diff, out)?;
        out.finish()?;
    }
    if changed && !args.dry_run {
        if !args.yes {
            confirm::ask(
                out,
                &format!("Change {}?", shown(&file)),
                &format!("to change {} needs a yes", shown(&file)),
                "--yes changes it without asking, --dry-run only shows the change",
            )?;
        }
        // Whoever was asked has seen what it was; the agent may have changed it since.
        if read(&file, SETTINGS_MAX)? != old {
            return Err(Fail::Refused {
                code: exit::REFUSED,
                kind: "conflict",
                message: format!("{} was changed meanwhile", shown(&file)),
                hint: Some("nothing was done; try again".to_owned()),
            });
        }
        write(&file, new.as_deref()).map_err(|error| Fail::Refused {
            code: exit::FAILED,
            kind: "io",
            message: format!("cannot write {}: {error}", shown(&file)),
            hint: None,
        })?;
    }
    if out.json {
        out.object(&Report {
            agent: agent.name(),
            file: BytePath::from(file.as_path()),
            changed: changed && !args.dry_run,
            diff,
        })?;
    } else {
        out.line(conclusion(agent, &args, changed, &file))?;
    }
    Ok(exit::OK)
}

fn conclusion(agent: Agent, args: &InstallArgs, changed: bool, file: &Path) -> String {
    let (title, file) = (agent.title(), shown(file));
    if !changed {
        return match args.remove {
            true => format!("There is no hook of llctl in {file}."),
            false => format!("The hook is in {file} already."),
        };
    }
    if args.dry_run {
        return "Nothing was changed.".to_owned();
    }
    if args.remove {
        return format!("{title} calls llctl no more.");
    }
    let next = match agent {
        Agent::Codex => {
            "Codex asks once whether you trust the new hook (`/hooks`), and does not run it before."
        }
        _ => "Sessions that run already may have to be started again.",
    };
    format!(
        "{title} takes a checkpoint before each tool call that may write. {next}\n\
         `llctl hook install {agent}{} --remove` takes it out again.",
        if args.project { " --project" } else { "" }
    )
}

fn settings(global: &Global, args: &InstallArgs, agent: Agent) -> Result<PathBuf, Fail> {
    let file = if args.project {
        let directory = match &global.directory {
            Some(directory) => locate::resolve(directory),
            None => locate::current_dir(),
        };
        let directory = directory.map_err(llctl::ClientError::from)?;
        agent.settings(Scope::Project(&directory))
    } else {
        agent.settings(Scope::User)
    };
    let file = file.ok_or_else(|| Fail::Refused {
        code: exit::USAGE,
        kind: "invalid",
        message: "there is no home directory: HOME is not set".to_owned(),
        hint: Some("`--project` installs it for the current directory".to_owned()),
    })?;
    // A link stays one: what it leads to is changed.
    match fs::canonicalize(&file) {
        Ok(file) => Ok(file),
        Err(_) if fs::symlink_metadata(&file).is_ok() => Err(Fail::Refused {
            code: exit::REFUSED,
            kind: "invalid",
            message: format!("{} is a link that leads nowhere", shown(&file)),
            hint: Some("make what it leads to, or remove it, and try again".to_owned()),
        }),
        Err(_) => Ok(file),
    }
}

/// The command line that the agent gives to a shell. Settings of a project are for others too, who have llctl elsewhere.
///
/// An exit code of 2 would stop the agent's tool call, and an older llctl that knows no hooks has it: any failure is 1.
fn command(agent: Agent, project: bool) -> String {
    let program = std::env::current_exe().ok().filter(|_| !project);
    let program = program.map_or("llctl".to_owned(), |path| {
        let path = path.to_string_lossy().into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
        if path.chars().all(plain) {
            path
        } else {
            format!("'{}'", path.replace('\'', "'\\''"))
        }
    });
    format!("{program} hook {agent} || exit 1")
}

/// Puts `text` in the file's place, all or nothing; without a text there is no file.
fn write(file: &Path, text: Option<&str>) -> io::Result<()> {
    let Some(text) = text else {
        return fs::remove_file(file);
    };
    let directory = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".llctl-{}", std::process::id()));
    let new = directory.join(name);
    let written = (|| {
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        out.write_all(text.as_bytes())?;
        match fs::metadata(file) {
            Ok(meta) => out.set_permissions(meta.permissions())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        out.sync_all()?;
        fs::rename(&new, file)
    })();
    if written.is_err() {
        // The failure that counts is the first one.
        drop(fs::remove_file(&new));
    }
    written
}

fn diff(file: &Path, old: Option<&str>, new: Option<&str>) -> String {
    let name = |text: Option<&str>| match text {
        Some(_) => shown(file),
        None => "/dev/null".to_owned(),
    };
    TextDiff::from_lines(old.unwrap_or_default(), new.unwrap_or_default())
        .unified_diff()
        .header(&name(old), &name(new))
        .to_string()
}

fn show(diff: &str, out: &mut Output) -> io::Result<()> {
    for line in diff.lines() {
        let style = match line.as_bytes().first() {
            Some(b'+') if !line.starts_with("+++ ") => Style::Good,
            Some(b'-') if !line.starts_with("--- ") => Style::Bad,
            Some(b'@') => Style::Place,
            Some(b' ') => Style::Plain,
            _ => Style::Bold,
        };
        out.styled(
            style,
            llctl::escape::escaped_line(line.as_bytes()).as_bytes(),
        )?;
    }
    Ok(())
}
