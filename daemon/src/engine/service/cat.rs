//! What is at a path in a state, and the content of a file there.

use llctl::escape::escaped;
use llctl::protocol::{BytePath, ErrorKind, Failure, Side};
use nix::errno::Errno;

use super::diff::{Names, Peeks, side, target};
use super::log::resolve;
use super::states::{View, Which};
use crate::control::Sink;
use crate::engine::Engine;
use crate::tree::{Ino, Kind};

/// Bytes that are sent at a time.
const PIECE: usize = 256 << 10;

/// What is at a path in a state.
pub(super) fn stat(engine: &Engine, view: &View, path: &BytePath) -> Result<Side, Failure> {
    let peeks = Peeks::new(engine);
    let names = Names::new(&peeks, view);
    let (ino, _) = find(&names, path)?;
    side(&names, ino).map_err(|errno| failed(&shown(view, path), errno))
}

fn shown(view: &View, path: &BytePath) -> String {
    format!("{path} of {}", escaped(view.name.as_bytes()))
}

fn failed(what: &str, errno: Errno) -> Failure {
    let message = format!("{what} cannot be read");
    match errno {
        Errno::EIO => Failure::new(ErrorKind::Damaged, message)
            .with_hint("`llctl verify` tells what is damaged"),
        errno => Failure::errno(message, errno),
    }
}

/// What a path means in a state.
pub(super) fn find(names: &Names<'_>, path: &BytePath) -> Result<(Ino, Kind), Failure> {
    let what = shown(names.view, path);
    let found = resolve(names, &path.0).map_err(|errno| failed(&what, errno))?;
    found.ok_or_else(|| {
        Failure::new(ErrorKind::NotFound, format!("there is no {what}"))
            .with_hint("`llctl log PATH` tells which snapshots have changed it")
    })
}

/// Sends the content of a file from the byte `from` on.
pub(super) fn send(
    engine: &Engine,
    view: &View,
    path: &BytePath,
    from: u64,
    sink: Sink<'_, Vec<u8>>,
) -> Result<(), Failure> {
    let peeks = Peeks::new(engine);
    let names = Names::new(&peeks, view);
    let what = shown(view, path);
    let failed = |errno| failed(&what, errno);
    let (ino, kind) = find(&names, path)?;
    let refused = |why: &str| Err(Failure::new(ErrorKind::Invalid, format!("{what} is {why}")));
    match kind {
        Kind::File => {}
        Kind::Dir => {
            let hint = format!(
                "`ls .llfs/{}/{path}` at the mount's root lists it",
                view.name
            );
            return refused("a directory").map_err(|failure| failure.with_hint(hint));
        }
        Kind::Symlink => {
            let target = escaped(&target(&names, ino).map_err(failed)?);
            return refused(&format!("a symbolic link to {target}"));
        }
        _ => return refused("neither a file nor a link"),
    }
    let mut at = from;
    loop {
        let mut piece = vec![0; PIECE];
        let got = match view.read(engine, ino, at, &mut piece) {
            Err(Errno::ESTALE) if view.which == Which::Live => {
                let why = format!("{what} was removed meanwhile");
                return Err(Failure::new(ErrorKind::NotFound, why));
            }
            answer => answer.map_err(failed)?,
        };
        if got == 0 {
            return Ok(());
        }
        at += got as u64;
        piece.truncate(got);
        if sink(piece).is_err() {
            return Ok(());
        }
    }
}
