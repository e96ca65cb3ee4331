//! Files of the user's that need not be there.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use llctl::escape::escaped;
use llctl::{exit, plain};

use super::fail::Fail;

/// A path as it is printed.
pub fn shown(file: &Path) -> String {
    escaped(file.as_os_str().as_bytes())
}

/// The text of a file that has at most so many bytes; none without a file.
pub fn read(file: &Path, most: usize) -> Result<Option<String>, Fail> {
    match plain::read(file, most as u64) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fail::Refused {
            code: exit::FAILED,
            kind: "io",
            message: format!("cannot read {}: {error}", shown(file)),
            hint: None,
        }),
    }
}
