//! Which gateway stands for which storage node, and who is alive: pure functions of the metadata.
//!
//! Clients identify brokers by id and drop those that vanish, so every gateway must give the same ids and the same addresses
//! at the same time (decision 9): nothing here depends on which gateway answers.

use base_types::{BrokerId, TopicId};
use kafka_wire::KafkaString;
use peer_api::metadata::{Broker, BrokerState, Gateway, Image, Topic};

/// The storage nodes that clients may know of.
pub(crate) fn live_brokers(image: &Image) -> impl Iterator<Item = &Broker> {
    image.brokers().filter(|broker| is_live(broker))
}

pub(crate) fn is_live(broker: &Broker) -> bool {
    match broker.state {
        BrokerState::Active | BrokerState::ShuttingDown => true,
        BrokerState::Fenced => false,
    }
}

/// A live storage node's id: tools that look for "the controller" connect to it, and any gateway serves them.
pub(crate) fn controller_id(image: &Image) -> BrokerId {
    live_brokers(image).next().map_or(BrokerId::NONE, |broker| broker.id)
}

/// The gateway that stands for a storage node: one on the same machine, else one in the same rack, else any. Among several,
/// the one whose hash with the node is highest, so that a gateway that comes or goes moves only its own nodes.
pub(crate) fn gateway_of<'a>(image: &'a Image, broker: &Broker) -> Option<&'a Gateway> {
    image.gateways().max_by_key(|gateway| {
        let same_host = !gateway.host.is_empty() && gateway.host == broker.host;
        let same_rack = gateway.rack.is_some() && gateway.rack == broker.rack;
        (same_host, same_rack, weight(broker.id, gateway.id), gateway.id)
    })
}

/// The address clients are given for a storage node. `fallback` is our own, for the moment before any gateway is registered.
///
/// Each node's is its own spelling of the gateway's name: librdkafka before 2.10 takes two ids at one `host:port` for one broker and
/// never reaches the other's partitions (`docs/decisions/0006-one-spelling-for-each-broker.md`). Even where a gateway stands for one
/// node only: were its name spelled otherwise once it stands for two, clients of the first would have to connect again.
pub(crate) fn address_of(image: &Image, broker: &Broker, fallback: (&str, u16)) -> (KafkaString, i32) {
    let Some(gateway) = gateway_of(image, broker) else {
        return (KafkaString::from(fallback.0), i32::from(fallback.1));
    };
    let host = if image.brokers().any(|other| other.id != broker.id) {
        KafkaString::from(spelled(&gateway.advertised_host, broker.id))
    } else {
        KafkaString::from(gateway.advertised_host.as_str())
    };
    (host, i32::from(gateway.advertised_port))
}

