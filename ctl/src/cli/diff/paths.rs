//! From paths as the user gives them to paths below the mount.

use std::path::{Component, Path, PathBuf};

use llctl::locate;
use llctl::protocol::BytePath;

use crate::cli::fail::Fail;

/// Each of `paths`, relative to `dir` or the current directory, as a path relative to `mountpoint`. The paths need not
/// exist: they may be in the older state only.
pub fn below_mount(
    mountpoint: &Path,
    dir: Option<&Path>,
    paths: &[PathBuf],
) -> Result<Vec<BytePath>, Fail> {
    let start = match dir {
        Some(dir) => locate::resolve(dir),
        None => locate::current_dir(),
    }
    .map_err(llctl::ClientError::from)?;
    paths
        .iter()
        .map(|path| {
            let plain = normalized(&start.join(path));
            strip(&plain, mountpoint)
                .or_else(|| strip(&through_links(&plain)?, mountpoint))
                .ok_or_else(|| super::outside(path, mountpoint))
        })
        .collect()
}

fn strip(path: &Path, mountpoint: &Path) -> Option<BytePath> {
    path.strip_prefix(mountpoint).ok().map(BytePath::from)
}

/// The path with the links of its parent resolved: the last component may itself be a link that changed.
fn through_links(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?.canonicalize().ok()?;
    Some(match path.file_name() {
        Some(name) => parent.join(name),
        None => parent,
    })
}

/// Without `.` and `..`, by the text alone.
fn normalized(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_go_and_slashes_fold() {
        assert_eq!(
            normalized(Path::new("/a/./b//../c/")),
            PathBuf::from("/a/c")
        );
        assert_eq!(normalized(Path::new("/../..")), PathBuf::from("/"));
    }

    #[test]
    fn paths_become_relative_to_the_mount() {
        let dir = Path::new("/");
        let wanted = below_mount(
            Path::new("/m/nt"),
            Some(dir),
            &["m/nt/x".into(), "/m/nt".into()],
        )
        .unwrap();
        assert_eq!(wanted, [BytePath::from("x"), BytePath::from("")]);
        assert!(below_mount(Path::new("/m/nt"), Some(dir), &["m/ntx".into()]).is_err());
    }
}
