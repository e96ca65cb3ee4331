//! `llfs relink`: a directory that was moved or renamed gets its store back.
//!
//! A directory is known by its inode number, which stays when it is renamed, but stores are found by the path. So the stores
//! beside the one that the path would have are asked which directory they were made for.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use llctl::escape::Shown;
use llctl::locate;
use llctl::protocol::BytePath;

use super::args::RelinkArgs;
use super::trouble::{Trouble, argument};
use super::turn::Turn;
use super::{checks, place};
use crate::engine::{Engine, OpenOptions};
use crate::store::{HostDisk, Superblock};

/// A store that was made for a directory when that was at another path.
pub(super) struct Moved {
    pub(super) store: PathBuf,
    pub(super) was: PathBuf,
}

/// Gives the directory its store back.
pub(super) fn run(args: &RelinkArgs) -> Result<(), Trouble> {
    let dir = locate::resolve(&args.dir).map_err(|error| Trouble::new(error.to_string()))?;
    checks::base(&dir, &mut Turn::take(&dir)?)?;
    let Moved { store, was } = match &args.store {
        Some(store) => named(&checks::canonical(store)?)?,
        None => only(&dir, candidates(&dir)?)?,
    };
    checks::apart(&dir, &store)?;
    // Where the next mount looks for it, if it was where the one before did, or a relink was killed before it got there.
    let place = place::default_store(&dir).filter(|_| {
        let found = place::default_store(&was).as_ref() == Some(&store) || was == dir;
        args.store.is_none() && found
    });
    if let Some(place) = place.as_ref().filter(|place| place.exists()) {
        return Err(Trouble::new(format!(
            "{} has a store of its own already, at {}",
            dir.shown(),
            place.shown()
        ))
        .hint(format!(
            "move that away if you can do without it, or use the other one: llfs relink {} --store {}, and the same --store at each mount",
            argument(&dir),
            argument(&store)
        )));
    }
    let options = OpenOptions {
        base: dir.clone(),
        store: store.clone(),
        fresh: false,
    };
    Engine::relink(&options)?;
    let store = match place {
        // Killed before this, it is found and moved by the next relink.
        Some(place) => {
            let failed = |error| Trouble::because(format!("cannot move {}", store.shown()), error);
            fs::rename(&store, &place).map_err(failed)?;
            place
        }
        None => store,
    };
    let line = match args.json {
        true => serde_json::json!({
            "directory": BytePath::from(dir.as_path()),
            "store": BytePath::from(store.as_path()),
            "was": BytePath::from(was.as_path()),
        })
        .to_string(),
        false => format!(
            "relinked {}, which was {} (store {})",
            shown(&dir),
            shown(&was),
            shown(&store)
        ),
    };
    // It is done, whether or not anybody reads that.
    drop(writeln!(std::io::stdout(), "{line}"));
    Ok(())
}

fn shown(path: &Path) -> String {
    path.shown()
}

fn superblock(store: &Path) -> Option<Superblock> {
    let disk = HostDisk::open(store).ok()?;
    Superblock::read(&disk).ok().flatten()
}

/// The store that the user names.
fn named(store: &Path) -> Result<Moved, Trouble> {
    let superblock = superblock(store)
        .ok_or_else(|| Trouble::new(format!("there is no store at {}", store.shown())))?;
    Ok(Moved {
        store: store.to_path_buf(),
        was: superblock.base_path,
    })
}

/// Stores beside the one that the path of `dir` would have, which were made for a directory with its inode number.
fn candidates(dir: &Path) -> Result<Vec<Moved>, Trouble> {
    let failed = |error| Trouble::because(format!("cannot look at {}", dir.shown()), error);
    let ino = fs::metadata(dir).map_err(failed)?.ino();
    let own = place::default_store(dir);
    let Some(stores) = own.as_deref().and_then(Path::parent) else {
        return Ok(Vec::new());
    };
    // Without that directory there are no stores.
    let entries = fs::read_dir(stores).into_iter().flatten().flatten();
    let others = entries
        .map(|entry| entry.path())
        .filter(|path| Some(path) != own.as_ref());
    let found = others.filter_map(|store| {
        let superblock = superblock(&store)?;
        let was = superblock.base_path;
        // One that was set aside, or that the user placed, is not under a name that mounts look for. One that is, but under
        // another path's, was about to be moved by a relink that was killed.
        let ours = superblock.base_ino == ino
            && match was == dir {
                true => store.file_name().is_some_and(place::is_default_name),
                false => place::default_store(&was).as_ref() == Some(&store),
            };
        ours.then_some(Moved { store, was })
    });
    Ok(found.collect())
}

fn only(dir: &Path, mut candidates: Vec<Moved>) -> Result<Moved, Trouble> {
    match (candidates.pop(), candidates.as_slice()) {
        (None, _) => Err(Trouble::new(format!(
            "no store was made for {} when it was somewhere else",
            dir.shown()
        ))
        .hint("name the store with --store DIR; a copy of a directory is another directory and has no store")),
        (Some(one), []) => Ok(one),
        (Some(last), others) => {
            let mut all: Vec<String> = others.iter().map(|m| m.store.shown().to_string()).collect();
            all.push(last.store.shown().to_string());
            Err(Trouble::new(format!(
                "several stores may be that of {}:\n  {}",
                dir.shown(),
                all.join("\n  ")
            ))
            .hint("name one with --store DIR"))
        }
    }
}

/// Refuses to make a new store for a directory whose store is only under the name of its old path. A directory that is
/// younger than that store is another one, which got the old one's inode number.
pub(super) fn check_not_moved(dir: &Path) -> Result<(), Trouble> {
    let Ok(meta) = fs::metadata(dir) else {
        return Ok(());
    };
    let ino = meta.ino();
    let Some(born) = meta
        .created()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
    else {
        return Ok(());
    };
    let older = |moved: &Moved| {
        // Inode numbers of another disk say nothing of this directory, which is the one that was there if that is still there.
        let there = moved.was != dir && fs::metadata(&moved.was).is_ok_and(|was| was.ino() == ino);
        !there && superblock(&moved.store).is_some_and(|s| s.created > born.as_secs())
    };
    match candidates(dir)?.into_iter().find(older) {
        None => Ok(()),
        Some(moved) => Err(Trouble::new(format!(
            "{} has snapshots from when it was {}",
            dir.shown(),
            moved.was.shown()
        ))
        .hint(format!(
            "take them along: llfs relink {dir}; or begin anew: llfs mount --fresh {dir}",
            dir = argument(dir)
        ))),
    }
}
