//! `llctl config`: whether `llfs.toml` is right, what is in force, and putting the file in force.

use std::io;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use llctl::config::{Config, FILE, TEXT_MAX};
use llctl::escape::escaped_text;
use llctl::protocol::{BytePath, ConfigInfo, FileState};
use llctl::{Client, exit, locate};
use serde::Serialize;
use similar::TextDiff;

use super::args::Global;
use super::fail::Fail;
use super::file::{read, shown};
use super::output::{Output, Style};
use super::{Outcome, confirm, connect, units};

/// What `config` takes.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
llfs.toml in the mount's root says when llfs takes snapshots by itself, which of them it keeps, and which commands it runs before and \
after what it does. Any program in the mount could write the file, so it is in force only once you have said so with `llctl config \
trust`: until then, and after every change of the file, what was trusted last is in force, or the defaults.

  [checkpoints]
  quiet = \"30s\"           one when nothing has changed for so long, after changes; \"off\" for none
  every = \"10m\"           and so often while the work goes on
  bulk = 20               and before one process removes so many files in one go; 0 for none

  [retention]             what any of these keeps is kept, of snapshots that nobody asked for:
  keep_last = 50          the newest so many
  keep_for = \"2h\"         those that are not older
  hourly = 48             the last one of each of so many hours that have any
  daily = 30              the last one of each of so many days that have any
  keep_tagged = true      those that have tags; pinned ones stay in any case
  max_size = \"20G\"        but no more than they may hold together; the oldest go first
  applies_to = \"all\"      all this also for snapshots that somebody asked for

  [hooks]                 shell commands, run in the mount's root as the user who mounted it
  before_apply = \"make check\"    one that fails stops what it comes before
  after_revert = \"make restart\"  likewise for snap, delete and prune
  timeout = \"30s\"         one that takes longer is killed, and has failed
  What is removed in one go waits for no command: before_snap is not run for the snapshot before it, after_snap is.

Examples:
  llctl config check         is the file right?
  llctl config trust         put it in force
  llctl config show          what is in force, with defaults")]
pub enum ConfigCommand {
    /// Say whether a file is right, and if not, in which line and column
    Check {
        /// The file; without one, llfs.toml in the mount's root
        file: Option<PathBuf>,
    },
    /// Show what is in force, with defaults
    Show,
    /// Put what llfs.toml says in force, after showing what changes
    Trust {
        /// Do it without asking
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Serialize)]
struct Checked {
    file: BytePath,
    valid: bool,
}

/// `llctl config`
pub fn run(global: &Global, command: ConfigCommand, out: &mut Output) -> Outcome {
    match command {
        ConfigCommand::Check { file } => check(global, file, out),
        ConfigCommand::Show => show(&connect(global)?.config()?, out),
        ConfigCommand::Trust { yes } => trust(&mut connect(global)?, yes, out),
    }
}

fn check(global: &Global, file: Option<PathBuf>, out: &mut Output) -> Outcome {
    let file = match file {
        Some(file) => file,
        None => root(global)?.join(FILE),
    };
    let Some(text) = read(&file, TEXT_MAX)? else {
        return Err(Fail::Refused {
            code: exit::NOT_FOUND,
            kind: "not_found",
            message: format!("there is no {}", shown(&file)),
            hint: Some("without one the defaults are in force: `llctl config show`".to_owned()),
        });
    };
    parsed(&file, &text)?;
    if out.json {
        out.object(&Checked {
            file: BytePath::from(file.as_path()),
            valid: true,
        })?;
    } else {
        out.line(format!("{} is right.", shown(&file)))?;
    }
    Ok(exit::OK)
}

fn root(global: &Global) -> Result<PathBuf, Fail> {
    if global.socket.is_some() {
        let client = connect(global)?;
        return Ok(client.welcome().mountpoint.as_path().to_path_buf());
    }
    let mount = locate::locate(global.directory.as_deref()).map_err(llctl::ClientError::from)?;
    Ok(mount.mountpoint)
}

fn parsed(file: &Path, text: &str) -> Result<Config, Fail> {
    Config::parse(text).map_err(|error| {
        let place = match (error.line, error.column) {
            (Some(line), Some(column)) => format!(":{line}:{column}"),
            _ => String::new(),
        };
        Fail::Refused {
            code: exit::FAILED,
            kind: "invalid",
            message: format!("{}{place}: {}", shown(file), error.message),
            hint: Some("`llctl config --help` shows what the file may say".to_owned()),
        }
    })
}

fn show(info: &ConfigInfo, out: &mut Output) -> Outcome {
    if out.json {
        out.object(info)?;
        return Ok(exit::OK);
    }
    let from = match info.trusted {
        Some(at) => format!("as {FILE} was when it was trusted, {}", units::local(at)),
        None => "the defaults".to_owned(),
    };
    comment(out, Style::Dim, &format!("in force: {from}"))?;
    let file = match (info.file, &info.error) {
        (FileState::Untrusted, _) => Some(format!(
            "{FILE} says something else: `llctl config trust` puts it in force"
        )),
        (FileState::Gone, _) => Some(format!(
            "{FILE} is gone: `llctl config trust` brings the defaults back"
        )),
        (FileState::Broken, Some(error)) => Some(format!(
            "{FILE} is not right: {}",
            escaped_text(&error.to_string())
        )),
        _ => None,
    };
    if let Some(file) = file {
        comment(out, Style::Notice, &file)?;
    }
    if !info.automatic {
        comment(
            out,
            Style::Notice,
            "nothing is taken or given up by itself in this mount",
        )?;
    }
    out.line("")?;
    let text = info.rules.to_text();
    out.line(escaped_text(text.trim_end()))?;
    Ok(exit::OK)
}

fn comment(out: &mut Output, style: Style, text: &str) -> io::Result<()> {
    let text = out.paint(style, &format!("# {text}"));
    out.line(text)
}

fn trust(client: &mut Client, yes: bool, out: &mut Output) -> Outcome {
    let file = client.welcome().mountpoint.as_path().join(FILE);
    let text = read(&file, TEXT_MAX)?.unwrap_or_default();
    parsed(&file, &text)?;
    let before = client.config()?.text.unwrap_or_default();
    if before == text {
        if out.json {
            out.object(&client.config()?)?;
        } else {
            out.line(format!("What {} says is in force already.", shown(&file)))?;
        }
        return Ok(exit::OK);
    }
    if !yes {
        if super::interactive() && !out.json {
            eprint!("{}", escaped_text(&difference(&before, &text)));
        }
        confirm::ask(
            out,
            "Put this in force? Its commands are run as the user who mounted this.",
            &format!("to put {} in force needs a yes", shown(&file)),
            "look at the file, then `llctl config trust --yes`",
        )?;
    }
    let info = client.trust(text)?;
    if out.json {
        out.object(&info)?;
    } else {
        out.line(match info.text {
            Some(_) => format!("What {} says is in force.", shown(&file)),
            None => "The defaults are in force.".to_owned(),
        })?;
    }
    Ok(exit::OK)
}

fn difference(old: &str, new: &str) -> String {
    TextDiff::from_lines(old, new)
        .unified_diff()
        .header("in force", FILE)
        .to_string()
}
