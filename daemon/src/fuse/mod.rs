//! The kernel's side: mounting, the session, its requests and its caches.
//!
//! * [`mount`] and [`unmount`]: getting a `/dev/fuse` descriptor under a directory and away again, as root or not.
//! * [`session`]: the thread that answers; `adapter` is what it calls, `capabilities` what is agreed with the kernel.
//! * `kernel`: what the engine tells the kernel to forget. `visitor`: the process that goes into the mount for the daemon.
//!   `pool`: threads for what waits. `follow` and `neighbour`: CPU affinity.

mod fusermount;
pub mod mount;
pub mod readahead;
pub mod unmount;
pub mod users;

mod adapter;
mod answer;
mod capabilities;
mod convert;
pub mod device;
mod follow;
mod kernel;
mod neighbour;
mod pool;
mod quota;
pub mod session;
mod visitor;

pub use device::{Device, Greeting};
pub use mount::{MountError, mount};
pub use session::Session;
pub use unmount::{UnmountError, abort, detach, unmount};
pub(crate) use visitor::visit;

/// Looking this name up makes the worker panic, for the tests of what follows.
const LETHAL: &str = "LLFS_TEST_LETHAL_NAME";

fn test_hook(name: &std::ffi::OsStr) {
    static NAME: std::sync::OnceLock<Option<std::ffi::OsString>> = std::sync::OnceLock::new();
    let lethal = NAME.get_or_init(|| std::env::var_os(LETHAL));
    if lethal.as_deref() == Some(name) {
        panic!("{LETHAL} was looked up");
    }
}
