//! Blocks in a file: compressed one by one, each with a checksum over its bytes as stored, whose seed is the checksum of the
//! block before. So a block that is damaged, missing, doubled or elsewhere is noticed before anything is made of it.

use std::io::{self, Read, Write};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::BLOCK_MAX;

/// What such a file begins with.
const MAGIC: &[u8; 8] = b"LLFSEXPT";
/// The version of the format.
pub const VERSION: u32 = 1;
/// Bytes before the first block.
const HEADER: usize = 24;
/// Bytes before each block.
const FRAME: usize = 16;
/// How hard the compressor tries: as fast as a disk, and text becomes a third.
const LEVEL: i32 = 3;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It begins with something else.
    #[error("this is no export of llfs")]
    Other,
    /// It is of a version that this program does not know.
    #[error("this export is of version {0}, and this program reads version {VERSION}")]
    Version(u32),
    /// It ends too early.
    #[error("the export is not whole: it ends behind block {0}")]
    Truncated(u64),
    /// A block is not what was written.
    #[error("block {0} of the export is damaged")]
    Damaged(u64),
    /// There are bytes behind its end.
    #[error("something follows behind the end of the export")]
    Trailing,
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn header() -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let sum = xxh3_64_with_seed(&bytes[..16], 0);
    bytes[16..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The checksum of a block: of its lengths and its bytes, after those before it.
fn sum(before: u64, lengths: &[u8], stored: &[u8]) -> u64 {
    xxh3_64_with_seed(stored, xxh3_64_with_seed(lengths, before))
}

fn number(bytes: &[u8]) -> u64 {
    let mut all = [0; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(all)
}

/// Writes blocks.
pub struct Writer<W> {
    to: W,
    sum: u64,
    packer: zstd::bulk::Compressor<'static>,
    /// Bytes written so far.
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// What writing says.
    pub fn new(mut to: W) -> io::Result<Self> {
        let header = header();
        to.write_all(&header)?;
        Ok(Self {
            to,
            sum: number(&header[16..]),
            packer: zstd::bulk::Compressor::new(LEVEL)?,
            written: HEADER as u64,
        })
    }

    /// Goes on with a file of which `read` is all that is there.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn after<R: Read>(read: &Reader<R>, to: W) -> io::Result<Self> {
        Ok(Self {
            to,
            sum: read.sum,
            packer: zstd::bulk::Compressor::new(LEVEL)?,
            written: read.end,
        })
    }

    /// Adds a block, which is not empty.
    ///
    /// # Errors
    /// What writing says.
    pub fn block(&mut self, plain: &[u8]) -> io::Result<()> {
        let stored = self.packer.compress(plain)?;
        self.put(plain.len(), &stored)
    }

    /// Ends the file; gives back where it was written to, and how many bytes it has.
    ///
    /// # Errors
    /// What writing says.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.put(0, &[])?;
        self.to.flush()?;
        Ok((self.to, self.written))
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn put(&mut self, plain: usize, stored: &[u8]) -> io::Result<()> {
        let mut frame = [0; FRAME];
        for (at, len) in [(0, stored.len()), (4, plain)] {
            let len = u32::try_from(len).map_err(io::Error::other)?;
            frame[at..at + 4].copy_from_slice(&len.to_le_bytes());
        }
        self.sum = sum(self.sum, &frame[..8], stored);
        frame[8..].copy_from_slice(&self.sum.to_le_bytes());
        self.to.write_all(&frame)?;
        self.to.write_all(stored)?;
        self.written += (FRAME + stored.len()) as u64;
        Ok(())
    }
}

/// Reads blocks.
pub struct Reader<R> {
    from: R,
    sum: u64,
    unpacker: zstd::bulk::Decompressor<'static>,
    /// Whole blocks so far.
    blocks: u64,
    /// Bytes of the file up to the end of the last of them.
    end: u64,
    done: bool,
}

impl<R: Read> Reader<R> {
    /// Begins with a file.
    ///
    /// # Errors
    /// It is no export, or of another version.
    pub fn new(mut from: R) -> Result<Self, FileError> {
        let mut found = [0; HEADER];
        let got = fill(&mut from, &mut found)?;
        let begins = got.min(MAGIC.len());
        if found[..begins] != MAGIC[..begins] || got < MAGIC.len() {
            return Err(FileError::Other);
        }
        if got < HEADER {
            return Err(FileError::Truncated(0));
        }
        let version = number(&found[8..12]) as u32;
        if number(&found[16..]) != xxh3_64_with_seed(&found[..16], 0) {
            return Err(FileError::Damaged(0));
        }
        if version != VERSION {
            return Err(FileError::Version(version));
        }
        Ok(Self {
            from,
            sum: number(&found[16..]),
            unpacker: zstd::bulk::Decompressor::new()?,
            blocks: 0,
            end: HEADER as u64,
            done: false,
        })
    }

    /// The next block; `None` at the end of the file.
    ///
    /// # Errors
    /// It is damaged, or not there.
    pub fn block(&mut self) -> Result<Option<Vec<u8>>, FileError> {
        if self.done {
            return Ok(None);
        }
        let damaged = FileError::Damaged(self.blocks + 1);
        let mut frame = [0; FRAME];
        if fill(&mut self.from, &mut frame)? < FRAME {
            return Err(FileError::Truncated(self.blocks));
        }
        let (stored, plain) = (number(&frame[..4]) as usize, number(&frame[4..8]) as usize);
        if stored > zstd::zstd_safe::compress_bound(BLOCK_MAX) || plain > BLOCK_MAX {
            return Err(damaged);
        }
        let mut bytes = vec![0; stored];
        if fill(&mut self.from, &mut bytes)? < stored {
            return Err(FileError::Truncated(self.blocks));
        }
        let sum = sum(self.sum, &frame[..8], &bytes);
        if number(&frame[8..]) != sum {
            return Err(damaged);
        }
        if (stored, plain) == (0, 0) {
            self.done = true;
            return match fill(&mut self.from, &mut [0])? {
                0 => Ok(None),
                _ => Err(FileError::Trailing),
            };
        }
        // Never more than was said, whatever the compressed bytes say.
        let block = match self.unpacker.decompress(&bytes, plain) {
            Ok(block) if block.len() == plain && plain > 0 => block,
            _ => return Err(damaged),
        };
        self.sum = sum;
        self.blocks += 1;
        self.end += (FRAME + stored) as u64;
        Ok(Some(block))
    }

    /// Whole blocks read so far.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Bytes of the file up to the end of the last whole block.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The checksum of all that was read so far.
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

/// Reads until `into` is full or the file ends, and tells how many bytes there were.
fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match from.read(&mut into[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(blocks: &[&[u8]]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for block in blocks {
            writer.block(block).unwrap();
        }
        writer.finish().unwrap().0
    }

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, FileError> {
        let mut reader = Reader::new(bytes)?;
        let mut all = Vec::new();
        while let Some(block) = reader.block()? {
            all.push(block);
        }
        Ok(all)
    }

    #[test]
    fn what_was_written_is_read() {
        let zeros = vec![0; BLOCK_MAX];
        let bytes = written(&[b"one", b"two", &zeros]);
        assert_eq!(
            read(&bytes).unwrap(),
            [b"one".to_vec(), b"two".to_vec(), zeros]
        );
        assert!(read(&written(&[])).unwrap().is_empty());
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let bytes = written(&[b"one", b"and two", b"three"]);
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[at / 8] ^= 1 << (at % 8);
            assert!(read(&wrong).is_err(), "bit {at}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(read(&longer), Err(FileError::Trailing)));
        assert!(matches!(read(b"PK\x03\x04"), Err(FileError::Other)));
    }

    #[test]
    fn blocks_have_their_place() {
        let frame = |text: &[u8]| written(&[text]).len() - HEADER - FRAME;
        let bytes = written(&[b"aaa", b"bbb", b"ccc"]);
        let (a, b) = (HEADER, HEADER + frame(b"aaa"));
        let c = b + frame(b"bbb");
        let swapped = [&bytes[..a], &bytes[b..c], &bytes[a..b], &bytes[c..]].concat();
        assert!(matches!(read(&swapped), Err(FileError::Damaged(1))));
        let missing = [&bytes[..b], &bytes[c..]].concat();
        assert!(matches!(read(&missing), Err(FileError::Damaged(2))));
    }

    /// A block that would become a gigabyte is refused at the price of a block.
    #[test]
    fn a_bomb_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.put(BLOCK_MAX, &bomb).unwrap();
        let bytes = writer.finish().unwrap().0;
        assert!(matches!(read(&bytes), Err(FileError::Damaged(1))));
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.put(64 << 20, &bomb).unwrap();
        let bytes = writer.finish().unwrap().0;
        assert!(matches!(read(&bytes), Err(FileError::Damaged(1))));
    }

    #[test]
    fn a_file_can_be_gone_on_with() {
        let whole = written(&[b"one", b"two", b"three"]);
        let mut reader = Reader::new(&whole[..whole.len() - FRAME - 5]).unwrap();
        while let Ok(Some(_)) = reader.block() {}
        assert_eq!(reader.blocks(), 2);
        let kept = whole[..reader.end() as usize].to_vec();
        let mut writer = Writer::after(&reader, kept).unwrap();
        writer.block(b"three").unwrap();
        assert_eq!(writer.finish().unwrap().0, whole);
    }
}
