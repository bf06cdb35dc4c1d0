//! The storage node's settings, and what they must be.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base_types::{BrokerId, Incarnation};
use peer_api::config::{broker_config, validate_value};
use segment_log::LogOptions;
use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, Loaded};
use service_kit::logs::LogConfig;
use service_kit::trace::TraceConfig;
use storage_core::STATIC_CONFIGS;
use storage_node::Pace;

/// As written: every key, with its default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub node_id: i32,
    pub data_dir: String,
    pub listen: String,
    /// The address other services are told; empty: the same as `listen`.
    pub advertised: String,
    pub http: String,
    pub controllers: Vec<String>,
    /// Empty: none.
    pub rack: String,
    /// Name of the machine; empty: ask the system.
    pub host: String,
    /// All journal files together; what a restart after a crash reads at most.
    pub journal_mib: u64,
    /// Recent batches kept in memory.
    pub tail_cache_mib: u64,
    /// Everything on the disk is read and verified once in this time, in the background; 0: never.
    pub scrub_cycle_s: u64,
    /// And never faster than this.
    pub scrub_mib_per_s: u64,
    /// How long handing over leadership may take once the process was asked to stop.
    pub drain_ms: u64,
    pub log: LogConfig,
    pub trace: TraceConfig,
    /// Kafka's broker configs that differ from their defaults, by Kafka's names: those of the group coordinators.
    pub kafka: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            node_id: 1,
            data_dir: "thalweg-data".to_owned(),
            listen: "127.0.0.1:9101".to_owned(),
            advertised: String::new(),
            http: "127.0.0.1:9645".to_owned(),
            controllers: Vec::new(),
            rack: String::new(),
            host: String::new(),
            journal_mib: 512,
            tail_cache_mib: 64,
            scrub_cycle_s: 7 * 86_400,
            scrub_mib_per_s: 32,
            drain_ms: 10_000,
            log: LogConfig::default(),
            trace: TraceConfig::default(),
            kafka: BTreeMap::new(),
        }
    }
}

/// As checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub broker: BrokerId,
    pub data_dir: PathBuf,
    pub listen: String,
    pub advertised: String,
    pub http: String,
    pub controllers: Vec<String>,
    pub rack: Option<String>,
    pub host: String,
    pub log_options: LogOptions,
    pub pace: Pace,
    pub drain: Duration,
    pub log: LogConfig,
    pub trace: TraceConfig,
    pub statics: BTreeMap<String, String>,
}

pub fn check(loaded: &Loaded<Settings>, incarnation: Incarnation) -> Result<Config, ConfigError> {
    let settings = &loaded.config;
    if settings.node_id < 0 {
        return Err(loaded.refuse("node_id", "a number from 0 on"));
    }
    if settings.data_dir.is_empty() {
        return Err(loaded.refuse("data_dir", "a directory"));
    }
    if !is_address(&settings.listen) {
        return Err(loaded.refuse("listen", "HOST:PORT"));
    }
    let advertised = if settings.advertised.is_empty() { &settings.listen } else { &settings.advertised };
    if !is_address(advertised) || advertised.starts_with("0.0.0.0:") || advertised.starts_with("[::]:") {
        return Err(loaded.refuse("advertised", "HOST:PORT that other services can reach, not a wildcard"));
    }
    if !is_address(&settings.http) {
        return Err(loaded.refuse("http", "HOST:PORT"));
    }
    if settings.controllers.is_empty() || !settings.controllers.iter().all(|address| is_address(address)) {
        return Err(loaded.refuse("controllers", "HOST:PORT of each metadata controller, separated by commas"));
    }
    if !(128..=65_536).contains(&settings.journal_mib) {
        return Err(loaded.refuse("journal_mib", "128 to 65536"));
    }
    if !(8..=65_536).contains(&settings.tail_cache_mib) {
        return Err(loaded.refuse("tail_cache_mib", "8 to 65536"));
    }
    if !(1..=65_536).contains(&settings.scrub_mib_per_s) {
        return Err(loaded.refuse("scrub_mib_per_s", "1 to 65536"));
    }
    if !settings.trace.has_good_ratio() {
        return Err(loaded.refuse("trace.sample_ratio", "0 to 1"));
    }
    for (name, value) in &settings.kafka {
        let key = format!("kafka.{name}");
        let Some(definition) = broker_config(name).filter(|_| STATIC_CONFIGS.contains(&name.as_str())) else {
            return Err(loaded.refuse(&key, format!("one of {}", STATIC_CONFIGS.join(", "))));
        };
        validate_value(definition, value).map_err(|error| loaded.refuse(&key, error.to_string()))?;
    }
    let mut log_options = LogOptions::new(incarnation);
    log_options.journal_bytes_max = settings.journal_mib << 20;
    log_options.tail_cache_bytes = settings.tail_cache_mib << 20;
    Ok(Config {
        broker: BrokerId(settings.node_id),
        data_dir: PathBuf::from(&settings.data_dir),
        listen: settings.listen.clone(),
        advertised: advertised.clone(),
        http: settings.http.clone(),
        controllers: settings.controllers.clone(),
        rack: (!settings.rack.is_empty()).then(|| settings.rack.clone()),
        host: if settings.host.is_empty() { machine_name() } else { settings.host.clone() },
        log_options,
        pace: Pace {
            cycle: Duration::from_secs(settings.scrub_cycle_s),
            bytes_per_s_max: settings.scrub_mib_per_s << 20,
        },
        drain: Duration::from_millis(settings.drain_ms),
        log: settings.log.clone(),
        trace: settings.trace.clone(),
        statics: settings.kafka.clone(),
    })
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use service_kit::config::{LoadOptions, load};

    use super::*;

    fn checked(kafka: &[(&str, &str)]) -> Result<Config, String> {
        let kafka: BTreeMap<&str, &str> = kafka.iter().copied().collect();
        let options = LoadOptions::default().flag("--controllers", "controllers", Some(vec!["c1:9"])).flag(
            "--kafka",
            "kafka",
            Some(kafka),
        );
        let loaded = load::<Settings>(options).map_err(|error| error.to_string())?;
        check(&loaded, Incarnation::ZERO).map_err(|error| error.to_string())
    }

    #[test]
    fn configs_of_the_coordinators_are_taken_and_what_would_do_nothing_is_refused() {
        let config = checked(&[("group.initial.rebalance.delay.ms", "0")]).unwrap();
        assert_eq!(config.statics["group.initial.rebalance.delay.ms"], "0");
        for (name, value) in [("group.initial.rebalance.delay.ms", "soon"), ("num.io.threads", "3"), ("nonsense", "1")]
        {
            let error = checked(&[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}
