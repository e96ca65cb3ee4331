//! `llfs-churn DIR SEED COUNT MAPPING`: makes COUNT random changes of every kind below DIR, as one
//! of several processes that do so at once; with MAPPING `true` also through shared mappings.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, seed, count, mapping] = args.as_slice() else {
        eprintln!("usage: llfs-churn DIR SEED COUNT true|false");
        return ExitCode::from(2);
    };
    let (Ok(seed), Ok(count), Ok(mapping)) = (seed.parse(), count.parse(), mapping.parse()) else {
        eprintln!("llfs-churn: SEED and COUNT are numbers, MAPPING is true or false");
        return ExitCode::from(2);
    };
    match llfs_tests::tree::churn(dir.as_ref(), seed, count, mapping) {
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
