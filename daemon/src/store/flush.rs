//! Makes acknowledged work durable. The order of the steps is what recovery relies on; docs/FORMAT.md
//! enumerates the cuts between them.

use super::Store;
use super::disk::OpenHow;
use super::journal::{BlockCopy, Commit};
use super::layers::dirty::Recent;
use super::layers::{self, LayerId};
use nix::errno::Errno;
use std::io;
use std::sync::atomic::Ordering;

impl Store {
    /// Everything that was acknowledged before this call (records, blocks) survives a power cut once
    /// it returns. Concurrent callers share a flush; a few small writes cost one flush of the disk.
    ///
    /// A sync that the medium failed latches the store read-only and gives `EIO`.
    pub fn sync(&self) -> io::Result<()> {
        self.health.check()?;
        if self.journal.last_record() <= self.durable.load(Ordering::Acquire)
            && !self.layers.dirty.has_news()
        {
            // Nothing is new since a flush that has ended well.
            return self.health.check();
        }
        self.group.run(|| self.flush(false))
    }

    /// As [`Self::sync`], and the layers themselves are synced, so that no copy in the journal is
    /// needed any more.
    pub fn sync_layers(&self) -> io::Result<()> {
        self.health.check()?;
        // Whoever runs the flush must flush everything: leave the wish where every flush looks.
        self.layers.dirty.set_many();
        self.group.run(|| self.flush(true))
    }

    /// Makes the records up to `seq` durable, if they are not.
    pub fn sync_through(&self, seq: u64) -> io::Result<()> {
        if self.durable.load(Ordering::Acquire) >= seq {
            return self.health.check();
        }
        self.sync()
    }

    fn flush(&self, everything: bool) -> io::Result<()> {
        self.health.check()?;
        // First the point, then the marks: what a record up to the point refers to was written and
        // marked before the record was appended.
        let covers = self.journal.last_seq();
        let recent = self.layers.dirty.take_recent();
        let answer = match recent {
            Recent::Few(blocks) if !everything => match self.commit_copies(covers, &blocks) {
                Err(error) if self.health.check().is_ok() => {
                    // No space for the copies, or one cannot be read: the layers can still be synced.
                    tracing::debug!(%error, "blocks were not copied to the journal");
                    self.commit_layers(covers)
                }
                answer => answer,
            },
            _ => self.commit_layers(covers),
        };
        match &answer {
            Ok(()) => {
                self.durable.fetch_max(covers, Ordering::AcqRel);
            }
            Err(_) => self.layers.dirty.set_many(),
        }
        // Behind the line above: what was taken is news until it is durable, or is news again.
        self.layers.dirty.flushed();
        answer
    }

    /// Blocks, copied into the journal, and a barrier: one sync.
    fn commit_copies(&self, covers: u64, blocks: &[(LayerId, u32)]) -> io::Result<()> {
        let mut copies = Vec::with_capacity(blocks.len());
        for &(layer, block) in blocks {
            copies.push(BlockCopy {
                layer: layer.0,
                block,
                bytes: self.layers.read_block(layer, block)?,
            });
        }
        self.finish(&self.journal.barrier(covers, &copies, false)?)
    }

    /// The layers' files, their names, then the barrier: a barrier on the medium never speaks of
    /// bytes that are in memory.
    fn commit_layers(&self, covers: u64) -> io::Result<()> {
        let mut files = self.layers.dirty.take_files();
        while let Some((id, file)) = files.pop() {
            let file = match file {
                Some(file) => file,
                None => match self.disk.open(&layers::data_path(id.0), OpenHow::Write) {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => {
                        // Not synced, so not forgotten.
                        files.push((id, None));
                        self.layers.dirty.return_files(files);
                        return Err(error);
                    }
                },
            };
            if let Err(error) = file.sync_data() {
                return Err(self.health.poisoned("a layer", &error));
            }
        }
        self.layers.sync_names()?;
        // What was acknowledged must be made durable on a full disk too.
        let barrier = self.with_reserve(|| self.journal.barrier(covers, &[], true));
        self.finish(&barrier?)
    }

    /// Whether so much was written since the last time that [`Self::start_writeback`] is worth its while. For the hot path.
    pub fn wants_writeback(&self) -> bool {
        self.layers.dirty.wants_writeback()
    }

    /// Has the medium begin with what it was given, so that the next sync has less to wait for. Promises nothing.
    pub fn start_writeback(&self) -> io::Result<()> {
        self.health.check()?;
        for file in self.layers.dirty.open_files() {
            if let Err(error) = file.start_writeback() {
                // Whatever it is, the sync of the file will tell it too.
                tracing::debug!(%error, "writing back did not begin");
            }
        }
        self.layers.release_cached(false)?;
        self.layers.sync_names()
    }

    /// Whether so much was read since the last time that [`Self::release_cached`] is worth its while. For the hot path.
    pub fn wants_release(&self) -> bool {
        self.layers.cached.wants_release()
    }

    /// Has the medium's cache let go of what was written and read in large pieces a while ago, or of `all` of it. Waits for
    /// the medium to have it; that is best done after a sync.
    pub fn release_cached(&self, all: bool) -> io::Result<()> {
        self.layers.release_cached(all)
    }

    fn finish(&self, commit: &Commit) -> io::Result<()> {
        if let Err(error) = commit.file.sync_data() {
            return Err(self.health.poisoned("the journal", &error));
        }
        self.journal.synced(commit);
        // A rotation may have been told what this sync was not: an error is told once. It held the journal until it had latched.
        self.health.check().map_err(|_| Errno::EIO.into())
    }
}
