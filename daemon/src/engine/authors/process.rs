//! Processes by thread: looked at in `/proc` once, while they wait for their answer.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llctl::escape::command_line_of;
use serde::{Deserialize, Serialize};

use super::log::{Batch, Entry};
use crate::tree::StateId;

/// Threads that are remembered, at most.
const THREADS_MAX: usize = 1 << 14;
/// Bytes of a command line that are kept.
const LINE_MAX: usize = 200;

/// Whoever begins is often another program a moment later: a shell makes the file for what it is about to execute. So the
/// first things that a thread does are worth a look each.
const YOUNG: u32 = 8;
/// Later it is looked at now and then, and at all of it, for numbers are used again, by programs of the same name too.
const AGAIN: Duration = Duration::from_secs(1);

/// A program that ran.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(in crate::engine) struct Process {
    /// Its process id; 0: unknown, as for stores through a mapping.
    pub pid: u32,
    /// For which user.
    pub uid: u32,
    /// Its name, as the kernel has it; empty: unknown.
    pub command: String,
    /// The beginning of its command line, arguments separated by spaces.
    pub line: String,
}

/// A process and the one that started it; 0: unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Family {
    pub pid: u32,
    pub parent: u32,
}

struct Thread {
    process: u32,
    /// The process that started this one; 0: unknown.
    parent: u32,
    looks: u32,
    looked: Instant,
}

/// Threads, and the processes that they are of.
#[derive(Default)]
pub(super) struct Processes {
    threads: HashMap<u32, Thread>,
    all: Vec<Arc<Process>>,
    numbers: HashMap<Arc<Process>, u32>,
}

impl Processes {
    /// The number of the process of a thread that did something new.
    pub fn of(&mut self, tid: u32, uid: u32) -> u32 {
        if let Some(thread) = self.threads.get_mut(&tid) {
            let known = &self.all[thread.process as usize];
            let young = thread.looks < YOUNG;
            let another = known.uid != uid
                || thread.looked.elapsed() >= AGAIN
                || young && command(known.pid) != known.command;
            if !another {
                thread.looks += u32::from(young);
                return thread.process;
            }
        }
        let looks = self.threads.get(&tid).map_or(0, |thread| thread.looks + 1);
        let (process, parent) = look(tid, uid);
        let process = self.number(process);
        if self.threads.len() >= THREADS_MAX {
            self.threads.clear();
        }
        let thread = Thread {
            process,
            parent,
            looks,
            looked: Instant::now(),
        };
        self.threads.insert(tid, thread);
        process
    }

    /// The process of a thread and the one that started it, as it was a moment ago.
    pub fn family(&mut self, tid: u32, uid: u32) -> Family {
        let known = self.threads.get(&tid);
        if known.is_none_or(|thread| thread.looked.elapsed() >= AGAIN) {
            self.of(tid, uid);
        }
        let known = self.threads.get(&tid);
        known.map_or(Family::default(), |thread| Family {
            pid: self.all[thread.process as usize].pid,
            parent: thread.parent,
        })
    }

    fn number(&mut self, process: Process) -> u32 {
        if let Some(number) = self.numbers.get(&process) {
            return *number;
        }
        let process = Arc::new(process);
        let number = self.all.len() as u32;
        self.all.push(process.clone());
        self.numbers.insert(process, number);
        number
    }

    /// Entries with the processes that they are of, in a form that needs nothing else. Processes that nobody needs any more
    /// are forgotten now and then.
    pub fn batch(&mut self, state: StateId, mut entries: Vec<Entry>) -> Batch {
        let mut places: HashMap<u32, u32> = HashMap::new();
        let mut processes = Vec::new();
        for entry in &mut entries {
            let of = &self.all[entry.process as usize];
            entry.process = *places.entry(entry.process).or_insert_with(|| {
                processes.push((**of).clone());
                processes.len() as u32 - 1
            });
        }
        Batch {
            state,
            processes,
            entries,
        }
    }

    /// Forgets all when there are many. No entry may refer to one.
    pub fn trim(&mut self) {
        if self.all.len() > THREADS_MAX {
            *self = Processes::default();
        }
    }
}

