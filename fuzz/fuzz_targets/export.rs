#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| llfs_fuzz::run("export", data));
