//! What every [`KvStore`] does. Each case wants an empty store.

use std::collections::BTreeMap;

use base_types::Random;

use crate::{KvBatch, KvDurability, KvStore, prefix_end};

type Case = (&'static str, fn(&dyn KvStore));

/// The cases by name.
pub const CASES: &[Case] = &[
    ("what was put is got, until deleted", put_get_delete),
    ("scans keep to their prefix, order, start and limit", scans),
    ("a prefix is deleted whole and alone", delete_prefix),
    ("changes of a batch apply in order", batch_order),
    ("random changes leave what a plain map would hold", random_changes),
];

/// Runs every case on a fresh store from `make`.
pub fn run<K: KvStore>(mut make: impl FnMut() -> K) {
    for (name, case) in CASES {
        println!("kv contract: {name}");
        case(&make());
    }
}

fn write(kv: &dyn KvStore, fill: impl FnOnce(&mut KvBatch)) {
    let mut batch = KvBatch::default();
    fill(&mut batch);
    kv.write(&batch, KvDurability::Lazy).unwrap();
}

fn put_get_delete(kv: &dyn KvStore) {
    assert_eq!(kv.get(b"k").unwrap(), None);
    write(kv, |batch| {
        batch.put("k", "v").put("empty", "");
    });
    assert_eq!(kv.get(b"k").unwrap().as_deref(), Some(b"v".as_slice()));
    assert_eq!(kv.get(b"empty").unwrap().as_deref(), Some(b"".as_slice()));
    let mut batch = KvBatch::default();
    batch.delete("k").delete("never there");
    kv.write(&batch, KvDurability::Synced).unwrap();
    assert_eq!(kv.get(b"k").unwrap(), None);
}

fn scans(kv: &dyn KvStore) {
    let keys: [&[u8]; 6] = [b"a", b"b", b"b\x00", b"b\xff", b"b\xff\xff", b"c"];
    write(kv, |batch| {
        for key in keys {
            batch.put(key, key);
        }
    });
    let found = |prefix: &[u8], after: Option<&[u8]>, limit| -> Vec<Vec<u8>> {
        kv.scan(prefix, after, limit).unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(found(b"", None, 100), keys);
    assert_eq!(found(b"b", None, 100), keys[1..5]);
    assert_eq!(found(b"b", None, 2), keys[1..3]);
    assert_eq!(found(b"b", Some(b"b\x00"), 100), keys[3..5]);
    assert_eq!(found(b"b\xff", None, 100), keys[3..5]);
    assert!(found(b"d", None, 100).is_empty());
}

fn delete_prefix(kv: &dyn KvStore) {
    write(kv, |batch| {
        for key in [&b"a"[..], b"b", b"b1", b"b\xff\xff", b"c"] {
            batch.put(key, "");
        }
        batch.delete_prefix("b");
    });
    let left: Vec<Vec<u8>> = kv.scan(b"", None, 10).unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, [b"a", b"c"]);
    // The last prefix of all has no key above it.
    write(kv, |batch| {
        batch.put(b"\xff\xff1".as_slice(), "").delete_prefix(b"\xff\xff".as_slice());
    });
    assert_eq!(kv.scan(b"", None, 10).unwrap().len(), 2);
}

fn batch_order(kv: &dyn KvStore) {
    write(kv, |batch| {
        batch.put("k1", "1").delete_prefix("k").put("k2", "2").put("k2", "3").delete("k3").put("k3", "4");
    });
    let found = kv.scan(b"k", None, 10).unwrap();
    assert_eq!(found, [(b"k2".to_vec(), b"3".to_vec()), (b"k3".to_vec(), b"4".to_vec())]);
}

fn random_changes(kv: &dyn KvStore) {
    let (mut twin, mut random) = (BTreeMap::<Vec<u8>, Vec<u8>>::new(), Random::new(11));
    for _ in 0..300 {
        let mut batch = KvBatch::default();
        for _ in 0..random.below(5) {
            let key = vec![random.below(4) as u8, random.below(4) as u8];
            match random.below(4) {
                0 => {
                    twin.remove(&key);
                    batch.delete(key);
                }
                1 => {
                    twin.retain(|found, _| found[0] != key[0]);
                    batch.delete_prefix(&key[..1]);
                }
                _ => {
                    let value = random.next_u64().to_be_bytes().to_vec();
                    twin.insert(key.clone(), value.clone());
                    batch.put(key, value);
                }
            }
        }
        let durability = if random.chance(100) { KvDurability::Synced } else { KvDurability::Lazy };
        kv.write(&batch, durability).unwrap();
        let expected: Vec<_> = twin.clone().into_iter().collect();
        assert_eq!(kv.scan(b"", None, 100).unwrap(), expected);
    }
    assert_eq!(prefix_end(b"a\xff\xff").as_deref(), Some(b"b".as_slice()));
    assert_eq!(prefix_end(b"\xff"), None);
}
