//! Consensus for metadata: the only crate that imports raft-rs.
