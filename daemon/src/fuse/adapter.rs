//! The engine as a FUSE file system: each method unpacks a request, asks the engine, packs the answer.
//!
//! One session thread runs all of them in the order of the requests. What would wait for the disk goes to the [`Pool`].

use std::ffi::OsStr;
use std::io;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, Generation, INodeNo,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use nix::errno::Errno;

use super::answer::{asked, caller, empty, entry, found, with_buffer, written, xattr};
use super::convert::{
    FOREVER, bare_attr, errno, file_attr, file_type, name_ttl, sent_time, set_time,
};
use super::kernel::CachedWrites;
use super::pool::Pool;
use super::{capabilities, follow, test_hook};
use crate::engine::api::{Make, SetAttr, WriteHow};
use crate::engine::metrics::Sample;
use crate::engine::{Engine, on_behalf};
use crate::relay::Op;
use crate::tree::{Kind, NAME_MAX};

/// Permission bits of a mode word, with set-ID and sticky.
const PERM: u32 = 0o7777;

/// What the session runs.
pub(super) struct Adapter {
    engine: Arc<Engine>,
    waiters: Pool,
    cached_writes: CachedWrites,
}

/// The engine, for one request; the request's time ends with it.
struct Serving<'a> {
    engine: &'a Engine,
    sample: Option<Sample>,
}

impl<'a> Serving<'a> {
    fn new(engine: &'a Engine, op: Op) -> Self {
        let sample = engine.metrics().count(op);
        Serving { engine, sample }
    }

    /// The request is carried out elsewhere, and so its time ends there.
    fn pass_on(&mut self) -> Option<Sample> {
        self.sample.take()
    }
}

impl Deref for Serving<'_> {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        self.engine
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if let Some(sample) = &self.sample {
            self.engine.metrics().took(sample);
        }
    }
}

impl Adapter {
    /// # Errors
    /// The system's, if it has no threads to give.
    pub(super) fn new(engine: Arc<Engine>, cached_writes: CachedWrites) -> io::Result<Self> {
        Ok(Self {
            engine,
            waiters: Pool::start()?,
            cached_writes,
        })
    }

