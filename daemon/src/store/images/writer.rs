//! Writes an image: in a temporary file, synced, then renamed.

use super::{CHUNK, DIR, HEADER_LEN, ImageHeader, chunk_sum, path};
use crate::store::disk::{Disk, DiskFile, OpenHow};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// Writes image `number`; `body` gives the bytes. It is durable when this returns; after an error
/// there is no such image.
pub(crate) fn write(
    disk: &dyn Disk,
    uuid: &[u8; 16],
    number: u32,
    covers: u64,
    body: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let path = path(number);
    let temporary = path.with_extension("tmp");
    let written = write_file(disk, uuid, &temporary, number, covers, body)
        .and_then(|()| disk.rename(&temporary, &path));
    if let Err(error) = written {
        if let Err(error) = disk.remove(&temporary) {
            tracing::debug!(%error, "an unfinished image stays until the next start");
        }
        return Err(error);
    }
    disk.sync_dir(Path::new(DIR))
}

fn write_file(
    disk: &dyn Disk,
    uuid: &[u8; 16],
    temporary: &Path,
    number: u32,
    covers: u64,
    body: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let file = disk.open(temporary, OpenHow::Replace)?;
    let mut out = ChunkWriter {
        file,
        uuid,
        number,
        chunk: Vec::with_capacity(CHUNK),
        chunks: 0,
        length: 0,
    };
    body(&mut out)?;
    out.end_chunk()?;
    let header = ImageHeader {
        number,
        covers,
        length: out.length,
    };
    out.file.write_at(&header.encode(uuid), 0)?;
    out.file.sync_data()
}

struct ChunkWriter<'a> {
    file: Arc<dyn DiskFile>,
    uuid: &'a [u8; 16],
    number: u32,
    chunk: Vec<u8>,
    chunks: u64,
    length: u64,
}

impl ChunkWriter<'_> {
    fn end_chunk(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let sum = chunk_sum(self.uuid, self.number, self.chunks, &self.chunk);
        let offset = HEADER_LEN as u64 + self.chunks * (CHUNK as u64 + 8);
        self.length += self.chunk.len() as u64;
        self.chunk.extend_from_slice(&sum.to_le_bytes());
        self.file.write_at(&self.chunk, offset)?;
        self.chunk.clear();
        self.chunks += 1;
        Ok(())
    }
}

impl Write for ChunkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK {
            self.end_chunk()?;
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
