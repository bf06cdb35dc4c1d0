//! The configuration file, environment and flags of a controller, checked and turned into what the core wants.

use std::path::PathBuf;

use base_types::BrokerId;
use controller_core::Config;
use peer_api::controller::ActiveController;
use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, Loaded};
use service_kit::{logs::LogConfig, trace::TraceConfig};

/// The file. Keys are `section.key`; unknown ones are errors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    pub controller: ControllerSection,
    pub cluster: ClusterSection,
    pub timing: TimingSection,
    pub log: LogConfig,
    pub trace: TraceConfig,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControllerSection {
    pub node_id: i32,
    pub data_dir: PathBuf,
    /// gRPC for storage nodes, gateways, tools and the other controllers.
    pub listen: String,
    /// Metrics and health.
    pub http: String,
    /// `id@host:port,…`, this controller included. Empty: it is the only one.
    pub quorum: String,
    /// Written into a new cluster's log. Needed when there is more than one controller, so that all would write the same.
    pub cluster_id: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSection {
    pub num_partitions: i32,
    pub default_replication_factor: i16,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingSection {
    pub broker_timeout_ms: u64,
    pub broker_grace_ms: u64,
    pub gateway_timeout_ms: u64,
    pub gateway_grace_ms: u64,
    pub gateway_search_ms: u64,
    pub gateway_return_ms: u64,
    pub call_timeout_ms: u64,
    pub rebalance_ms: u64,
    pub tick_ms: u64,
    pub heartbeat_ticks: usize,
    pub election_ticks: usize,
}

/// What [`crate::open`] needs.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    pub core: Config,
    /// Seeds topic ids, placement and election time-outs; `None` for the system's randomness.
    pub seed: Option<u64>,
}

impl Default for ControllerSection {
    fn default() -> ControllerSection {
        ControllerSection {
            node_id: 1,
            data_dir: PathBuf::from("data/controller"),
            listen: "127.0.0.1:9190".to_owned(),
            http: "127.0.0.1:9191".to_owned(),
            quorum: String::new(),
            cluster_id: None,
        }
    }
}

impl Default for ClusterSection {
    fn default() -> ClusterSection {
        ClusterSection { num_partitions: 1, default_replication_factor: 1 }
    }
}

impl Default for TimingSection {
    fn default() -> TimingSection {
        let core = Config::new(BrokerId(0), Vec::new(), String::new());
        TimingSection {
            broker_timeout_ms: core.broker_timeout_ms,
            broker_grace_ms: core.broker_grace_ms,
            gateway_timeout_ms: core.gateway_timeout_ms,
            gateway_grace_ms: core.gateway_grace_ms,
            gateway_search_ms: core.gateway_search_ms,
            gateway_return_ms: core.gateway_return_ms,
            call_timeout_ms: core.call_timeout_ms,
            rebalance_ms: core.rebalance_ms,
            tick_ms: core.tick_ms,
            heartbeat_ticks: core.heartbeat_ticks,
            election_ticks: core.election_ticks,
        }
    }
}

impl ControllerConfig {
    /// The only controller of a cluster, as in `thalweg dev`.
    pub fn alone(id: BrokerId, address: String, cluster_id: String) -> ControllerConfig {
        let quorum = vec![ActiveController { id, address }];
        ControllerConfig { core: Config::new(id, quorum, cluster_id), seed: None }
    }

    pub fn new(loaded: &Loaded<FileConfig>) -> Result<ControllerConfig, ConfigError> {
        let FileConfig { controller, cluster, timing, .. } = &loaded.config;
        if controller.node_id < 0 {
            return Err(loaded.refuse("controller.node_id", "a number from 0 up"));
        }
        let id = BrokerId(controller.node_id);
        let quorum = if controller.quorum.is_empty() {
            vec![ActiveController { id, address: controller.listen.clone() }]
        } else {
            parse_quorum(&controller.quorum)
                .ok_or_else(|| loaded.refuse("controller.quorum", "id@host:port,… with every id once"))?
        };
        if quorum.iter().all(|voter| voter.id != id) {
            return Err(loaded.refuse("controller.quorum", format!("a list with controller {id} in it")));
        }
        if quorum.len() > 1 && controller.cluster_id.is_none() {
            return Err(loaded.refuse("controller.cluster_id", "the same text on every controller of the quorum"));
        }
        if timing.tick_ms == 0 || timing.heartbeat_ticks == 0 || timing.election_ticks <= timing.heartbeat_ticks {
            return Err(loaded.refuse("timing.election_ticks", "more than timing.heartbeat_ticks, all above 0"));
        }
        if !loaded.config.trace.has_good_ratio() {
            return Err(loaded.refuse("trace.sample_ratio", "0 to 1"));
        }
        let cluster_id = controller.cluster_id.clone().unwrap_or_else(new_cluster_id);
        let core = Config {
            default_partitions: cluster.num_partitions,
            default_replication_factor: cluster.default_replication_factor,
            broker_timeout_ms: timing.broker_timeout_ms,
            broker_grace_ms: timing.broker_grace_ms,
            gateway_timeout_ms: timing.gateway_timeout_ms,
            gateway_grace_ms: timing.gateway_grace_ms,
            gateway_search_ms: timing.gateway_search_ms,
            gateway_return_ms: timing.gateway_return_ms,
            call_timeout_ms: timing.call_timeout_ms,
            rebalance_ms: timing.rebalance_ms,
            tick_ms: timing.tick_ms,
            heartbeat_ticks: timing.heartbeat_ticks,
            election_ticks: timing.election_ticks,
            ..Config::new(id, quorum, cluster_id)
        };
        Ok(ControllerConfig { core, seed: None })
    }
}

/// A name for a new cluster, in the form Kafka gives them.
pub fn new_cluster_id() -> String {
    base_types::TopicId(*uuid::Uuid::new_v4().as_bytes()).to_string()
}

fn parse_quorum(text: &str) -> Option<Vec<ActiveController>> {
    let mut quorum: Vec<ActiveController> = Vec::new();
    for voter in text.split(',') {
        let (id, address) = voter.trim().split_once('@')?;
        let id = BrokerId(id.parse().ok().filter(|id| *id >= 0)?);
        let (host, port) = address.rsplit_once(':')?;
        if host.is_empty() || port.parse::<u16>().is_err() || quorum.iter().any(|voter| voter.id == id) {
            return None;
        }
        quorum.push(ActiveController { id, address: address.to_owned() });
    }
    Some(quorum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_ids_and_addresses_each_once() {
        let quorum = parse_quorum("1@a:9190, 2@b:9190").unwrap();
        assert_eq!((quorum[1].id, quorum[1].address.as_str()), (BrokerId(2), "b:9190"));
        for wrong in ["", "1", "1@a", "1@:9", "x@a:9", "1@a:9,1@b:9", "-1@a:9", "1@a:99999"] {
            assert_eq!(parse_quorum(wrong), None, "{wrong}");
        }
    }
}
