//! What is made of the command line's definition: manual pages, and completion in shells.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use llctl::escape::Shown;

use super::args::Args;
use super::trouble::Trouble;

/// `llfs man`
pub(super) fn man(dir: &Path) -> Result<(), Trouble> {
    let pages = llctl::man::write(Args::command(), dir)
        .map_err(|error| Trouble::because("the manual pages are not written", error))?;
    println!("{} manual pages in {}", pages.len(), dir.shown());
    Ok(())
}

/// `llfs completions`
pub(super) fn completions(shell: clap_complete::Shell) -> Result<(), Trouble> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "llfs", &mut script);
    io::stdout()
        .write_all(&script)
        .map_err(|error| Trouble::because("cannot write the script", error))
}
