//! Which of the possible states after a cut to look at.

/// A small random generator (xorshift), so that a seed says everything.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % n as u64) as usize
    }
}

/// Runs `state` on every combination of choices if there are at most `most`; otherwise on the oldest
/// and the newest versions, and on random ones. `state` is given a name that reruns it, and the chooser.
pub fn each(
    most: usize,
    seed: u64,
    mut state: impl FnMut(&str, &mut dyn FnMut(usize) -> usize),
) -> usize {
    let mut combinations: usize = 1;
    state("newest", &mut |n| {
        combinations = combinations.saturating_mul(n);
        n - 1
    });
    state("oldest", &mut |_| 0);
    if combinations <= most {
        enumerate(most, &mut state)
    } else {
        for index in 0..most {
            let mut random = Random::new(seed.wrapping_add(index as u64));
            // Some states nearly all old, some nearly all new, some mixed.
            let bias = index % 3;
            state(
                &format!("random {index}"),
                &mut |n| match (bias, random.below(4)) {
                    (1, 1..) => 0,
                    (2, 1..) => n - 1,
                    _ => random.below(n),
                },
            );
        }
        most + 2
    }
}

/// Counts through all combinations. What there is to choose may depend on the choices before.
fn enumerate(most: usize, state: &mut impl FnMut(&str, &mut dyn FnMut(usize) -> usize)) -> usize {
    let mut path: Vec<(usize, usize)> = Vec::new();
    for count in 1.. {
        let mut at = 0;
        state(&format!("combination {path:?}"), &mut |n| {
            if at == path.len() {
                path.push((0, n));
            }
            at += 1;
            path[at - 1].0
        });
        path.truncate(at);
        while let Some((pick, n)) = path.pop() {
            if pick + 1 < n {
                path.push((pick + 1, n));
                break;
            }
        }
        if path.is_empty() || count > 4 * most {
            return count + 2;
        }
    }
    unreachable!("the loop returns")
}
