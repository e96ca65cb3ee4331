//! The kernel of a test, which remembers what it was told.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use llfs::engine::api::Kernel;
use llfs::tree::Ino;

/// What the kernel was told to forget: whether all names, and which inodes.
#[derive(Clone, Default)]
pub struct Told(pub Arc<Mutex<(bool, BTreeSet<Ino>)>>);

impl Kernel for Told {
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn answers(&self) -> io::Result<()> {
        Ok(())
    }
    fn forget_inode(&self, ino: Ino) {
        self.0.lock().unwrap().1.insert(ino);
    }
    fn forget_name(&self, _: Ino, _: &[u8]) {}
    fn forget_all_names(&self) -> io::Result<()> {
        self.0.lock().unwrap().0 = true;
        Ok(())
    }
    fn look_up(&self, _: &Path) {}
}
