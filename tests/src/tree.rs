//! Big random trees: making them, and changing them in every way.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FallocateFlags, RenameFlags};
use nix::sys::stat::{Mode, UtimensatFlags};
use nix::sys::time::TimeSpec;

use crate::dice::{Random, pattern};
use crate::sys::{self, Mapping};

/// Makes a tree of about `objects` objects of every kind below `root`, always the same for the
/// same seed. As another user than root, what only root may do is left out.
pub fn plant(root: &Path, seed: u64, objects: usize) -> io::Result<()> {
    let mut random = Random::new(seed);
    let root_user = nix::unistd::geteuid().is_root();
    let (mut dirs, mut files) = (vec![root.to_path_buf()], Vec::new());
    for number in 0..objects {
        let parent = dirs[random.below(dirs.len())].clone();
        let path = parent.join(name(&mut random, number));
        match random.below(100) {
            0..10 => {
                fs::create_dir(&path)?;
                dirs.push(path.clone());
            }
            10..16 if !files.is_empty() => {
                let source: &PathBuf = &files[random.below(files.len())];
                fs::hard_link(source, &path)?;
            }
            16..20 => symlink(format!("../target-{number}"), &path)?,
            20..21 => nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o640))?,
            _ => {
                make_file(&path, &mut random)?;
                files.push(path.clone());
            }
        }
        adorn(&path, &mut random, root_user)?;
    }
    // Directories got their times from what was put into them: give some of them old ones.
    for dir in dirs
        .iter()
        .skip(1)
        .filter(|dir| dir.as_os_str().len() % 3 == 0)
    {
        set_time(dir, 1_500_000_000, 42)?;
    }
    Ok(())
}

fn name(random: &mut Random, number: usize) -> PathBuf {
    let bytes = match random.below(20) {
        0 => format!("{number} with blanks\nand a newline").into_bytes(),
        1 => [format!("{number}-").as_bytes(), b"\xff\xfe\x1b[31m"].concat(),
        2 => [format!("{number:08}").as_bytes(), &[b'n'; 247]].concat(),
        3 => format!(".hidden-{number}").into_bytes(),
        _ => format!("n{number}").into_bytes(),
    };
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
}

fn make_file(path: &Path, random: &mut Random) -> io::Result<()> {
    let file = File::create(path)?;
    let fill = random.next_u64() as u16;
    match random.below(12) {
        0 => Ok(()),
        1 => {
            // A hole, some bytes, a hole at the end.
            file.write_all_at(&pattern(fill, 5000), 100_000)?;
            file.set_len(250_000)
        }
        2 => file.write_all_at(&pattern(fill, 120_000), 0),
        3 => file.write_all_at(&pattern(fill, 4096), 0),
        _ => file.write_all_at(&pattern(fill, random.below(6000)), 0),
    }
}

fn adorn(path: &Path, random: &mut Random, root_user: bool) -> io::Result<()> {
    let found = path.symlink_metadata()?;
    if root_user && random.below(10) == 0 {
        lchown(path, Some(1000), Some(100))?;
    }
    if found.is_symlink() {
        return Ok(());
    }
    if random.below(4) == 0 {
        let modes = if found.is_dir() {
            [0o700, 0o755, 0o2755, 0o1777]
        } else {
            [0o600, 0o4755, 0o444, 0]
        };
        let modes = if root_user {
            modes
        } else {
            [0o700, 0o755, 0o750, 0o711]
        };
        fs::set_permissions(path, PermissionsExt::from_mode(modes[random.below(4)]))?;
    }
    let plain = found.is_file() || found.is_dir();
    if plain && random.below(8) == 0 && (root_user || found.is_dir()) {
        sys::set_xattr(
            path,
            b"user.llfs.test",
            &pattern(random.next_u64() as u16, random.below(100)),
            0,
        )?;
    }
    if random.below(3) == 0 {
        set_time(
            path,
            -1_000_000 + random.below(2_000_000_000) as i64,
            random.below(1_000_000_000) as i64,
        )?;
    }
    Ok(())
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) -> Result<(), Errno> {
    let times = (TimeSpec::UTIME_OMIT, TimeSpec::new(seconds, nanoseconds));
    nix::sys::stat::utimensat(
        AT_FDCWD,
        path,
        &times.0,
        &times.1,
        UtimensatFlags::NoFollowSymlink,
    )
}

/// All paths below `root`, in no special order. What vanishes meanwhile is left out.
pub fn paths(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// How often an error was what happens when several change one tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Churned {
    /// Changes that succeeded.
    pub done: usize,
    /// Changes that met something gone, or in the way.
    pub missed: usize,
}

