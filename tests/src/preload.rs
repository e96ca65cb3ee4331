//! Libraries that a test puts between a program and the C library, to change what that tells or to hold it at one place.

use std::path::{Path, PathBuf};

use crate::command::Run;

/// Compiles `source`, C, in the directory `dir`; the library, for `LD_PRELOAD`.
///
/// # Panics
/// When it does not compile.
#[track_caller]
#[must_use]
pub fn library(dir: &Path, name: &str, source: &str) -> PathBuf {
    let (text, library) = (
        dir.join(format!("{name}.c")),
        dir.join(format!("{name}.so")),
    );
    std::fs::write(&text, source).expect("the source can be written");
    let cc = Run::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library);
    cc.arg(&text).arg("-ldl").ok();
    library
}
