//! Contents of files in two states: whether they differ, and what they are.

use llctl::escape::escaped;
use llctl::protocol::{CONTENT_MAX, Content, ErrorKind, Failure, Patch};
use nix::errno::Errno;

use super::compare::{Comparison, Look};
use super::names::{Names, Object};
use super::pairs::Item;
use crate::engine::service::states::{Pieces, View};
use crate::engine::{Answer, Engine};
use crate::tree::{BLOCK, Ino, Kind, Piece, Src};

/// Bytes that are read and compared at a time.
const STEP: usize = 256 << 10;

/// Whether two files of equal size hold different bytes. Not `exact`, without reading: whether they may.
pub(super) fn differ(
    engine: &Engine,
    (old, a): (&View, Ino),
    (new, b): (&View, Ino),
    exact: bool,
) -> Answer<bool> {
    let was = old.pieces(engine, a, 0, u64::MAX)?;
    let is = new.pieces(engine, b, 0, u64::MAX)?;
    for (from, to) in apart(&was, &is, a == b) {
        if !exact {
            return Ok(true);
        }
        if bytes_differ(engine, (old, a), (new, b), from, to)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The ranges of bytes that don't lie in the same place in both files, or are not both known to be zeros.
fn apart(was: &Pieces, is: &Pieces, same_file: bool) -> Vec<(u64, u64)> {
    let size = was.size.min(is.size);
    let mut out: Vec<(u64, u64)> = Vec::new();
    let (mut i, mut k, mut at) = (0, 0, 0);
    while at < size && i < was.list.len() && k < is.list.len() {
        let (p, q) = (&was.list[i], &is.list[k]);
        let end = p
            .from
            .saturating_add(p.len)
            .min(q.from.saturating_add(q.len));
        let stop = (end * BLOCK).min(size);
        let first = at / BLOCK;
        let (src_p, src_q) = (source(p, first), source(q, first));
        let shared = match (src_p, src_q) {
            (None, None) => {
                same_file && (was.base_len == is.base_len || stop <= was.base_len.min(is.base_len))
            }
            (Some(Src::Layer { .. }), _) => src_p == src_q,
            _ => false,
        };
        let zeros = zeros(src_p, at, was.base_len) && zeros(src_q, at, is.base_len);
        if !shared && !zeros {
            match out.last_mut() {
                Some(last) if last.1 == at => last.1 = stop,
                _ => out.push((at, stop)),
            }
        }
        i += usize::from(p.from + p.len == end);
        k += usize::from(q.from + q.len == end);
        at = stop;
    }
    out
}

/// Where the block `first` of a piece lies.
fn source(piece: &Piece, first: u64) -> Option<Src> {
    piece.src.map(|src| src.advance(first - piece.from))
}

fn zeros(src: Option<Src>, at: u64, base_len: u64) -> bool {
    match src {
        Some(Src::Zero) => true,
        Some(Src::Layer { .. }) => false,
        None => at >= base_len,
    }
}

fn bytes_differ(
    engine: &Engine,
    (old, a): (&View, Ino),
    (new, b): (&View, Ino),
    from: u64,
    to: u64,
) -> Answer<bool> {
    let mut buffers = (vec![0; STEP], vec![0; STEP]);
    let mut at = from;
    while at < to {
        let len = (to - at).min(STEP as u64) as usize;
        let read = |view: &View, ino, buf: &mut [u8]| match view.read(engine, ino, at, buf) {
            // Gone, or not to be read: it does differ from what can be.
            Err(Errno::ESTALE | Errno::EIO) => Ok(None),
            answer => answer.map(Some),
        };
        let was = read(old, a, &mut buffers.0[..len])?;
        let is = read(new, b, &mut buffers.1[..len])?;
        match (was, is) {
            (Some(n), Some(m)) if n == m && buffers.0[..n] == buffers.1[..n] => {}
            _ => return Ok(true),
        }
        at += len as u64;
    }
    Ok(false)
}

/// The target of a symbolic link; empty for anything else.
pub(in crate::engine::service) fn target(names: &Names<'_>, ino: Ino) -> Answer<Vec<u8>> {
    match names.object(ino)? {
        Object::Over(inode) => Ok(inode.target.as_ref().map_or_else(Vec::new, |t| t.to_vec())),
        Object::Base(stat) if stat.kind == Kind::Symlink => names.peeks.engine.base.readlink(ino),
        Object::Base(_) => Ok(Vec::new()),
    }
}

/// Both contents, if there are any and they differ.
pub(super) fn patch(
    engine: &Engine,
    names: (&Names<'_>, &Names<'_>),
    item: &Item,
    comparison: &Comparison<'_>,
) -> Result<Option<Patch>, Failure> {
    let look = |names: &Names<'_>, ino: Option<Ino>| {
        let found = ino.map(|ino| Look::at(names, ino).map(|look| (ino, look)));
        found.transpose().map_err(|e| unreadable(names, item, e))
    };
    let (old, new) = (look(names.0, item.old)?, look(names.1, item.new)?);
    if let (Some((a, was)), Some((b, is))) = (&old, &new) {
        let differs = comparison.content_differs((*a, was), (*b, is));
        if !differs.map_err(|e| unreadable(names.1, item, e))? {
            return Ok(None);
        }
    }
    let content = |names: &Names<'_>, side: &Option<(Ino, Look)>| match side {
        Some((ino, look)) => {
            content(engine, names, *ino, look).map_err(|e| unreadable(names, item, e))
        }
        None => Ok(Content::Absent),
    };
    let (old, new) = (content(names.0, &old)?, content(names.1, &new)?);
    let nothing = (&old, &new) == (&Content::Absent, &Content::Absent);
    Ok((!nothing).then_some(Patch { old, new }))
}

fn content(engine: &Engine, names: &Names<'_>, ino: Ino, look: &Look) -> Answer<Content> {
    match look.kind {
        Kind::Symlink => Ok(Content::Bytes(target(names, ino)?.into())),
        Kind::File if look.size > CONTENT_MAX as u64 => Ok(Content::TooLarge),
        Kind::File => {
            let mut bytes = vec![0; look.size as usize];
            match names.view.read(engine, ino, 0, &mut bytes) {
                Ok(n) => bytes.truncate(n),
                // It was removed from the live tree meanwhile.
                Err(Errno::ESTALE) => return Ok(Content::Absent),
                Err(e) => return Err(e),
            }
            Ok(Content::of(bytes))
        }
        _ => Ok(Content::Absent),
    }
}

fn unreadable(names: &Names<'_>, item: &Item, errno: Errno) -> Failure {
    let path = escaped(&item.path);
    let what = format!("{path} of {} cannot be read", names.view.name);
    match errno {
        Errno::EIO => {
            Failure::new(ErrorKind::Damaged, what).with_hint("`llctl verify` tells what is damaged")
        }
        errno => Failure::errno(what, errno),
    }
}
