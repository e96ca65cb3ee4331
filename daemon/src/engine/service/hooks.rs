//! Commands of the user before and after what is done: `[hooks]` of what is in force.
//!
//! No lock is held while one runs: it may use the mount, and llctl. What a hook asks for itself runs no hooks.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use llctl::config;
use llctl::protocol::{Deal, ErrorKind, Failure};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, SysconfVar, getpgid, sysconf};
use parking_lot::Mutex;

use super::Host;
use crate::relay::{HOOKS, Relay};

/// Bytes of a hook's output that are logged.
const OUTPUT_MAX: usize = 16 << 10;
/// How often it is looked whether a hook has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How long the rest of the output is waited for: something that the hook left running may keep it open.
const REST: Duration = Duration::from_millis(200);

/// Why one was killed, or not begun.
const OVER: &str = "the mount ended";

/// Hooks that run.
#[derive(Default)]
pub(super) struct Running {
    /// By process group, each with its place in the relay. Held while one is started.
    groups: Mutex<Vec<(i32, usize)>>,
    /// The mount is gone: nothing waits for them any more. Changes with the groups held.
    ended: AtomicBool,
}

/// What a hook is told in its environment, besides the mount.
struct Said<'a> {
    event: &'a str,
    when: &'a str,
    names: &'a [String],
    /// Afterwards: whether it was done, and if not, why.
    outcome: Option<Result<(), &'a Failure>>,
}

impl Running {
    /// Ends those that run; from here on none begins.
    pub fn end(&self) {
        let groups = self.groups.lock();
        self.ended.store(true, Relaxed);
        for (group, _) in groups.iter() {
            kill(*group);
        }
    }

    /// Ends what a worker before this one had started and did not live to wait for: whoever asked for it asks again.
    pub fn end_of_the_dead(relay: &Relay) {
        for (pid, noted) in relay.take_hooks() {
            let Ok(group) = i32::try_from(pid) else {
                continue;
            };
            // Another process has the number by now, which began later.
            if began(pid).is_some_and(|began| began <= noted) {
                tracing::warn!(pid, "a hook whose worker died is killed");
                kill(group);
            }
        }
    }

    /// Whether the client that is served by this thread was started by a hook.
    fn is_inside(&self) -> bool {
        let running = self.groups.lock();
        if running.is_empty() {
            return false;
        }
        let group = crate::control::peer_pid()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(|pid| getpgid(Some(Pid::from_raw(pid))).ok());
        group.is_some_and(|group| {
            running
                .iter()
                .any(|(running, _)| *running == group.as_raw())
        })
    }

    fn run(
        &self,
        relay: &Arc<Relay>,
        command: &str,
        mount: &Path,
        timeout: Duration,
        said: &Said<'_>,
    ) -> Result<(), String> {
        let (mut output, input) = std::io::pipe().map_err(|e| format!("there is no pipe: {e}"))?;
        let mut shell = Command::new("/bin/sh");
        // The shell goes into the mount, not the daemon, which must not wait for itself.
        shell
            .args(["-c", "cd -- \"$LLFS_MOUNT\" && eval \"$0\"", command])
            .current_dir("/")
            .env("LLFS_MOUNT", mount)
            .env("LLFS_EVENT", said.event)
            .env("LLFS_WHEN", said.when)
            .env("LLFS_SNAPSHOTS", said.names.join("\n"))
            .env(
                "LLFS_SNAPSHOT",
                said.names.first().map_or("", String::as_str),
            )
            .stdin(Stdio::null())
            .stdout(
                input
                    .try_clone()
                    .map_err(|e| format!("there is no pipe: {e}"))?,
            )
            .stderr(input)
            .process_group(0);
        if let Some(outcome) = said.outcome {
            shell.env(
                "LLFS_OUTCOME",
                if outcome.is_ok() { "done" } else { "failed" },
            );
            if let Err(failure) = outcome {
                shell.env("LLFS_ERROR", &failure.message);
            }
        }
        let (child, group, place) = {
            let mut groups = self.groups.lock();
            if self.ended.load(Relaxed) {
                return Err(OVER.to_owned());
            }
            let free = (0..HOOKS).find(|place| groups.iter().all(|(_, taken)| taken != place));
            let place = free.ok_or("there are too many hooks")?;
            let noting = relay.clone();
            let worker = Pid::this();
            // SAFETY: it stores into memory that is there, and asks for numbers of processes, for the time and for a signal, all of which
            // are system calls and allowed between fork and exec (signal-safety(7)).
            unsafe {
                shell.pre_exec(move || {
                    noting.become_hook(place);
                    // Where no next worker comes to end it, it begins nothing more. Sent when this thread ends, which waits for it.
                    prctl::set_pdeathsig(Signal::SIGKILL)?;
                    match Pid::parent() == worker {
                        true => Ok(()),
                        false => Err(Errno::ESRCH.into()),
                    }
                })
            };
            let child = shell
                .spawn()
                .inspect_err(|_| relay.hook_ended(place))
                .map_err(|e| format!("it cannot be started: {e}"))?;
            let group = i32::try_from(child.id()).unwrap_or(0);
            groups.push((group, place));
            (child, group, place)
        };
        // It would keep the pipe open.
        drop(shell);
        let (sender, rest) = mpsc::channel();
        thread::spawn(move || {
            let mut text = Vec::new();
            let mut piece = [0; 4096];
            while let Ok(got @ 1..) = output.read(&mut piece) {
                let room = OUTPUT_MAX.saturating_sub(text.len());
                text.extend(&piece[..got.min(room)]);
            }
            // Nobody may wait for it any more.
            sender.send(text).unwrap_or_default();
        });
        let ended = self.wait(child, group, timeout);
        relay.hook_ended(place);
        self.groups.lock().retain(|(running, _)| *running != group);
        let text = rest.recv_timeout(REST).unwrap_or_default();
        let text = llctl::escape::escaped_text(&String::from_utf8_lossy(&text))
            .trim_end()
            .to_owned();
        match &ended {
            Ok(()) => {
                tracing::info!(event = said.event, when = said.when, output = %text, "a hook ran")
            }
            Err(why) => {
                tracing::warn!(event = said.event, when = said.when, why, output = %text, "a hook failed")
            }
        }
        ended.map_err(|why| match text.lines().next_back() {
            Some(line) => format!("{why}: {line}"),
            None => why,
        })
    }
}

