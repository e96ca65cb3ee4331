//! `llfs mount`, and `llfs serve`, which it starts in the background.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use llctl::escape::Shown;
use llctl::locate;

use super::args::{CheckArgs, MountArgs};
use super::handoff::{self, Mounted, Outcome};
use super::serve::{Order, serve};
use super::trouble::Trouble;
use super::{checks, logging, place, relink};

/// Mounts and prints what is mounted.
pub(super) fn run(args: &MountArgs) -> Result<(), Trouble> {
    let order = order(args)?;
    let stands_there = locate::current_dir().is_ok_and(|cwd| cwd.starts_with(&order.base));
    if args.foreground {
        logging::start();
        return serve(&order, true, &mut |mounted| {
            print(mounted, args.json, stands_there);
            Ok(())
        });
    }
    let mounted = start_daemon(&order)?;
    print(&mounted, args.json, stands_there);
    Ok(())
}

/// Serves in the background, as [`run`] started it, and tells it how the start went.
pub(super) fn run_daemon(args: &MountArgs) -> Result<(), Trouble> {
    // Fails only for the leader of a process group, whom nobody started in the background.
    if let Err(errno) = nix::unistd::setsid() {
        eprintln!("llfs: no session of its own: {errno}");
    }
    logging::start();
    let mut told = false;
    let done = order(args).and_then(|order| {
        serve(&order, false, &mut |mounted| {
            told = true;
            handoff::send(&Outcome::Mounted(mounted.clone()))
        })
    });
    match done {
        Err(trouble) if !told => {
            let code = trouble.code;
            handoff::send(&Outcome::Failed(trouble))
                .map_err(|error| Trouble::because("cannot report", error))?;
            // The parent reports it; here only the code is left to say.
            std::process::exit(i32::from(code));
        }
        done => done,
    }
}

/// Checks a store; the exit code.
pub(super) fn check(args: &CheckArgs) -> Result<u8, Trouble> {
    let (base, store) = places(&args.dir, args.store.as_deref())?;
    crate::check::run(&crate::check::Order {
        base,
        store,
        repair: args.repair,
        yes: args.yes,
        json: args.json,
    })
}

/// Settles which directory and which store are meant.
fn places(dir: &Path, store: Option<&Path>) -> Result<(PathBuf, PathBuf), Trouble> {
    let base = locate::resolve(dir).map_err(|error| {
        let trouble = Trouble::new(error.to_string());
        if dir.exists() {
            trouble
        } else {
            trouble.hint("make the directory first: mkdir DIR")
        }
    })?;
    let store = match store {
        Some(store) => store.to_path_buf(),
        None => place::default_store(&base).ok_or_else(|| {
            Trouble::new("there is no place for the store: neither XDG_STATE_HOME nor HOME is set")
                .hint("name one with --store DIR")
        })?,
    };
    let store = checks::canonical(&store)?;
    Ok((base, store))
}

fn order(args: &MountArgs) -> Result<Order, Trouble> {
    let (base, store) = places(&args.dir, args.store.as_deref())?;
    if args.store.is_none() && !args.fresh && !store.exists() {
        relink::check_not_moved(&base)?;
    }
    Ok(Order {
        base,
        store,
        fresh: args.fresh,
        read_only: args.read_only,
        max_store: args.max_store,
    })
}

fn start_daemon(order: &Order) -> Result<Mounted, Trouble> {
    let failed = |error| Trouble::because("cannot start the daemon", error);
    let early = logging::early().map_err(failed)?;
    let mut command = Command::new(own_program().map_err(failed)?);
    command.arg("serve").arg("--store").arg(&order.store);
    if order.fresh {
        command.arg("--fresh");
    }
    if order.read_only {
        command.arg("--read-only");
    }
    if let Some(bytes) = order.max_store {
        command.arg("--max-store").arg(bytes.to_string());
    }
    let mut child = command
        .arg("--")
        .arg(&order.base)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(early.try_clone().map_err(failed)?)
        .spawn()
        .map_err(failed)?;
    let pipe = child
        .stdout
        .take()
        .ok_or_else(|| Trouble::new("cannot start the daemon: it has no pipe to here"))?;
    match handoff::receive(pipe) {
        Ok(Some(Outcome::Mounted(mounted))) => Ok(mounted),
        Ok(Some(Outcome::Failed(trouble))) => {
            child.wait().map_err(failed)?;
            Err(trouble)
        }
        Ok(None) => {
            let status = child.wait().map_err(failed)?;
            let said = logging::said(&early).map_err(failed)?;
            Err(Trouble::new(format!(
                "the daemon ended before the mount was usable ({status})\n{said}"
            ))
            .hint(format!(
                "its log may tell more: {}",
                order.store.join(logging::LOG).shown()
            )))
        }
        Err(error) => Err(Trouble::because(
            "the daemon's report cannot be read",
            error,
        )),
    }
}

/// The running binary itself, even if it was deleted meanwhile.
fn own_program() -> io::Result<PathBuf> {
    let named = std::env::current_exe()?;
    Ok(if named.exists() {
        named
    } else {
        PathBuf::from("/proc/self/exe")
    })
}

fn print(mounted: &Mounted, json: bool, stands_there: bool) {
    let shown = |path: &Path| path.shown();
    let line = if json {
        serde_json::json!({
            "mountpoint": mounted.mountpoint,
            "store": mounted.store,
            "pid": mounted.pid,
            "revived": mounted.revived,
            "read_only": mounted.read_only,
            "reenter": stands_there,
        })
        .to_string()
    } else {
        let store = shown(mounted.store.as_path());
        format!(
            "mounted {} {}(store {store})",
            shown(mounted.mountpoint.as_path()),
            if mounted.read_only { "read-only " } else { "" }
        )
    };
    // The mount stands, whether or not anybody reads that.
    drop(writeln!(io::stdout(), "{line}"));
    if json {
        return;
    }
    if mounted.revived {
        eprintln!("Note: its daemon had died; everything that it had acknowledged is there.");
    }
    if stands_there {
        eprintln!(
            "Note: this shell still stands in the directory below the mount. Re-enter it: cd ."
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llctl::exit;

    #[test]
    fn a_missing_directory_is_named_with_a_hint() {
        let args = MountArgs {
            dir: "/nowhere/at/all".into(),
            store: None,
            foreground: false,
            fresh: false,
            read_only: false,
            max_store: None,
            json: false,
        };
        let trouble = order(&args).err().unwrap();
        assert!(trouble.message.contains("/nowhere/at/all"));
        assert!(trouble.hint.is_some());
        assert_eq!(trouble.code, exit::FAILED);
    }
}
