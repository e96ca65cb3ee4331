//! What an object of an old state holds.

use nix::errno::Errno;

use super::node::Node;
use super::{FIRST_VIEW, Past};
use crate::engine::io::File;
use crate::engine::{Answer, Attr, Engine, xattr};
use crate::tree::{BLOCK, FIRST_INO, Ino, Kind, Piece, extent};

impl Engine {
    /// Attributes of what is none of the live tree's.
    ///
    /// # Errors
    /// `ESTALE`: there is no such thing, or its state is gone.
    pub(in crate::engine) fn attr_hidden(&self, number: Ino) -> Answer<Attr> {
        if number < FIRST_VIEW {
            return Err(Errno::ESTALE);
        }
        if Node::of(number) == Node::Views {
            return Ok(self.views_attr());
        }
        let past = self.past(number)?;
        self.attr_past(number, &past)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// As for [`Engine::attr_hidden`], and `EINVAL` for anything else.
    pub(in crate::engine) fn readlink_hidden(&self, number: Ino) -> Answer<Vec<u8>> {
        let past = self.past_or_stale(number)?;
        match past.root.inode(past.ino) {
            Some(inode) => {
                let target = inode.target.as_ref().map(|t| t.to_vec());
                target.ok_or(Errno::EINVAL)
            }
            None => self.base.readlink(past.ino),
        }
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// As for [`Engine::attr_hidden`], and `ENODATA`.
    pub(in crate::engine) fn getxattr_hidden(&self, number: Ino, name: &[u8]) -> Answer<Vec<u8>> {
        if number >= FIRST_VIEW && Node::of(number) == Node::Views {
            return Err(Errno::ENODATA);
        }
        let past = self.past_or_stale(number)?;
        match past.root.inode(past.ino) {
            Some(inode) => xattr::value(inode, name),
            None => self.base_xattr(past.ino, name),
        }
    }

    /// The names of all extended attributes.
    ///
    /// # Errors
    /// As for [`Engine::attr_hidden`].
    pub(in crate::engine) fn xattrs_hidden(&self, number: Ino) -> Answer<Vec<Vec<u8>>> {
        if number >= FIRST_VIEW && Node::of(number) == Node::Views {
            return Ok(Vec::new());
        }
        let past = self.past_or_stale(number)?;
        match past.root.inode(past.ino) {
            Some(inode) => Ok(xattr::names(inode)),
            None => self.base_xattrs(past.ino),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As for [`Engine::read`].
    pub(in crate::engine) fn read_hidden(
        &self,
        number: Ino,
        off: u64,
        buf: &mut [u8],
        wait: bool,
    ) -> Answer<usize> {
        let past = self.past_or_stale(number)?;
        let end = off.saturating_add(buf.len() as u64);
        let Some((file, pieces)) = past.file(off, end)? else {
            return self.base_read(past.ino, off, buf, wait);
        };
        let len = file.size.saturating_sub(off).min(buf.len() as u64) as usize;
        self.fetch(past.ino, file.base_len, &pieces, off, &mut buf[..len], wait)?;
        Ok(len)
    }

    /// What finding data and holes needs: the number in its state, the file, and where all of it is.
    pub(in crate::engine) fn blocks_hidden(&self, number: Ino) -> Answer<(Ino, File, Vec<Piece>)> {
        let past = self.past_or_stale(number)?;
        if let Some((file, pieces)) = past.file(0, u64::MAX)? {
            return Ok((past.ino, file, pieces));
        }
        let stat = self.base.stat(past.ino)?;
        match stat.kind {
            Kind::File => {}
            Kind::Dir => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        let whole = Piece {
            from: 0,
            len: stat.size.div_ceil(BLOCK),
            src: None,
        };
        Ok((past.ino, File::of_base(stat.size), vec![whole]))
    }

    fn past_or_stale(&self, number: Ino) -> Answer<Past> {
        match number {
            FIRST_VIEW.. => self.past(number),
            _ => Err(Errno::ESTALE),
        }
    }
}

impl Past {
    /// The file, and where its bytes `off..end` are; `None` if it is as in the base.
    fn file(&self, off: u64, end: u64) -> Answer<Option<(File, Vec<Piece>)>> {
        match self.root.inode(self.ino) {
            Some(inode) if inode.kind == Kind::Dir => Err(Errno::EISDIR),
            Some(inode) if inode.kind != Kind::File => Err(Errno::EINVAL),
            Some(inode) => {
                let end = end.min(inode.size);
                let pieces = if off < end {
                    let blocks = (off / BLOCK, end.div_ceil(BLOCK));
                    extent::pieces(&self.root.extents, self.ino, blocks.0, blocks.1)
                } else {
                    Vec::new()
                };
                Ok(Some((File::of(inode), pieces)))
            }
            None if self.ino >= FIRST_INO => Err(Errno::ESTALE),
            None => Ok(None),
        }
    }
}
