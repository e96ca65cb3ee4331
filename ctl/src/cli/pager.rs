//! A pager for long output on a terminal, with git's habits.

use std::env;
use std::io;
use std::process::{Child, ChildStdin, Command, Stdio};

/// What pages, if neither `LLFS_PAGER` nor `PAGER` says: nothing if it fits on the screen (F), with colors (R), and what was
/// shown stays there (X).
const DEFAULT: &str = "less";
const LESS: &str = "FRX";

/// A pager that runs.
pub struct Pager {
    child: Child,
}

impl Pager {
    /// Starts the pager of the environment, and gives the way to it. `None`: none is wanted, or there is none.
    pub fn start() -> Option<(Self, ChildStdin)> {
        let wanted = wanted(|name| env::var(name).ok())?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &wanted]).stdin(Stdio::piped());
        if env::var_os("LESS").is_none() {
            command.env("LESS", LESS);
        }
        if env::var_os("LV").is_none() {
            command.env("LV", "-c");
        }
        let mut child = command.spawn().ok()?;
        let input = child.stdin.take()?;
        Some((Self { child }, input))
    }

    /// Waits until the user has seen enough. The way to it must be closed.
    pub fn wait(mut self) -> io::Result<()> {
        self.child.wait().map(drop)
    }
}

/// The command line of the pager. An empty one, or `cat`, wants none.
fn wanted(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let said = variable("LLFS_PAGER").or_else(|| variable("PAGER"));
    match said {
        None => on_path(DEFAULT).then(|| DEFAULT.to_owned()),
        Some(pager) if pager.trim().is_empty() || pager.trim() == "cat" => None,
        pager => pager,
    }
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_comes_before_everybodys_and_cat_is_none() {
        let with = |ours: Option<&str>, all: Option<&str>| {
            wanted(|name| match name {
                "LLFS_PAGER" => ours.map(str::to_owned),
                _ => all.map(str::to_owned),
            })
        };
        assert_eq!(
            with(Some("most -s"), Some("less")).as_deref(),
            Some("most -s")
        );
        assert_eq!(with(None, Some("more")).as_deref(), Some("more"));
        assert_eq!(with(Some(""), Some("less")), None);
        assert_eq!(with(None, Some("cat")), None);
    }
}
