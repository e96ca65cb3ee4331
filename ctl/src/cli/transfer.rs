//! `llctl export` and `llctl import`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap_complete::ArgValueCompleter;
use llctl::client::Known;
use llctl::escape::escaped;
use llctl::protocol::{BytePath, Failure, Progress, ProgressUnit, SnapInfo};
use llctl::transfer::{Reader, Writer};
use llctl::{Client, ClientError, ErrorKind, SnapName, exit, plain};
use serde::Serialize;

use super::fail::Fail;
use super::output::Output;
use super::progress::Bar;
use super::{Outcome, complete, units};

/// What `export` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes all that the snapshots show, untouched files of the directory below the mount too, with owners, times, attributes and what the \
snapshots say of themselves, compressed and with checksums. `llctl import` makes snapshots of it, in any mount. Of several \
snapshots, each but the first is written as what differs from the one before; with --from, the first too, and only a mount that \
has a snapshot with that one's hash can import it.

With -o, the file is there when it is whole; until then it is FILE.part, which the same command goes on with after an interruption. Only \
you can read it.

Examples:
  llctl export before-upgrade > before-upgrade.llfs
  llctl export monday tuesday -o week.llfs
  llctl export tuesday --from monday | ssh host llctl -C /work import")]
pub struct ExportArgs {
    /// The snapshots
    #[arg(required = true, value_name = "NAME")]
    #[arg(add = ArgValueCompleter::new(complete::snapshots))]
    pub names: Vec<SnapName>,
    /// Only what differs from this snapshot
    #[arg(long, value_name = "OTHER")]
    #[arg(add = ArgValueCompleter::new(complete::snapshots))]
    pub from: Option<SnapName>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What `import` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The tree stays as it is: what is imported are snapshots, to be looked at, compared, reverted to and deleted like others, but for \
times such as @10m, which mean what was taken here. All of the file becomes snapshots, or nothing: a file that is damaged or \
not whole leaves nothing behind, and what comes out is compared with the hash of what was exported.

The same command goes on where an interrupted one was, as long as the daemon's worker lives; if it dies, what was read from a file is read \
again.

Examples:
  llctl import before-upgrade.llfs
  llctl import --as theirs < before-upgrade.llfs")]
pub struct ImportArgs {
    /// The file; - or none for standard input
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Call the snapshot so; of several, give the option several times, in their order
    #[arg(long = "as", value_name = "NAME")]
    pub names: Vec<SnapName>,
}

#[derive(Serialize)]
struct Exported<'a> {
    snapshots: &'a [SnapName],
    file: BytePath,
    bytes: u64,
}

/// `llctl export`
pub fn export(client: &mut Client, args: ExportArgs, out: &mut Output) -> Outcome {
    let Some(path) = &args.output else {
        if out.json {
            return Err(usage(
                "with --json, the export cannot go to standard output",
                "name a file with -o",
            ));
        }
        if io::stdout().is_terminal() {
            return Err(usage(
                "an export is not written to a terminal",
                "redirect it to a file, or name one with -o",
            ));
        }
        let to = BufWriter::new(io::stdout().lock());
        let writer = Writer::new(to)?;
        write(client, &args, writer, Known::default(), out)?;
        return Ok(exit::OK);
    };
    let part = part_of(path);
    if path.symlink_metadata().is_ok() {
        return Err(exists(path, "choose another name, or remove that file"));
    }
    let failed = |error: io::Error| file_failure("cannot write", &part, &error);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // It holds all that the tree holds, whoever may read that there.
    let mut file = options.mode(0o600).open(&part).map_err(failed)?;
    // Until this process ends. Another export may have given the file its own name since it was opened.
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !plain::is_at(&file, &part) {
        let shown = escaped(part.as_os_str().as_bytes());
        let failure = Failure::new(ErrorKind::Busy, format!("another export writes {shown}"));
        let failure = failure.with_hint("wait for its end, or choose another name");
        return Err(Fail::Client(failure.into()));
    }
    let (reader, known) = kept(file.try_clone().map_err(failed)?);
    let end = reader.as_ref().map_or(0, Reader::end);
    file.set_len(end).map_err(failed)?;
    file.seek(SeekFrom::Start(end)).map_err(failed)?;
    let to = BufWriter::new(file);
    let writer = match &reader {
        Some(reader) => Writer::after(reader, to),
        None => Writer::new(to),
    };
    drop(reader);
    let writer = writer.map_err(failed)?;
    let (to, bytes) = write(client, &args, writer, known, out)?;
    let file = to.into_inner().map_err(|error| failed(error.into()))?;
    file.sync_all().map_err(failed)?;
    match place(&part, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let shown = escaped(part.as_os_str().as_bytes());
            return Err(exists(path, &format!("the export is whole, in {shown}")));
        }
        done => done.map_err(failed)?,
    }
    if out.json {
        out.object(&Exported {
            snapshots: &args.names,
            file: BytePath::from(path.as_path()),
            bytes,
        })?;
    } else {
        out.line(format!(
            "Exported {} to {}: {}.",
            units::count(args.names.len() as u64, "snapshot"),
            escaped(path.as_os_str().as_bytes()),
            units::size(bytes),
        ))?;
    }
    Ok(exit::OK)
}

