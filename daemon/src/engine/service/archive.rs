//! Compressing what old snapshots hold, in place.
//!
//! It is done by layers: one has blocks of many snapshots, perhaps of the head too, and all of it is compressed. What is there of a
//! layer changes nothing of what it means, so there is no record of it.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use llctl::SnapName;
use llctl::protocol::{ArchiveInfo, ErrorKind, Failure, Progress, ProgressUnit, UnixNanos};
use nix::errno::Errno;

use super::failure::{failed, unknown};
use super::listing::nanos;
use super::verify::stand_back;
use crate::control::Sink;

use crate::engine::reclaim::live;
use crate::engine::{Engine, errno};
use crate::store::LayerInfo;
use crate::tree::{BLOCK, LayerId, Root};

/// Bytes that must stay free for what others write; and after how many bytes it looks.
const ROOM: u64 = 32 << 20;
const LOOK: u64 = 4 << 20;

/// Between two messages to the client.
const TOLD: Duration = Duration::from_millis(100);

/// Compresses the data of these snapshots; see [`crate::control::Service::archive`].
pub(super) fn archive(
    engine: &Engine,
    names: &[SnapName],
    until: Option<UnixNanos>,
    yes: bool,
    sink: Sink<'_, Progress>,
) -> Result<ArchiveInfo, Failure> {
    let (snapshots, roots) = chosen(engine, names, until)?;
    let mut info = ArchiveInfo {
        snapshots,
        ..ArchiveInfo::default()
    };
    if !yes {
        let layers = layers(engine, &roots)?;
        info.files = layers.len() as u64;
        info.before = layers.iter().map(|layer| layer.data_bytes).sum();
        return Ok(info);
    }
    if engine.store.is_readonly().is_some() {
        return Err(failed(engine, "nothing can be archived", Errno::EROFS));
    }
    let stop = AtomicBool::new(false);
    let (to, from) = bounded(1);
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            stand_back();
            let told = Told {
                engine,
                to,
                stop: &stop,
                last: Instant::now(),
                done: 0,
                total: 0,
                looked: None,
                full: false,
            };
            compress(engine, roots, told, &mut info)
        });
        for progress in from {
            if sink(progress).is_err() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        work.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(info)
}

/// How far it is, for a client that may not read: nothing waits for it.
struct Told<'a> {
    engine: &'a Engine,
    to: Sender<Progress>,
    stop: &'a AtomicBool,
    last: Instant,
    done: u64,
    total: u64,
    /// What was done when the room was looked at last.
    looked: Option<u64>,
    /// There is not enough room to go on.
    full: bool,
}

impl Told<'_> {
    /// Whether to go on.
    fn tell(&mut self, bytes: u64) -> bool {
        self.done += bytes;
        if self.looked.is_none_or(|at| self.done - at >= LOOK) {
            self.looked = Some(self.done);
            // One that does not say is found full when it is.
            self.full = (self.engine.store.free_bytes()).is_ok_and(|free| free < ROOM);
        }
        if self.last.elapsed() >= TOLD {
            self.last = Instant::now();
            let progress = Progress {
                what: "compressing".to_owned(),
                done: self.done,
                total: Some(self.total),
                unit: ProgressUnit::Bytes,
            };
            // While the client reads the last one, it does without this one.
            self.to.try_send(progress).unwrap_or_default();
        }
        !self.full && !self.stop.load(Ordering::Relaxed)
    }
}

/// The snapshots, oldest first, and what they hold.
fn chosen(
    engine: &Engine,
    names: &[SnapName],
    until: Option<UnixNanos>,
) -> Result<(Vec<String>, Vec<Root>), Failure> {
    let state = engine.state.read();
    for name in names {
        if state.snapshot(name.as_str()).is_none() {
            drop(state);
            return Err(unknown(engine, name.as_str()));
        }
    }
    let is_meant = |name: &str| names.iter().any(|n| n.as_str() == name);
    let is_old = |created: UnixNanos| until.is_some_and(|until| created <= until);
    let chosen = state.snapshots.values();
    Ok(chosen
        .filter(|s| is_meant(&s.name) || is_old(nanos(s.at)))
        .map(|s| (s.name.clone(), s.root.clone()))
        .unzip())
}

/// The layers in which these have data that is not compressed yet.
fn layers(engine: &Engine, roots: &[Root]) -> Result<Vec<LayerInfo>, Failure> {
    let used = live(roots);
    let all = engine.store.layers();
    let all = all.map_err(|error| Failure::io("the store cannot be read", &error))?;
    let meant = |layer: &LayerInfo| layer.archived.is_none() && used.contains_key(&layer.id.0);
    Ok(all.into_iter().filter(meant).collect())
}

fn compress(
    engine: &Engine,
    roots: Vec<Root>,
    mut told: Told<'_>,
    info: &mut ArchiveInfo,
) -> Result<(), Failure> {
    let cannot =
        |error: &io::Error| failed(engine, "what was to be compressed stays", errno(error));
    let meant = layers(engine, &roots)?;
    drop(roots);
    leave(engine, &meant);
    // What nobody needs is not compressed, and what has no checksum yet could not be proved.
    engine.reclaim().map_err(|e| cannot(&e))?;
    engine.store.finish_seals().map_err(|e| cannot(&e))?;
    info.after = Some(0);
    told.total = meant.iter().map(|l| u64::from(l.blocks) * BLOCK).sum();
    let mut damaged = 0;
    for layer in meant {
        let archived = engine
            .store
            .archive_layer(layer.id, &mut |bytes| told.tell(bytes), || {
                engine.reclaiming.lock()
            });
        match archived {
            Ok(Some(done)) if done.after < done.before => {
                info.files += 1;
                info.before += done.before;
                *info.after.get_or_insert(0) += done.after;
                // Its holes are to be made in the new file.
                engine.punched.lock().remove(&layer.id.0);
            }
            Ok(_) => {}
            Err(error) if errno(&error) == Errno::EIO && engine.store.is_readonly().is_none() => {
                damaged += 1;
            }
            Err(error) => return Err(cannot(&error)),
        }
        if told.full {
            return Err(cannot(&Errno::ENOSPC.into()));
        }
        if told.stop.load(Ordering::Relaxed) {
            break;
        }
    }
    engine.freed_much();
    if damaged > 0 {
        let what = format!(
            "{damaged} files of the store are damaged and stay as they are; the others are compressed"
        );
        return Err(Failure::new(ErrorKind::Damaged, what)
            .with_hint("`llctl verify` says which files it concerns"));
    }
    Ok(())
}

/// If writes go to one of these layers, they go to another one from here on.
fn leave(engine: &Engine, layers: &[LayerInfo]) {
    let _gate = engine.gate.write();
    if layers.iter().any(|layer| engine.writes_to(layer.id.0)) {
        engine.seal_layer();
    }
}

/// Bytes of these blocks that are compressed; none where nothing is.
pub(super) fn archived(engine: &Engine, used: &HashMap<LayerId, Vec<Range<u32>>>) -> Option<u64> {
    let layers = engine.store.layers().ok()?;
    let archived = layers.iter().filter(|layer| layer.archived.is_some());
    let runs = archived.filter_map(|layer| used.get(&layer.id.0)).flatten();
    let blocks: u64 = runs.map(|run| u64::from(run.end - run.start)).sum();
    Some(blocks * BLOCK).filter(|bytes| *bytes > 0)
}
