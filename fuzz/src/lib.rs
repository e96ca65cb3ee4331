//! What is fuzzed, and what must hold for every input.
//!
//! A target is a function of bytes that panics when something is wrong. `fuzz_targets/` gives each to libFuzzer, and
//! `src/bin/stable.rs` runs them all with nothing but stable Rust.
pub mod bounds;
pub mod disk;
pub mod forge;
pub mod input;
pub mod records;
pub mod targets;

/// One target: its name, which is that of its corpus, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 11] = [
    ("request", targets::protocol::request),
    ("response", targets::protocol::response),
    ("server", targets::server::server),
    ("client", targets::client::client),
    ("names", targets::names::names),
    ("superblock", targets::superblock::superblock),
    ("journal", targets::journal::journal),
    ("image", targets::image::image),
    ("state", targets::state::state),
    ("layer", targets::layer::layer),
    ("export", targets::export::export),
];

/// Longer inputs tell nothing new and take long.
pub const INPUT_MAX: usize = 64 << 10;

/// Gives `data` to a target, within bounds of memory and of time.
///
/// # Panics
/// When the target finds something, or there is no such target.
pub fn run(target: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, act) = found.expect("there is no such target");
    if data.len() <= INPUT_MAX {
        bounds::within(|| act(data));
    }
}
