//! `llfs-churn DIR SEED COUNT`: makes COUNT random changes of every kind below DIR, as one of
//! several processes that do so at once.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, seed, count] = args.as_slice() else {
        eprintln!("usage: llfs-churn DIR SEED COUNT");
        return ExitCode::from(2);
    };
    let (Ok(seed), Ok(count)) = (seed.parse(), count.parse()) else {
        eprintln!("llfs-churn: SEED and COUNT are numbers");
        return ExitCode::from(2);
    };
    match llfs_tests::tree::churn(dir.as_ref(), seed, count) {
        Ok(churned) => {
            println!("done {} missed {}", churned.done, churned.missed);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("llfs-churn: {why}");
            ExitCode::FAILURE
        }
    }
}
