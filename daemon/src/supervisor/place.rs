//! Where the store of a directory is, if nobody says otherwise.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use llctl::locate::plain_name;
use nix::unistd::geteuid;

/// Bytes of the directory's name that the store's shows.
const SHOWN_MAX: usize = 64;

/// The store of `base`, an absolute path without symbolic links: `<name>-<hash>` below `/var/lib/llfs` for root, below
/// `$XDG_STATE_HOME/llfs` or `~/.local/state/llfs` for others; `None` for a user without a home.
pub fn default_store(base: &Path) -> Option<PathBuf> {
    Some(state_dir()?.join(store_name(base)))
}

/// Whether a store has such a name. One that was set aside has more behind it, one that the user placed has any.
pub fn is_default_name(name: &OsStr) -> bool {
    let hash = name.as_bytes().rsplitn(2, |b| *b == b'-').next();
    hash.is_some_and(|hash| hash.len() == 16 && hash.iter().all(u8::is_ascii_hexdigit))
}

fn state_dir() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/llfs"));
    }
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("llfs"))
}

fn store_name(base: &Path) -> String {
    plain_name(base, SHOWN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_store_stays_what_it_is() {
        // Changing it would lose everybody's stores.
        assert_eq!(
            store_name(Path::new("/home/u/repo")),
            "repo-7beff536b0673fc7"
        );
        for (name, is) in [
            ("repo-7beff536b0673fc7", true),
            ("a-b-7beff536b0673fc7", true),
            ("repo-7beff536b0673fc7.old-1", false),
            ("repo-7beff536b0673fc", false),
            ("store", false),
            ("", false),
        ] {
            assert_eq!(is_default_name(OsStr::new(name)), is, "{name}");
        }
    }

    #[test]
    fn names_are_plain_and_short_and_differ_with_the_path() {
        let long = PathBuf::from(format!("/x/{}", "é \n".repeat(80)));
        let name = store_name(&long);
        assert_eq!(name.len(), SHOWN_MAX + 1 + 16);
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        );
        assert_ne!(
            store_name(Path::new("/a/repo")),
            store_name(Path::new("/b/repo"))
        );
    }
}
