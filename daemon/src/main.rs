//! `llfs`: mounts a copy-on-write overlay over a directory, and takes it away again.

use std::process::ExitCode;

fn main() -> ExitCode {
    llfs::supervisor::main()
}
