//! The gateway's settings, and what they must be.

use std::collections::BTreeMap;
use std::time::Duration;

use base_types::{BrokerId, Incarnation};
use gateway_core::{FRAME_SIZE_MAX, FRAME_SIZE_MIN};
use peer_api::config::{broker_config, validate_value};
use protocol_gateway::Patience;
use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, Loaded};
use service_kit::logs::LogConfig;
use service_kit::trace::TraceConfig;

const MAX_IDLE: &str = "connections.max.idle.ms";
const MAX_REQUEST: &str = "socket.request.max.bytes";

/// Kafka's broker configs that a gateway acts on.
const TAKEN: [&str; 6] = [
    "auto.create.topics.enable",
    MAX_IDLE,
    "offsets.topic.num.partitions",
    "offsets.topic.replication.factor",
    "offsets.topic.segment.bytes",
    MAX_REQUEST,
];
/// Of the coordinators' names, those that nobody acts on.
const INERT: [&str; 2] = ["group.coordinator.rebalance.protocols", "offsets.topic.compression.codec"];

/// As written: every key, with its default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub node_id: i32,
    pub listen: String,
    /// Empty: the same as `listen`.
    pub advertised: String,
    pub http: String,
    pub controllers: Vec<String>,
    /// Empty: none.
    pub rack: String,
    /// Name of the machine; empty: ask the system.
    pub host: String,
    /// Requests and answers held at once, over all connections.
    pub memory_max_mib: u64,
    /// How often groups are asked how far they are behind, for the metrics; 0: never.
    pub lag_interval_ms: u64,
    /// How long requests in flight may take once the process was asked to stop.
    pub drain_ms: u64,
    pub log: LogConfig,
    pub trace: TraceConfig,
    /// Kafka's broker configs that differ from their defaults, by Kafka's names.
    pub kafka: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            node_id: 100,
            listen: "127.0.0.1:9092".to_owned(),
            advertised: String::new(),
            http: "127.0.0.1:9644".to_owned(),
            controllers: Vec::new(),
            rack: String::new(),
            host: String::new(),
            memory_max_mib: 512,
            lag_interval_ms: 30_000,
            drain_ms: 5_000,
            log: LogConfig::default(),
            trace: TraceConfig::default(),
            kafka: BTreeMap::new(),
        }
    }
}

/// As checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: String,
    pub http: String,
    pub controllers: Vec<String>,
    pub drain: Duration,
    pub log: LogConfig,
    pub trace: TraceConfig,
    pub patience: Patience,
    pub frame_size_max: usize,
    pub core: gateway_core::Config,
}

pub fn check(loaded: &Loaded<Settings>, incarnation: Incarnation, seed: u64) -> Result<Config, ConfigError> {
    let settings = &loaded.config;
    if settings.node_id < 0 {
        return Err(loaded.refuse("node_id", "a number from 0 on"));
    }
    if address(&settings.listen).is_none() {
        return Err(loaded.refuse("listen", "HOST:PORT"));
    }
    let advertised = if settings.advertised.is_empty() { &settings.listen } else { &settings.advertised };
    let Some((advertised_host, advertised_port)) = address(advertised).filter(|(host, _)| !is_wildcard(host)) else {
        return Err(loaded.refuse("advertised", "HOST:PORT that clients can reach, not a wildcard"));
    };
    if address(&settings.http).is_none() {
        return Err(loaded.refuse("http", "HOST:PORT"));
    }
    if settings.controllers.is_empty() || settings.controllers.iter().any(|controller| address(controller).is_none()) {
        return Err(loaded.refuse("controllers", "HOST:PORT of each metadata controller, separated by commas"));
    }
    if !(16..=1 << 20).contains(&settings.memory_max_mib) {
        return Err(loaded.refuse("memory_max_mib", "16 to 1048576"));
    }
    if !settings.trace.has_good_ratio() {
        return Err(loaded.refuse("trace.sample_ratio", "0 to 1"));
    }
    for (name, value) in &settings.kafka {
        let key = format!("kafka.{name}");
        let Some(definition) = broker_config(name).filter(|_| is_taken(name)) else {
            return Err(loaded.refuse(&key, format!("one of {}, or of a storage node's", TAKEN.join(", "))));
        };
        validate_value(definition, value).map_err(|error| loaded.refuse(&key, error.to_string()))?;
    }
    let number = |name: &str| settings.kafka.get(name).and_then(|value| value.trim().parse::<i64>().ok());
    let mut patience = Patience::default();
    if let Some(ms) = number(MAX_IDLE) {
        // Kafka's way to say for ever.
        patience.idle = u64::try_from(ms).map_or(Duration::MAX, Duration::from_millis);
    }
    let frame_size_max = match number(MAX_REQUEST) {
        None => FRAME_SIZE_MAX,
        Some(bytes) => usize::try_from(bytes)
            .ok()
            .filter(|bytes| (FRAME_SIZE_MIN..=FRAME_SIZE_MAX).contains(bytes))
            .ok_or_else(|| loaded.refuse(&format!("kafka.{MAX_REQUEST}"), format!("at most {FRAME_SIZE_MAX}")))?,
    };
    Ok(Config {
        listen: settings.listen.clone(),
        http: settings.http.clone(),
        controllers: settings.controllers.clone(),
        drain: Duration::from_millis(settings.drain_ms),
        log: settings.log.clone(),
        trace: settings.trace.clone(),
        patience,
        frame_size_max,
        core: gateway_core::Config {
            id: BrokerId(settings.node_id),
            incarnation,
            advertised_host: advertised_host.to_owned(),
            advertised_port,
            rack: (!settings.rack.is_empty()).then(|| settings.rack.clone()),
            host: if settings.host.is_empty() { machine_name() } else { settings.host.clone() },
            seed,
            memory_max: settings.memory_max_mib as usize * 1024 * 1024,
            lag_interval_ms: settings.lag_interval_ms,
            statics: settings.kafka.clone(),
            ..gateway_core::Config::default()
        },
    })
}

