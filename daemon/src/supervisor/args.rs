//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Copy-on-write snapshots over any directory.
#[derive(Debug, Parser)]
#[command(name = "llfs", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

const AFTER_HELP: &str = "\
Snapshots are taken and reverted with llctl, from anywhere inside the mount.

Exit codes:
  0  success
  1  the operation failed
  2  wrong usage
  3  no llfs mount there
  6  refused: in use, not permitted, or it needs --yes
  7  the store is damaged
  8  the store is read-only or out of space

Environment:
  LLFS_LOG         what the daemon logs, such as debug or llfs=trace (default: info)
  LLFS_LOG_FORMAT  json: the log is one JSON object a line (default: text)
  LLFS_FOLLOW      0: do not follow the callers' CPU
  LLFS_AUTOMATIC   0: take no checkpoints and give none up without being asked";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mount an overlay over a directory; returns when it is usable.
    ///
    /// Everything written afterwards goes into the store. The directory itself is not touched, until you apply the
    /// changes with `llfs unmount --apply` or `llctl apply`.
    Mount(MountArgs),
    /// Unmount: the directory shows again what was there before. The changes stay in the store.
    #[command(visible_alias = "umount")]
    Unmount(UnmountArgs),
    /// Check a store that is not mounted: tell what is damaged, and repair it as far as that is possible.
    ///
    /// Reads everything and changes nothing, unless --repair is given: then the journal ends before its first damage, a
    /// damaged superblock is written anew, and what is taken out of use that way is kept aside in the store, under names that
    /// end in `.damaged`. What would be given up is said before. Content of files that is damaged stays an error (EIO) where it is.
    Check(CheckArgs),
    /// Go on with the llfs that is installed now, without unmounting: programs notice nothing.
    Upgrade(UpgradeArgs),
    /// Give a directory that was moved or renamed its changes and snapshots back.
    Relink(RelinkArgs),
    /// Keep a directory mounted by systemd: after crashes, logins and boots it is there again.
    ///
    /// Writes the unit llfs@.service, of this user or, for root, of the system, enables it for the directory, and says
    /// each thing that it does.
    InstallService(InstallArgs),
    /// Print a script that completes the commands of llfs in a shell: bash, zsh, fish, elvish or powershell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of llfs into a directory; `llctl man` writes those of llctl.
    Man {
        /// The directory; made if it is not there.
        dir: PathBuf,
    },
    /// Serve a mount in the background.
    #[command(hide = true)]
    Serve(MountArgs),
    /// Answer the kernel, for the daemon that supervises the mount.
    #[command(hide = true)]
    Work {
        /// The mount.
        dir: PathBuf,
    },
    /// Go into a mount for its daemon.
    #[command(hide = true)]
    Visit {
        /// The mount.
        dir: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct MountArgs {
    /// The directory.
    pub(super) dir: PathBuf,
    /// Keep the changes and snapshots in this directory [default: one for each path, below ~/.local/state/llfs, or
    /// /var/lib/llfs for root].
    #[arg(long, value_name = "DIR")]
    pub(super) store: Option<PathBuf>,
    /// Stay in the foreground, and log to the terminal.
    #[arg(long, short)]
    pub(super) foreground: bool,
    /// Begin anew from what is in the directory now; the store that is there is set aside under another name.
    #[arg(long)]
    pub(super) fresh: bool,
    /// Write nothing, neither into the store nor into the directory: to look at a store, or to save what can be read of a
    /// damaged one. If its journal is damaged, the tree and the snapshots are shown as they were before the damage.
    #[arg(long, visible_alias = "ro", conflicts_with = "fresh")]
    pub(super) read_only: bool,
    /// Let the store take at most so much space, such as 500M or 20G; beyond that writing is like on a full disk, and reading,
    /// reverting and deleting snapshots still work. For this mount: the next one says it again.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) max_store: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// A store with less has no room to work in: 32 MiB.
const STORE_MIN: u64 = 32 << 20;

/// Bytes, as a number with a unit of 1024: `500M`, `1.5G`, `20GiB`.
fn size(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: f64 = number
        .parse()
        .map_err(|_| "a size is a number with a unit, such as 500M or 20G".to_owned())?;
    let unit = unit.to_ascii_uppercase();
    let unit = unit
        .strip_suffix("IB")
        .or(unit.strip_suffix('B'))
        .unwrap_or(&unit);
    let power = ["", "K", "M", "G", "T", "P"]
        .iter()
        .position(|u| *u == unit);
    let power = power.ok_or_else(|| format!("{unit} is no unit: K, M, G and T are"))?;
    let bytes = number * 1024f64.powi(power as i32);
    if !(bytes >= STORE_MIN as f64 && bytes < (1u64 << 60) as f64) {
        return Err(format!("a store needs at least {} MiB", STORE_MIN >> 20));
    }
    Ok(bytes as u64)
}

#[derive(Debug, clap::Args)]
pub(super) struct UnmountArgs {
    /// The directory.
    pub(super) dir: PathBuf,
    /// Write the present state of the tree into the directory before.
    #[arg(long)]
    pub(super) apply: bool,
    /// Apply without asking.
    #[arg(long, short, requires = "apply")]
    pub(super) yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The directory that the store belongs to.
    pub(super) dir: PathBuf,
    /// The store, if it is not the directory's usual one.
    #[arg(long, value_name = "DIR")]
    pub(super) store: Option<PathBuf>,
    /// Take out of use what is damaged, after asking.
    #[arg(long)]
    pub(super) repair: bool,
    /// Repair without asking.
    #[arg(long, short, requires = "repair")]
    pub(super) yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RelinkArgs {
    /// The directory, where it is now. It must not be mounted.
    pub(super) dir: PathBuf,
    /// Its store, if that is not where stores are by themselves. It stays where it is.
    #[arg(long, value_name = "DIR")]
    pub(super) store: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct InstallArgs {
    /// The directory.
    pub(super) dir: PathBuf,
    /// Keep the changes and snapshots in this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "remove")]
    pub(super) store: Option<PathBuf>,
    /// Unmount, and have systemd mount it no more. The changes stay in the store.
    #[arg(long)]
    pub(super) remove: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct UpgradeArgs {
    /// The directory.
    pub(super) dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("1.5GiB"), Ok(3 << 29));
        assert_eq!(size("33554432"), Ok(32 << 20));
        assert_eq!(size("20g"), Ok(20 << 30));
        for wrong in [
            "",
            "G",
            "10X",
            "1.2.3G",
            "10M",
            "0",
            "-1G",
            "99999999T",
            "1e9",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn umount_is_understood_too() {
        let args = Args::try_parse_from(["llfs", "umount", "--apply", "-y", "x"]).unwrap();
        assert!(matches!(
            args.command,
            Command::Unmount(UnmountArgs {
                apply: true,
                yes: true,
                ..
            })
        ));
        assert!(Args::try_parse_from(["llfs", "unmount", "--yes", "x"]).is_err());
    }
}
