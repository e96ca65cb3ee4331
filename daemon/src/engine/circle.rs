//! Ways upwards that do not end: in a damaged or forged state a directory may be below itself.

use crate::tree::Ino;

/// Watches a way from directory to directory at the cost of a comparison a step (R. P. Brent, "An improved Monte Carlo factorization
/// algorithm", BIT 20, 1980).
#[derive(Default)]
pub(super) struct Circle {
    mark: Option<Ino>,
    steps: u64,
    most: u64,
}

impl Circle {
    /// The way comes to a directory; whether it goes round in a circle.
    pub fn closes(&mut self, at: Ino) -> bool {
        if self.mark == Some(at) {
            return true;
        }
        self.steps += 1;
        if self.steps > self.most {
            self.mark = Some(at);
            self.most = self.steps * 2;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_circle_closes_and_nothing_else() {
        for (before, round) in (0..40).flat_map(|b| (1..40).map(move |r| (b, r))) {
            let way = |step: u64| match step {
                0.. if step < before => step,
                _ => before + (step - before) % round,
            };
            let mut circle = Circle::default();
            let closed = (0..).position(|step| circle.closes(way(step))).unwrap() as u64;
            assert!(closed >= before + round, "{before}, {round}: {closed}");
            assert!(
                closed <= 5 * (before + round),
                "{before}, {round}: {closed}"
            );
        }
        let mut circle = Circle::default();
        assert!(!(0..10_000).any(|at| circle.closes(at)));
    }
}