/// Makes `count` random changes of every kind at and below `root`; stores through mappings only if
/// `mapping`: a revert may take the file away below a mapping, which is a SIGBUS.
///
/// # Errors
/// Any error that cannot come from others changing the same tree, with what was being done.
pub fn churn(root: &Path, seed: u64, count: usize, mapping: bool) -> Result<Churned, String> {
    let mut random = Random::new(seed);
    let mut known = paths(root);
    let mut churned = Churned::default();
    for number in 0..count {
        if number % 500 == 499 || known.is_empty() {
            known = paths(root);
        }
        let mut pick = || match known.is_empty() {
            // Nothing is left: what is tried fails, and the root itself is never renamed or removed.
            true => root.join("nothing"),
            false => known[random.below(known.len())].clone(),
        };
        let (one, another) = (pick(), pick());
        let fresh = one
            .parent()
            .unwrap_or(root)
            .join(format!("c{seed}-{number}"));
        let kind = match random.below(24) {
            MAPPING if !mapping => 0,
            kind => kind,
        };
        match change(kind, &one, &another, &fresh, &mut random) {
            Ok(()) => {
                churned.done += 1;
                known.push(fresh);
            }
            Err(error) if expected(&error) => churned.missed += 1,
            Err(error) => {
                return Err(format!(
                    "change {number} of seed {seed}, kind {kind}, {one:?}, {another:?}: {error}"
                ));
            }
        }
    }
    Ok(churned)
}

/// Errors that others, or the tree itself, may cause.
pub(crate) fn expected(error: &io::Error) -> bool {
    let usual = [
        Errno::ENOENT,
        Errno::EEXIST,
        Errno::ENOTDIR,
        Errno::EISDIR,
        Errno::ENOTEMPTY,
        Errno::EINVAL,
        Errno::EPERM,
        Errno::ELOOP,
        Errno::ENXIO,
        Errno::ESPIPE,
        Errno::ENODATA,
        Errno::ENAMETOOLONG,
        Errno::EMLINK,
        // A descriptor whose object a revert has taken away.
        Errno::ESTALE,
    ];
    error
        .raw_os_error()
        .is_some_and(|number| usual.contains(&Errno::from_raw(number)))
}

/// The kind of change that stores through a mapping.
const MAPPING: usize = 4;

fn change(
    kind: usize,
    one: &Path,
    another: &Path,
    fresh: &Path,
    random: &mut Random,
) -> io::Result<()> {
    let fill = random.next_u64() as u16;
    let offset = random.below(30_000) as u64;
    match kind {
        0 | 1 => open(one)?.write_all_at(&pattern(fill, 3000), offset),
        2 => open(one)?.set_len(offset),
        3 => {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            Ok(nix::fcntl::fallocate(
                &open(one)?,
                flags,
                offset.cast_signed(),
                9000,
            )?)
        }
        MAPPING => map_write(one, &pattern(fill, 500)),
        5 => {
            let (from, to) = (open(one)?, open(another)?);
            sys::copy_file_range(&from, 0, &to, 4096, 8192)?;
            Ok(())
        }
        6..=8 => File::create_new(fresh)?.write_all_at(&pattern(fill, 200), 0),
        9 => fs::create_dir(fresh),
        10 => symlink("nowhere", fresh),
        11 => Ok(nix::unistd::mkfifo(fresh, Mode::from_bits_truncate(0o600))?),
        12 | 13 => fs::hard_link(one, fresh),
        14 | 15 => rename(one, fresh, RenameFlags::RENAME_NOREPLACE),
        16 => rename(one, another, RenameFlags::empty()),
        17 => rename(one, another, RenameFlags::RENAME_EXCHANGE),
        18 => fs::remove_file(one),
        19 => fs::remove_dir(one),
        20 if !one.symlink_metadata()?.is_symlink() => fs::set_permissions(
            one,
            PermissionsExt::from_mode([0o755, 0o700, 0o640][random.below(3)]),
        ),
        20 | 21 => Ok(set_time(one, offset.cast_signed(), 5)?),
        22 => Ok(sys::set_xattr(
            one,
            b"user.churn",
            &pattern(fill, random.below(60)),
            0,
        )?),
        // A whole directory at once, if it is a small one.
        _ if one.is_dir() && paths(one).len() < 50 => fs::remove_dir_all(one),
        _ => Ok(sys::remove_xattr(one, b"user.churn")?),
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(nix::fcntl::renameat2(AT_FDCWD, from, AT_FDCWD, to, flags)?)
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)
}

fn map_write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = open(path)?;
    let size = file.metadata()?.len();
    // Others may shorten the file below the mapping, a SIGBUS as well: a file of our own.
    let own = path.with_extension("mapped");
    if size == 0 || size > 1 << 20 {
        return Ok(());
    }
    let copy = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&own)?;
    copy.set_len(size.max(bytes.len() as u64))?;
    let mapping = Mapping::new(&copy, bytes.len(), true)?;
    fs::remove_file(&own)?;
    mapping.write(0, bytes);
    Ok(mapping.sync()?)
}
