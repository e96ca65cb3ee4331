//! What is agreed with the kernel when the session begins.

use std::io;

use fuser::{InitFlags, KernelConfig};

/// Without these the promises cannot be kept: the caches must be ours to invalidate, and the kernel must not keep
/// descriptors, times or modes of its own.
const NEEDED: InitFlags = InitFlags::FUSE_BIG_WRITES
    .union(InitFlags::FUSE_DONT_MASK)
    .union(InitFlags::FUSE_NO_OPEN_SUPPORT)
    .union(InitFlags::FUSE_NO_OPENDIR_SUPPORT)
    .union(InitFlags::FUSE_EXPLICIT_INVAL_DATA)
    .union(InitFlags::FUSE_HANDLE_KILLPRIV_V2);

/// What makes it faster, or more like a local file system, on kernels that have it.
const WANTED: InitFlags = InitFlags::FUSE_ASYNC_READ
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_POSIX_ACL)
    .union(InitFlags::FUSE_CACHE_SYMLINKS)
    .union(InitFlags::FUSE_ABORT_ERROR);

/// The longest write of one request, in bytes. The kernel takes it for the longest read too.
const MAX_WRITE: u32 = 1 << 20;

/// How many requests that nobody waits for the kernel sends before it holds them back. A marker request overtakes those
/// held back, so before a snapshot there should be none (see [`super::kernel`]).
const MAX_BACKGROUND: u16 = u16::MAX;

/// Asks for all that, in the handshake.
///
/// # Errors
/// `Unsupported`, naming what this kernel lacks.
pub(super) fn negotiate(config: &mut KernelConfig) -> io::Result<()> {
    config.add_capabilities(NEEDED).map_err(|lacking| {
        io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "this kernel's FUSE ({}) lacks {lacking:?}; Linux 5.12 or newer is needed",
                config.kernel_abi()
            ),
        )
    })?;
    let available = WANTED & config.capabilities();
    let refused = |what: &str| io::Error::other(format!("the FUSE library refuses {what}"));
    config
        .add_capabilities(available)
        .map_err(|_| refused("capabilities that it offers"))?;
    config
        .set_max_write(MAX_WRITE)
        .map_err(|_| refused("the length of writes"))?;
    config
        .set_max_background(MAX_BACKGROUND)
        .map_err(|_| refused("the background limit"))?;
    config
        .set_congestion_threshold(MAX_BACKGROUND)
        .map_err(|_| refused("the congestion threshold"))?;
    Ok(())
}
