//! What the build generates from `proto/`. Seen by `convert` alone.
#![allow(dead_code, clippy::all, clippy::disallowed_types, reason = "generated")]

pub(crate) mod base {
    pub(crate) mod v1 {
        tonic::include_proto!("thalweg.base.v1");
    }
}
pub(crate) mod groups {
    pub(crate) mod v1 {
        tonic::include_proto!("thalweg.groups.v1");
    }
}
pub(crate) mod storage {
    pub(crate) mod v1 {
        tonic::include_proto!("thalweg.storage.v1");
    }
}
pub(crate) mod replication {
    pub(crate) mod v1 {
        tonic::include_proto!("thalweg.replication.v1");
    }
}
pub(crate) mod controller {
    pub(crate) mod v1 {
        tonic::include_proto!("thalweg.controller.v1");
    }
}
pub(crate) mod raft {
    pub(crate) mod v1 {
        tonic::include_proto!("thalweg.raft.v1");
    }
}
