//! What the gateway has counted. The shell turns it into metrics.

use std::collections::BTreeMap;

use base_types::ErrorCode;
use kafka_wire::ApiKey;

use crate::effect::CloseReason;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub connections: usize,
    /// Requests begun, by API.
    pub requests: BTreeMap<ApiKey, u64>,
    /// Error codes told to clients, one for each place in an answer that holds one.
    pub errors: BTreeMap<ErrorCode, u64>,
    /// Connections that the gateway ended.
    pub closes: BTreeMap<CloseReason, u64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Of requests received and not answered.
    pub bytes_held: usize,
    /// Of answers that clients have not taken.
    pub bytes_unsent: usize,
    pub fetch_sessions: usize,
    pub fetch_session_partitions: usize,
    pub fetch_sessions_evicted: u64,
    /// Appends sent again after a definite refusal, or an ambiguous failure of an idempotent batch.
    pub produce_retries: u64,
    /// Appends whose outcome is unknown and was reported as such.
    pub produce_indeterminate: u64,
    pub storage_calls: usize,
    pub controller_calls: usize,
    pub controller_sessions: u64,
}
