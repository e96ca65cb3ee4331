//! Looking at files as they were, and at what happened to them.

use std::io;

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
    pub fn cat(
        &mut self,
        state: StateRef,
        path: BytePath,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u64> {
        let mut done = 0;
        self.repeatedly(|client| {
            // The next worker goes on where the one before was.
            client.send(&Request::Cat {
                state: state.clone(),
                path: path.clone(),
                from: done,
            })?;
            loop {
                match client.receive()? {
                    Response::Content(bytes) => {
                        done += bytes.len() as u64;
                        let taken = each(&bytes);
                        client.sink(taken)?;
                    }
                    Response::ContentEnd => return Ok(done),
                    other => return client.unexpected(other),
                }
            }
        })
    }
}
