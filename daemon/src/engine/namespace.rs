//! Making and removing names.

use std::collections::BTreeMap;
use std::sync::Arc;

use nix::errno::Errno;

use super::authors::{Did, Family};
use super::change::{LINK_MAX, Probe, Tx};
use super::seed::Seed;
use super::{Answer, Caller, Engine, Entry, Make, acl};
use crate::tree::{At, BaseLen, Delta, Dentry, FIRST_INO, Ino, Inode, Kind, NAME_MAX, Slot};

const S_ISGID: u16 = 0o2000;
/// Whiteouts of a removed directory are taken away with it, up to so many in one record.
const SWEEP_MAX: usize = 10_000;

impl Engine {
    /// Makes a file, directory, symbolic link or special file.
    ///
    /// # Errors
    /// `EEXIST`, `ENAMETOOLONG`, `EMLINK`, `ENOSPC`, or what the base says.
    pub fn make(&self, parent: Ino, name: &[u8], make: &Make<'_>, who: &Caller) -> Answer<Entry> {
        check(name)?;
        self.with_room(|| {
            let _names = self.names.lock();
            self.writable(parent, name)?;
            let seed = self.seed_dir(parent)?;
            let probe = self.probe(parent, name)?;
            let made = self.change(|tx| {
                if tx.resolve(At(parent, name), &probe).is_some() {
                    return Err(Errno::EEXIST);
                }
                let ino = tx.new_ino();
                let dir = tx.inode(parent, &seed)?;
                alive(&dir)?;
                tx.put(ino, born(make, who, &dir, tx.now));
                tx.link(&Slot::new(parent, name), ino, make.kind);
                self.touch_dir(tx, parent, &seed, i32::from(make.kind == Kind::Dir))?;
                Ok(ino)
            })?;
            self.did(made, Did::MADE);
            self.entry(made)
        })
    }

    /// Gives an inode another name.
    ///
    /// # Errors
    /// `EPERM` for a directory, `EEXIST`, `EMLINK`, `ENAMETOOLONG`, `ENOSPC`, or what the base says.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Answer<Entry> {
        check(name)?;
        self.with_room(|| {
            let _names = self.names.lock();
            self.writable(parent, name)?;
            let dir_seed = self.seed_dir(parent)?;
            let seed = self.seed(ino)?;
            let probe = self.probe(parent, name)?;
            self.change(|tx| {
                if tx.resolve(At(parent, name), &probe).is_some() {
                    return Err(Errno::EEXIST);
                }
                alive(&tx.inode(parent, &dir_seed)?)?;
                let inode = tx.inode(ino, &seed)?;
                match inode.nlink {
                    _ if inode.kind == Kind::Dir => return Err(Errno::EPERM),
                    0 => return Err(Errno::ENOENT),
                    n if n >= LINK_MAX => return Err(Errno::EMLINK),
                    _ => {}
                }
                tx.edit(ino, &seed, |i, now| {
                    i.nlink += 1;
                    i.ctime = now;
                })?;
                tx.link(&Slot::new(parent, name), ino, inode.kind);
                self.touch_dir(tx, parent, &dir_seed, 0)
            })?;
            self.did(ino, Did::NAMED);
            self.entry(ino)
        })
    }

    /// Removes a name of anything but a directory.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `ENOSPC`, `ESTALE` as for a rename, or what the base says.
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Answer<()> {
        let who = self.before_removal(parent, name);
        self.with_room(|| self.unlink_once(parent, name, who))
    }

    fn unlink_once(&self, parent: Ino, name: &[u8], who: Option<Family>) -> Answer<()> {
        let _names = self.names.lock();
        self.writable(parent, name)?;
        self.known_to_kernel(parent, name)?;
        let dir_seed = self.seed_dir(parent)?;
        let probe = self.probe(parent, name)?;
        let (ino, kind) = self.find(parent, name, &probe).ok_or(Errno::ENOENT)?;
        if kind == Kind::Dir {
            return Err(Errno::EISDIR);
        }
        let seed = self.seed(ino)?;
        self.change(|tx| {
            let slot = Slot::new(parent, name);
            tx.unlink(&slot, probe.0.is_some());
            tx.drop_link(ino, &seed)?;
            self.touch_dir(tx, parent, &dir_seed, 0)
        })?;
        self.did(ino, Did::REMOVED);
        self.removed(ino, who);
        self.let_go(ino);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `ENOSPC`, `ESTALE` as for a rename, or what the base says.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Answer<()> {
        let who = self.before_removal(parent, name);
        self.with_room(|| self.rmdir_once(parent, name, who))
    }

    fn rmdir_once(&self, parent: Ino, name: &[u8], who: Option<Family>) -> Answer<()> {
        let _names = self.names.lock();
        self.writable(parent, name)?;
        self.known_to_kernel(parent, name)?;
        let dir_seed = self.seed_dir(parent)?;
        let probe = self.probe(parent, name)?;
        let (ino, kind) = self.find(parent, name, &probe).ok_or(Errno::ENOENT)?;
        if kind != Kind::Dir {
            return Err(Errno::ENOTDIR);
        }
        let seed = self.seed(ino)?;
        let below = self.below(ino)?;
        self.held.lock().dying(ino);
        self.change(|tx| {
            self.bury_dir(tx, ino, &seed, &below)?;
            tx.unlink(&Slot::new(parent, name), probe.0.is_some());
            self.touch_dir(tx, parent, &dir_seed, -1)
        })?;
        self.held.lock().retire(ino);
        self.did(ino, Did::REMOVED);
        self.removed(ino, who);
        self.let_go(ino);
        Ok(())
    }

    /// What a name means now. Stays true while `names` is held.
    pub(super) fn find(&self, parent: Ino, name: &[u8], probe: &Probe) -> Option<(Ino, Kind)> {
        match self.state.read().head.dentry(At(parent, name)) {
            Some(Dentry::Here(ino, kind)) => Some((ino, kind)),
            Some(Dentry::Whiteout) => None,
            None => probe.0.as_ref().map(|s| (s.ino, s.kind)),
        }
    }

    /// Names that the base has in a directory.
    pub(super) fn below(&self, dir: Ino) -> Answer<Vec<Vec<u8>>> {
        if dir >= FIRST_INO {
            return Ok(Vec::new());
        }
        let listed = self.base.list(dir)?;
        Ok(listed.into_iter().map(|e| e.name.into()).collect())
    }

    /// Takes the last name of a directory, which must be empty; `below` is what the base has in it.
    pub(super) fn bury_dir(
        &self,
        tx: &mut Tx<'_>,
        ino: Ino,
        seed: &Seed,
        below: &[Vec<u8>],
    ) -> Answer<()> {
        let head = &tx.state.head;
        if head
            .entries(ino)
            .any(|(_, d)| matches!(d, Dentry::Here(..)))
            || below.iter().any(|n| head.dentry(At(ino, n)).is_none())
        {
            return Err(Errno::ENOTEMPTY);
        }
        // Nobody can look into it any more, so its whiteouts have nothing left to say.
        let whiteouts: Vec<Slot> = (head.entries(ino).take(SWEEP_MAX))
            .map(|(s, _)| s.clone())
            .collect();
        tx.edit(ino, seed, |i, now| {
            i.nlink = 0;
            i.ctime = now;
        })?;
        for slot in whiteouts {
            tx.push(Delta::Clear(slot));
        }
        Ok(())
    }

    /// A directory's entries changed; `subdirs` more subdirectories are in it.
    pub(super) fn touch_dir(
        &self,
        tx: &mut Tx<'_>,
        dir: Ino,
        seed: &Seed,
        subdirs: i32,
    ) -> Answer<()> {
        if subdirs == 0 {
            return tx.touch(dir, seed, None, true);
        }
        tx.edit(dir, seed, |i, now| {
            // File systems that don't count subdirectories say 1 (btrfs), and that stays.
            if i.nlink >= 2 {
                i.nlink = i.nlink.saturating_add_signed(subdirs).max(2);
            }
            i.mtime = now;
            i.ctime = now;
        })
    }

    /// An inode lost a name: if that was the last one and the kernel doesn't hold it, it goes at once.
    pub(super) fn let_go(&self, ino: Ino) {
        let held = self.held.lock().holds(ino);
        if !held && self.state.read().head.orphans.contains(&ino) {
            self.forget_orphans(&[ino]);
        }
    }
}

