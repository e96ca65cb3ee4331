//! What must be true of the directory when nobody changes it.

use std::fs;
use std::path::Path;

use super::ledger::Ledger;
use super::{Past, block, fight, line, own, tokens};
use crate::invariants;
use crate::manifest::walk;

/// Everything that is wrong with `dir`, one line each. All that `floor` says was finished must be in it, and nothing
/// that `ceiling` says was not begun.
#[must_use]
pub fn problems(dir: &Path, floor: &Ledger, ceiling: &Ledger, past: Past) -> Vec<String> {
    let mut problems = line::problems(dir, floor, ceiling, past);
    problems.extend(block::problems(dir, floor, ceiling, past));
    problems.extend(tokens::problems(dir));
    let written = own::DIRS.into_iter().chain(fight::DIRS);
    problems.extend(written.flat_map(|name| torn(&dir.join(name))));
    problems.extend(invariants::listing_problems(dir));
    if problems.is_empty() {
        // Last, because it panics at what cannot be read.
        problems.extend(invariants::problems(&walk(dir)));
    }
    problems
}

/// Files that hold anything but whole lines.
fn torn(dir: &Path) -> Vec<String> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("{}: {error}", dir.display())],
    };
    let files = entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|kind| kind.is_file()));
    let wrong = files.filter_map(|entry| {
        let path = entry.path();
        let torn = match fs::read(&path) {
            Ok(content) => line::lines(&content).torn,
            Err(error) => return Some(format!("{}: {error}", path.display())),
        };
        let sound = torn.is_empty();
        (!sound).then(|| format!("{}: torn lines {torn:?}", path.display()))
    });
    wrong.collect()
}
