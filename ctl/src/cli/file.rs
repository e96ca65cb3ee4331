//! Files of the user's that need not be there.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use llctl::escape::escaped;
use llctl::exit;

use super::fail::Fail;

/// A path as it is printed.
pub fn shown(file: &Path) -> String {
    escaped(file.as_os_str().as_bytes())
}

/// The file's text; none without a file.
pub fn read(file: &Path) -> Result<Option<String>, Fail> {
    match fs::read_to_string(file) {
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
