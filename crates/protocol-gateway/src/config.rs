//! The gateway's settings, and what they must be.

use std::collections::BTreeMap;
use std::time::Duration;

use base_types::{BrokerId, Incarnation};
use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, Loaded};
use service_kit::logs::LogConfig;
use service_kit::trace::TraceConfig;

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
    if let Some(name) = settings.kafka.keys().find(|name| peer_api::config::broker_config(name).is_none()) {
        return Err(loaded.refuse(&format!("kafka.{name}"), "the name of one of Kafka's broker configs"));
    }
    Ok(Config {
        listen: settings.listen.clone(),
        http: settings.http.clone(),
        controllers: settings.controllers.clone(),
        drain: Duration::from_millis(settings.drain_ms),
        log: settings.log.clone(),
        trace: settings.trace.clone(),
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
    fn what_cannot_work_is_refused_with_key_and_expectation() {
        for (key, value) in [("listen", "nonsense"), ("advertised", "0.0.0.0:9092"), ("http", "x")] {
            let error = checked(&[(key, value)]).unwrap_err();
            assert!(error.contains(key) && error.contains("HOST:PORT"), "{error}");
        }
        assert!(checked(&[("listen", "0.0.0.0:9092")]).unwrap_err().contains("advertised"));
    }
}
