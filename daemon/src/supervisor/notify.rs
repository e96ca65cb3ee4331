//! Telling systemd how the service is, see sd_notify(3).

use std::env;
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use llctl::escape::Shown;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::checks::{Health, health};

/// A socket of the service manager, if one started us.
pub(super) struct Manager {
    address: Option<OsString>,
}

impl Manager {
    /// The manager that `NOTIFY_SOCKET` names.
    pub(super) fn find() -> Self {
        Self {
            address: env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()),
        }
    }

    /// No manager: whoever started us is another one's service, or nobody's.
    pub(super) fn none() -> Self {
        Self { address: None }
    }

    /// Whether there is one.
    pub(super) fn is_there(&self) -> bool {
        self.address.is_some()
    }

    /// Has it keep a descriptor under a name.
    pub(super) fn keep(&self, name: &str, fd: BorrowedFd<'_>) {
        self.tell_with(&format!("FDSTORE=1\nFDNAME={name}\n"), Some(fd));
    }

    /// Has it close what it keeps under a name.
    pub(super) fn forget(&self, name: &str) {
        self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n"));
    }

    /// The mount is usable. If the manager wants signs of life, it gets them as long as the mount answers.
    pub(super) fn ready(&self, mountpoint: PathBuf) {
        self.tell(&format!("READY=1\nSTATUS=mounted {}\n", mountpoint.shown()));
        let watched =
            env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let limit = env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Duration::from_micros);
        if let (Some(address), Some(limit), true) = (self.address.clone(), limit, watched) {
            let spawned = thread::Builder::new()
                .name("llfs-watchdog".to_owned())
                .spawn(move || {
                    signs_of_life(
                        &Self {
                            address: Some(address),
                        },
                        &mountpoint,
                        limit,
                    )
                });
            if let Err(error) = spawned {
                tracing::error!(%error, "no thread for the watchdog");
            }
        }
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\n");
    }

    fn tell(&self, message: &str) {
        self.tell_with(message, None);
    }

    fn tell_with(&self, message: &str, fd: Option<BorrowedFd<'_>>) {
        if let Some(address) = &self.address
            && let Err(error) = send(address, message.as_bytes(), fd)
        {
            tracing::warn!(%error, "the service manager cannot be told: {}", message.trim_end());
        }
    }
}

/// `@` stands for the zero byte of an abstract address.
fn send(address: &OsString, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let to = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(PathBuf::from(address))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&to)?;
    let raw: Vec<i32> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    let parts = [IoSlice::new(message)];
    sendmsg::<()>(socket.as_raw_fd(), &parts, control, flags, None)?;
    Ok(())
}

fn signs_of_life(manager: &Manager, mountpoint: &std::path::Path, limit: Duration) {
    loop {
        // While the mount is being taken away the main thread is at work, and nothing answers at the mountpoint.
        if health(mountpoint) != Health::Silent {
            manager.tell("WATCHDOG=1\n");
        }
        thread::sleep(limit / 3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_at_paths_and_at_abstract_names() {
        let name = format!("llfs-notify-{}", std::process::id());
        let path = env::temp_dir().join(&name);
        let sockets = [
            (OsString::from(&path), UnixDatagram::bind(&path).unwrap()),
            (
                OsString::from(format!("@{name}")),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            ),
        ];
        for (address, socket) in sockets {
            Manager {
                address: Some(address),
            }
            .stopping();
            let mut message = [0; 32];
            let length = socket.recv(&mut message).unwrap();
            assert_eq!(&message[..length], b"STOPPING=1\n");
        }
        std::fs::remove_file(path).unwrap();
    }
}
