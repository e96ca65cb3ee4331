//! `llfs upgrade`: another worker, of the binary that is on the disk now.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use llctl::{Client, ClientError, ErrorKind};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::args::UpgradeArgs;
use super::crew::path_of;
use super::trouble::Trouble;
use super::unmount::find;

/// How long the new worker may take to begin.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// Asks the supervisor for another worker and waits until that serves.
pub(super) fn run(args: &UpgradeArgs) -> Result<(), Trouble> {
    let mount = find(&args.dir)?;
    let status = || Client::connect_mount(&mount)?.status();
    let before = status()?;
    // Without a worker of its own the daemon would take the signal for its end.
    let (Some(old), Ok(supervisor)) = (before.worker, i32::try_from(before.pid)) else {
        return Err(Trouble::new(
            "the daemon is of a version that cannot be exchanged while it runs",
        )
        .hint("unmount and mount again"));
    };
    let wanted = on_disk(supervisor);
    // SIGUSR2 is `stop::UPGRADE`.
    kill(Pid::from_raw(supervisor), Signal::SIGUSR2)
        .map_err(|errno| Trouble::because("cannot signal the daemon", errno.desc()))?;
    let begun = Instant::now();
    let now = loop {
        match status() {
            Ok(now) if now.worker != Some(old) => break now,
            Ok(_) => {}
            // The new worker may have a long journal to read before it greets, and all clients come to it at once.
            Err(error) if is_soon(&error) && begun.elapsed() <= PATIENCE => {}
            Err(error) => return Err(error.into()),
        }
        if begun.elapsed() > PATIENCE {
            return Err(
                Trouble::new("the daemon goes on with the worker that it has")
                    .hint("its log, llfs.log in the store, may tell why"),
            );
        }
        thread::sleep(PAUSE);
    };
    let runs = now
        .worker
        .and_then(|worker| file(&format!("/proc/{worker}/exe")));
    // Or what came to its place since.
    if let (Some(runs), Some(wanted)) = (runs, wanted)
        && runs != wanted
        && on_disk(supervisor) != Some(runs)
    {
        let what = format!("{} is still served by the llfs from before", now.mountpoint);
        return Err(Trouble::new(what).hint(
            "the new one did not serve; the daemon's log, llfs.log in the store, may tell why",
        ));
    }
    let line = if args.json {
        serde_json::json!({
            "mountpoint": now.mountpoint,
            "before": before.version,
            "version": now.version,
            "worker": now.worker,
        })
        .to_string()
    } else {
        format!("{} is now served by llfs {}", now.mountpoint, now.version)
    };
    // It is done, whether or not anybody reads that.
    drop(writeln!(io::stdout(), "{line}"));
    Ok(())
}

/// Which file has the name under which the supervisor was started; `None` if that cannot be seen.
fn on_disk(supervisor: i32) -> Option<(u64, u64)> {
    let process = format!("/proc/{supervisor}");
    let path = path_of(format!("{process}/exe").as_ref()).ok()?;
    file(&format!("{process}/root{}", path.display()))
}

fn file(path: &str) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Whether it may be otherwise in a moment.
fn is_soon(error: &ClientError) -> bool {
    match error {
        ClientError::Lost(_) => true,
        ClientError::Refused(refused) => refused.kind == ErrorKind::Busy,
        _ => false,
    }
}
