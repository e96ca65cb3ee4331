//! `llfs`: mounts a copy-on-write overlay over a directory, and takes it away again.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: llfs::worker::Allocator = llfs::worker::Allocator;

fn main() -> ExitCode {
    llfs::supervisor::main()
}
