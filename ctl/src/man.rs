//! Manual pages, made from the definition of a command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::escape::Shown;

/// Writes a page for `command` and one for each of its commands into `dir`, which is made if it is not there; gives back which.
///
/// # Errors
/// What the system says; the path is in it.
pub fn write(command: clap::Command, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let at = |path: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", path.shown()))
    };
    fs::create_dir_all(dir).map_err(|error| at(dir, error))?;
    let name = command.get_name().to_owned();
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    each(&command, &name, &mut |command, name| {
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone())
            .title(name.to_uppercase())
            .render(&mut page)?;
        let path = dir.join(format!("{name}.1"));
        fs::write(&path, page).map_err(|error| at(&path, error))?;
        pages.push(path);
        Ok(())
    })?;
    Ok(pages)
}

/// The command and all below it that are shown to users, with their names in full, such as `llctl-hook-install`.
fn each(
    command: &clap::Command,
    name: &str,
    then: &mut dyn FnMut(&clap::Command, &str) -> io::Result<()>,
) -> io::Result<()> {
    then(command, name)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        each(sub, &format!("{name}-{}", sub.get_name()), then)?;
    }
    Ok(())
}
