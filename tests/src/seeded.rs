//! Random tests that can be run again.
//!
//! `LLFS_SEED` chooses the first seed (a number, or `random`), `LLFS_CASES` how many cases run.
//! Every failure prints the one seed that makes it happen again.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// The first seed when `LLFS_SEED` is not set: every run of the CI does the same.
const FIRST_SEED: u64 = 20_261_121;

/// Runs `test` on `cases` values (or `LLFS_CASES` of them), each from a seed of its own.
///
/// # Panics
/// When a case panics: with the smallest input found, and the seed.
pub fn run<S: Strategy>(name: &str, cases: u64, strategy: S, test: impl Fn(S::Value)) {
    let first = first_seed();
    let cases = number("LLFS_CASES").unwrap_or(cases);
    println!("{name}: {cases} cases from LLFS_SEED={first}");
    for seed in first..first + cases {
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_iters: 600,
            max_shrink_time: 90_000,
            ..Config::default()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let outcome = runner.run(&strategy, |value| {
            test(value);
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(why, smallest)) => panic!(
                "{name} fails; run it again with LLFS_SEED={seed} LLFS_CASES=1\n{why}\n\
                 smallest input found: {smallest:#?}"
            ),
            Err(TestError::Abort(why)) => panic!("{name}, LLFS_SEED={seed}: {why}"),
        }
    }
}

/// The seed that this run begins with.
pub fn first_seed() -> u64 {
    match std::env::var("LLFS_SEED").as_deref() {
        Ok("random") => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |age| age.as_nanos() as u64 & 0xffff_ffff)
        }
        _ => number("LLFS_SEED").unwrap_or(FIRST_SEED),
    }
}

/// The environment variable `name` as a number.
///
/// # Panics
/// When it is set to something else.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name}={text} is not a number"),
    }
}
