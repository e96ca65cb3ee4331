//! Several processes of several threads at work in one directory: see `llfs_tests::contend`.
//!
//!     llfs-contend prepare DIR SEED
//!     llfs-contend work DIR LEDGER SEED FIRST-SLOT THREADS SECONDS exact|reverts
//!     llfs-contend check DIR FLOOR CEILING quiet|snapshot|REVERTS
//!
//! The ledgers are files outside of DIR. `check` needs what was finished and what was begun: the same
//! ledger twice when all is quiet, or copies from before and after a snapshot that was gone back to. REVERTS is
//! how many times the directory has gone back.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use llfs_tests::contend::ledger::Ledger;
use llfs_tests::contend::work::Work;
use llfs_tests::contend::{Past, check, prepare};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("llfs-contend: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<String, String> {
    match args {
        ["prepare", dir, seed] => {
            prepare(Path::new(dir), number(seed)?).map_err(|error| error.to_string())?;
            Ok("prepared".to_owned())
        }
        ["work", dir, ledger, seed, first, threads, seconds, how] => {
            let work = Work {
                seed: number(seed)?,
                first: number(first)? as usize,
                threads: number(threads)? as usize,
                time: Duration::from_secs(number(seconds)?),
                exact: exact(how)?,
            };
            let steps = work.run(Path::new(dir), &open(ledger)?)?;
            Ok(format!("{steps} steps"))
        }
        ["check", dir, floor, ceiling, how] => {
            let (floor, ceiling) = (open(floor)?, open(ceiling)?);
            let problems = check::problems(Path::new(dir), &floor, &ceiling, past(how)?);
            if problems.is_empty() {
                return Ok("sound".to_owned());
            }
            Err(format!(
                "{} problems\n{}",
                problems.len(),
                problems.join("\n")
            ))
        }
        _ => Err("see the beginning of its source for how it is called".to_owned()),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text}: not a number"))
}

fn exact(text: &str) -> Result<bool, String> {
    match text {
        "exact" => Ok(true),
        "reverts" => Ok(false),
        _ => Err(format!("{text}: not `exact` or `reverts`")),
    }
}

fn past(text: &str) -> Result<Past, String> {
    match text {
        "quiet" => Ok(Past::Quiet),
        "snapshot" => Ok(Past::Snapshot),
        count => Ok(Past::Reverts(number(count)? as usize)),
    }
}

fn open(path: &str) -> Result<Ledger, String> {
    Ledger::open(Path::new(path)).map_err(|error| format!("{path}: {error}"))
}
