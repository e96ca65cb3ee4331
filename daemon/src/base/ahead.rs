//! Reading directories ahead of somebody who walks a tree that is not in memory.
//!
//! Who walks a tree looks at one directory after the other, and each makes the disk's answer wait for the next question. While
//! the disk is seen to be waited for, the directories that come next, those beside and below the one that was
//! just listed, are read by other threads, entries' attributes and all. Nothing of that is kept here: the kernel
//! has it in memory when it is asked for in earnest.
//!
//! A tree that is in memory costs two questions a listing whether anything was waited for, and nothing else.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::dir::entries;
use super::node::check_name;
use super::resolve::{CName, open_to_read, stat_at};

/// Directories that are read ahead of each one that is walked.
const WINDOW: usize = 8;
/// Directories whose subdirectories are known, the longest unused out first: those above a walker, mostly.
const WALKS: usize = 16;
/// Subdirectories of one that are remembered.
const BELOW: usize = 4096;
/// Entries of one directory that are looked at ahead.
const ENTRIES: usize = 4096;
/// Directories after one that had to be waited for in which the tree counts as not in memory.
const COLD: u32 = 64;
/// Threads that read ahead.
const THREADS: usize = 2;

/// Waits of this thread so far: how often it gave up its CPU before its time was over.
pub fn waits() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.voluntary_context_switches())
}

/// See the module's description.
pub(super) struct Ahead {
    walks: Mutex<Walks>,
    /// Directories to go in which the tree counts as not in memory.
    cold: Arc<AtomicU32>,
    /// Where the threads may run: whoever needs them first may be pinned to one CPU.
    allowed: Option<CpuSet>,
}

#[derive(Default)]
struct Walks {
    recent: Vec<Walk>,
    /// Where the threads get their work; `None` before they were first needed.
    jobs: Option<Sender<Job>>,
}

/// A directory that was listed, and how far its subdirectories were.
struct Walk {
    dir: u64,
    fd: Arc<OwnedFd>,
    below: Vec<CString>,
    visited: usize,
    asked: usize,
}

/// A directory to read.
struct Job {
    above: Arc<OwnedFd>,
    name: CString,
}

impl Ahead {
    /// Nothing to do yet. The threads that come later may run where this thread may.
    pub fn new() -> Ahead {
        Ahead {
            walks: Mutex::default(),
            cold: Arc::default(),
            allowed: sched_getaffinity(Pid::from_raw(0)).ok(),
        }
    }

    /// Whether to be told of a listing, which `waited` for the disk or did not.
    pub fn is_worth_it(&self, waited: bool) -> bool {
        if waited {
            self.cold.store(COLD, Ordering::Relaxed);
            return true;
        }
        let less = |cold: u32| cold.checked_sub(1);
        let order = Ordering::Relaxed;
        self.cold.fetch_update(order, order, less).is_ok()
    }

    /// The directory `dir` in `parent`, open as `fd`, was listed; `below` are its subdirectories.
    pub fn listed<'a>(
        &self,
        parent: u64,
        dir: u64,
        fd: Arc<OwnedFd>,
        below: impl Iterator<Item = &'a [u8]>,
    ) {
        let mut walks = self.walks.lock();
        if walks.jobs.is_none() {
            walks.jobs = self.start();
        }
        let Walks { recent, jobs } = &mut *walks;
        let Some(jobs) = jobs else { return };
        recent.retain(|walk| walk.dir != dir);
        // Only a walker comes from a directory to one below it.
        let above = recent.iter().position(|walk| walk.dir == parent);
        if let Some(at) = above {
            let mut walk = recent.remove(at);
            walk.visited += 1;
            walk.ask(jobs);
            recent.push(walk);
        }
        let names = below.filter(|name| check_name(name).is_ok());
        let below: Vec<_> = names
            .filter_map(|name| CString::new(name).ok())
            .take(BELOW)
            .collect();
        if below.is_empty() {
            return;
        }
        let mut walk = Walk {
            dir,
            fd,
            below,
            visited: 0,
            asked: 0,
        };
        if above.is_some() {
            walk.ask(jobs);
        }
        if recent.len() >= WALKS {
            recent.remove(0);
        }
        recent.push(walk);
    }

    /// Forgets what was listed, and closes its descriptors.
    pub fn clear(&self) {
        self.walks.lock().recent.clear();
    }

    /// The threads; without one, nothing is read ahead. They end with the last sender.
    fn start(&self) -> Option<Sender<Job>> {
        let (jobs, todo) = bounded(WALKS * WINDOW);
        for number in 0..THREADS {
            let (todo, cold, allowed) = (todo.clone(), Arc::clone(&self.cold), self.allowed);
            thread::Builder::new()
                .name(format!("llfs-ahead-{number}"))
                .spawn(move || work(&todo, &cold, allowed))
                .inspect_err(|error| tracing::debug!(%error, "nothing reads directories ahead"))
                .ok()?;
        }
        Some(jobs)
    }
}

