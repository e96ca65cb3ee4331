//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The directory that holds `llfs` and `llctl`: `LLFS_BIN_DIR`, or else the target directory
/// that the running test was built into. The programs are built there if they are missing.
///
/// # Panics
/// When there are no programs and cargo cannot build them.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| match std::env::var_os("LLFS_BIN_DIR") {
        Some(given) => {
            let given = PathBuf::from(given);
            assert!(
                complete(&given),
                "LLFS_BIN_DIR={} holds no llfs and llctl",
                given.display()
            );
            given.canonicalize().expect("it was just looked into")
        }
        None => beside_the_test(),
    })
}

/// The `llfs` program.
pub fn llfs() -> PathBuf {
    directory().join("llfs")
}

/// The `llctl` program.
pub fn llctl() -> PathBuf {
    directory().join("llctl")
}

/// Makes a copy of a program. Another process does that: what this one has open for writing is open in children too that other
/// threads are just starting, and nobody can run it for as long (`ETXTBSY`, execve(2)).
///
/// # Panics
/// When it cannot be copied.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-p").args([from, to]).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "{}",
        to.display()
    );
}

fn complete(directory: &Path) -> bool {
    directory.join("llfs").is_file() && directory.join("llctl").is_file()
}

/// `target/<profile>`, two levels above `target/<profile>/deps/<test>`.
fn beside_the_test() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let mut directory = test.parent().expect("a program is in a directory");
    if directory.ends_with("deps") {
        directory = directory
            .parent()
            .expect("deps is in the profile's directory");
    }
    if !complete(directory) {
        build(directory);
    }
    directory.to_path_buf()
}

fn build(directory: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "-p", "llfs", "-p", "llctl"]);
    if directory.ends_with("release") {
        command.arg("--release");
    }
    let target = directory
        .parent()
        .expect("the profile's directory is in the target directory");
    command
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let status = command.status().expect("cargo starts");
    assert!(
        status.success() && complete(directory),
        "llfs and llctl are not in {} and cargo could not build them: {status}",
        directory.display()
    );
}