    /// The engine, for a request on the session thread that changes nothing, or may be carried out twice.
    fn serve(&self, request: &Request, op: Op, ino: INodeNo) -> Serving<'_> {
        follow::request_of(request.pid());
        let serving = Serving::new(&self.engine, op);
        self.engine.relay().begin(&asked(request, op, ino));
        serving
    }

    /// The engine, for a request on the session thread that changes something; and whether a worker before this one has
    /// done that already, so that only the answer is missing.
    fn change(&self, request: &Request, op: Op, ino: INodeNo) -> (Serving<'_>, bool) {
        follow::request_of(request.pid());
        let serving = Serving::new(&self.engine, op);
        on_behalf(request.pid(), request.uid());
        let done = self.engine.relay().begin_change(&asked(request, op, ino));
        (serving, done)
    }

    fn sync(&self, request: &Request, ino: INodeNo, datasync: bool, reply: ReplyEmpty) {
        let engine = self.engine.clone();
        let sample = engine.metrics().count(Op::Fsync);
        let pooled = engine
            .relay()
            .begin_in_pool(&asked(request, Op::Fsync, ino));
        self.waiters.run(move || {
            let _timed = Serving {
                engine: &engine,
                sample,
            };
            empty(engine.fsync(ino.0, datasync), reply);
            drop(pooled);
        });
    }

    fn make(
        &self,
        request: &Request,
        op: Op,
        parent: INodeNo,
        name: &OsStr,
        make: &Make<'_>,
        reply: ReplyEntry,
    ) {
        let (engine, done) = self.change(request, op, parent);
        let name = name.as_bytes();
        let answer = match done {
            true => found(&engine, parent, name),
            false => engine.make(parent.0, name, make, &caller(request)),
        };
        entry(answer, reply);
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        capabilities::negotiate(config)
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let engine = self.serve(request, Op::Lookup, parent);
        test_hook(name);
        match engine.lookup(parent.0, name.as_bytes()) {
            Ok(Some(found)) => entry(Ok(found), reply),
            // The kernel remembers that there is none.
            Ok(None) => reply.entry(&FOREVER, &bare_attr(0, Kind::File), Generation(0)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn forget(&self, _request: &Request, ino: INodeNo, lookups: u64) {
        self.engine.forget(ino.0, lookups);
    }

    fn getattr(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.serve(request, Op::Getattr, ino).getattr(ino.0) {
            Ok(attr) => reply.attr(&FOREVER, &file_attr(&attr)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr {
            perm: mode.map(|mode| (mode & PERM) as u16),
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            ctime: ctime.map(sent_time),
        };
        let (engine, done) = self.change(request, Op::Setattr, ino);
        let answer = match done {
            true => engine.getattr(ino.0),
            false => engine.setattr(ino.0, &set, &caller(request)),
        };
        match answer {
            Ok(attr) => reply.attr(&FOREVER, &file_attr(&attr)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        match self.serve(request, Op::Readlink, ino).readlink(ino.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        // Without a type it is a regular file, see mknod(2).
        let kind = Kind::from_mode(mode).unwrap_or(Kind::File);
        let make = Make {
            kind,
            perm: (mode & PERM) as u16,
            umask: (umask & PERM) as u16,
            rdev,
            target: b"",
        };
        self.make(request, Op::Mknod, parent, name, &make, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let make = Make {
            kind: Kind::Dir,
            perm: (mode & PERM) as u16,
            umask: (umask & PERM) as u16,
            rdev: 0,
            target: b"",
        };
        self.make(request, Op::Mkdir, parent, name, &make, reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        let make = Make {
            kind: Kind::Symlink,
            perm: 0o777,
            umask: 0,
            rdev: 0,
            target,
        };
        self.make(request, Op::Symlink, parent, name, &make, reply);
    }

    fn link(
        &self,
        request: &Request,
        ino: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        let (engine, done) = self.change(request, Op::Link, ino);
        let name = name.as_bytes();
        let answer = match done {
            true => found(&engine, parent, name),
            false => engine.link(ino.0, parent.0, name),
        };
        entry(answer, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (engine, done) = self.change(request, Op::Unlink, parent);
        let answer = match done {
            true => Ok(()),
            false => engine.unlink(parent.0, name.as_bytes()),
        };
        empty(answer, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (engine, done) = self.change(request, Op::Rmdir, parent);
        let answer = match done {
            true => Ok(()),
            false => engine.rmdir(parent.0, name.as_bytes()),
        };
        empty(answer, reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (engine, done) = self.change(request, Op::Rename, parent);
        let (from, to) = (name.as_bytes(), newname.as_bytes());
        let answer = match done {
            true => Ok(()),
            false => engine.rename(parent.0, from, newparent.0, to, flags.bits()),
        };
        empty(answer, reply);
    }

    /// Not there: the kernel then opens and closes files without a message, and keeps their pages.
    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(errno(Errno::ENOSYS));
    }

    /// Not there: the kernel makes files by MKNOD and opens them without a message.
    fn create(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(errno(Errno::ENOSYS));
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut serving = self.serve(request, Op::Read, ino);
        let waits = with_buffer(size, |buffer| {
            match serving.read(ino.0, offset, buffer, false) {
                Ok(bytes) => {
                    reply.data(&buffer[..bytes]);
                    None
                }
                Err(Errno::EAGAIN) => Some(reply),
                Err(error) => {
                    reply.error(errno(error));
                    None
                }
            }
        });
        if let Some(reply) = waits {
            let sample = serving.pass_on();
            let engine = self.engine.clone();
            let pooled = engine.relay().begin_in_pool(&asked(request, Op::Read, ino));
            self.waiters.run(move || {
                let _until_answered = pooled;
                let _timed = Serving {
                    engine: &engine,
                    sample,
                };
                with_buffer(size, |buffer| {
                    match engine.read(ino.0, offset, buffer, true) {
                        Ok(bytes) => reply.data(&buffer[..bytes]),
                        Err(error) => reply.error(errno(error)),
                    }
                });
            });
        }
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let how = WriteHow {
            cached: write_flags.contains(WriteFlags::FUSE_WRITE_CACHE),
            append: flags.0 & libc::O_APPEND != 0,
            kill_priv: write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
        };
        let (engine, done) = self.change(request, Op::Write, ino);
        let answer = match done {
            true => {
                if how.append {
                    engine.appended_elsewhere(ino.0);
                }
                // All of it is written, or nothing; the kernel sends less than 4 GiB.
                Ok(data.len() as u32)
            }
            false => engine.write(ino.0, offset, data, how),
        };
        if how.cached {
            // After the engine has it: see `Cache::flush`, which reads it.
            self.cached_writes.fetch_add(1, Ordering::Release);
        }
        written(answer, reply);
    }

    /// Not there: a close needs no message.
    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(errno(Errno::ENOSYS));
    }

    fn fsync(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        follow::request_of(request.pid());
        self.sync(request, ino, datasync, reply);
    }

    /// Not there: the kernel then opens and closes directories without a message, and keeps their listings.
    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(errno(Errno::ENOSYS));
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        after: u64,
        mut reply: ReplyDirectory,
    ) {
        let answer =
            self.serve(request, Op::Readdir, ino)
                .readdir(ino.0, after, false, &mut |listed| {
                    reply.add(
                        INodeNo(listed.ino),
                        listed.cookie,
                        file_type(listed.kind),
                        OsStr::from_bytes(listed.name),
                    )
                });
        match answer {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        after: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let answer =
            self.serve(request, Op::Readdir, ino)
                .readdir(ino.0, after, true, &mut |listed| {
                    let name = OsStr::from_bytes(listed.name);
                    let ino = INodeNo(listed.ino);
                    match &listed.entry {
                        Some(found) => {
                            let generation = Generation(found.generation);
                            reply.add(
                                ino,
                                listed.cookie,
                                name,
                                name_ttl(found),
                                &file_attr(&found.attr),
                                generation,
                            )
                        }
                        // Only `.` and `..`, which the kernel lists without looking at more than number and type.
                        None => {
                            let bare = bare_attr(listed.ino, listed.kind);
                            reply.add(ino, listed.cookie, name, &FOREVER, &bare, Generation(0))
                        }
                    }
                });
        match answer {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn fsyncdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        follow::request_of(request.pid());
        self.sync(request, ino, datasync, reply);
    }

    fn statfs(&self, request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.serve(request, Op::Statfs, ino).statfs() {
            Ok(space) => reply.statfs(
                space.blocks,
                space.free,
                space.available,
                space.files,
                space.files_free,
                space.block_size,
                NAME_MAX as u32,
                space.block_size,
            ),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (engine, done) = self.change(request, Op::Setxattr, ino);
        let answer = match done {
            true => Ok(()),
            false => engine.setxattr(ino.0, name.as_bytes(), value, flags, &caller(request)),
        };
        empty(answer, reply);
    }

    fn getxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        room: u32,
        reply: ReplyXattr,
    ) {
        let engine = self.serve(request, Op::Getxattr, ino);
        xattr(engine.getxattr(ino.0, name.as_bytes()), room, reply);
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, room: u32, reply: ReplyXattr) {
        let engine = self.serve(request, Op::Listxattr, ino);
        xattr(engine.listxattr(ino.0), room, reply);
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (engine, done) = self.change(request, Op::Removexattr, ino);
        let answer = match done {
            true => Ok(()),
            false => engine.removexattr(ino.0, name.as_bytes()),
        };
        empty(answer, reply);
    }

    /// Never asked: the kernel checks permissions itself (`default_permissions`).
    fn access(&self, _request: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(errno(Errno::ENOSYS));
    }

    /// Programs that try one (to clone a file, to read its flags) do without it then.
    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _room: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(errno(Errno::ENOTTY));
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let engine = self.serve(request, Op::Fallocate, ino);
        on_behalf(request.pid(), request.uid());
        empty(
            engine.fallocate(ino.0, offset, length, mode, &caller(request)),
            reply,
        );
    }

    /// Only `SEEK_DATA` and `SEEK_HOLE` come here.
    fn lseek(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self
            .serve(request, Op::Lseek, ino)
            .lseek(ino.0, offset, whence)
        {
            Ok(found) => reply.offset(found),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        ino_in: INodeNo,
        _handle_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _handle_out: FileHandle,
        offset_out: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let engine = self.serve(request, Op::CopyFileRange, ino_in);
        on_behalf(request.pid(), request.uid());
        let answer = engine.copy_file_range(
            ino_in.0,
            offset_in,
            ino_out.0,
            offset_out,
            length,
            &caller(request),
        );
        written(answer, reply);
    }
}
