//! fusermount3, which mounts and unmounts for users who are not root.

use std::env;
use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

/// The variable that tells fusermount3 on which descriptor to hand over the mounted one.
const COMM_VAR: &str = "_FUSE_COMMFD";

/// Where it is, looking into `PATH` and then where distributions put it.
pub(super) fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"].map(PathBuf::from))
        .map(|dir| dir.join("fusermount3"))
        .find(|program| program.is_file())
}

/// Whether users may let others into their mounts: a line `user_allow_other` in /etc/fuse.conf.
pub(super) fn users_may_allow_others() -> bool {
    std::fs::read("/etc/fuse.conf").is_ok_and(|conf| {
        conf.split(|&byte| byte == b'\n')
            .any(|line| line.trim_ascii() == b"user_allow_other")
    })
}

/// Has it mount at `mountpoint`, with its comma-separated `options`, and gives back the mounted descriptor.
///
/// # Errors
/// What it says.
pub(super) fn mount(program: &Path, mountpoint: &Path, options: &str) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new(program)
        .arg("-o")
        .arg(options)
        .arg("--")
        .arg(mountpoint)
        // The socket is its standard input, which needs no descriptor to be inherited by number.
        .env(COMM_VAR, "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let received = receive(&ours);
    let mut said = String::new();
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_string(&mut said)?;
    }
    let status = child.wait()?;
    match received? {
        Some(device) if status.success() => Ok(device),
        _ => Err(refusal(&said)),
    }
}

/// Has it unmount; `lazily` from the tree of directories at once and from programs as they let go of it.
///
/// # Errors
/// What it says; `ResourceBusy` if a program uses the mount.
pub(super) fn unmount(program: &Path, mountpoint: &Path, lazily: bool) -> io::Result<()> {
    let output = Command::new(program)
        .args(if lazily {
            &["-u", "-z"][..]
        } else {
            &["-u"][..]
        })
        .arg("--")
        .arg(mountpoint)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("resource busy") {
        return Err(Errno::EBUSY.into());
    }
    Err(refusal(&said))
}

fn refusal(said: &str) -> io::Error {
    let line = said
        .lines()
        .next()
        .unwrap_or("fusermount3 failed without saying why");
    io::Error::other(line.trim().to_owned())
}

/// The descriptor that comes over the socket; `None` if it is closed without one.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    use std::os::fd::AsRawFd;
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(i32);
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut buffers, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            done => break done?,
        }
    };
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part {
            // SAFETY: the kernel has just put these descriptors into our table, and nobody else knows of them.
            let mut received = descriptors
                .into_iter()
                .map(|raw| unsafe { File::from_raw_fd(raw) });
            return Ok(received.next().map(OwnedFd::from));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_closed_without_a_descriptor_gives_none() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(receive(&ours).unwrap().is_none());
    }
}
