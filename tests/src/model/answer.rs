//! What every operation has to do and to answer.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::rename::{link, rename, unlink};
use super::{Body, Handle, Id, Model};
use crate::dice::pattern;
use crate::op::{Allocation, Answer, Op, Outcome, Spot};

/// The umask that the real operations run under.
const UMASK: u32 = 0o022;

pub(super) fn perform(model: &mut Model, op: &Op) -> Answer {
    match op {
        Op::Create {
            at,
            mode,
            exclusive,
        } => create(model, at, *mode, *exclusive)?,
        Op::Write {
            at,
            offset,
            len,
            fill,
        } => {
            let id = open(model, at, Access::Write)?;
            write(model, id, *offset, &pattern(*fill, *len));
        }
        Op::Append { at, len, fill } => {
            let id = open(model, at, Access::Write)?;
            let end = bytes(model, id).len() as u64;
            write(model, id, end, &pattern(*fill, *len));
        }
        Op::Empty { at } => {
            let id = open(model, at, Access::Write)?;
            resize(model, id, 0);
        }
        Op::Truncate { at, size } => {
            let id = model.head.find(at)?;
            match model.head.node(id).body {
                Body::File(_) => resize(model, id, *size),
                Body::Dir(_) => return Err(Errno::EISDIR),
                Body::Symlink(_) => return Err(Errno::ENOENT),
                Body::Fifo | Body::Socket => return Err(Errno::EINVAL),
            }
        }
        Op::Allocate {
            at,
            how,
            offset,
            len,
        } => {
            let id = open(model, at, Access::Write)?;
            allocate(model, id, *how, *offset as usize, *len as usize);
        }
        Op::MapWrite {
            at,
            offset,
            len,
            fill,
        } => {
            let id = open(model, at, Access::Both)?;
            let Body::File(content) = &model.head.node(id).body else {
                return Err(Errno::EINVAL);
            };
            let room = content.len().saturating_sub(*offset as usize).min(*len);
            write(model, id, *offset, &pattern(*fill, *len)[..room]);
        }
        Op::CopyRange {
            from,
            to,
            from_offset,
            to_offset,
            len,
        } => {
            let source = open(model, from, Access::Read)?;
            let target = match open(model, to, Access::Write) {
                // A fifo that has a reader can be opened to write: the reader is the source.
                Err(Errno::ENXIO) if model.head.find(to) == Ok(source) => source,
                other => other?,
            };
            return copy_range(model, source, *from_offset, target, *to_offset, *len);
        }
        Op::Read { at, offset, len } => {
            let id = open(model, at, Access::Read)?;
            return read(model, id, *offset, *len);
        }
        Op::Holes { at } => {
            let id = open(model, at, Access::Read)?;
            if !matches!(model.head.node(id).body, Body::File(_)) {
                return Err(Errno::EINVAL);
            }
        }
        Op::Readlink { at } => {
            let id = model.head.find(at)?;
            return match &model.head.node(id).body {
                Body::Symlink(target) => Ok(Outcome::Bytes(target.clone())),
                _ => Err(Errno::EINVAL),
            };
        }
        Op::List { at } => {
            let id = model.head.find(at)?;
            let names = model.head.node(id).names().ok_or(Errno::ENOTDIR)?;
            return Ok(Outcome::Names(names.keys().cloned().collect()));
        }
        Op::Open { .. }
        | Op::Close { .. }
        | Op::HandleWrite { .. }
        | Op::HandleRead { .. }
        | Op::HandleTruncate { .. }
        | Op::HandleStat { .. }
        | Op::HandleSync { .. } => return through_handle(model, op),
        _ => on_names(model, op)?,
    }
    Ok(Outcome::Done)
}

