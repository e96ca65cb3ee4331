//! `llfs-soak MINUTES SEED`: a long run, see `llfs_tests::soak`. `tests/soak` starts it.

use std::process::ExitCode;
use std::time::Duration;

use llfs_tests::soak::{Plan, run};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let plan = match args.as_slice() {
        [minutes, seed] => minutes.parse::<f64>().ok().zip(seed.parse().ok()),
        _ => None,
    };
    let Some((minutes, seed)) = plan.filter(|(minutes, _)| *minutes > 0.0) else {
        eprintln!("usage: llfs-soak MINUTES SEED");
        return ExitCode::from(2);
    };
    let time = Duration::from_secs_f64(minutes * 60.0);
    let blocks = (time.as_secs() / 300).clamp(3, 12) as u32;
    run(Plan {
        time,
        blocks,
        seed,
        drift: Some(2.0),
    });
    println!("nothing was lost, nothing grew, nothing became slower");
    ExitCode::SUCCESS
}
