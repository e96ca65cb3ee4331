//! Checksums of contents, each computed once: a piece of a file by where its blocks lie, and whole files of the base
//! by what tells that they are what they were.

use std::collections::HashMap;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::Stop;
use super::known::Base;
use super::pace::Pace;
use crate::base::{BaseStat, Seek};
use crate::engine::service::diff::Names;
use crate::engine::service::states::Pieces;
use crate::engine::{Answer, Engine};
use crate::tree::{BLOCK, Ino, Piece, Src};

/// The checksum of a content.
pub(super) type Hash = [u8; 32];

/// Bytes of a file that are hashed together. Part of the format.
const CHUNK: u64 = 1 << 20;
/// Pieces whose checksums are remembered: 10 MB. With more of them all are forgotten, and are read again when they are needed.
const KNOWN_MAX: usize = 1 << 17;
/// What stands for the content of a file that the daemon may not read.
const UNREADABLE: Hash = [0; 32];

/// What tells that a file of the base is what it was: size, mtime and ctime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub fn of(stat: &BaseStat) -> Fingerprint {
        let mut bytes = Vec::with_capacity(32);
        bytes.extend(stat.size.to_le_bytes());
        for (sec, nsec) in [stat.mtime, stat.ctime] {
            bytes.extend(sec.to_le_bytes());
            bytes.extend(nsec.to_le_bytes());
        }
        Fingerprint(xxh3_64(&bytes))
    }
}

/// Checksums that are known.
pub(super) struct Contents {
    /// By where they lie; `None`: nothing but zeros.
    pieces: HashMap<u128, Option<Hash>>,
    /// Of whole files of the base; kept while the base is walked, and only then.
    pub base: HashMap<Ino, Base>,
    /// Those of them that are new since they were written down.
    pub new: Vec<(Ino, Fingerprint, Hash)>,
    /// They are asked for and noted.
    pub walking: bool,
    /// Bytes that were read.
    pub read: u64,
    /// Of work that makes way for programs.
    pub pace: Option<Pace>,
    stop: Stop,
    buffer: Vec<u8>,
}

impl Contents {
    pub fn new(stop: Stop) -> Contents {
        Contents {
            pieces: HashMap::new(),
            base: HashMap::new(),
            new: Vec::new(),
            walking: false,
            read: 0,
            pace: None,
            stop,
            buffer: Vec::new(),
        }
    }

    /// The base is another one: nothing is known.
    pub fn forget(&mut self) {
        *self = Contents {
            pace: self.pace.take(),
            ..Contents::new(self.stop.clone())
        };
    }

    fn make_way(&mut self, engine: &Engine) {
        if let Some(pace) = &mut self.pace {
            pace.make_way(engine.metrics());
        }
    }

    /// The checksum of a file's content; `unchanged`: all of it is the base's.
    pub fn of(
        &mut self,
        names: &Names<'_>,
        ino: Ino,
        unchanged: Option<Fingerprint>,
    ) -> Answer<Hash> {
        self.make_way(names.peeks.engine);
        let unchanged = unchanged.filter(|_| self.walking);
        if let Some(print) = unchanged
            && let Some(known) = self.base.get_mut(&ino)
            && known.print == print
        {
            known.seen = true;
            return Ok(known.hash);
        }
        let hash = match self.whole(names, ino) {
            // Such a file is in the base: what the overlay has the daemon wrote itself.
            Err(Errno::EACCES | Errno::EPERM) => UNREADABLE,
            answer => answer?,
        };
        if let Some(print) = unchanged.filter(|_| hash != UNREADABLE) {
            self.new.push((ino, print, hash));
            let seen = true;
            self.base.insert(ino, Base { print, hash, seen });
        }
        Ok(hash)
    }

