//! `llfs-snaps DIR COUNT PREFIX [change]`: takes COUNT snapshots of the mount DIR through the Rust client in a loop, each after the change of a
//! small file if so told, and prints how many milliseconds the snapshots took.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use llctl::{Client, SnapName};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (dir, count, prefix, change) = match args.as_slice() {
        [dir, count, prefix] => (dir, count, prefix, false),
        [dir, count, prefix, what] if what == "change" => (dir, count, prefix, true),
        _ => {
            eprintln!("usage: llfs-snaps DIR COUNT PREFIX [change]");
            return ExitCode::from(2);
        }
    };
    let Ok(count) = count.parse() else {
        eprintln!("llfs-snaps: COUNT is a number");
        return ExitCode::from(2);
    };
    match take(Path::new(dir), count, prefix, change) {
        Ok(took) => {
            println!("{:.1}", took.as_secs_f64() * 1000.0);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("llfs-snaps: {why}");
            ExitCode::FAILURE
        }
    }
}

fn take(
    dir: &Path,
    count: u32,
    prefix: &str,
    change: bool,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let mut client = Client::connect(dir)?;
    let mut took = Duration::ZERO;
    for number in 0..count {
        if change {
            std::fs::write(
                dir.join(format!("changed-{}", number % 100)),
                number.to_string(),
            )?;
        }
        let name = SnapName::new(format!("{prefix}{number}"))?;
        let begun = Instant::now();
        client.snap(Some(name), None)?;
        took += begun.elapsed();
    }
    Ok(took)
}