fn exists(path: &Path, hint: &str) -> Fail {
    let shown = escaped(path.as_os_str().as_bytes());
    let failure = Failure::new(ErrorKind::Exists, format!("{shown} is there already"));
    Fail::Client(failure.with_hint(hint).into())
}

/// Gives a file its name, if nothing has that.
fn place(part: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(part, path) {
        Ok(()) => fs::remove_file(part),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Not every disk has links.
        Err(_) => fs::rename(part, path),
    }
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// The blocks that are whole at the beginning of a file; what follows is written anew.
fn kept(file: File) -> (Option<Reader<BufReader<File>>>, Known) {
    let mut known = Known::default();
    let Ok(mut reader) = Reader::new(BufReader::new(file)) else {
        return (None, known);
    };
    while let Ok(Some(block)) = reader.block() {
        known.add(&block);
    }
    (Some(reader), known)
}

fn write<W: Write>(
    client: &mut Client,
    args: &ExportArgs,
    mut writer: Writer<W>,
    known: Known,
    out: &Output,
) -> Result<(W, u64), Fail> {
    let mut bar = Bar::new(out.json);
    let exported = client.export(args.names.clone(), args.from.clone(), known, |block| {
        writer.block(block)?;
        bar.show(&progress("exported", writer.written(), None));
        Ok(())
    });
    bar.clear();
    exported?;
    Ok(writer.finish()?)
}

fn progress(what: &str, done: u64, total: Option<u64>) -> Progress {
    Progress {
        what: what.to_owned(),
        done,
        total,
        unit: ProgressUnit::Bytes,
    }
}

/// How often an import begins anew because the worker died or the base was changed.
const AGAIN_MAX: u32 = 5;

/// `llctl import`
pub fn import(client: &mut Client, args: ImportArgs, out: &mut Output) -> Outcome {
    let file = args.file.filter(|file| file.as_os_str() != "-");
    let all = match &file {
        None if io::stdin().is_terminal() => {
            return Err(usage(
                "an export is not read from a terminal",
                "name its file",
            ));
        }
        None => read(client, io::stdin().lock(), None, &args.names, out)?,
        Some(path) => {
            let failed = |error: io::Error| file_failure("cannot read", path, &error);
            let mut file = File::open(path).map_err(failed)?;
            let found = file.metadata().map_err(failed)?;
            let total = found.is_file().then_some(found.len());
            let mut again = 0;
            loop {
                let from = BufReader::new(&file);
                match read(client, from, total, &args.names, out) {
                    Err(Fail::Client(ClientError::Failure(failure)))
                        if failure.kind == ErrorKind::Conflict
                            && total.is_some()
                            && again < AGAIN_MAX =>
                    {
                        again += 1;
                        file.rewind().map_err(failed)?;
                    }
                    done => break done?,
                }
            }
        }
    };
    if out.json {
        out.keyed("imported", &all)?;
        return Ok(exit::OK);
    }
    for snapshot in &all {
        let hash = snapshot.hash.as_deref().unwrap_or_default();
        out.line(format!(
            "Imported {}, hash {hash}.",
            escaped(snapshot.name.as_bytes())
        ))?;
    }
    Ok(exit::OK)
}

fn read<R: Read>(
    client: &mut Client,
    from: R,
    total: Option<u64>,
    names: &[SnapName],
    out: &Output,
) -> Result<Vec<SnapInfo>, Fail> {
    let mut bar = Bar::new(out.json);
    let done = client.import(from, names.to_vec(), |done| {
        bar.show(&progress("imported", done, total));
    });
    bar.clear();
    Ok(done?)
}

fn usage(message: &str, hint: &str) -> Fail {
    Fail::Refused {
        code: exit::USAGE,
        kind: "invalid",
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
    }
}

fn file_failure(what: &str, path: &Path, error: &io::Error) -> Fail {
    let shown = escaped(path.as_os_str().as_bytes());
    Fail::Client(Failure::io(format!("{what} {shown}"), error).into())
}
