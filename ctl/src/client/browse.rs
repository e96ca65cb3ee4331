//! Looking at files as they were, and at what happened to them.

use std::io;

use xxhash_rust::xxh3::Xxh3;

use super::{Client, Result};
use crate::name::StateRef;
use crate::protocol::{BytePath, LogEntry, Request, Response, Side};

impl Client {
    /// What each state changed of a file or directory, newest first, at most `limit` of them, and by which programs.
    pub fn log(&mut self, path: BytePath, limit: Option<u64>) -> Result<Vec<LogEntry>> {
        let request = Request::Log { path, limit };
        self.repeatedly(|client| {
            client.send(&request)?;
            let mut all = Vec::new();
            loop {
                match client.receive()? {
                    Response::LogEntry(entry) => all.push(entry),
                    Response::LogEnd => return Ok(all),
                    other => return client.unexpected(other),
                }
            }
        })
    }

    /// What is at a path in a state, links not followed.
    pub fn stat(&mut self, state: StateRef, path: BytePath) -> Result<Side> {
        match self.ask(&Request::Stat { state, path })? {
            Response::Stat(side) => Ok(side),
            other => self.unexpected(other),
        }
    }

    /// The content of a file as it is in a state, in pieces as they arrive; how many bytes there were. An error from `each`
    /// ends the connection.
    ///
    /// # Errors
    /// [`ClientError::Overtaken`]: the worker died meanwhile, and the state, or the file in it, is not what it was. Those of every
    /// request.
    pub fn cat(
        &mut self,
        state: StateRef,
        path: BytePath,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u64> {
        let request = Request::Cat {
            state,
            path,
            from: 0,
        };
        let (mut done, mut sum) = (0, Xxh3::new());
        self.repeatedly(|client| {
            // The same name may mean another state by now: the next worker is asked from the beginning, which must be what was handed on.
            let (mut again, mut seen) = (0, Xxh3::new());
            client.send(&request)?;
            loop {
                match client.receive()? {
                    Response::Content(bytes) => {
                        let (old, new) = split(&bytes, done - again);
                        again += old.len() as u64;
                        seen.update(old);
                        if !old.is_empty() && again == done && seen.digest() != sum.digest() {
                            return client.overtaken();
                        }
                        if new.is_empty() {
                            continue;
                        }
                        done += new.len() as u64;
                        again = done;
                        sum.update(new);
                        let taken = each(new);
                        client.sink(taken)?;
                    }
                    Response::ContentEnd if again < done => return client.overtaken(),
                    Response::ContentEnd => return Ok(done),
                    other => return client.unexpected(other),
                }
            }
        })
    }
}

/// So many bytes, or all, and the rest.
fn split(bytes: &[u8], at: u64) -> (&[u8], &[u8]) {
    bytes.split_at(usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::super::greet::Daemon;
    use super::*;
    use crate::ClientError;

    fn cat(name: &str, answers: Vec<Vec<Response>>) -> (Result<u64>, Vec<u8>) {
        let daemon = Daemon::new(name, answers);
        let mut content = Vec::new();
        let path = BytePath::from("file");
        let done = daemon.client().cat(StateRef::Undo, path, |bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        });
        (done, content)
    }

    fn piece(text: &str) -> Response {
        Response::Content(text.as_bytes().to_vec().into())
    }

    #[test]
    fn a_file_whose_worker_dies_is_told_once() {
        let answers = vec![
            vec![piece("abc"), piece("de")],
            vec![piece("ab")],
            vec![
                piece("abcd"),
                piece("efg"),
                piece("h"),
                Response::ContentEnd,
            ],
        ];
        let (done, content) = cat("cat-cut", answers);
        assert_eq!((done.unwrap(), &content[..]), (8, &b"abcdefgh"[..]));
    }

    /// After a revert `@undo` is another state, a snapshot may have got the name of one that was deleted.
    #[test]
    fn a_file_of_two_states_is_an_error() {
        for (name, then) in [
            (
                "cat-other",
                vec![piece("abX"), piece("de"), Response::ContentEnd],
            ),
            ("cat-shorter", vec![piece("ab"), Response::ContentEnd]),
        ] {
            let (done, content) = cat(name, vec![vec![piece("abc")], then]);
            assert!(matches!(done, Err(ClientError::Overtaken)), "{done:?}");
            assert_eq!(content, b"abc");
        }
    }
}
