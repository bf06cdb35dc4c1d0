//! Real files and the real RocksDB.