    fn whole(&mut self, names: &Names<'_>, ino: Ino) -> Answer<Hash> {
        let engine = names.peeks.engine;
        let file = names.view.pieces(engine, ino, 0, u64::MAX)?;
        let mut hasher = blake3::Hasher::new();
        let (mut at, mut first) = (0, 0);
        while at < file.size {
            let end = (at + CHUNK).min(file.size);
            while (file.list.get(first)).is_some_and(|p| stop_of(p) <= at) {
                first += 1;
            }
            // Nothing but zeros counts as nothing, however it is stored; and a hole is as long as it likes.
            if let Some(piece) = file.list.get(first)
                && is_zero(piece, at.max(piece.from * BLOCK), file.base_len)
                && stop_of(piece) >= end
            {
                at = (stop_of(piece) / CHUNK * CHUNK).max(end);
                continue;
            }
            if let Some(data) = behind_hole(engine, ino, &file, first, at)
                && data >= end
            {
                at = (data / CHUNK * CHUNK).max(end);
                continue;
            }
            let hash = self.chunk(names, engine, (ino, &file), first, (at, end))?;
            if let Some(hash) = hash {
                hasher.update(&(at / CHUNK).to_le_bytes());
                hasher.update(&hash);
            }
            at = end;
        }
        Ok(*hasher.finalize().as_bytes())
    }

    /// The checksum of one chunk; `None` if it is all zeros.
    fn chunk(
        &mut self,
        names: &Names<'_>,
        engine: &Engine,
        (ino, file): (Ino, &Pieces),
        first: usize,
        (at, end): (u64, u64),
    ) -> Answer<Option<Hash>> {
        let key = key(ino, file, first, (at, end));
        if let Some(known) = self.pieces.get(&key) {
            return Ok(*known);
        }
        self.stop.check()?;
        self.make_way(engine);
        self.buffer.resize((end - at) as usize, 0);
        let got = names.view.read(engine, ino, at, &mut self.buffer)?;
        self.read += got as u64;
        let bytes = &self.buffer[..got];
        let zeros = bytes.iter().all(|b| *b == 0);
        let hash = (!zeros).then(|| *blake3::hash(bytes).as_bytes());
        if self.pieces.len() >= KNOWN_MAX {
            self.pieces.clear();
        }
        self.pieces.insert(key, hash);
        Ok(hash)
    }
}

fn stop_of(piece: &Piece) -> u64 {
    piece.from.saturating_add(piece.len).saturating_mul(BLOCK)
}

/// The byte behind a hole of a file of the base, if `at` is in one: so far it is all zeros. What is below an extent of the overlay's does not
/// count. A base that cannot tell has no holes.
fn behind_hole(engine: &Engine, ino: Ino, file: &Pieces, first: usize, at: u64) -> Option<u64> {
    let piece = file.list.get(first)?;
    if piece.src.is_some() || at < piece.from * BLOCK || at >= file.base_len {
        return None;
    }
    let data = match engine.base.seek_data_hole(ino, at, Seek::Data) {
        Ok(data) => data,
        Err(Errno::ENXIO) => u64::MAX,
        Err(_) => return None,
    };
    // Behind the base's part there are zeros as well, up to the piece's end.
    let data = if data >= file.base_len {
        u64::MAX
    } else {
        data
    };
    Some(data.min(stop_of(piece)).min(file.size))
}

fn is_zero(piece: &Piece, at: u64, base_len: u64) -> bool {
    match piece.src {
        Some(Src::Zero) => true,
        Some(Src::Layer { .. }) => false,
        None => at >= base_len,
    }
}

/// Where the bytes of a chunk lie. Blocks are handed out once, those of old states never change, and the base doesn't
/// either, so what is the same by this has the same bytes.
fn key(ino: Ino, file: &Pieces, first: usize, (at, end): (u64, u64)) -> u128 {
    let mut hasher = Xxh3::new();
    let mut put = |numbers: &[u64]| {
        for number in numbers {
            hasher.update(&number.to_le_bytes());
        }
    };
    put(&[end - at]);
    let pieces = file.list[first..].iter();
    for piece in pieces.take_while(|p| p.from * BLOCK < end) {
        let from = at.max(piece.from * BLOCK);
        let len = end.min(stop_of(piece)) - from;
        match piece.src {
            Some(Src::Zero) => put(&[0, len]),
            Some(src @ Src::Layer { .. }) => {
                let skipped = from / BLOCK - piece.from;
                if let Src::Layer { layer, block } = src.advance(skipped) {
                    put(&[1, len, layer.into(), block.into()]);
                }
            }
            None => put(&[2, len, ino, from, file.base_len.clamp(from, from + len)]),
        }
    }
    hasher.digest128()
}
