//! What a controller is told when it starts.

use base_types::BrokerId;
use peer_api::controller::ActiveController;

#[derive(Clone, Debug)]
pub struct Config {
    pub id: BrokerId,
    /// Every voter with the address of its gRPC listener, this one included.
    pub quorum: Vec<ActiveController>,
    /// Written into an empty log by the first active controller; afterwards the log's own counts.
    pub cluster_id: String,
    /// Likewise.
    pub features: Vec<(String, i16)>,
    pub default_partitions: i32,
    pub default_replication_factor: i16,
    /// A storage node that is silent for so long is fenced.
    pub broker_timeout_ms: u64,
    /// A storage node whose session closed is fenced after so long, unless it comes back.
    pub broker_grace_ms: u64,
    pub gateway_timeout_ms: u64,
    /// A gateway whose session closed is no longer named to clients after so long, unless it comes back.
    pub gateway_grace_ms: u64,
    /// So long a gateway has to find a controller that has just become active.
    pub gateway_search_ms: u64,
    /// A gateway that was gone stands for storage nodes again no sooner than this after it was removed. Longer than clients wait between
    /// attempts to connect (`reconnect.backoff.max.ms`): one that still waits would stay away from the address it is sent back to.
    pub gateway_return_ms: u64,
    /// A call that could not be committed within this time is answered as timed out.
    pub call_timeout_ms: u64,
    /// How often leaderships return to the preferred replicas.
    pub rebalance_ms: u64,
    /// A snapshot is made when the log has grown by so much.
    pub snapshot_log_bytes: u64,
    /// Consensus: see [`raft_core::Config`].
    pub tick_ms: u64,
    pub heartbeat_ticks: usize,
    pub election_ticks: usize,
    /// Entries kept in memory for voters and followers of the metadata that are only a little behind.
    pub entries_kept: u64,
}

impl Config {
    /// With the defaults.
    pub fn new(id: BrokerId, quorum: Vec<ActiveController>, cluster_id: String) -> Config {
        let consensus = raft_core::Config::new(id, Vec::new());
        Config {
            id,
            quorum,
            cluster_id,
            // What Kafka 4.3.0 formats a new cluster with, as far as it is served.
            features: [("eligible.leader.replicas.version", 1), ("group.version", 1), ("metadata.version", 30)]
                .map(|(name, level)| (name.to_owned(), level))
                .to_vec(),
            default_partitions: 1,
            default_replication_factor: 1,
            broker_timeout_ms: 1_500,
            broker_grace_ms: 100,
            gateway_timeout_ms: 6_000,
            gateway_grace_ms: 300,
            gateway_search_ms: 1_000,
            gateway_return_ms: 15_000,
            call_timeout_ms: 5_000,
            rebalance_ms: 300_000,
            snapshot_log_bytes: 4 << 20,
            tick_ms: consensus.tick_ms,
            heartbeat_ticks: consensus.heartbeat_ticks,
            election_ticks: consensus.election_ticks,
            entries_kept: consensus.entries_kept,
        }
    }

    pub(crate) fn consensus(&self) -> raft_core::Config {
        raft_core::Config {
            id: self.id,
            voters: self.quorum.iter().map(|voter| voter.id).collect(),
            tick_ms: self.tick_ms,
            heartbeat_ticks: self.heartbeat_ticks,
            election_ticks: self.election_ticks,
            entries_kept: self.entries_kept,
        }
    }
}
