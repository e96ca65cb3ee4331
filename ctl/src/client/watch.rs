//! Hearing what happens, over the deaths of workers.

use std::io;

use super::{Client, Result};
use crate::protocol::{Event, EventKind, Happening, Request, Response};

impl Client {
    /// Hands each event to `each`, until the daemon stops. The first one is [`Happening::Watching`]; then comes what happened after
    /// the event of the number `after`, as far as the daemon has kept it, or else what happens from now on. Where events are
    /// missing there is a [`Happening::Gap`]. When the daemon's worker dies the watch goes on with the next one. An error from `each`
    /// ends the connection.
    ///
    /// # Errors
    /// Those of every request; [`crate::ErrorKind::Busy`] if too many watch.
    pub fn watch(
        &mut self,
        after: Option<u64>,
        mut each: impl FnMut(Event) -> io::Result<()>,
    ) -> Result<()> {
        let mut last = after;
        let mut begun = false;
        self.losses = 0;
        loop {
            let ended = self.watch_once(&mut last, &mut begun, &mut each);
            match ended {
                Err(error) => self.go_on_with(error, true)?,
                ended => return ended,
            }
        }
    }

    fn watch_once(
        &mut self,
        last: &mut Option<u64>,
        begun: &mut bool,
        each: &mut impl FnMut(Event) -> io::Result<()>,
    ) -> Result<()> {
        self.send(&Request::Watch { after: *last })?;
        loop {
            match self.receive()? {
                Response::Event(event) => {
                    self.losses = 0;
                    *last = Some(event.seq);
                    let again = event.event == EventKind::Own(Happening::Watching) && *begun;
                    *begun = true;
                    if !again {
                        let done = each(event);
                        self.sink(done)?;
                    }
                }
                Response::WatchEnd => return Ok(()),
                other => return self.unexpected(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::greet::greet;
    use super::*;
    use crate::codec::{self, REPLY_MAX, REQUEST_MAX};
    use std::os::unix::net::UnixListener;

    fn event(what: Happening, seq: u64) -> Response {
        Response::Event(Event {
            seq,
            ..Event::own(what)
        })
    }

    #[test]
    fn a_watch_goes_on_after_the_last_event_that_it_had() {
        let path = std::env::temp_dir().join(format!("llctl-watch-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let lives = [
            (None, vec![event(Happening::Watching, 5)]),
            (
                Some(5),
                vec![
                    event(Happening::Watching, 5),
                    event(Happening::Restarted, 6),
                ],
            ),
            (
                Some(6),
                vec![
                    event(Happening::Watching, 6),
                    event(Happening::Unmounting, 7),
                    Response::WatchEnd,
                ],
            ),
        ];
        let daemon = std::thread::spawn(move || {
            for (after, answer) in lives {
                let (mut stream, _) = listener.accept().unwrap();
                greet(&mut stream);
                let asked: Request = codec::read(&mut stream, REQUEST_MAX).unwrap();
                assert_eq!(asked, Request::Watch { after });
                for part in answer {
                    codec::write(&mut stream, &part, REPLY_MAX).unwrap();
                }
            }
        });
        let mut told = Vec::new();
        let mut client = Client::connect_socket(&path).unwrap();
        client
            .watch(None, |event| {
                told.push(event.seq);
                Ok(())
            })
            .unwrap();
        daemon.join().unwrap();
        assert_eq!(told, [5, 6, 7]);
        std::fs::remove_file(&path).unwrap();
    }
}
