//! Derived state in RocksDB, with little memory: it is read when a partition is opened and written now and then.
//!
//! One column family: each would cost a memtable of its own. Kinds of keys are told apart by their first byte.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBRecoveryMode, Direction, ErrorKind, IteratorMode, LogLevel, Options, ReadOptions,
    WriteBatch, WriteOptions,
};
use store_api::{KvBatch, KvChange, KvDurability, KvError, KvPair, KvStore, prefix_end};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// RocksDB behind [`KvStore`].
pub struct RocksKv {
    db: DB,
}

/// A store that was opened.
pub struct OpenedKv {
    pub kv: RocksKv,
    /// What was there was damaged and is gone. Nothing is lost that the log does not have.
    pub was_rebuilt: bool,
}

impl RocksKv {
    /// Opens the store in `path`. A damaged one is thrown away: it holds only what can be derived again (decision 2).
    pub fn open(path: &Path) -> Result<OpenedKv, KvError> {
        let failed = |operation| {
            move |error: rocksdb::Error| KvError { operation, detail: format!("{}: {error}", path.display()) }
        };
        match DB::open(&options(), path) {
            Ok(db) => Ok(OpenedKv { kv: RocksKv { db }, was_rebuilt: false }),
            Err(error) if error.kind() == ErrorKind::Corruption => {
                DB::destroy(&options(), path).map_err(failed("throw away what is damaged"))?;
                let db = DB::open(&options(), path).map_err(failed("begin anew"))?;
                Ok(OpenedKv { kv: RocksKv { db }, was_rebuilt: true })
            }
            Err(error) => Err(failed("open")(error)),
        }
    }
}

impl RocksKv {
    /// Opens the store to be looked at. Nothing is written, not even what recovery would.
    pub fn open_read_only(path: &Path) -> Result<RocksKv, KvError> {
        let failed =
            |error: rocksdb::Error| KvError { operation: "open", detail: format!("{}: {error}", path.display()) };
        DB::open_for_read_only(&options(), path, false).map(|db| RocksKv { db }).map_err(failed)
    }
}

fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(MIB));
    table.set_block_size(4 * KIB);
    table.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(MIB);
    options.set_max_write_buffer_number(2);
    options.set_arena_block_size(64 * KIB);
    options.set_max_background_jobs(1);
    options.set_max_open_files(64);
    options.set_max_total_wal_size(4 * MIB as u64);
    options.set_max_manifest_file_size(MIB);
    options.set_keep_log_file_num(1);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_paranoid_checks(true);
    // After a crash: a prefix of the lazy writes, as `KvDurability::Lazy` promises.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options
}

fn failed(operation: &'static str) -> impl Fn(rocksdb::Error) -> KvError {
    move |error| KvError { operation, detail: error.to_string() }
}

impl KvStore for RocksKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.db.get(key).map_err(failed("get"))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KvPair>, KvError> {
        let mut read = ReadOptions::default();
        if let Some(end) = prefix_end(prefix) {
            read.set_iterate_upper_bound(end);
        }
        let from = after.filter(|after| *after > prefix).unwrap_or(prefix);
        let mut found = Vec::new();
        for item in self.db.iterator_opt(IteratorMode::From(from, Direction::Forward), read) {
            let (key, value) = item.map_err(failed("scan"))?;
            if found.len() == limit {
                break;
            }
            if after.is_none_or(|after| &*key > after) {
                found.push((key.into_vec(), value.into_vec()));
            }
        }
        Ok(found)
    }

    fn write(&self, batch: &KvBatch, durability: KvDurability) -> Result<(), KvError> {
        let mut changes = WriteBatch::default();
        for change in &batch.changes {
            match change {
                KvChange::Put { key, value } => changes.put(key, value),
                KvChange::Delete { key } => changes.delete(key),
                KvChange::DeletePrefix { prefix } => match prefix_end(prefix) {
                    Some(end) => changes.delete_range(prefix.clone(), end),
                    // No key lies above: 0xff and longer than any key of ours serves as the end.
                    None => changes.delete_range(prefix.clone(), vec![u8::MAX; prefix.len() + 64]),
                },
            }
        }
        let mut write = WriteOptions::default();
        write.set_sync(durability == KvDurability::Synced);
        self.db.write_opt(changes, &write).map_err(failed("write"))
    }
}
