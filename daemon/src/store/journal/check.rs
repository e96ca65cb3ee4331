//! Reads the journal of an open store, up to where it was when the reading began.

use super::Journal;
use super::scan::{read_headers, walk};
use super::segment;
use super::window::Window;
use crate::store::disk::OpenHow;
use crate::store::error::{Damage, OpenError};
use std::io;

impl Journal {
    /// The first damaged place behind `image_seq`, if there is one.
    pub fn check(&self, image_seq: u64) -> io::Result<Option<Damage>> {
        let (last, tail) = {
            let tail = self.tail.lock();
            (tail.segment, tail.offset)
        };
        let mut numbers = segment::list(&*self.disk)?;
        numbers.retain(|&number| number <= last);
        let (headers, damage) = match read_headers(&*self.disk, &self.uuid, &numbers, image_seq) {
            Ok(found) => found,
            Err(OpenError::Io { error, .. }) => return Err(error),
            Err(error) => return Err(io::Error::other(error)),
        };
        for (index, header) in headers.iter().enumerate() {
            let end = match headers.get(index + 1) {
                Some(next) => next.previous_end,
                None if header.number == last => tail,
                None => break,
            };
            let file = self
                .disk
                .open(&segment::path(header.number), OpenHow::Read)?;
            let mut window = Window::new(&*file)?;
            let found = walk(&mut window, header, &self.uuid, end, &mut |_| Ok(()))?;
            if found.0 < end {
                return Ok(Some(Damage {
                    segment: header.number,
                    offset: found.0,
                    what: format!("it was written up to byte {end}"),
                }));
            }
        }
        Ok(damage)
    }
}
