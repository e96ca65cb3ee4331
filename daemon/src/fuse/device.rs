//! The `/dev/fuse` descriptor of a mount, for what the FUSE library does not do: greeting a worker with the kernel's
//! words of old, having unanswered requests sent again, refusing one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{read, write};

/// As long as any first message of the kernel; it wants a buffer of 8 KiB at least for any read.
const GREETING_MAX: usize = 1 << 16;
/// Length of an answer without a body (`struct fuse_out_header`).
const HEADER: u32 = 16;
/// `FUSE_NOTIFY_RESEND`, Linux 6.9.
const RESEND: i32 = 7;
/// `FUSE_NOTIFY_INC_EPOCH`, Linux 6.16.
const INC_EPOCH: i32 = 8;
/// `FUSE_HAS_RESEND`, bit 39 of the flags of INIT, as bit 7 of their second half.
const HAS_RESEND: u32 = 1 << 7;
/// Where the second half is in the message: behind the header of 40 bytes, and version, readahead and flags.
const FLAGS2: std::ops::Range<usize> = 56..60;

/// A mounted `/dev/fuse`. Clones are the same descriptor.
#[derive(Clone, Debug)]
pub struct Device(Arc<OwnedFd>);

/// The INIT request, with which the kernel begins a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting(pub Vec<u8>);

impl Greeting {
    /// Waits for it on a mount that has just been made.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn receive(device: &OwnedFd) -> io::Result<Greeting> {
        let mut message = vec![0; GREETING_MAX];
        let length = loop {
            match read(device, &mut message) {
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                done => break done?,
            }
        };
        message.truncate(length);
        Ok(Greeting(message))
    }

    /// Whether this kernel can send requests again that a worker left unanswered.
    pub fn can_resend(&self) -> bool {
        let flags = self.0.get(FLAGS2).and_then(|b| b.try_into().ok());
        flags.is_some_and(|bytes| u32::from_le_bytes(bytes) & HAS_RESEND != 0)
    }
}

impl Device {
    pub fn new(device: OwnedFd) -> Device {
        Device(Arc::new(device))
    }

    /// Has the kernel send all requests again that nobody has answered.
    pub fn resend(&self) -> io::Result<()> {
        self.tell(RESEND, 0)
    }

    /// Has the kernel forget what names mean, all of them.
    pub fn forget_all_names(&self) -> io::Result<()> {
        self.tell(INC_EPOCH, 0)
    }

    /// Answers a request, by the number under which it was read, with an error; `false` if it is not waiting any more.
    pub fn refuse(&self, unique: u64, errno: Errno) -> io::Result<bool> {
        match self.tell(-(errno as i32), unique) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// An answer without a body; a notification, if it answers nothing.
    fn tell(&self, code: i32, unique: u64) -> io::Result<()> {
        let mut message = [0; HEADER as usize];
        message[..4].copy_from_slice(&HEADER.to_le_bytes());
        message[4..8].copy_from_slice(&code.to_le_bytes());
        message[8..].copy_from_slice(&unique.to_le_bytes());
        write(&*self.0, &message)?;
        Ok(())
    }

    /// Hands the answer to the greeting to the kernel; one that it had before does no harm.
    pub(super) fn answer_greeting(&self, answer: &[u8]) -> io::Result<()> {
        match write(&*self.0, answer) {
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Puts this device in the place of `other`, a descriptor that the caller goes on using.
    pub(super) fn replace(&self, other: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: both are open descriptors. What `other` was is closed, and its number stays what its owner closes.
        let done = unsafe { libc::dup3(self.0.as_raw_fd(), other.as_raw_fd(), libc::O_CLOEXEC) };
        Errno::result(done)?;
        Ok(())
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Two ends of a channel that keeps messages apart, as `/dev/fuse` does.
pub(super) fn stand_in() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        flags,
    )?)
}

/// The message that is waiting at one end.
pub(super) fn waiting(end: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut message = vec![0; GREETING_MAX];
    let length = read(end, &mut message)?;
    message.truncate(length);
    Ok(message)
}

/// Sends a message to the other end.
pub(super) fn post(end: &OwnedFd, message: &[u8]) -> io::Result<()> {
    write(end, message)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_says_whether_it_can_send_again() {
        let mut words = vec![0; 104];
        assert!(!Greeting(words.clone()).can_resend());
        words[56] = 0x80;
        assert!(Greeting(words).can_resend());
        assert!(!Greeting(vec![0xff; 40]).can_resend());
    }

    #[test]
    fn messages_of_a_stand_in_stay_apart() {
        let (ours, theirs) = stand_in().unwrap();
        post(&ours, b"one").unwrap();
        post(&ours, b"two").unwrap();
        assert_eq!(waiting(&theirs).unwrap(), b"one");
        assert_eq!(waiting(&theirs).unwrap(), b"two");
    }
}