impl Running {
    fn wait(&self, mut child: Child, group: i32, timeout: Duration) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let over = self.ended.load(Relaxed);
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(status.to_string()),
                Ok(None) if !over && begun.elapsed() < timeout => thread::sleep(LOOK),
                Ok(None) => {
                    kill(group);
                    let ended = child.wait();
                    tracing::debug!(?ended, "a hook was killed");
                    return Err(match over {
                        true => OVER.to_owned(),
                        false => format!("it took longer than {} s", timeout.as_secs()),
                    });
                }
                Err(error) => return Err(format!("it cannot be waited for: {error}")),
            }
        }
    }
}

fn kill(group: i32) {
    if let Err(error) = killpg(Pid::from_raw(group), Signal::SIGKILL) {
        tracing::debug!(%error, "a hook has ended meanwhile");
    }
}

/// When the leader of a process group began, in nanoseconds since the system did, rounded down; `None` if there is none.
fn began(pid: u32) -> Option<u64> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may be anything: proc_pid_stat(5).
    let (_, rest) = line.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let group: u32 = fields.nth(2)?.parse().ok()?;
    let ticks: u64 = fields.nth(16)?.parse().ok()?;
    let second = sysconf(SysconfVar::CLK_TCK).ok()??;
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::try_from(second).ok()?;
    u64::try_from(nanos).ok().filter(|_| group == pid)
}

/// The commands for one kind of act.
fn commands(hooks: &config::Hooks, what: Deal) -> (Option<&String>, Option<&String>) {
    let (before, after) = match what {
        Deal::Snap => (&hooks.before_snap, &hooks.after_snap),
        Deal::Revert | Deal::Undo | Deal::Redo => (&hooks.before_revert, &hooks.after_revert),
        Deal::Delete => (&hooks.before_delete, &hooks.after_delete),
        Deal::Prune => (&hooks.before_prune, &hooks.after_prune),
        Deal::Apply => (&hooks.before_apply, &hooks.after_apply),
        _ => return (None, None),
    };
    (before.as_ref(), after.as_ref())
}

impl Host {
    /// Whether something of the user's runs before that, and may change the tree.
    pub(super) fn has_hook_before(&self, what: Deal) -> bool {
        let rules = self.engine.rules();
        commands(&rules.config.hooks, what).0.is_some() && !self.hooks.is_inside()
    }

    /// Does something between its hooks. `names` are the snapshots that it is about, and `named` those that it was.
    ///
    /// # Errors
    /// What `act` says, or that the hook before it failed: then it was not done.
    pub(super) fn hooked<T>(
        &self,
        what: Deal,
        names: &[String],
        act: impl FnOnce() -> Result<T, Failure>,
        named: impl FnOnce(&T) -> Option<Vec<String>>,
    ) -> Result<T, Failure> {
        let rules = self.engine.rules();
        let hooks = &rules.config.hooks;
        let (before, after) = commands(hooks, what);
        if (before.is_none() && after.is_none()) || self.hooks.is_inside() {
            return act();
        }
        let event = what.as_str();
        if let Some(command) = before {
            let said = Said {
                event,
                when: "before",
                names,
                outcome: None,
            };
            self.run_hook(command, hooks, &said).map_err(|why| {
                Failure::new(
                    ErrorKind::Hook,
                    format!("the hook before_{} stopped it: {why}", hook_name(what)),
                )
                .with_hint("`llctl config show` has the command; nothing was done")
            })?;
        }
        let done = act();
        if let Some(command) = after {
            let named = done.as_ref().ok().and_then(named);
            let said = Said {
                event,
                when: "after",
                names: named.as_deref().unwrap_or(names),
                outcome: Some(done.as_ref().map(drop)),
            };
            // It was logged, and what is done is done.
            drop(self.run_hook(command, hooks, &said));
        }
        done
    }
}

impl Host {
    fn run_hook(
        &self,
        command: &str,
        hooks: &config::Hooks,
        said: &Said<'_>,
    ) -> Result<(), String> {
        let relay = self.engine.relay();
        (self.hooks).run(relay, command, &self.mountpoint, hooks.timeout.get(), said)
    }

    /// Runs the hook after something that was done already.
    pub(super) fn after_only(&self, what: Deal, names: &[String]) {
        let rules = self.engine.rules();
        let hooks = &rules.config.hooks;
        if let (_, Some(command)) = commands(hooks, what) {
            let said = Said {
                event: what.as_str(),
                when: "after",
                names,
                outcome: Some(Ok(())),
            };
            // It was logged, and what is done is done.
            drop(self.run_hook(command, hooks, &said));
        }
    }
}

fn hook_name(what: Deal) -> &'static str {
    match what {
        Deal::Undo | Deal::Redo => Deal::Revert.as_str(),
        what => what.as_str(),
    }
}