impl Walk {
    /// Has the next directories read that were not asked for before. What the threads cannot take is left out.
    fn ask(&mut self, jobs: &Sender<Job>) {
        let end = self.below.len().min(self.visited + WINDOW);
        for at in self.asked.max(self.visited)..end {
            let job = Job {
                above: Arc::clone(&self.fd),
                name: self.below[at].clone(),
            };
            if jobs.try_send(job).is_err() {
                return;
            }
            self.asked = at + 1;
        }
    }
}

fn work(todo: &Receiver<Job>, cold: &AtomicU32, allowed: Option<CpuSet>) {
    if let Some(allowed) = allowed
        && let Err(error) = sched_setaffinity(Pid::from_raw(0), &allowed)
    {
        tracing::debug!(%error, "reading ahead on one CPU");
    }
    for job in todo {
        let before = waits();
        // Whatever goes wrong goes wrong again, and is told, when somebody asks in earnest.
        let read = read(&job);
        if waits() != before && read.is_ok() {
            cold.store(COLD, Ordering::Relaxed);
        }
    }
}

/// Reads a directory and looks at its entries, in the order in which a disk has them.
fn read(job: &Job) -> Result<(), Errno> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let dir = open_to_read(job.above.as_fd(), &job.name, flags)?;
    let mut all = entries(dir.as_fd())?;
    all.truncate(ENTRIES);
    all.sort_unstable_by_key(|entry| entry.ino);
    for entry in all {
        stat_at(dir.as_fd(), CName::new(&entry.name)?.as_cstr())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn fd() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open("/").unwrap().into())
    }

    fn listed(ahead: &Ahead, parent: u64, dir: u64, below: &[String]) {
        ahead.listed(parent, dir, fd(), below.iter().map(|name| name.as_bytes()));
    }

    /// What was asked for since the last call.
    fn asked(todo: &Receiver<Job>) -> BTreeSet<String> {
        let names = todo.try_iter().map(|job| job.name);
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_walker_has_the_next_directories_read_once_each() {
        let ahead = Ahead::new();
        let (jobs, todo) = bounded(1000);
        ahead.walks.lock().jobs = Some(jobs);
        let names: Vec<String> = (0..30).map(|i| format!("dir{i:02}")).collect();
        // Looking into one directory is no walk.
        listed(&ahead, 1, 2, &names);
        assert!(asked(&todo).is_empty());
        let mut all = BTreeSet::new();
        for visit in 0..30 {
            listed(&ahead, 2, 100 + visit, &[]);
            let new = asked(&todo);
            assert!(new.len() <= WINDOW && new.is_disjoint(&all));
            all.extend(new);
            let seen = visit as usize + 1;
            assert_eq!(all.len(), (seen + WINDOW).min(30) - 1, "all but the first");
        }
        // Below a directory that is walked, its own come at once.
        listed(&ahead, 2, 300, &names);
        assert_eq!(asked(&todo).len(), WINDOW);
        ahead.clear();
        listed(&ahead, 300, 400, &names);
        assert!(asked(&todo).is_empty());
    }

    #[test]
    fn reading_ahead_stays_inside_and_touches_nothing() {
        let dir = std::env::temp_dir().join(format!("llfs-ahead-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("real")).unwrap();
        std::fs::write(dir.join("real/file"), b"x").unwrap();
        std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
        let above: Arc<OwnedFd> = Arc::new(std::fs::File::open(&dir).unwrap().into());
        let job = |name: &str| Job {
            above: Arc::clone(&above),
            name: CString::new(name).unwrap(),
        };
        let accessed = || {
            std::fs::metadata(dir.join("real"))
                .unwrap()
                .accessed()
                .unwrap()
        };
        let before = accessed();
        assert_eq!(read(&job("real")), Ok(()));
        assert_eq!(accessed(), before);
        for name in ["link", "real/file", "missing", ".."] {
            assert!(read(&job(name)).is_err(), "{name}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_tree_in_memory_is_left_alone() {
        let ahead = Ahead::new();
        assert!(!ahead.is_worth_it(false));
        assert!(ahead.is_worth_it(true));
        let further = (0..1000).filter(|_| ahead.is_worth_it(false)).count();
        assert_eq!(further, COLD as usize);
    }

    #[test]
    fn only_directories_that_were_walked_last_are_known() {
        let ahead = Ahead::new();
        let (jobs, _todo) = bounded(1000);
        ahead.walks.lock().jobs = Some(jobs);
        for dir in 0..100 {
            listed(&ahead, dir, dir + 1, &["below".to_owned()]);
        }
        assert_eq!(ahead.walks.lock().recent.len(), WALKS);
    }
}
