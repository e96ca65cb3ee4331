//! The mappings of a process: proc_pid_maps(5), without having all of it written out.
//!
//! A program of a desktop has thousands of mappings, and hardly one that is shared and can be written. Since Linux 6.11 the file
//! can be asked for single ones (`PROCMAP_QUERY`, include/uapi/linux/fs.h); an older kernel has its text read.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

/// `struct procmap_query`.
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    flags: u64,
    address: u64,
    start: u64,
    end: u64,
    permissions: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    name_size: u32,
    build_id_size: u32,
    name: u64,
    build_id: u64,
}

nix::ioctl_readwrite!(procmap_query, b'f', 17, Query);

/// `PROCMAP_QUERY_VMA_WRITABLE` and `_VMA_SHARED`.
const STORED_TO: u64 = 0x02 | 0x08;
/// `PROCMAP_QUERY_COVERING_OR_NEXT_VMA` and `_FILE_BACKED_VMA`.
const NEXT_OF_A_FILE: u64 = 0x10 | 0x20;
/// A longer path the kernel does not give, either way.
const PATH_MAX: usize = 4096;

/// What a process has mapped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mappings {
    /// The first file, which is the program.
    pub program: Vec<u8>,
    /// The files that stores into memory change.
    pub written: Vec<Vec<u8>>,
}

/// The mappings of which `maps` is the file; `None` of what has no memory, as threads of the kernel. `table` is room to read into.
///
/// # Errors
/// What the kernel says.
pub(super) fn read(maps: &OwnedFd, table: &mut Vec<u8>) -> nix::Result<Option<Mappings>> {
    match asked(maps) {
        Ok(mappings) => Ok(Some(mappings)),
        Err(Errno::ESRCH) => Ok(None),
        Err(_) => written_out(maps, table),
    }
}

fn asked(maps: &OwnedFd) -> nix::Result<Mappings> {
    let mut name = [0; PATH_MAX];
    let program = match next(maps, 0, NEXT_OF_A_FILE, &mut name)? {
        Some((_, path)) => path.to_vec(),
        None => Vec::new(),
    };
    let (mut written, mut from) = (Vec::new(), 0);
    while let Some((end, path)) = next(maps, from, NEXT_OF_A_FILE | STORED_TO, &mut name)? {
        written.push(path.to_vec());
        from = end;
    }
    Ok(Mappings { program, written })
}

/// The first mapping of that kind which ends behind an address: its end, and its file.
fn next<'n>(
    maps: &OwnedFd,
    from: u64,
    flags: u64,
    name: &'n mut [u8; PATH_MAX],
) -> nix::Result<Option<(u64, &'n [u8])>> {
    let mut query = Query {
        size: size_of::<Query>() as u64,
        flags,
        address: from,
        name_size: PATH_MAX as u32,
        name: name.as_mut_ptr() as u64,
        ..Query::default()
    };
    // SAFETY: the kernel writes to `query`, of the size that it says, and to `name`, of the size that it says.
    match unsafe { procmap_query(maps.as_raw_fd(), &raw mut query) } {
        Ok(_) => {
            let path = name.split(|byte| *byte == 0).next().unwrap_or_default();
            Ok(Some((query.end, path)))
        }
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn written_out(maps: &OwnedFd, table: &mut Vec<u8>) -> nix::Result<Option<Mappings>> {
    let mut len = 0;
    loop {
        if len == table.len() {
            table.resize((2 * len).max(16 << 10), 0);
        }
        match nix::unistd::read(maps, &mut table[len..])? {
            0 => break,
            read => len += read,
        }
    }
    let path = |line: &[u8]| Some(line[line.iter().position(|byte| *byte == b'/')?..].to_vec());
    let lines = || table[..len].split(|byte| *byte == b'\n');
    let stored_to = |line: &&[u8]| {
        let permissions = line.split(|byte| *byte == b' ').nth(1);
        permissions.is_some_and(|how| how.get(1) == Some(&b'w') && how.get(3) == Some(&b's'))
    };
    let mappings = Mappings {
        program: lines().next().and_then(path).unwrap_or_default(),
        written: lines().filter(stored_to).filter_map(path).collect(),
    };
    Ok((len > 0).then_some(mappings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::ffi::OsStrExt;
    use std::ptr::null_mut;

    use nix::libc;

    #[test]
    fn a_file_that_stores_into_memory_change_is_found_both_ways() {
        let dir = std::env::temp_dir().join(format!("llctl-mappings-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let map = |name: &str, how, share| {
            let mut options = File::options();
            let options = options.read(true).write(true).create_new(true);
            let file = options.open(dir.join(name)).unwrap();
            // SAFETY: a new mapping, wherever there is room for it.
            let at = unsafe { libc::mmap(null_mut(), 1, how, share, file.as_raw_fd(), 0) };
            assert_ne!(at, libc::MAP_FAILED);
            at
        };
        let (read, write) = (libc::PROT_READ, libc::PROT_WRITE);
        let mapped = [
            map("two\nlines", read | write, libc::MAP_SHARED),
            map("read", read, libc::MAP_SHARED),
            map("private", read | write, libc::MAP_PRIVATE),
            map("written", read | write, libc::MAP_SHARED),
        ];
        let maps = || OwnedFd::from(File::open("/proc/self/maps").unwrap());
        let asked = asked(&maps());
        let text = written_out(&maps(), &mut Vec::new()).unwrap().unwrap();
        for at in mapped {
            // SAFETY: it was made above, and nobody uses it.
            assert_eq!(unsafe { libc::munmap(at, 1) }, 0);
        }
        let ours = |mappings: &Mappings| {
            let below = |path: &&Vec<u8>| path.starts_with(dir.as_os_str().as_bytes());
            let names = mappings.written.iter().filter(below);
            let mut names: Vec<_> = names
                .map(|path| path.rsplit(|b| *b == b'/').next())
                .collect();
            names.sort_unstable();
            names
                .into_iter()
                .flatten()
                .map(<[u8]>::to_vec)
                .collect::<Vec<_>>()
        };
        assert_eq!(ours(&text), [&b"two\\012lines"[..], b"written"]);
        let program = std::env::current_exe().unwrap();
        assert_eq!(text.program, program.as_os_str().as_bytes());
        match asked {
            // Linux before 6.11.
            Err(Errno::ENOTTY) => {}
            asked => {
                let asked = asked.unwrap();
                assert_eq!(ours(&asked), [&b"two\nlines"[..], b"written"]);
                assert_eq!(asked.program, text.program);
            }
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_has_no_memory_has_no_mappings() {
        // A process that has ended, and is not buried yet.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        let how = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(pid), how).unwrap();
        let maps = OwnedFd::from(File::open(format!("/proc/{pid}/maps")).unwrap());
        assert_eq!(read(&maps, &mut Vec::new()), Ok(None));
        assert_eq!(written_out(&maps, &mut Vec::new()), Ok(None));
        child.wait().unwrap();
    }
}
