//! The model of a [`KvStore`]: keeps what was synced and, after a crash, a prefix of the rest.

use std::{collections::BTreeMap, sync::Mutex};

use base_types::Random;

use crate::{KvBatch, KvChange, KvDurability, KvError, KvPair, KvStore};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// An ordered map in memory that can lose power.
#[derive(Debug, Default)]
pub struct MemKv {
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    durable: Map,
    unsynced: Vec<KvBatch>,
    current: Map,
    fails: bool,
}

impl MemKv {
    pub fn new() -> MemKv {
        MemKv::default()
    }

    /// What is found after a crash now: all synced batches, and of the others a prefix drawn from `random`.
    pub fn after_crash(&self, random: &mut Random) -> MemKv {
        let state = self.lock();
        let kept = random.below(state.unsynced.len() as u64 + 1) as usize;
        let mut durable = state.durable.clone();
        for batch in &state.unsynced[..kept] {
            apply(&mut durable, batch);
        }
        let current = durable.clone();
        MemKv { state: Mutex::new(State { durable, current, ..State::default() }) }
    }

    /// What is found when only the process died: everything.
    pub fn after_kill(&self) -> MemKv {
        let state = self.lock();
        let current = state.current.clone();
        MemKv { state: Mutex::new(State { durable: current.clone(), current, ..State::default() }) }
    }

    /// From now on every call fails, or no longer does.
    pub fn set_failing(&self, fails: bool) {
        self.lock().fails = fails;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn apply(map: &mut Map, batch: &KvBatch) {
    for change in &batch.changes {
        match change {
            KvChange::Put { key, value } => {
                map.insert(key.clone(), value.clone());
            }
            KvChange::Delete { key } => {
                map.remove(key);
            }
            KvChange::DeletePrefix { prefix } => map.retain(|key, _| !key.starts_with(prefix)),
        }
    }
}

fn failing(operation: &'static str, state: &State) -> Result<(), KvError> {
    if state.fails { Err(KvError { operation, detail: "told to fail".to_owned() }) } else { Ok(()) }
}

impl KvStore for MemKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let state = self.lock();
        failing("get", &state)?;
        Ok(state.current.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KvPair>, KvError> {
        let state = self.lock();
        failing("scan", &state)?;
        Ok(state
            .current
            .range(prefix.to_vec()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_slice() > after))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn write(&self, batch: &KvBatch, durability: KvDurability) -> Result<(), KvError> {
        let mut state = self.lock();
        failing("write", &state)?;
        apply(&mut state.current, batch);
        state.unsynced.push(batch.clone());
        if durability == KvDurability::Synced {
            let State { durable, unsynced, .. } = &mut *state;
            for batch in unsynced.drain(..) {
                apply(durable, &batch);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_synced_batches_and_a_prefix_of_the_others() {
        let kv = MemKv::new();
        let put = |key: &str, durability| {
            let mut batch = KvBatch::default();
            batch.put(key, "v");
            kv.write(&batch, durability).unwrap();
        };
        put("a", KvDurability::Synced);
        for key in ["b", "c", "d"] {
            put(key, KvDurability::Lazy);
        }
        let mut random = Random::new(1);
        let mut lengths = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let found = kv.after_crash(&mut random).scan(b"", None, 10).unwrap();
            let keys: String = found.iter().map(|(key, _)| char::from(key[0])).collect();
            assert!("abcd".starts_with(&keys) && !keys.is_empty(), "{keys}");
            lengths.insert(keys.len());
        }
        assert_eq!(lengths.len(), 4);
        assert_eq!(kv.after_kill().scan(b"", None, 10).unwrap().len(), 4);
    }
}
