//! `llctl man`: manual pages.

use std::path::Path;

use clap::CommandFactory;
use llctl::exit;
use llctl::protocol::BytePath;

use super::args::Args;
use super::output::Output;
use super::{Fail, Outcome};

/// `llctl man`
pub fn run(dir: &Path, out: &mut Output) -> Outcome {
    let pages = llctl::man::write(Args::command(), dir).map_err(|error| Fail::Refused {
        code: exit::FAILED,
        kind: "io",
        message: format!("the manual pages are not written: {error}"),
        hint: None,
    })?;
    let pages: Vec<BytePath> = pages.into_iter().map(BytePath::from).collect();
    match out.json {
        true => out.keyed("pages", &pages)?,
        false => out.line(format!(
            "{} manual pages in {}",
            pages.len(),
            BytePath::from(dir)
        ))?,
    }
    Ok(exit::OK)
}