/// The name with its letters in upper and lower case by the bits of `id`. Names are compared without regard to case, by DNS and
/// by TLS, so it stays the same name. An address in digits has no letters and stays as it is.
fn spelled(host: &str, id: BrokerId) -> String {
    let mut bits = id.0 as u32;
    let spell = |letter: char| {
        if !letter.is_ascii_alphabetic() || host.contains(':') {
            return letter;
        }
        let upper = bits & 1 == 1;
        bits >>= 1;
        if upper { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
    };
    host.chars().map(spell).collect()
}

/// The live storage nodes that `gateway` stands for.
pub(crate) fn nodes_of(image: &Image, gateway: BrokerId) -> Vec<BrokerId> {
    live_brokers(image)
        .filter(|broker| gateway_of(image, broker).is_none_or(|stands| stands.id == gateway))
        .map(|broker| broker.id)
        .collect()
}

pub(crate) fn topic_by_wire_id(image: &Image, id: kafka_wire::Uuid) -> Option<&Topic> {
    image.topic(TopicId(id.0))
}

/// Whether the cluster has agreed on the new group protocol (KIP-848).
pub(crate) fn serves_consumer_groups(image: &Image) -> bool {
    image.features().any(|(name, level)| name == "group.version" && level >= 1)
}

/// Topics that clients may read and not write (Kafka's internal ones).
pub(crate) fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

fn weight(broker: BrokerId, gateway: BrokerId) -> u64 {
    let mut word = (u64::from(broker.0 as u32) << 32) | u64::from(gateway.0 as u32);
    // SplitMix64's finaliser: neighbouring ids must not give neighbouring weights.
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use base_types::{BrokerEpoch, Incarnation};
    use peer_api::metadata::Record;

    use super::*;

    fn broker(id: i32, host: &str, rack: Option<&str>) -> Record {
        Record::BrokerRegistered(Broker {
            id: BrokerId(id),
            epoch: BrokerEpoch(1),
            incarnation: Incarnation::ZERO,
            rack: rack.map(str::to_owned),
            peer_address: format!("{host}:1"),
            host: host.to_owned(),
            state: BrokerState::Active,
        })
    }

    fn gateway(id: i32, host: &str, rack: Option<&str>) -> Record {
        Record::GatewayRegistered(Gateway {
            id: BrokerId(id),
            incarnation: Incarnation::ZERO,
            advertised_host: format!("g{id}"),
            advertised_port: 9092,
            rack: rack.map(str::to_owned),
            host: host.to_owned(),
        })
    }

    fn image(records: &[Record]) -> Image {
        let mut image = Image::default();
        records.iter().for_each(|record| image.apply(record));
        image
    }

    fn host_of(image: &Image, id: i32) -> String {
        address_of(image, image.broker(BrokerId(id)).unwrap(), ("self", 1)).0.to_lowercase()
    }

    /// Trap 9: clients that know brokers by address must not take several for one.
    #[test]
    fn nodes_that_share_a_gateway_have_addresses_that_differ_in_spelling() {
        let mut records: Vec<Record> = (1..=7).map(|id| broker(id, "", None)).collect();
        records.push(gateway(100, "kafka.example", None));
        if let Some(Record::GatewayRegistered(gateway)) = records.last_mut() {
            gateway.advertised_host = "kafka.example".to_owned();
        }
        let shared = image(&records);
        let address =
            |image: &Image, id| address_of(image, image.broker(BrokerId(id)).unwrap(), ("self", 1)).0.to_string();
        let mut all: Vec<String> = (1..=7).map(|id| address(&shared, id)).collect();
        assert!(all.iter().all(|host| host.eq_ignore_ascii_case("kafka.example")), "{all:?}");
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 7);
        assert_eq!(address(&shared, 5), "KaFka.example");
        records.drain(1..7);
        assert_eq!(address(&image(&records), 1), "kafka.example", "a sole node has the name as it is");
        assert_eq!(spelled("127.0.0.1", BrokerId(3)), "127.0.0.1");
        assert_eq!(spelled("[::ffff:1]", BrokerId(3)), "[::ffff:1]");
    }

    #[test]
    fn the_same_machine_wins_then_the_same_rack_then_a_hash() {
        let all = [
            broker(1, "a", Some("r1")),
            broker(2, "b", Some("r2")),
            broker(3, "c", None),
            gateway(101, "a", Some("r2")),
            gateway(102, "x", Some("r2")),
        ];
        let image = image(&all);
        assert_eq!(host_of(&image, 1), "g101");
        assert!(host_of(&image, 2).starts_with('g'));
        assert!(host_of(&image, 3).starts_with('g'));
        let in_rack =
            self::image(&[broker(2, "b", Some("r2")), gateway(101, "a", None), gateway(102, "x", Some("r2"))]);
        assert_eq!(host_of(&in_rack, 2), "g102");
    }

    #[test]
    fn before_any_gateway_is_known_the_answering_one_gives_itself() {
        let image = image(&[broker(1, "a", None)]);
        assert_eq!(host_of(&image, 1), "self");
        assert_eq!(nodes_of(&image, BrokerId(77)), [BrokerId(1)]);
    }

    /// Trap 8: clients drop brokers that flap.
    #[test]
    fn a_gateway_that_leaves_moves_only_its_own_nodes() {
        let mut records: Vec<Record> = (0..50).map(|id| broker(id, "", None)).collect();
        records.extend((100..105).map(|id| gateway(id, "", None)));
        let before = image(&records);
        records.retain(|record| !matches!(record, Record::GatewayRegistered(gateway) if gateway.id.0 == 103));
        let after = image(&records);
        let mut moved = 0;
        for id in 0..50 {
            if host_of(&before, id) == "g103" {
                moved += 1;
            } else {
                assert_eq!(host_of(&before, id), host_of(&after, id));
            }
        }
        assert!((2..25).contains(&moved), "{moved} of 50 nodes on one of five gateways");
    }

    /// A gateway that takes over another's nodes must not move those it has.
    #[test]
    fn a_node_keeps_its_spelling_whatever_else_its_gateway_stands_for() {
        let nodes: Vec<Record> = (1..=3).map(|id| broker(id, "", None)).collect();
        let with = |gateways: std::ops::Range<i32>| {
            image(&nodes.iter().cloned().chain(gateways.map(|id| gateway(id, "", None))).collect::<Vec<_>>())
        };
        let address = |image: &Image, id| address_of(image, image.broker(BrokerId(id)).unwrap(), ("self", 1)).0;
        let (one, many) = (with(100..101), with(100..110));
        let mut alone = 0;
        for id in 1..=3 {
            let stands = gateway_of(&many, many.broker(BrokerId(id)).unwrap()).unwrap().id;
            alone += usize::from(nodes_of(&many, stands).len() == 1);
            let same_place = |address: &str| address.to_ascii_lowercase().replace(&format!("g{}", stands.0), "g100");
            assert_eq!(same_place(&address(&many, id)), address(&one, id).to_ascii_lowercase());
            let capital = |address: &str| address.starts_with('G');
            assert_eq!(capital(&address(&many, id)), capital(&address(&one, id)), "node {id}");
        }
        assert!(alone > 0, "the case in question");
    }

    #[test]
    fn each_node_has_exactly_one_gateway() {
        let mut records: Vec<Record> = (0..20).map(|id| broker(id, "", None)).collect();
        records.extend((100..103).map(|id| gateway(id, "", None)));
        let image = image(&records);
        let mut nodes: Vec<i32> = (100..103).flat_map(|id| nodes_of(&image, BrokerId(id))).map(|id| id.0).collect();
        nodes.sort_unstable();
        assert_eq!(nodes, (0..20).collect::<Vec<_>>());
    }
}
