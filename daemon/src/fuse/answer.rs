//! From the engine's answers to replies to the kernel.

use std::cell::RefCell;

use fuser::{Generation, INodeNo, ReplyEmpty, ReplyEntry, ReplyWrite, ReplyXattr, Request};
use nix::errno::Errno;

use super::convert::{FOREVER, errno, file_attr, name_ttl};
use crate::engine::Engine;
use crate::engine::api::{Answer, Caller, Entry};
use crate::relay::{Asked, Op};

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn caller(request: &Request) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
        pid: request.pid(),
    }
}

/// The request, for whoever comes after this worker.
pub(super) fn asked(request: &Request, op: Op, ino: INodeNo) -> Asked {
    Asked {
        unique: request.unique().0,
        op,
        ino: ino.0,
        pid: request.pid(),
        pooled: false,
    }
}

/// The entry of a name that a worker before this one has made.
pub(super) fn found(engine: &Engine, parent: INodeNo, name: &[u8]) -> Answer<Entry> {
    engine.lookup(parent.0, name)?.ok_or(Errno::ENOENT)
}

pub(super) fn entry(answer: Answer<Entry>, reply: ReplyEntry) {
    match answer {
        Ok(found) => reply.entry_with_ttls(
            &FOREVER,
            name_ttl(&found),
            &file_attr(&found.attr),
            Generation(found.generation),
        ),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn empty(answer: Answer<()>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn written(answer: Answer<u32>, reply: ReplyWrite) {
    match answer {
        Ok(bytes) => reply.written(bytes),
        Err(error) => reply.error(errno(error)),
    }
}

/// Answers with a value, or with its length if the caller has no room at all: see getxattr(2).
pub(super) fn xattr(answer: Answer<Vec<u8>>, room: u32, reply: ReplyXattr) {
    match answer {
        Ok(value) => match u32::try_from(value.len()) {
            Ok(length) if room == 0 => reply.size(length),
            Ok(length) if length <= room => reply.data(&value),
            _ => reply.error(errno(Errno::ERANGE)),
        },
        Err(error) => reply.error(errno(error)),
    }
}

/// Lends this thread's buffer, `size` bytes long.
pub(super) fn with_buffer<T>(size: u32, use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    let size = size as usize;
    READ_BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        use_it(&mut buffer[..size])
    })
}
