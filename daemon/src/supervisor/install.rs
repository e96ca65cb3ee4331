//! `llfs install-service`: a unit of systemd that keeps a directory mounted, over logouts, crashes and boots.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use llctl::escape::Shown;
use llctl::escape::escaped;
use llctl::exit;
use llctl::locate::{self, FSTYPE};
use llctl::protocol::BytePath;
use nix::unistd::{User, geteuid};

use super::args::InstallArgs;
use super::checks;
use super::trouble::{Trouble, argument};

/// The units as they are in the repository, of a user and of the system.
const USER: &str = include_str!("../../../systemd/user/llfs@.service");
const SYSTEM: &str = include_str!("../../../systemd/system/llfs@.service");
/// What stands for the program in them.
const PROGRAM: &str = "ExecStart=:llfs ";
/// The template's name, and that of what is added to it for one directory.
const TEMPLATE: &str = "llfs@.service";
const ADDED: &str = "llfs.conf";

/// Where things are, and whose.
struct Place {
    system: bool,
    units: PathBuf,
}

/// What was done, for the user.
#[derive(Default)]
struct Account {
    lines: Vec<String>,
    files: Vec<BytePath>,
    notes: Vec<String>,
}

/// Installs the unit of a directory, or takes it away.
pub(super) fn run(args: &InstallArgs) -> Result<(), Trouble> {
    let dir = match locate::resolve(&args.dir) {
        Ok(dir) => dir,
        // A service can be taken away whose directory is gone already.
        Err(_) if args.remove => checks::canonical(&args.dir)?,
        Err(error) => return Err(Trouble::new(error.to_string())),
    };
    let place = Place::find()?;
    let unit = format!("llfs@{}.service", escaped_path(&dir));
    let mut account = Account::default();
    let done = match args.remove {
        true => remove(&place, &unit, &mut account),
        false => install(&place, &dir, args, &unit, &mut account),
    };
    if !args.json {
        for line in &account.lines {
            println!("{line}");
        }
        for note in &account.notes {
            eprintln!("Note: {note}");
        }
    }
    done?;
    if args.json {
        let account = serde_json::json!({
            "unit": unit,
            "directory": BytePath::from(dir.as_path()),
            "removed": args.remove,
            "files": account.files,
            "done": account.lines,
            "notes": account.notes,
        });
        println!("{account}");
    }
    Ok(())
}

impl Place {
    fn find() -> Result<Place, Trouble> {
        if geteuid().is_root() {
            return Ok(Place {
                system: true,
                units: "/etc/systemd/system".into(),
            });
        }
        let absolute = |name| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let config =
            absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
        let config = config
            .ok_or_else(|| Trouble::new("neither XDG_CONFIG_HOME nor HOME says where units go"))?;
        Ok(Place {
            system: false,
            units: config.join("systemd/user"),
        })
    }

