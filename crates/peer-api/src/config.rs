//! Kafka's topic and broker configs: names, types, defaults, bounds; and the typed settings the services act on.
//!
//! ```text
//!  TOPIC_CONFIGS, BROKER_CONFIGS ── validate_topic, validate_broker ──► what the controller accepts
//!            │                   ── Lookup (topic → broker → cluster → static → default) ──► DescribeConfigs
//!            └────────────────────── TopicSettings, ReplicationThrottles, ReplicationRates ──► what storage nodes act on
//! ```
//!
//! What it must not know: who asks and over which protocol. Names, types, defaults, bounds and the order of lookup are those of
//! Apache Kafka 4.3; error texts say the same things its brokers say, since people search for them.
//!
//! Tested at the bottom of each module.

mod broker;
mod definition;
mod lookup;
mod settings;
mod throttles;
mod topic;
mod validate;

pub use broker::BROKER_CONFIGS;
pub use definition::{Definition, Dynamic, Kind, Rule, ServerName, Unit};
pub use lookup::{Effective, Lookup, Source, Synonym};
pub use settings::{CleanupPolicy, Durability, TimestampType, TopicCompression, TopicSettings};
pub use throttles::{ReplicationRates, ReplicationThrottles, ThrottledReplicas};
pub use topic::TOPIC_CONFIGS;
pub use validate::{InvalidConfig, canonical, validate_broker, validate_topic, validate_value};

/// A topic config by name.
pub fn topic_config(name: &str) -> Option<&'static Definition> {
    TOPIC_CONFIGS.iter().find(|definition| definition.name == name)
}

/// A broker config by name.
pub fn broker_config(name: &str) -> Option<&'static Definition> {
    BROKER_CONFIGS.iter().find(|definition| definition.name == name)
}
