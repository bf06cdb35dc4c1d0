//! What a disk must promise: Vfs and KvStore, models that crash on command, contract suites.
