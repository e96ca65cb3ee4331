//! How far the kernel reads ahead. FUSE mounts begin with 128 KiB; root may raise it.

use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::geteuid;

/// In KiB. A page fault in a mapping reads this much around it, so more is not better everywhere.
const WANTED_KIB: u32 = 512;

/// Raises the readahead of the mount at `mountpoint`, with which the session must have begun. Without the right to do so it
/// stays.
pub fn raise(mountpoint: &Path) {
    if !geteuid().is_root() {
        return;
    }
    if let Err(error) = set(mountpoint) {
        tracing::debug!(%error, "the readahead stays as it is");
    }
}

fn set(mountpoint: &Path) -> io::Result<()> {
    // By the table of mounts: the mount itself is not asked anything by those who serve it.
    let minor = super::unmount::device(mountpoint)?;
    let knob = format!("/sys/class/bdi/0:{minor}/read_ahead_kb");
    let now: u32 = fs::read_to_string(&knob)?
        .trim()
        .parse()
        .map_err(io::Error::other)?;
    if now < WANTED_KIB {
        fs::write(&knob, WANTED_KIB.to_string())?;
    }
    Ok(())
}
