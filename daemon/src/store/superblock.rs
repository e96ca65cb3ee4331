//! The superblock: what the store is, of which directory, in which format. Layout in docs/FORMAT.md.

use super::disk::{Disk, OpenHow};
use super::error::{Naming, OpenError};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// The format that this program writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 4;
/// The oldest format that it reads.
const OLDEST_VERSION: u32 = 1;
pub(super) const PATH: &str = "superblock";
pub(super) const TEMPORARY: &str = "superblock.tmp";

const MAGIC: &[u8; 8] = b"LLFSTORE";
/// Magic, version, length, and their own checksum: the part that every later version keeps.
const PREFIX: usize = 24;
const FIXED: usize = PREFIX + 16 + 8 + 8 + 8 + 4 + 4;
const MAX_LENGTH: usize = FIXED + 4096 + 8;

/// What the superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Tells this store from every other; seeds all checksums.
    pub uuid: [u8; 16],
    /// The base directory, absolute.
    pub base_path: PathBuf,
    /// The base directory's `st_dev`.
    pub base_dev: u64,
    /// The base directory's `st_ino`.
    pub base_ino: u64,
    /// When the store was made, in seconds since 1970.
    pub created: u64,
}

impl Superblock {
    /// A new store's, with a random uuid and the present time.
    pub fn new(base_path: PathBuf, base_dev: u64, base_ino: u64) -> io::Result<Self> {
        let created = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_secs());
        Ok(Self {
            uuid: super::boot::random_bytes()?,
            base_path,
            base_dev,
            base_ino,
            created,
        })
    }

    /// The bytes on disk.
    pub fn encode(&self) -> Vec<u8> {
        let path = self.base_path.as_os_str().as_bytes();
        let length = FIXED + path.len() + 8;
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(length as u32).to_le_bytes());
        out.extend_from_slice(&xxh3_64(&out).to_le_bytes());
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&self.base_dev.to_le_bytes());
        out.extend_from_slice(&self.base_ino.to_le_bytes());
        out.extend_from_slice(&self.created.to_le_bytes());
        out.extend_from_slice(&(path.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(path);
        out.extend_from_slice(&xxh3_64(&out).to_le_bytes());
        out
    }

    /// Reads the bytes on disk; checksums are checked before anything they cover is believed.
    pub fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let bad = OpenError::BadSuperblock;
        if bytes.len() < PREFIX {
            return Err(if MAGIC.starts_with(&bytes[..bytes.len().min(8)]) {
                bad("it is cut off")
            } else {
                OpenError::Foreign
            });
        }
        if &bytes[..8] != MAGIC {
            return Err(OpenError::Foreign);
        }
        if xxh3_64(&bytes[..16]) != u64_at(bytes, 16) {
            return Err(bad("its first 24 bytes do not match their checksum"));
        }
        let found = u32_at(bytes, 8);
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&found) {
            return Err(OpenError::Newer {
                found,
                known: FORMAT_VERSION,
            });
        }
        let length = u32_at(bytes, 12) as usize;
        if !(FIXED + 8..=MAX_LENGTH).contains(&length) {
            return Err(bad("its length makes no sense"));
        }
        if bytes.len() != length {
            return Err(bad("it is cut off or has bytes added"));
        }
        if xxh3_64(&bytes[..length - 8]) != u64_at(bytes, length - 8) {
            return Err(bad("it does not match its checksum"));
        }
        let path_length = u32_at(bytes, 64) as usize;
        if path_length != length - FIXED - 8 {
            return Err(bad("the length of its path makes no sense"));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[24..40]);
        let path = bytes[FIXED..FIXED + path_length].to_vec();
        Ok(Self {
            uuid,
            base_path: PathBuf::from(std::ffi::OsString::from_vec(path)),
            base_dev: u64_at(bytes, 40),
            base_ino: u64_at(bytes, 48),
            created: u64_at(bytes, 56),
        })
    }

    /// Reads a store's superblock; `None` when there is no such file.
    pub fn read(disk: &dyn Disk) -> Result<Option<Self>, OpenError> {
        let file = match disk.open(Path::new(PATH), OpenHow::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).naming(PATH),
        };
        let mut bytes = vec![0; MAX_LENGTH + 1];
        let read = file.read_at(&mut bytes, 0).naming(PATH)?;
        Self::decode(&bytes[..read]).map(Some)
    }

    /// Whether a store, whose superblock is known to be sound, has an older format.
    pub(super) fn is_old(disk: &dyn Disk) -> io::Result<bool> {
        let mut prefix = [0; PREFIX];
        let file = disk.open(Path::new(PATH), OpenHow::Read)?;
        file.read_at(&mut prefix, 0)?;
        Ok(u32_at(&prefix, 8) < FORMAT_VERSION)
    }

    /// Replaces the store's superblock: the old one or this one is there after a crash.
    pub(super) fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        self.write_temporary(disk)?;
        Self::commit(disk)
    }

    /// The first half of [`Self::write`].
    pub(super) fn write_temporary(&self, disk: &dyn Disk) -> io::Result<()> {
        if self.base_path.as_os_str().len() > 4096 {
            return Err(nix::errno::Errno::ENAMETOOLONG.into());
        }
        let file = disk.open(Path::new(TEMPORARY), OpenHow::Replace)?;
        file.write_at(&self.encode(), 0)?;
        file.sync_data()
    }

    /// The second half of [`Self::write`].
    pub(super) fn commit(disk: &dyn Disk) -> io::Result<()> {
        disk.rename(Path::new(TEMPORARY), Path::new(PATH))?;
        disk.sync_dir(Path::new(""))
    }
}

/// The little-endian number at `at`; the caller has checked the length.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

/// The little-endian number at `at`; the caller has checked the length.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}
