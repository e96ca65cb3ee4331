//! Telling a client what happens, until it has heard enough or the server stops.
//!
//! Nothing is queued for it: the events wait where they are kept, and what does not fit into the socket is sent when there is room. So
//! a client that does not read costs its thread and its socket's buffer, and finds a gap when it reads again.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use llctl::codec::{self, CodecError, REPLY_MAX};
use llctl::protocol::{Event, Happening, Response, UnixNanos};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send as send_to};

use super::Feed;
use super::answer::Reply;

/// Sends a first event that says where the watch begins, then what `feed` has, and the end when the client asks for something
/// else, has left, or is to leave.
pub(super) fn send(feed: &mut dyn Feed, reply: &mut Reply<'_>) -> Result<(), CodecError> {
    let stream = reply.stream();
    let mut goes_on = put(
        stream,
        &Event {
            seq: feed.last(),
            at: UnixNanos::now(),
            ..Event::own(Happening::Watching)
        },
    )?;
    loop {
        // What happened before the server stopped is told, the end of the mount too.
        loop {
            let news = feed.news();
            if news.is_empty() {
                break;
            }
            for event in &news {
                if !put(stream, event)? {
                    return Ok(());
                }
            }
        }
        if !goes_on {
            break;
        }
        goes_on = wait(stream, feed)?;
        feed.heard();
    }
    reply.last(&Response::WatchEnd)
}

/// Waits for news. False if the client has something to say, has left or is to leave.
fn wait(stream: &UnixStream, feed: &mut dyn Feed) -> io::Result<bool> {
    let mut fds = [
        PollFd::new(feed.bell(), PollFlags::POLLIN),
        PollFd::new(stream.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut fds, PollTimeout::NONE) {
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(errno.into()),
        Ok(_) => Ok(!fds[1].any().unwrap_or(true)),
    }
}

/// Sends one event, however long the client takes to read. False if it is to leave before it has: nothing can follow then.
fn put(stream: &UnixStream, event: &Event) -> Result<bool, CodecError> {
    let mut frame = Vec::new();
    codec::write(&mut frame, &Response::Event(event.clone()), REPLY_MAX)?;
    let mut rest = &frame[..];
    while !rest.is_empty() {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send_to(stream.as_raw_fd(), rest, flags) {
            Ok(sent) => rest = &rest[sent..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let hung_up = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
                let wanted = PollFlags::POLLOUT | hung_up;
                let mut fds = [PollFd::new(stream.as_fd(), wanted)];
                poll(&mut fds, PollTimeout::NONE).map_err(io::Error::from)?;
                // None if it has hung up, which is a flag that the library does not know.
                if fds[0].revents() != Some(PollFlags::POLLOUT) {
                    return Ok(false);
                }
            }
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
    }
    Ok(true)
}
