//! Filesystems made for a test.

use std::path::Path;

use crate::command::Run;

/// Mounts a fresh filesystem of `kind` (`ext4`, `xfs`, `btrfs` or `tmpfs`) and `megabytes` on the
/// directory `at`; all but tmpfs come from the image file `image`. The scratch directory that
/// they are in unmounts it.
///
/// # Panics
/// When this is not root, or a program that makes filesystems is missing.
#[track_caller]
pub fn mount(kind: &str, megabytes: u64, image: &Path, at: &Path) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test mounts a {kind}: run it as root"
    );
    if kind == "tmpfs" {
        let size = format!("size={megabytes}m");
        Run::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .ok();
        return;
    }
    let file = std::fs::File::create(image).expect("the image can be made");
    file.set_len(megabytes << 20)
        .expect("the image can be sized");
    Run::new(format!("mkfs.{kind}")).arg("-q").arg(image).ok();
    Run::new("mount")
        .args(["-o", "loop", "-t", kind])
        .arg(image)
        .arg(at)
        .ok();
}
