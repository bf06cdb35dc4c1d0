//! The models keep the promises they define.

use store_api::{MemKv, MemVfs, contract};

#[test]
fn the_memory_disk_keeps_the_contract() {
    contract::vfs::run(MemVfs::new);
}

#[test]
fn the_memory_kv_store_keeps_the_contract() {
    contract::kv::run(MemKv::new);
}
