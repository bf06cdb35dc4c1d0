//! Chance from a seed: the generator of `base-types`, with the draws that a schedule is made of.

#[derive(Clone, Debug)]
pub struct Random(base_types::Random);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(base_types::Random::new(seed))
    }

    pub fn draw(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 0 to `bound` less one.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    pub fn chance(&mut self, of: u64, all: u64) -> bool {
        self.below(all) < of
    }

    /// One of these; there must be one.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// Another source, whose draws do not depend on how many this one gives.
    pub fn split(&mut self) -> Random {
        Random::new(self.draw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_published_numbers() {
        let mut random = Random::new(1_234_567);
        assert_eq!([random.draw(), random.draw()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }
}