    /// `systemctl` with these arguments, as it is shown and as it is run.
    fn systemctl(&self, args: &[&str], account: &mut Account) -> Result<(), Trouble> {
        let mut all = Vec::new();
        if !self.system {
            all.push("--user");
        }
        all.extend(args);
        let shown = format!("systemctl {}", all.join(" "));
        let mut command = Command::new("systemctl");
        let output = command.args(&all).stdin(Stdio::null()).output();
        let why = match output {
            Ok(output) if output.status.success() => {
                account.lines.push(format!("ran   {shown}"));
                return Ok(());
            }
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        Err(Trouble::new(format!("`{shown}` failed: {why}"))
            .hint("what was written stays; run that again where systemd can be reached"))
    }

    /// Where links to units that begin by themselves are.
    fn wants(&self) -> PathBuf {
        self.units.join(match self.system {
            true => "multi-user.target.wants",
            false => "default.target.wants",
        })
    }
}

fn install(
    place: &Place,
    dir: &Path,
    args: &InstallArgs,
    unit: &str,
    account: &mut Account,
) -> Result<(), Trouble> {
    let store = args.store.as_deref().map(checks::canonical).transpose()?;
    if let Some(store) = &store {
        checks::apart(dir, store)?;
    }
    let program = std::env::current_exe()
        .map_err(|error| Trouble::because("cannot find this program", error))?;
    runnable(&program)?;
    let template = if place.system { SYSTEM } else { USER };
    let start = format!("ExecStart=:{} ", quoted(program.as_os_str())?);
    let text = template.replace(PROGRAM, &start);
    write(&place.units.join(TEMPLATE), &text, account)?;
    let added = place.units.join(format!("{unit}.d")).join(ADDED);
    match addition(place, dir, &program, store.as_deref())? {
        Some(text) => write(&added, &text, account)?,
        None => gone(&added, account)?,
    }
    place.systemctl(&["daemon-reload"], account)?;
    let mounted = checks::mounts()?
        .iter()
        .any(|mount| mount.fstype == FSTYPE && mount.mountpoint == dir);
    if mounted {
        place.systemctl(&["enable", unit], account)?;
        let mode = if place.system { "" } else { " --user" };
        account.notes.push(format!(
            "{dir} is mounted already, and not by the service. To change over: llfs unmount {dir} && systemctl{mode} start {unit}",
            dir = argument(dir)
        ));
    } else {
        place.systemctl(&["enable", "--now", unit], account)?;
    }
    if !place.system && !lingers() {
        account.notes.push(
            "it is mounted while you are logged in; from boot on with: loginctl enable-linger"
                .to_owned(),
        );
    }
    Ok(())
}

fn remove(place: &Place, unit: &str, account: &mut Account) -> Result<(), Trouble> {
    let template = place.units.join(TEMPLATE);
    if !template.exists() {
        return Err(Trouble::new(format!(
            "no service of llfs is installed in {}",
            place.units.shown()
        ))
        .code(exit::NO_MOUNT));
    }
    place.systemctl(&["disable", "--now", unit], account)?;
    gone(&place.units.join(format!("{unit}.d")).join(ADDED), account)?;
    let links = fs::read_dir(place.wants()).into_iter().flatten().flatten();
    let others = links.filter(|link| {
        let name = link.file_name();
        let name = name.as_bytes();
        name.starts_with(b"llfs@") && name != unit.as_bytes()
    });
    if others.count() == 0 {
        gone(&template, account)?;
    }
    place.systemctl(&["daemon-reload"], account)?;
    account
        .notes
        .push("the changes and snapshots are still in the store".to_owned());
    Ok(())
}

/// What this directory needs besides the template.
fn addition(
    place: &Place,
    dir: &Path,
    program: &Path,
    store: Option<&Path>,
) -> Result<Option<String>, Trouble> {
    let mut text = String::new();
    if place.system {
        // Not of the directory itself: that will be the unit's own mount.
        let mut disks: Vec<&Path> = dir.parent().into_iter().collect();
        disks.extend(store);
        let disks: Result<Vec<String>, Trouble> =
            disks.iter().map(|path| quoted(path.as_os_str())).collect();
        text.push_str(&format!("[Unit]\nRequiresMountsFor={}\n", disks?.join(" ")));
    }
    if let Some(store) = store {
        text.push_str(&format!(
            "[Service]\nExecStart=\nExecStart=:{} mount --foreground --store {} %f\n",
            quoted(program.as_os_str())?,
            quoted(store.as_os_str())?
        ));
    }
    Ok((!text.is_empty()).then_some(text))
}

/// Writes a file in one step, with the directories above it.
fn write(path: &Path, text: &str, account: &mut Account) -> Result<(), Trouble> {
    let shown = escaped(path.as_os_str().as_bytes());
    account.files.push(path.into());
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        account.lines.push(format!("kept  {shown}"));
        return Ok(());
    }
    let written = || -> io::Result<()> {
        if let Some(parent) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)?;
        }
        let mut new = path.as_os_str().to_owned();
        new.push("~");
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(true).write(true);
        let mut file = options.mode(0o644).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().map_err(|error| Trouble::because(format!("cannot write {shown}"), error))?;
    account.lines.push(format!("wrote {shown}"));
    Ok(())
}

/// Removes a file, and its directory if that is one of additions and empty now.
fn gone(path: &Path, account: &mut Account) -> Result<(), Trouble> {
    let shown = escaped(path.as_os_str().as_bytes());
    match fs::remove_file(path) {
        Ok(()) => account.lines.push(format!("removed {shown}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(Trouble::because(format!("cannot remove {shown}"), error));
        }
    }
    let dir = path
        .parent()
        .filter(|dir| dir.extension() == Some(OsStr::new("d")));
    match dir.map(fs::remove_dir) {
        Some(Err(error)) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(
            Trouble::because(format!("cannot remove the directory of {shown}"), error),
        ),
        _ => Ok(()),
    }
}

/// Whether this user's services go on without a login.
fn lingers() -> bool {
    let user = User::from_uid(geteuid()).ok().flatten();
    user.is_some_and(|user| {
        Path::new("/var/lib/systemd/linger")
            .join(user.name)
            .exists()
    })
}

/// An absolute path as the name of an instance, see `systemd-escape --path`.
fn escaped_path(path: &Path) -> String {
    let mut name = String::new();
    let bytes = path.as_os_str().as_bytes();
    let inner = bytes.strip_prefix(b"/").unwrap_or(bytes);
    for (at, &byte) in inner.iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            b if b.is_ascii_alphanumeric() || b":_.".contains(&b) => name.push(char::from(b)),
            b => name.push_str(&format!("\\x{b:02x}")),
        }
    }
    match name.is_empty() {
        true => "-".to_owned(),
        false => name,
    }
}

