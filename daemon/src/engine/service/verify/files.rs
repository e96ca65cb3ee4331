//! The files of the store that are no blocks: superblock, journal, images. They are read as the next mount would read
//! them, through a second view of the store that takes no lock and writes nothing.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

use llctl::protocol::{BytePath, Finding, FindingKind};
use nix::errno::Errno;

use super::{Scrub, Step};
use crate::engine::Engine;
use crate::store::{Disk, DiskFile, HostDisk, OpenError, OpenHow, Store, StoreOptions};

/// Looks that must agree. The journal grows while it is read, and what was just being written may look damaged; but then
/// its end is elsewhere the next time, and real damage is where it was.
const LOOKS: usize = 3;

/// Checks them.
pub(super) fn check(engine: &Engine, scrub: &mut Scrub<'_>) -> Step {
    let mut found = look(engine.store_path());
    for _ in 1..LOOKS {
        if found.is_empty() {
            break;
        }
        let again = look(engine.store_path());
        found.retain(|finding| again.contains(finding));
    }
    for finding in found {
        scrub.found(finding)?;
    }
    Ok(())
}

fn look(store: &Path) -> Vec<Finding> {
    let finding = |kind, what: String, path: Option<String>| Finding {
        kind,
        what,
        path: path.map(|p| BytePath::from(p.as_str())),
        states: Vec::new(),
    };
    let options = StoreOptions {
        read_only: true,
        ..StoreOptions::default()
    };
    let disk = match HostDisk::open(store) {
        Ok(disk) => Arc::new(Onlooker(disk)),
        Err(error) => {
            let what = format!("the store's directory cannot be opened: {error}");
            return vec![finding(FindingKind::Missing, what, None)];
        }
    };
    let (_store, recovered) = match Store::open(disk, &options) {
        Ok(opened) => opened,
        Err(error) => {
            let kind = match &error {
                OpenError::Empty | OpenError::NoSuperblock => FindingKind::Missing,
                _ => FindingKind::Metadata,
            };
            return vec![finding(kind, error.to_string(), None)];
        }
    };
    let mut found = Vec::new();
    if let Some(damage) = recovered.damage() {
        let path = format!("journal/{:08}.log", damage.segment);
        found.push(finding(
            FindingKind::Metadata,
            damage.to_string(),
            Some(path),
        ));
    }
    for image in recovered.damaged_images() {
        let what = format!("the image {image:08} of the state is damaged");
        let path = format!("images/{image:08}.img");
        found.push(finding(FindingKind::Metadata, what, Some(path)));
    }
    found
}

/// A disk that can only be looked at.
struct Onlooker(HostDisk);

fn refused<T>() -> io::Result<T> {
    Err(Errno::EROFS.into())
}

impl Disk for Onlooker {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Arc<dyn DiskFile>> {
        match how {
            OpenHow::Read => {
                let file = self.0.open(path, how)?;
                let len = file.len()?;
                Ok(Arc::new(Still { file, len }))
            }
            _ => refused(),
        }
    }
    /// The daemon itself holds the lock.
    fn lock(&self, _: &Path) -> io::Result<Arc<dyn DiskFile>> {
        refused()
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.0.list(dir)
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
    fn medium(&self) -> io::Result<u64> {
        self.0.medium()
    }
}

/// A file of the length that it had when it was opened. The room at the end of a journal segment is cut off when the
/// next one begins; who looks at it sees the zeros that were there.
struct Still {
    file: Arc<dyn DiskFile>,
    len: u64,
}

impl DiskFile for Still {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let wanted = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let read = self.file.read_at(&mut buf[..wanted], offset)?;
        buf[read..wanted].fill(0);
        Ok(wanted)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        refused()
    }
    fn sync_data(&self) -> io::Result<()> {
        refused()
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        refused()
    }
    fn punch(&self, _: u64, _: u64) -> io::Result<()> {
        refused()
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        refused()
    }
    fn disk_bytes(&self) -> io::Result<u64> {
        self.file.disk_bytes()
    }
}
