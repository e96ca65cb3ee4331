//! The short form of `tests/soak`, for every run of the tests.

use std::time::Duration;

use llfs_tests::seeded;
use llfs_tests::soak::{Plan, run};

#[test]
fn a_minute_of_everything_at_once_loses_nothing_and_leaks_nothing() {
    run(Plan {
        time: Duration::from_secs(42),
        blocks: 3,
        seed: seeded::first_seed(),
        drift: None,
    });
}
