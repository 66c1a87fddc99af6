//! Damage to files, for tests of parsers.

/// Numbers that look random, the same in each run.
pub(crate) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) as usize % end.max(1)
    }

    /// Changes a few bytes, or writes a number that parsers like to trust.
    pub fn mutate(&mut self, bytes: &mut [u8]) {
        const NUMBERS: [u64; 7] = [0, 1, 0x7f, 0xffff, 1 << 31, u64::MAX, u64::MAX / 24];
        for _ in 0..1 + self.below(8) {
            let at = self.below(bytes.len());
            let number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
            let len = [1, 2, 4, 8][self.below(4)].min(bytes.len() - at);
            match self.below(3) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.below(256) as u8,
                _ => bytes[at..at + len].copy_from_slice(&number[..len]),
            }
        }
    }
}