fn through_handle(model: &mut Model, op: &Op) -> Answer {
    match *op {
        Op::Open {
            slot,
            ref at,
            append,
        } => {
            model.close(slot);
            let id = open(model, at, Access::Both)?;
            if !matches!(model.head.node(id).body, Body::File(_)) {
                return Err(Errno::EINVAL);
            }
            model.handles[slot] = Some(Handle { id, append });
        }
        Op::Close { slot } => model.close(slot),
        Op::HandleWrite {
            slot,
            offset,
            len,
            fill,
        } => {
            let handle = model.handle(slot)?;
            let end = bytes(model, handle.id).len() as u64;
            let offset = if handle.append { end } else { offset };
            write(model, handle.id, offset, &pattern(fill, len));
        }
        Op::HandleRead { slot, offset, len } => {
            let handle = model.handle(slot)?;
            return read(model, handle.id, offset, len);
        }
        Op::HandleTruncate { slot, size } => {
            let handle = model.handle(slot)?;
            resize(model, handle.id, size);
        }
        Op::HandleStat { slot } => {
            let handle = model.handle(slot)?;
            let size = bytes(model, handle.id).len() as u64;
            return Ok(Outcome::Numbers(vec![
                size,
                model.head.node(handle.id).links,
            ]));
        }
        Op::HandleSync { slot } => return model.handle(slot).map(|_| Outcome::Done),
        ref other => unreachable!("{other:?} uses no handle"),
    }
    Ok(Outcome::Done)
}

fn on_names(model: &mut Model, op: &Op) -> Result<(), Errno> {
    match op {
        Op::Mkdir { at, mode } => {
            let mode = mode & 0o1777 & !UMASK;
            new(model, at, Body::Dir(BTreeMap::new()), mode)
        }
        Op::Symlink { at, target } => new(model, at, Body::Symlink(target.clone()), 0o777),
        Op::Mknod { at, socket, mode } => {
            let body = if *socket { Body::Socket } else { Body::Fifo };
            new(model, at, body, mode & !UMASK)
        }
        Op::Rmdir { at } => {
            let id = model.head.find(at)?;
            let names = model.head.node(id).names().ok_or(Errno::ENOTDIR)?;
            if !names.is_empty() {
                return Err(Errno::ENOTEMPTY);
            }
            remove(model, at)
        }
        Op::Unlink { at } => {
            let id = model.head.find(at)?;
            if model.head.node(id).names().is_some() {
                return Err(Errno::EISDIR);
            }
            remove(model, at)
        }
        Op::Rename { from, to, how } => rename(model, from, to, *how),
        Op::Link { from, to } => link(model, from, to),
        _ => on_attributes(model, op),
    }
}

fn on_attributes(model: &mut Model, op: &Op) -> Result<(), Errno> {
    match op {
        Op::Chmod { at, mode } => {
            let id = model.head.find(at)?;
            let node = model.head.node_mut(id);
            if matches!(node.body, Body::Symlink(_)) {
                return Err(Errno::EOPNOTSUPP);
            }
            node.mode = *mode;
        }
        Op::Chown { at, uid, gid } => {
            let id = model.head.find(at)?;
            let node = model.head.node_mut(id);
            (node.uid, node.gid) = (*uid, *gid);
            if node.names().is_none() {
                // Group execution missing, the set-group-ID bit once meant mandatory locking.
                let group = if node.mode & 0o010 != 0 { 0o2000 } else { 0 };
                node.mode &= !(0o4000 | group);
            }
        }
        Op::Utimens {
            at,
            seconds,
            nanoseconds,
        } => {
            let id = model.head.find(at)?;
            model.head.node_mut(id).mtime = (*seconds, *nanoseconds);
        }
        Op::SetXattr {
            at,
            name,
            value,
            flags,
        } => {
            let id = model.head.find(at)?;
            let node = model.head.node_mut(id);
            xattr_allowed(&node.body, name)?;
            match (*flags, node.xattrs.contains_key(*name)) {
                (libc::XATTR_CREATE, true) => return Err(Errno::EEXIST),
                (libc::XATTR_REPLACE, false) => return Err(Errno::ENODATA),
                _ => node.xattrs.insert(name.to_vec(), value.clone()),
            };
        }
        Op::RemoveXattr { at, name } => {
            let id = model.head.find(at)?;
            let node = model.head.node_mut(id);
            xattr_allowed(&node.body, name)?;
            node.xattrs.remove(*name).ok_or(Errno::ENODATA)?;
        }
        other => unreachable!("the model does not know {other:?}"),
    }
    Ok(())
}

fn xattr_allowed(body: &Body, name: &[u8]) -> Result<(), Errno> {
    let takes_any = matches!(body, Body::File(_) | Body::Dir(_));
    if name.starts_with(b"user.") && !takes_any {
        Err(Errno::EPERM)
    } else {
        Ok(())
    }
}

/// Puts a new object at a path where nothing is.
fn new(model: &mut Model, at: &Spot, body: Body, mode: u32) -> Result<(), Errno> {
    let (parent, name) = model.head.parent_of(at)?;
    if model.head.child(parent, name)?.is_some() {
        return Err(Errno::EEXIST);
    }
    let id = model.head.insert(parent, name, body, mode);
    model.touched.new.push(id);
    model.touched.must.push(parent);
    Ok(())
}

