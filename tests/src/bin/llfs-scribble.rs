//! `llfs-scribble FILE`: stores into every page of FILE through a shared mapping, over and over,
//! until it is killed.

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: llfs-scribble FILE");
        return ExitCode::from(2);
    };
    match scribble(path.as_ref()) {
        Ok(never) => never,
        Err(error) => {
            eprintln!("llfs-scribble: {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn scribble(path: &std::path::Path) -> std::io::Result<ExitCode> {
    let file = std::fs::File::options().read(true).write(true).open(path)?;
    let size = usize::try_from(file.metadata()?.len()).map_err(std::io::Error::other)?;
    let mapping = llfs_tests::sys::Mapping::new(&file, size, true)?;
    println!("mapped");
    for round in (0u8..=255).cycle() {
        for page in (0..size).step_by(4096) {
            mapping.write(page, &[round]);
        }
    }
    Ok(ExitCode::SUCCESS)
}
