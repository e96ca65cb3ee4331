//! Damage done to files on purpose.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A way to damage a region of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wound {
    /// One bit in the middle of it is another.
    Flip,
    /// It is zeros.
    Zero,
    /// The file ends where it begins.
    Truncate,
}

impl Wound {
    /// All ways.
    pub const ALL: [Wound; 3] = [Wound::Flip, Wound::Zero, Wound::Truncate];

    /// Damages the bytes `from..to` of a file; whether it is another file after that.
    ///
    /// # Panics
    /// When the file cannot be read or written.
    pub fn inflict(self, path: &Path, from: u64, to: u64) -> bool {
        let failed = |error| -> ! { panic!("{}: {error}", path.display()) };
        let open =
            || -> std::io::Result<File> { OpenOptions::new().read(true).write(true).open(path) };
        let file = open().unwrap_or_else(|error| failed(error));
        let mut bytes = vec![0; usize::try_from(to - from).expect("regions are small")];
        let done = file
            .read_exact_at(&mut bytes, from)
            .and_then(|()| match self {
                Wound::Flip => {
                    let middle = bytes.len() / 2;
                    let flipped = [bytes[middle] ^ 0x10];
                    file.write_all_at(&flipped, from + middle as u64)
                }
                Wound::Zero => file.write_all_at(&vec![0; bytes.len()], from),
                Wound::Truncate => file.set_len(from),
            });
        done.unwrap_or_else(|error| failed(error));
        match self {
            Wound::Zero => bytes.iter().any(|byte| *byte != 0),
            _ => true,
        }
    }
}
