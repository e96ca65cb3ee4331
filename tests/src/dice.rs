//! Randomness that can be written down: a short row of numbers, or a seed.

/// Makes choices from a row of numbers. When the row is used up every further choice is the
/// first one, so that shrinking the row shrinks what was made of it.
#[derive(Debug)]
pub struct Dice<'a> {
    row: &'a [u16],
    next: usize,
}

impl<'a> Dice<'a> {
    /// Choices taken from `row`, front to back.
    #[must_use]
    pub fn new(row: &'a [u16]) -> Self {
        Dice { row, next: 0 }
    }

    /// A number from the row, 0 when it is used up.
    pub fn number(&mut self) -> u16 {
        let number = self.row.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        number
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.number()) % bound
    }

    /// One of `options`, which must not be empty.
    pub fn one_of<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.below(options.len())]
    }

    /// True in `percent` of all cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        // The first choice is "no": what is shrunk is plain.
        self.below(100) >= 100 - percent
    }
}

/// A stream of numbers from a seed (splitmix64), for long runs that need no shrinking.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound as u64) as usize
    }

    /// A row for [`Dice`].
    pub fn row<const N: usize>(&mut self) -> [u16; N] {
        std::array::from_fn(|_| self.next_u64() as u16)
    }
}

/// `len` bytes that depend on `fill` and on their place, without zero bytes.
#[must_use]
pub fn pattern(fill: u16, len: usize) -> Vec<u8> {
    let mut random = Random::new(u64::from(fill) << 16);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(random.next_u64().to_le_bytes().map(|b| b | 1));
    }
    bytes.truncate(len);
    bytes
}
