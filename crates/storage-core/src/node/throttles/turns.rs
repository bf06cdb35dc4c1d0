//! Things that wait, one of each name, and go in turn.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

#[derive(Debug)]
pub(super) struct Turns<K, V> {
    waiting: BTreeMap<K, V>,
    /// Whose turn it was.
    last: Option<K>,
}

impl<K, V> Default for Turns<K, V> {
    fn default() -> Self {
        Turns { waiting: BTreeMap::new(), last: None }
    }
}

impl<K: Ord + Copy, V> Turns<K, V> {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &K> {
        self.waiting.keys()
    }

    /// Takes the place of what waits under that name already.
    pub(super) fn wait(&mut self, name: K, thing: V) {
        self.waiting.insert(name, thing);
    }

    pub(super) fn remove(&mut self, name: K) {
        self.waiting.remove(&name);
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&K, &mut V) -> bool) {
        self.waiting.retain(keep);
    }

    /// What has the next turn: nothing has two of them while another has none.
    pub(super) fn next(&mut self) -> Option<(K, V)> {
        let after = self.last.map_or(Unbounded, Excluded);
        let next = self.waiting.range((after, Unbounded)).next().or_else(|| self.waiting.first_key_value());
        let name = *next?.0;
        self.last = Some(name);
        self.waiting.remove_entry(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_turn_before_anyone_has_another() {
        let mut turns = Turns::default();
        for name in [3, 1, 2] {
            turns.wait(name, 'a');
        }
        turns.wait(2, 'b');
        let mut gone = Vec::new();
        for _ in 0..7 {
            let (name, thing) = turns.next().unwrap();
            gone.push((name, thing));
            turns.wait(name, thing);
        }
        assert_eq!(gone, [(1, 'a'), (2, 'b'), (3, 'a'), (1, 'a'), (2, 'b'), (3, 'a'), (1, 'a')]);
        turns.remove(2);
        turns.retain(|name, _| *name != 3);
        assert_eq!(turns.next(), Some((1, 'a')));
        assert_eq!(turns.next(), None);
        assert!(turns.is_empty());
    }
}
