//! Damage is reported, never served.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use llfs_tests::dice::pattern;
use llfs_tests::manifest::Ignore;
use llfs_tests::mounted::Mounted;

/// Where `bytes` are in the store's layers: the file and the offset.
fn find_in_layers(mounted: &Mounted, bytes: &[u8]) -> (PathBuf, u64) {
    for entry in fs::read_dir(mounted.store.join("layers")).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        if let Some(at) = content
            .chunks(4096)
            .position(|block| block.starts_with(bytes))
        {
            return (path, at as u64 * 4096);
        }
    }
    panic!("no layer holds the bytes");
}

fn flip(path: &PathBuf, offset: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    byte[0] ^= 0x10;
    file.write_all_at(&byte, offset).unwrap();
}

/// One flipped bit in one block of one file.
#[test]
fn a_flipped_bit_is_an_error_of_that_file_alone() {
    let mounted = Mounted::new("flipped");
    let damaged = pattern(1, 40_000);
    fs::write(mounted.path("damaged"), &damaged).unwrap();
    fs::write(mounted.path("whole"), pattern(2, 40_000)).unwrap();
    mounted.snap("s");
    mounted.verify();
    mounted.unmount();
    let (layer, block) = find_in_layers(&mounted, &damaged[8192..8192 + 64]);
    flip(&layer, block + 100);
    mounted.mount();
    let error = fs::read(mounted.path("damaged"))
        .map(drop)
        .expect_err("damaged bytes were served");
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    // The blocks beside it, and everything else, can be read.
    let file = fs::File::open(mounted.path("damaged")).unwrap();
    let mut start = vec![0; 4096];
    file.read_exact_at(&mut start, 0).unwrap();
    assert!(start == damaged[..4096]);
    assert!(fs::read(mounted.path("whole")).unwrap() == pattern(2, 40_000));
    let verified = mounted.llctl(&["verify"]).finish().expect_code(7);
    let text = verified.text();
    assert!(
        text.contains("damaged") && !text.contains("whole"),
        "{text}"
    );
    // Writing over the damage heals the file; the snapshot's stays damaged.
    fs::write(mounted.path("damaged"), &damaged).unwrap();
    assert!(fs::read(mounted.path("damaged")).unwrap() == damaged);
    mounted.llctl(&["verify"]).finish().expect_code(7);
    mounted.delete("s");
}

/// Every file of the store cut to half its length: an error or the right bytes, never others.
#[test]
fn a_truncated_store_never_shows_other_bytes() {
    let mounted = Mounted::new("cut");
    for number in 0..20 {
        fs::write(mounted.path(&format!("f{number}")), pattern(number, 30_000)).unwrap();
    }
    mounted.snap("s");
    for number in 0..10 {
        fs::write(
            mounted.path(&format!("g{number}")),
            pattern(100 + number, 9_000),
        )
        .unwrap();
    }
    let head = mounted.manifest();
    mounted.unmount();
    let whole = mounted.scratch.path().join("whole");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        llfs_tests::command::Run::new("cp")
            .arg("-a")
            .arg(from)
            .arg(to)
            .ok();
    };
    copy(&mounted.store, &whole);
    let mut files = Vec::new();
    for place in ["", "layers", "journal", "images"] {
        let entries = fs::read_dir(whole.join(place)).into_iter().flatten();
        let found = entries.map(|entry| PathBuf::from(place).join(entry.unwrap().file_name()));
        files.extend(found.filter(|file| whole.join(file).is_file()));
    }
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        fs::remove_dir_all(&mounted.store).unwrap();
        copy(&whole, &mounted.store);
        let victim = mounted.store.join(&file);
        let length = fs::metadata(&victim).unwrap().len();
        OpenOptions::new()
            .write(true)
            .open(&victim)
            .unwrap()
            .set_len(length / 2)
            .unwrap();
        let mounting = mounted.mount_run().finish();
        if mounting.code() != 0 {
            assert!(
                mounting.err().contains("rror"),
                "{file:?}: {}",
                mounting.err()
            );
            continue;
        }
        for (letter, first, count, length) in [("f", 0, 20, 30_000), ("g", 100, 10, 9_000)] {
            for number in 0..count {
                let name = format!("{letter}{number}");
                match fs::read(mounted.path(&name)) {
                    Ok(bytes) => {
                        let right = bytes == pattern(first + number, length);
                        assert!(right, "{name} has other bytes, {} cut", file.display());
                    }
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{name}, {file:?}");
                    }
                }
            }
        }
        mounted.unmount();
    }
    fs::remove_dir_all(&mounted.store).unwrap();
    copy(&whole, &mounted.store);
    mounted.mount();
    head.assert_same(&mounted.manifest(), Ignore::default(), "the whole store");
}

/// The checksums of a layer are gone: what they covered is an error, and no fresh ones are made.
#[test]
fn a_deleted_checksum_file_is_damage() {
    let mounted = Mounted::new("no-sums");
    fs::write(mounted.path("file"), pattern(1, 40_000)).unwrap();
    mounted.snap("s");
    mounted.unmount();
    let layers = fs::read_dir(mounted.store.join("layers")).unwrap();
    let paths = layers.map(|entry| entry.unwrap().path());
    let sums: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "sum"))
        .collect();
    assert!(!sums.is_empty());
    for path in &sums {
        fs::remove_file(path).unwrap();
    }
    for _ in 0..2 {
        mounted.mount();
        let error = fs::read(mounted.path("file"))
            .map(drop)
            .expect_err("unchecked bytes were served");
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        let said = mounted.llctl(&["verify"]).finish().expect_code(7).text();
        assert!(said.contains("file") && said.contains(".sum"), "{said}");
        mounted.unmount();
        assert!(sums.iter().all(|path| !path.exists()));
    }
}