/// A word of a line of a unit.
fn quoted(word: &OsStr) -> Result<String, Trouble> {
    let text = word
        .to_str()
        .filter(|text| !text.contains(char::is_control));
    let text = text.ok_or_else(|| {
        Trouble::new(format!(
            "{} cannot be written into a unit",
            escaped(word.as_bytes())
        ))
        .hint("use a path without special characters")
    })?;
    let inner = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.+,@".contains(&b);
    Ok(match text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("\"{inner}\""),
    })
}

/// systemd runs no program with quotes or backslashes in its path, however they are written (`string_is_safe` in its
/// config_parse_exec).
fn runnable(program: &Path) -> Result<(), Trouble> {
    let refused = |byte: &u8| b"\"'\\".contains(byte);
    match program.as_os_str().as_bytes().iter().any(refused) {
        false => Ok(()),
        true => Err(Trouble::new(format!(
            "systemd does not run {}, for the quotes or backslashes in its path",
            program.shown()
        ))
        .hint("put llfs at another path, and install the service from there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_as_systemd_does_it() {
        let paths = [
            "/srv/data",
            "/",
            "/.hidden/a-b",
            "/a b/ü$%/c.d:e_f",
            "/x/.y",
        ];
        let expected = [
            "srv-data",
            "-",
            "\\x2ehidden-a\\x2db",
            "a\\x20b-\\xc3\\xbc\\x24\\x25-c.d:e_f",
            "x-.y",
        ];
        for (path, expected) in paths.iter().zip(expected) {
            assert_eq!(escaped_path(Path::new(path)), expected);
            let mut theirs = Command::new("systemd-escape");
            if let Ok(output) = theirs.args(["--path", path]).output() {
                let name = String::from_utf8(output.stdout).unwrap();
                assert_eq!(name.trim_end(), expected, "systemd says otherwise");
            }
        }
    }

    #[test]
    fn words_are_quoted_where_they_must_be() {
        let quoted = |word: &str| quoted(OsStr::new(word)).unwrap();
        assert_eq!(quoted("/usr/bin/llfs"), "/usr/bin/llfs");
        assert_eq!(quoted("/a b/100%/\"q\"\\"), "\"/a b/100%%/\\\"q\\\"\\\\\"");
        assert!(super::quoted(OsStr::new("/a\nb")).is_err());
    }

    #[test]
    fn both_units_name_the_program_once() {
        for unit in [USER, SYSTEM] {
            assert_eq!(unit.matches(PROGRAM).count(), 1);
            assert!(unit.contains("FileDescriptorStoreMax=8"));
        }
    }

    /// The disks of the directory and of the store are there before the service, and it says so of each.
    #[test]
    fn a_service_of_the_system_waits_for_its_disks() {
        let place = |system| Place {
            system,
            units: "/units".into(),
        };
        let text = |system, store: Option<&str>| {
            let store = store.map(Path::new);
            addition(
                &place(system),
                Path::new("/srv/a b"),
                Path::new("/o p/llfs"),
                store,
            )
            .unwrap()
        };
        assert_eq!(text(false, None), None);
        let waits = "[Unit]\nRequiresMountsFor=/srv\n";
        assert_eq!(text(true, None).as_deref(), Some(waits));
        let start = "[Service]\nExecStart=\nExecStart=:\"/o p/llfs\" mount --foreground --store \"/d/100%%\" %f\n";
        assert_eq!(text(false, Some("/d/100%")).as_deref(), Some(start));
        let both = format!("[Unit]\nRequiresMountsFor=/srv \"/d/100%%\"\n{start}");
        assert_eq!(text(true, Some("/d/100%")), Some(both));
    }

    /// What keeps a mount up, and what must not be there because it would take it away.
    #[test]
    fn both_units_say_what_keeps_a_mount_up() {
        for unit in [USER, SYSTEM] {
            let lines: Vec<&str> = unit.lines().map(str::trim).collect();
            for line in [
                "Type=notify",
                "NotifyAccess=main",
                "FileDescriptorStoreMax=8",
                "Restart=on-failure",
                "RestartSec=100ms",
                "RestartPreventExitStatus=2 7 8",
                "StartLimitBurst=10",
                "WatchdogSec=2min",
                "KillMode=mixed",
                "UMask=0077",
            ] {
                assert!(lines.contains(&line), "{line}");
            }
            // A namespace of its own would hide the mount from everybody else.
            for hides in [
                "Private",
                "Protect",
                "ReadOnlyPaths",
                "InaccessiblePaths",
                "TemporaryFileSystem",
                "RootDirectory",
            ] {
                let found = lines.iter().find(|line| line.starts_with(hides));
                assert_eq!(found, None);
            }
        }
        // fusermount3 would have no rights.
        assert!(!USER.lines().any(|line| line.starts_with("NoNewPrivileges")));
        assert!(SYSTEM.lines().any(|line| line == "NoNewPrivileges=yes"));
        let exits = [exit::USAGE, exit::DAMAGED, exit::NO_WRITE];
        assert_eq!(exits, [2, 7, 8]);
    }
}
