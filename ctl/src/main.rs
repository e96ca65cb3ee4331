//! The command line of llfs: snapshots and reverts of a mounted directory.
mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
