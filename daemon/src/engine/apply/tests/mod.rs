//! Applies on real directories: what the base is afterwards, against what the engine showed before.

mod crash;
mod exact;
mod full;
mod ground;
mod manifest;
mod random;
mod rich;
mod unprivileged;