/// A name that can be given.
pub(super) fn check(name: &[u8]) -> Answer<()> {
    match name.len() {
        0 => Err(Errno::ENOENT),
        n if n > NAME_MAX => Err(Errno::ENAMETOOLONG),
        _ => Ok(()),
    }
}

/// A directory that can get entries.
pub(super) fn alive(dir: &Inode) -> Answer<()> {
    if dir.kind != Kind::Dir {
        return Err(Errno::ENOTDIR);
    }
    if dir.nlink == 0 {
        return Err(Errno::ENOENT);
    }
    Ok(())
}

/// A new inode in `dir`: owner, group and ACLs as `inode_init_owner` and `posix_acl_create` of Linux have them.
fn born(make: &Make<'_>, who: &Caller, dir: &Inode, now: crate::tree::Time) -> Inode {
    let setgid = dir.perm & S_ISGID != 0;
    let mut perm = make.perm;
    if setgid && make.kind == Kind::Dir {
        perm |= S_ISGID;
    }
    let mut xattrs = None;
    if make.kind != Kind::Symlink {
        let heir = acl::inherit(dir.xattrs.as_deref(), make.kind, perm, make.umask);
        perm = heir.perm;
        let acls: BTreeMap<_, _> = heir.xattrs.into_iter().collect();
        xattrs = (!acls.is_empty()).then(|| Arc::new(acls));
    }
    Inode {
        kind: make.kind,
        perm,
        uid: who.uid,
        gid: if setgid { dir.gid } else { who.gid },
        nlink: if make.kind == Kind::Dir { 2 } else { 1 },
        rdev: make.rdev,
        size: match make.kind {
            Kind::Dir => crate::tree::BLOCK,
            Kind::Symlink => make.target.len() as u64,
            _ => 0,
        },
        atime: now,
        mtime: now,
        ctime: now,
        base_len: BaseLen::NONE,
        layered: 0,
        covered: 0,
        home: None,
        xattrs,
        target: (make.kind == Kind::Symlink).then(|| Arc::new(make.target.into())),
    }
}