fn remove(model: &mut Model, at: &Spot) -> Result<(), Errno> {
    let (parent, name) = model.head.parent_of(at)?;
    let id = model
        .head
        .names_mut(parent)
        .remove(name)
        .ok_or(Errno::ENOENT)?;
    unlink(model, id);
    model.touched.must.push(parent);
    Ok(())
}

fn create(model: &mut Model, at: &Spot, mode: u32, exclusive: bool) -> Result<(), Errno> {
    let (parent, name) = model.head.parent_of(at)?;
    match model.head.child(parent, name)? {
        Some(_) if exclusive => Err(Errno::EEXIST),
        Some(_) => open(model, at, Access::Write).map(drop),
        None => new(model, at, Body::File(Vec::new()), mode & !UMASK),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Both,
}

/// open(2) with O_NOFOLLOW and O_NONBLOCK.
fn open(model: &Model, at: &Spot, access: Access) -> Result<Id, Errno> {
    let id = model.head.find(at)?;
    match (&model.head.node(id).body, access) {
        (Body::Symlink(_), _) => Err(Errno::ELOOP),
        (Body::Dir(_), Access::Write | Access::Both) => Err(Errno::EISDIR),
        (Body::Socket, _) | (Body::Fifo, Access::Write) => Err(Errno::ENXIO),
        _ => Ok(id),
    }
}

fn bytes(model: &Model, id: Id) -> &[u8] {
    match &model.head.node(id).body {
        Body::File(content) => content,
        other => unreachable!("{other:?} was opened as a file"),
    }
}

fn bytes_mut(model: &mut Model, id: Id) -> &mut Vec<u8> {
    match &mut model.head.node_mut(id).body {
        Body::File(content) => content,
        other => unreachable!("{other:?} was opened as a file"),
    }
}

fn write(model: &mut Model, id: Id, offset: u64, new: &[u8]) {
    if new.is_empty() {
        return;
    }
    let start = offset as usize;
    let content = bytes_mut(model, id);
    content.resize(content.len().max(start + new.len()), 0);
    content[start..start + new.len()].copy_from_slice(new);
    model.touched.must.push(id);
}

fn resize(model: &mut Model, id: Id, size: u64) {
    let content = bytes_mut(model, id);
    let changed = content.len() as u64 != size;
    content.resize(size as usize, 0);
    let touched = &mut model.touched;
    if changed {
        touched.must.push(id)
    } else {
        touched.may.push(id)
    }
}

fn allocate(model: &mut Model, id: Id, how: Allocation, offset: usize, len: usize) {
    let content = bytes_mut(model, id);
    match how {
        Allocation::Plain => content.resize(content.len().max(offset + len), 0),
        Allocation::KeepSize => {}
        Allocation::Punch => {
            let end = content.len().min(offset + len);
            content[offset.min(end)..end].fill(0);
        }
    }
    model.touched.may.push(id);
}

fn read(model: &Model, id: Id, offset: u64, len: usize) -> Answer {
    let content = match &model.head.node(id).body {
        Body::File(content) => content,
        _ if len == 0 => return Ok(Outcome::Bytes(Vec::new())),
        Body::Dir(_) => return Err(Errno::EISDIR),
        _ => return Err(Errno::ESPIPE),
    };
    let start = content.len().min(offset as usize);
    let end = content.len().min(start + len);
    Ok(Outcome::Bytes(content[start..end].to_vec()))
}

/// copy_file_range(2), called again until everything or nothing is copied.
fn copy_range(model: &mut Model, source: Id, from: u64, target: Id, to: u64, len: usize) -> Answer {
    let mut copied = 0;
    while copied < len {
        let content = match &model.head.node(source).body {
            Body::File(content) => content,
            Body::Dir(_) => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        };
        let (start, place) = (from as usize + copied, to as usize + copied);
        let count = content.len().saturating_sub(start).min(len - copied);
        if count == 0 {
            break;
        }
        if source == target && place + count > start && place < start + count {
            return Err(Errno::EINVAL);
        }
        let piece = content[start..start + count].to_vec();
        write(model, target, place as u64, &piece);
        copied += count;
    }
    Ok(Outcome::Numbers(vec![copied as u64]))
}