/// What `/proc` says of a thread's process, and the one that started that. What it does not say is empty.
fn look(tid: u32, uid: u32) -> (Process, u32) {
    let (pid, parent) = match tid {
        0 => (0, 0),
        _ => group(tid).unwrap_or((tid, 0)),
    };
    let mut process = Process {
        pid,
        uid,
        command: String::new(),
        line: String::new(),
    };
    if pid != 0 {
        process.command = command(pid);
        process.line = line(pid);
    }
    (process, parent)
}

/// The process of a thread and the one that started it (`Tgid:` and `PPid:` of `proc_pid_status(5)`).
fn group(tid: u32) -> Option<(u32, u32)> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some((field("Tgid:")?, field("PPid:").unwrap_or(0)))
}

fn command(pid: u32) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&name)
        .trim_end_matches('\n')
        .to_owned()
}

fn line(pid: u32) -> String {
    let mut bytes = [0; LINE_MAX];
    let read = fs::File::open(format!("/proc/{pid}/cmdline")).and_then(|mut f| f.read(&mut bytes));
    command_line_of(&bytes[..read.unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_of_its_process() {
        let mut processes = Processes::default();
        let of = |processes: &mut Processes| {
            let tid = nix::unistd::gettid().as_raw() as u32;
            processes.of(tid, 0)
        };
        let main = of(&mut processes);
        let other = std::thread::scope(|s| s.spawn(|| of(&mut processes)).join().unwrap());
        assert_eq!(main, other);
        let process = &processes.all[main as usize];
        assert_eq!(process.pid, std::process::id());
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(process.command, name.trim_end());
        assert!(!process.line.is_empty());
        let tid = nix::unistd::gettid().as_raw() as u32;
        let family = Family {
            pid: std::process::id(),
            parent: std::os::unix::process::parent_id(),
        };
        assert_eq!(processes.family(tid, 0), family);
    }

    #[test]
    fn who_becomes_another_program_is_another() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read go; exec sleep 60"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut processes = Processes::default();
        let begun = Instant::now();
        let pid = child.id();
        let until = |name: &str| loop {
            // As the first look at a new process.
            let mut fresh = Processes::default();
            let number = fresh.of(pid, 0);
            let process = &fresh.all[number as usize];
            // In the middle of an exec there is a name and no command line.
            if process.command == name && !process.line.is_empty() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no {name}");
        };
        until("sh");
        let before = processes.of(child.id(), 0);
        assert_eq!(processes.of(child.id(), 0), before);
        drop(child.stdin.take());
        until("sleep");
        let after = processes.of(child.id(), 0);
        assert_ne!(before, after);
        assert_eq!(processes.all[after as usize].command, "sleep");
        assert_eq!(processes.all[after as usize].line, "sleep 60");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_ne!(
            processes.of(child.id(), 5),
            after,
            "another user is another"
        );
    }

    /// As one with a number that was used before: the name tells nothing.
    #[test]
    fn who_becomes_another_of_the_same_name_is_another() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read go; exec sh -c 'read go; :' second"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let until = |is_there: fn(&str) -> bool| {
            let begun = Instant::now();
            while !is_there(&line(pid)) || command(pid) != "sh" {
                assert!(begun.elapsed() < Duration::from_secs(60), "{}", line(pid));
            }
        };
        until(|line| line.contains("exec"));
        let mut processes = Processes::default();
        let parent = std::process::id();
        let before = processes.of(pid, 0);
        use std::io::Write;
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        until(|line| line.contains("second") && !line.contains("exec"));
        let later = |processes: &mut Processes| {
            let thread = processes.threads.get_mut(&pid).unwrap();
            thread.looked -= AGAIN;
            thread.parent = 7;
        };
        later(&mut processes);
        assert_eq!(processes.family(pid, 0), Family { pid, parent });
        later(&mut processes);
        let after = processes.of(pid, 0);
        assert_ne!(before, after);
        assert_eq!(processes.all[after as usize].line, line(pid));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn nobody_has_no_name() {
        let mut processes = Processes::default();
        let nobody = processes.of(0, 0);
        assert_eq!(processes.all[nobody as usize].command, "");
        assert_eq!(processes.of(0, 0), nobody);
    }
}
