//! What throttles replication: the rates of a broker, and the replicas of a topic that they are for.

use std::collections::BTreeSet;

use base_types::{BrokerId, PartitionIndex};

use super::lookup::Lookup;
use super::validate::elements;
use super::{broker_config, topic_config};
use crate::metadata::Image;

/// Bytes a second that one broker may move for all of its throttled replicas. `None`: as many as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicationRates {
    /// Sent, as the leader of throttled partitions.
    pub leading: Option<u64>,
    /// Received, as a throttled follower.
    pub following: Option<u64>,
}

/// The throttled replicas of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicationThrottles {
    /// Partitions and the brokers that lead them.
    pub leading: ThrottledReplicas,
    /// Partitions and the brokers that follow.
    pub following: ThrottledReplicas,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThrottledReplicas {
    All,
    These(BTreeSet<(PartitionIndex, BrokerId)>),
}

impl ReplicationRates {
    pub fn of(image: &Image, broker: BrokerId) -> ReplicationRates {
        let lookup = Lookup::new(image).on_broker(broker);
        let rate = |name: &str| {
            let value = lookup.broker_config(broker_config(name)?).value?;
            // Kafka's default is its way to say that there is none.
            value.parse().ok().filter(|&rate: &i64| rate < i64::MAX).and_then(|rate| u64::try_from(rate).ok())
        };
        ReplicationRates {
            leading: rate("leader.replication.throttled.rate"),
            following: rate("follower.replication.throttled.rate"),
        }
    }
}

impl ReplicationThrottles {
    pub fn of(image: &Image, topic: &str) -> ReplicationThrottles {
        let lookup = Lookup::new(image);
        let value = |name: &str| topic_config(name).and_then(|config| lookup.topic_value(topic, config));
        let replicas = |name: &str| ThrottledReplicas::parse(&value(name).unwrap_or_default());
        ReplicationThrottles {
            leading: replicas("leader.replication.throttled.replicas"),
            following: replicas("follower.replication.throttled.replicas"),
        }
    }
}

impl ThrottledReplicas {
    /// What is no pair of numbers names no replica; the controller lets nobody set it.
    fn parse(value: &str) -> ThrottledReplicas {
        let pair = |text: &String| {
            let (partition, broker) = text.split_once(':')?;
            Some((PartitionIndex(partition.parse().ok()?), BrokerId(broker.parse().ok()?)))
        };
        match elements(value).as_slice() {
            [all] if all == "*" => ThrottledReplicas::All,
            pairs => ThrottledReplicas::These(pairs.iter().filter_map(pair).collect()),
        }
    }

    pub fn contain(&self, partition: PartitionIndex, broker: BrokerId) -> bool {
        match self {
            ThrottledReplicas::All => true,
            ThrottledReplicas::These(replicas) => replicas.contains(&(partition, broker)),
        }
    }
}

impl Default for ThrottledReplicas {
    fn default() -> ThrottledReplicas {
        ThrottledReplicas::These(BTreeSet::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{ConfigResource, Record};

    fn image(configs: &[(ConfigResource, &str, &str)]) -> Image {
        let mut image = Image::default();
        for (resource, name, value) in configs {
            let (name, value) = ((*name).to_owned(), Some((*value).to_owned()));
            image.apply(&Record::ConfigChanged { resource: resource.clone(), name, value });
        }
        image
    }

    #[test]
    fn a_broker_has_its_own_rates_before_the_clusters_and_none_by_default() {
        let image = image(&[
            (ConfigResource::Cluster, "leader.replication.throttled.rate", "500"),
            (ConfigResource::Cluster, "follower.replication.throttled.rate", "600"),
            (ConfigResource::Broker(BrokerId(1)), "leader.replication.throttled.rate", "0"),
            (ConfigResource::Broker(BrokerId(2)), "leader.replication.throttled.rate", "9223372036854775807"),
        ]);
        let rates = |broker| ReplicationRates::of(&image, BrokerId(broker));
        assert_eq!(rates(1), ReplicationRates { leading: Some(0), following: Some(600) });
        assert_eq!(rates(2), ReplicationRates { leading: None, following: Some(600) });
        assert_eq!(rates(3), ReplicationRates { leading: Some(500), following: Some(600) });
        assert_eq!(ReplicationRates::of(&Image::default(), BrokerId(1)), ReplicationRates::default());
    }

    #[test]
    fn throttled_are_the_pairs_that_are_listed_or_all_or_none() {
        let topic = || ConfigResource::Topic("t".to_owned());
        let image = image(&[
            (topic(), "leader.replication.throttled.replicas", "0:1, 12:3"),
            (topic(), "follower.replication.throttled.replicas", "*"),
        ]);
        let ReplicationThrottles { leading, following } = ReplicationThrottles::of(&image, "t");
        let places = [(0, 1), (12, 3), (0, 3), (12, 1), (7, 7)];
        let within = |replicas: &ThrottledReplicas| {
            places.map(|(partition, broker)| replicas.contain(PartitionIndex(partition), BrokerId(broker)))
        };
        assert_eq!(within(&leading), [true, true, false, false, false]);
        assert_eq!(within(&following), [true; 5]);
        assert_eq!(ReplicationThrottles::of(&image, "u"), ReplicationThrottles::default());
        assert_eq!(within(&ThrottledReplicas::default()), [false; 5]);
    }
}
