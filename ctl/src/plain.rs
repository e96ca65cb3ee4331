//! Files that anybody may have put anything in place of.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// Whether a file that is open is the one that has this name.
pub fn is_at(file: &File, path: &Path) -> bool {
    let same = || -> io::Result<bool> {
        let (one, other) = (file.metadata()?, fs::symlink_metadata(path)?);
        Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
    };
    same().unwrap_or(false)
}

/// The text of a file that has at most so many bytes. Waits for nobody, as opening a pipe would.
///
/// # Errors
/// What the system says; it is no regular file, or longer, or no UTF-8.
pub fn read(path: &Path, most: u64) -> io::Result<String> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    let refused = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let meta = file.metadata()?;
    if meta.is_dir() {
        return refused("it is a directory".to_owned());
    }
    if !meta.is_file() {
        return refused("it is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    // Longer by one tells that it is too long, however long it is.
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return refused(format!("it has more than {most} bytes"));
    }
    String::from_utf8(bytes).or_else(|_| refused("it is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = std::env::temp_dir().join(format!("llctl-plain-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = |name: &str| dir.join(name);
        std::fs::write(path("good"), "ä\n").unwrap();
        assert_eq!(read(&path("good"), 3).unwrap(), "ä\n");
        let why = |name: &str, most| read(&path(name), most).unwrap_err().to_string();
        assert_eq!(why("good", 2), "it has more than 2 bytes");
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(why("pipe", 9), "it is no regular file");
        assert_eq!(why("", 9), "it is a directory");
        std::fs::write(path("bad"), b"\xff").unwrap();
        assert_eq!(why("bad", 9), "it is not UTF-8");
        let none = read(&path("none"), 9).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
