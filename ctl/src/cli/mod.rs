//! The `llctl` program: arguments in, one request, its answer as text or JSON out.
mod apply;
mod archive;
mod args;
mod cat;
mod complete;
mod config;
mod confirm;
mod delete;
mod diff;
mod fail;
mod file;
mod fitted;
mod history;
mod hook;
mod listing;
mod log;
mod man;
mod mcp;
mod meta;
mod metrics;
mod output;
mod pager;
mod phrase;
mod progress;
mod prune;
mod restore;
mod revert;
mod run;
mod snapshots;
mod status;
mod transfer;
mod units;
mod verify;
mod watch;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use llctl::protocol::SnapMeta;
use llctl::{Client, exit, locate};

use args::{Args, Command, Global};
use fail::Fail;
use output::Output;

/// Runs the program and gives its exit code.
pub fn run() -> ExitCode {
    complete::answer();
    let args = Args::parse();
    let mut out = Output::new(args.global.json, args.global.color);
    let code = match command(&args.global, args.command, &mut out)
        .and_then(|code| Ok(out.finish().map(|()| code)?))
    {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(fail) if fail.is_closed_pipe() => exit::OK,
        Err(fail) => fail.report(&mut out),
    };
    ExitCode::from(code)
}

/// What a command comes to: an exit code, or what went wrong.
type Outcome = Result<u8, Fail>;

fn command(global: &Global, command: Command, out: &mut Output) -> Outcome {
    match command {
        Command::Snap {
            name,
            message,
            pin,
            if_changed,
            git_status,
            meta,
        } => {
            let mut meta = SnapMeta::from(meta);
            meta.pinned = pin;
            let how = snapshots::How {
                if_changed,
                git_status,
            };
            snapshots::snap(&mut connect(global)?, name, message, meta, how, out)
        }
        Command::List(args) => listing::list(&mut connect(global)?, args, out),
        Command::Resume { session } => listing::resume(&mut connect(global)?, session, out),
        Command::Show { name } => snapshots::show(&mut connect(global)?, name, out),
        Command::Diff(args) => diff::run(&mut connect(global)?, global, args, out),
        Command::Log { path, limit } => log::log(&mut connect(global)?, global, path, limit, out),
        Command::Who { path, limit } => log::who(&mut connect(global)?, global, path, limit, out),
        Command::Restore(args) => restore::run(&mut connect(global)?, global, args, out),
        Command::Cat { what, path } => cat::run(&mut connect(global)?, global, &what, path, out),
        Command::Revert(args) => revert::run(&mut connect(global)?, global, args, out),
        Command::CanRevert { to, force } => {
            revert::can_revert(&mut connect(global)?, to, force, out)
        }
        Command::Undo { steps, preview } if preview.dry_run => {
            revert::preview_undo(&mut connect(global)?, steps, &preview, out)
        }
        Command::Undo { steps, .. } => snapshots::undo(&mut connect(global)?, steps, out),
        Command::Redo { steps } => snapshots::redo(&mut connect(global)?, steps, out),
        Command::Delete {
            names,
            yes,
            dry_run,
        } => delete::run(&mut connect(global)?, names, yes, dry_run, out),
        Command::Archive(args) => archive::run(&mut connect(global)?, args, out),
        Command::Prune(args) => prune::run(&mut connect(global)?, args, out),
        Command::Phase { name, session } => {
            snapshots::phase(&mut connect(global)?, name, session, out)
        }
        Command::Session { id } => snapshots::session(&mut connect(global)?, id, out),
        Command::Config(command) => config::run(global, command, out),
        Command::Rename { old, new } => snapshots::rename(&mut connect(global)?, old, new, out),
        Command::History(args) => history::run(&mut connect(global)?, args, out),
        Command::Watch(args) => watch::run(&mut connect(global)?, args, out),
        Command::Metrics(args) => metrics::run(global, &args, out),
        Command::Annotate {
            name,
            message,
            unset,
            meta,
        } => meta::annotate(&mut connect(global)?, name, message, meta, unset, out),
        Command::Tag { name, tags, delete } => {
            meta::tag(&mut connect(global)?, name, tags, delete, out)
        }
        Command::Pin { names } => meta::pin(&mut connect(global)?, names, true, out),
        Command::Unpin { names } => meta::pin(&mut connect(global)?, names, false, out),
        Command::Status => status::run(&mut connect(global)?, out),
        Command::Verify => verify::run(&mut connect(global)?, out),
        Command::Apply { yes, dry_run } => apply::run(&mut connect(global)?, yes, dry_run, out),
        Command::Run(args) => run::run(global, args, out),
        Command::Do { words, dry_run } => phrase::run(global, &words, dry_run, out),
        Command::Hook(command) => hook::run(global, command, out),
        Command::Mcp => mcp::run(global),
        Command::Export(args) => transfer::export(&mut connect(global)?, args, out),
        Command::Import(args) => transfer::import(&mut connect(global)?, args, out),
        Command::Completions { shell } => complete::script(&shell, out),
        Command::Man { dir } => man::run(&dir, out),
    }
}

fn connect(global: &Global) -> Result<Client, Fail> {
    let mut client = match &global.socket {
        Some(socket) => Client::connect_socket(socket)?,
        None => {
            let mount =
                locate::locate(global.directory.as_deref()).map_err(llctl::ClientError::from)?;
            Client::connect_mount(&mount)?
        }
    };
    if let Some(why) = &global.why {
        client.because(Some(why.clone()))?;
    }
    Ok(client)
}

/// Whether both questions and their answers go to a person.
fn interactive() -> bool {
    use std::io::IsTerminal;
    io::stdin().is_terminal() && io::stderr().is_terminal()
}