/// Whether a config that is set does anything. Storage nodes act on those of the group coordinators; here they are only
/// shown, so that DescribeConfigs can say what a storage node was started with.
fn is_taken(name: &str) -> bool {
    let of_coordinators = ["group.", "offset.", "offsets."].iter().any(|prefix| name.starts_with(prefix));
    TAKEN.contains(&name) || (of_coordinators && !INERT.contains(&name))
}

fn address(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    (!host.is_empty()).then_some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
}

fn is_wildcard(host: &str) -> bool {
    matches!(host, "0.0.0.0" | "::" | "*")
}

/// What the kernel calls this machine; storage nodes say the same.
fn machine_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use service_kit::config::{LoadOptions, load};

    use super::*;

    fn checked(flags: &[(&str, &str)]) -> Result<Config, String> {
        let mut options = LoadOptions::default().flag("--controllers", "controllers", Some(vec!["c1:9", "c2:9"]));
        for (key, value) in flags {
            options = options.flag(&format!("--{key}"), key, Some(value));
        }
        let loaded = load::<Settings>(options).map_err(|error| error.to_string())?;
        check(&loaded, Incarnation::ZERO, 0).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_need_only_controllers() {
        let config = checked(&[]).unwrap();
        assert_eq!((config.core.advertised_host.as_str(), config.core.advertised_port), ("127.0.0.1", 9092));
        assert_eq!(config.controllers, ["c1:9", "c2:9"]);
    }

    #[test]
    fn kafkas_configs_take_effect_or_are_refused() {
        let with = |kafka: &[(&str, &str)]| {
            let kafka: BTreeMap<&str, &str> = kafka.iter().copied().collect();
            let options = LoadOptions::default().flag("--controllers", "controllers", Some(vec!["c1:9"])).flag(
                "--kafka",
                "kafka",
                Some(kafka),
            );
            let loaded = load::<Settings>(options).map_err(|error| error.to_string())?;
            check(&loaded, Incarnation::ZERO, 0).map_err(|error| error.to_string())
        };
        let config = with(&[(MAX_IDLE, "5000"), (MAX_REQUEST, "1000"), ("group.max.size", "7")]).unwrap();
        assert_eq!((config.patience.idle, config.frame_size_max), (Duration::from_secs(5), 1000));
        assert_eq!(config.core.statics["group.max.size"], "7");
        assert_eq!(with(&[(MAX_IDLE, "-1")]).unwrap().patience.idle, Duration::MAX);
        let refused = [(MAX_IDLE, "soon"), (MAX_REQUEST, "104857601"), ("num.io.threads", "3"), ("nonsense", "1")];
        for (name, value) in refused {
            let error = with(&[(name, value)]).err().unwrap();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_key_and_expectation() {
        for (key, value) in [("listen", "nonsense"), ("advertised", "0.0.0.0:9092"), ("http", "x")] {
            let error = checked(&[(key, value)]).unwrap_err();
            assert!(error.contains(key) && error.contains("HOST:PORT"), "{error}");
        }
        assert!(checked(&[("listen", "0.0.0.0:9092")]).unwrap_err().contains("advertised"));
    }
}
