//! The `llfs` program: its command line, and the life of a mount from the first check to the clean end.
//!
//! `llfs mount` starts `llfs serve` in the background and waits until that says that the mount is usable, or why not;
//! with `--foreground` it serves itself. Serving is supervising (`serve.rs`): the engine and the session are in another
//! process, the worker ([`crate::worker`]), which may die at any moment.

mod args;
mod begin;
mod checks;
mod crew;
mod deaths;
mod ending;
mod handoff;
mod install;
mod kept;
pub(crate) mod logging;
mod mount;
mod notify;
mod pages;
mod place;
mod process;
pub(crate) mod progress;
mod relink;
mod serve;
mod stop;
pub(crate) mod trouble;
mod turn;
mod unmount;
mod upgrade;
pub(crate) mod wire;

use std::process::ExitCode;

use clap::Parser;

pub use place::default_store;

use args::{Args, Command};
use trouble::Trouble;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let (json, done) = match Args::parse().command {
        Command::Mount(options) => (options.json, mount::run(&options).map(whole)),
        Command::Unmount(options) => (options.json, unmount::run(&options).map(whole)),
        Command::Upgrade(options) => (options.json, upgrade::run(&options).map(whole)),
        Command::Relink(options) => (options.json, relink::run(&options).map(whole)),
        Command::InstallService(options) => (options.json, install::run(&options).map(whole)),
        Command::Check(options) => (options.json, mount::check(&options)),
        Command::Completions { shell } => (false, pages::completions(shell).map(whole)),
        Command::Man { dir } => (false, pages::man(&dir).map(whole)),
        Command::Serve(options) => (false, mount::run_daemon(&options).map(whole)),
        Command::Work { .. } => (false, crate::worker::run().map(whole)),
        Command::Visit { dir } => {
            let visited = crate::fuse::visit(&dir).map(whole);
            let ends = |e| Trouble::because("the visitor ends", e);
            (false, visited.map_err(ends))
        }
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(trouble) => trouble.report(json),
    }
}

fn whole((): ()) -> u8 {
    llctl::exit::OK
}
