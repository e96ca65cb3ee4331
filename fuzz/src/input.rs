//! An input as a source of decisions.

/// Bytes that are taken from the front; zeros when there are none left.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    pub fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    /// A number that is mostly small, and now and then beyond what anything counts up to, at the end of 64 bits too.
    pub fn number(&mut self) -> u64 {
        match self.u8() {
            small @ 0..=199 => u64::from(small),
            200..=229 => u64::from(self.u16()),
            230..=239 => u64::from(self.u32()),
            240..=244 => 1 << 48 | u64::from(self.u8()),
            245..=249 => u64::from(u32::MAX) - u64::from(self.u8()),
            250..=252 => (1 << 60) - u64::from(self.u8()),
            _ => u64::MAX - u64::from(self.u8() / 16),
        }
    }

    /// Up to `count` bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A string of bytes whose length comes first.
    pub fn string(&mut self) -> &'a [u8] {
        let count = usize::from(self.u8());
        self.bytes(count)
    }

    /// One of these.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.u8()) % of.len()]
    }

    /// Damages `bytes` at least once: bits flip, stretches become zeros or something else, the end is missing.
    /// Whether they differ now.
    pub fn damage(&mut self, bytes: &mut Vec<u8>) -> bool {
        let before = bytes.clone();
        for _ in 0..=self.u8() % 4 {
            if bytes.is_empty() {
                break;
            }
            let at = self.u32() as usize % bytes.len();
            let end = (at + usize::from(self.u16())).min(bytes.len());
            match self.u8() % 5 {
                0 | 1 => bytes[at] ^= self.u8().max(1),
                2 => bytes[at..end].fill(0),
                3 => bytes.truncate(at),
                _ => {
                    let from = self.u32() as usize % bytes.len();
                    let to = (from + end - at).min(bytes.len());
                    let copy = bytes[from..to].to_vec();
                    bytes[at..at + copy.len().min(end - at)]
                        .copy_from_slice(&copy[..copy.len().min(end - at)]);
                }
            }
        }
        *bytes != before
    }
}
