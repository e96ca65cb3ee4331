//! What the supervisor and its worker say to each other: messages on a socket that keeps them apart, some with
//! descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use llctl::protocol::BytePath;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::trouble::Trouble;

/// The longest message, in bytes.
const MESSAGE_MAX: usize = 1 << 17;

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Open the store. With the base's directory, the relay, the writing end of the pipe that shows whether the worker
    /// lives, and, if there was a worker before, the store's lock.
    Open(Open),
    /// Serve. With the mounted device and the listening control socket.
    Serve(Serve),
    /// Have the kernel hand over what mappings hold.
    Flush,
    /// Close the store and end, whatever is still mounted.
    Quit,
    /// Make way for another worker.
    Leave,
}

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    /// The directory, absolute and without symbolic links.
    pub base: BytePath,
    /// The store, likewise.
    pub store: BytePath,
    /// Set aside what is there.
    pub fresh: bool,
    /// Log to standard error as it is.
    pub foreground: bool,
    /// A daemon that has just died may still have the store for a moment.
    pub revived: bool,
    /// The supervisor's process id.
    pub supervisor: u32,
    /// Write nothing.
    #[serde(default)]
    pub read_only: bool,
    /// Bytes that the store may take.
    #[serde(default)]
    pub max_store: Option<u64>,
}

/// How to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Serve {
    /// The kernel's first message.
    #[serde(with = "serde_bytes")]
    pub greeting: Vec<u8>,
    /// No worker has served this mount before.
    pub first: bool,
    /// Requests that killed workers, by the numbers under which they were read.
    pub lethal: Vec<u64>,
}

/// From the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The store is open. With its lock.
    Opened,
    /// Requests are answered, and the mount is usable.
    Serving,
    /// It could not begin; it ends.
    Failed(Trouble),
    /// A client wants the mount to end.
    Stop,
    /// The kernel has handed over what mappings held.
    Flushed,
    /// The mount, or the work on it, has ended; the store is closed.
    Ended(Option<Trouble>),
}

/// One end.
#[derive(Debug)]
pub(crate) struct Line(OwnedFd);

impl Line {
    /// Both ends.
    pub fn pair() -> io::Result<(Line, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Line(ours), theirs))
    }

    /// The end that was given to this process.
    pub fn over(end: OwnedFd) -> Line {
        Line(end)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.0.as_fd()
    }

    /// Whether there is something to receive now, the end included.
    pub fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(self.fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Sends a message with descriptors, which stay open here.
    pub fn send<T: Serialize>(&self, message: &T, with: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = rmp_serde::to_vec_named(message).map_err(io::Error::other)?;
        let raw: Vec<i32> = with.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[] } else { &rights[..] };
        loop {
            let flags = MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<UnixAddr>(
                self.0.as_raw_fd(),
                &[IoSlice::new(&bytes)],
                control,
                flags,
                None,
            ) {
                Err(Errno::EINTR) => {}
                done => return done.map(drop).map_err(Into::into),
            }
        }
    }

    /// The next message and its descriptors; `None` when the other end is closed.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MESSAGE_MAX];
        let mut space = nix::cmsg_space!([i32; 8]);
        let (length, descriptors) = loop {
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut buffers, Some(&mut space), flags) {
                // The other end was closed before it had read everything (unix(7)), which is told once, and before what it said
                // itself.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(errno) => return Err(errno.into()),
                Ok(message) => {
                    let mut descriptors = Vec::new();
                    for part in message.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(raw) = part {
                            // SAFETY: the kernel has just put these descriptors into our table, nobody else knows of them.
                            let owned = raw
                                .into_iter()
                                .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
                            descriptors.extend(owned);
                        }
                    }
                    break (message.bytes, descriptors);
                }
            }
        };
        if length == 0 {
            return Ok(None);
        }
        let message = rmp_serde::from_slice(&bytes[..length]).map_err(io::Error::other)?;
        Ok(Some((message, descriptors)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    /// A worker that cannot open the store has not read the order to serve when it ends.
    #[test]
    fn last_words_arrive_from_who_did_not_listen() {
        let (ours, theirs) = Line::pair().unwrap();
        let theirs = Line::over(theirs);
        ours.send(&Order::Flush, &[]).unwrap();
        ours.send(&Order::Quit, &[]).unwrap();
        assert!(theirs.receive::<Order>().unwrap().is_some());
        theirs.send(&Report::Flushed, &[]).unwrap();
        theirs.send(&Report::Stop, &[]).unwrap();
        drop(theirs);
        let mut said = Vec::new();
        while let Some((report, _)) = ours.receive::<Report>().unwrap() {
            said.push(report);
        }
        assert!(
            matches!(said[..], [Report::Flushed, Report::Stop]),
            "{} words",
            said.len()
        );
        assert!(ours.receive::<Report>().unwrap().is_none());
    }

    #[test]
    fn messages_arrive_with_their_descriptors() {
        let (ours, theirs) = Line::pair().unwrap();
        let theirs = Line::over(theirs);
        let mut file = std::fs::File::from(
            nix::sys::memfd::memfd_create("test", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap(),
        );
        file.write_all(b"text").unwrap();
        let serve = Order::Serve(Serve {
            greeting: vec![1, 2],
            first: true,
            lethal: vec![3],
        });
        ours.send(&serve, &[file.as_fd(), file.as_fd()]).unwrap();
        ours.send(&Order::Quit, &[]).unwrap();
        let (order, with) = theirs.receive::<Order>().unwrap().unwrap();
        assert_eq!((order, with.len()), (serve, 2));
        let mut copy = std::fs::File::from(with.into_iter().next().unwrap());
        copy.rewind().unwrap();
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        let (order, with) = theirs.receive::<Order>().unwrap().unwrap();
        assert_eq!((order, with.len()), (Order::Quit, 0));
        drop(ours);
        assert!(theirs.receive::<Order>().unwrap().is_none());
    }
}
