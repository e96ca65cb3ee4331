//! Snapshots to a file and from a file.

use std::io::{self, Read};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Client, ClientError, Result};
use crate::name::SnapName;
use crate::protocol::{ErrorKind, Failure, Request, Response, SnapInfo};
use crate::transfer::{FileError, Reader};

/// Blocks of an export that are there already: how many, and their checksum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    blocks: u64,
    sum: u64,
}

impl Known {
    /// Notes the next block.
    pub fn add(&mut self, block: &[u8]) {
        self.sum = xxh3_64_with_seed(block, self.sum);
        self.blocks += 1;
    }

    /// How many there are.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }
}

impl From<FileError> for ClientError {
    fn from(error: FileError) -> Self {
        let kind = match &error {
            FileError::Io(error) => return Failure::io("the export cannot be read", error).into(),
            FileError::Other => ErrorKind::Invalid,
            FileError::Version(_) => ErrorKind::Unsupported,
            FileError::Truncated(_) | FileError::Damaged(_) | FileError::Trailing => {
                ErrorKind::Damaged
            }
        };
        let failure = Failure::new(kind, error.to_string());
        match kind {
            ErrorKind::Damaged => failure.with_hint("nothing of it was kept; get the file again"),
            _ => failure,
        }
        .into()
    }
}

impl From<Failure> for ClientError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Client {
    /// All of some snapshots, as blocks of [`crate::transfer::Item`]s handed to `each`: the first as what differs from `from`, each
    /// other one from the one before it. Blocks that are `known` are not told again. An error from `each` ends the connection.
    ///
    /// # Errors
    /// No such snapshot; what it holds cannot be read; what is known is of another export. Those of every request.
    pub fn export(
        &mut self,
        names: Vec<SnapName>,
        from: Option<SnapName>,
        mut known: Known,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<()> {
        self.repeatedly(|client| {
            // The next worker goes on where the one before was.
            client.send(&Request::Export {
                names: names.clone(),
                from: from.clone(),
                skip: known.blocks,
                skipped: known.sum,
            })?;
            loop {
                match client.receive()? {
                    Response::Content(block) => {
                        known.add(&block);
                        let taken = each(&block);
                        client.sink(taken)?;
                    }
                    Response::ContentEnd => return Ok(()),
                    other => return client.unexpected(other),
                }
            }
        })
    }

    /// Makes snapshots of an export: all that it holds, or nothing. They get `names`, in their order, and where there are none keep
    /// their own. After an import that was interrupted, blocks that the daemon has are not sent again. `each` is told how many
    /// bytes of the export are done.
    ///
    /// # Errors
    /// The export is damaged or not whole, or makes no sense; a name is taken; it is told from a snapshot that is not here; there
    /// is no space. [`ErrorKind::Conflict`]: the worker died, or the base was changed by an apply, and it must begin anew. Those of
    /// every request.
    pub fn import<R: Read>(
        &mut self,
        export: R,
        names: Vec<SnapName>,
        mut each: impl FnMut(u64),
    ) -> Result<Vec<SnapInfo>> {
        let mut reader = Reader::new(export)?;
        let Some(first) = reader.block()? else {
            let why = "there is no snapshot in the export";
            return Err(Failure::new(ErrorKind::Invalid, why).into());
        };
        // It follows from what the export begins with, which has the checksum of all that the first snapshot has, and the names.
        let import = (names.iter()).fold(reader.sum(), |sum, name| {
            xxh3_64_with_seed(name.as_str().as_bytes(), sum)
        });
        let mut there = self.importing(&Request::ImportBegin { import, names })?;
        let mut told = Known::default();
        let mut next = Some(first);
        while let Some(block) = next {
            let (number, before) = (told.blocks, told.sum);
            told.add(&block);
            if number >= there {
                there = self.importing(&Request::ImportBlock {
                    import,
                    number,
                    before,
                    block: block.into(),
                })?;
            }
            each(reader.end());
            next = match reader.block() {
                Ok(next) => next,
                Err(error) => {
                    // A file that cannot be read now may be read later, and be gone on with.
                    if !matches!(error, FileError::Io(_)) {
                        self.ask(&Request::ImportDrop { import })?;
                    }
                    return Err(error.into());
                }
            };
        }
        match self.ask(&Request::ImportEnd {
            import,
            blocks: told.blocks,
            sum: told.sum,
        })? {
            Response::Imported(all) => Ok(all),
            other => self.unexpected(other),
        }
    }

    fn importing(&mut self, request: &Request) -> Result<u64> {
        match self.ask(request)? {
            Response::Importing(known) => Ok(known),
            other => self.unexpected(other),
        }
    }
}
