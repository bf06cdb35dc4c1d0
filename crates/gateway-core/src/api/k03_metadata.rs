//! Metadata (3): brokers, and topics with their leaders.
//!
//! Versions 0–13.
//!
//! * v0: an empty list means all topics; from v1 null means all and empty means none (trap 15).
//! * v1: racks, controller. v2: cluster id. v4: clients may forbid auto-creation. v5: offline replicas. v7: leader epoch.
//! * v8: authorized operations (KIP-430). v9: flexible. v10: topic ids in answers (KIP-516). v12: topics by id.
//! * v13: an error of the whole (KIP-1102), never set here.
//!
//! Brokers are the live storage nodes, each at the address of the gateway that stands for it (`route.rs`); the controller is
//! a live one of them. A topic that does not exist is made, if cluster and client allow it, and the answer waits until it
//! has leaders. So does the answer for a named topic that has just lost a leader: `LEADER_NOT_AVAILABLE` makes some clients give
//! up (trap 18), so it is said only after a while without one. And so does, for a while, any answer that would name no broker.
//!
//! Deviation from Kafka: the first answer for a topic made on demand holds it, where Kafka says `UNKNOWN_TOPIC_OR_PARTITION`.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use base_types::{BrokerId, ErrorCode, Tick, TopicId};
use kafka_wire::k03_metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::{KafkaString, MetadataRequest, MetadataResponse, Uuid};
use peer_api::config::{Lookup, broker_config};
use peer_api::controller::{self, NewTopic};
use peer_api::groups::GROUPS_TOPIC;
use peer_api::metadata::{Image, MetadataOffset, PartitionState, Topic};

use crate::api::internal_topics;
use crate::limits::{AUTO_CREATE_WAIT_MS, BROKER_WAIT_MS, LEADER_WAIT_MS};
use crate::operation::{Begun, Context, Operation, Progress};
use crate::route;

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=13;

/// Every operation on a topic, as a bit field (KIP-430): nobody is refused anything yet.
pub(crate) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// Likewise on the cluster.
pub(crate) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

struct Metadata {
    /// `None`: all.
    topics: Option<Vec<Named>>,
    include_topic_operations: bool,
    include_cluster_operations: bool,
    /// Until then no answer without brokers is given.
    brokers_until: Tick,
    /// Asked of the controller and not yet answered.
    creating: bool,
    visible_at: MetadataOffset,
}

#[derive(Clone)]
enum Named {
    Name(KafkaString),
    Id(Uuid),
}

pub(crate) fn begin(cx: &mut Context<'_>, request: MetadataRequest) -> Begun {
    let asked = request.topics.filter(|topics| cx.version() > 0 || !topics.is_empty());
    if let Some(topics) = &asked
        && cx.version() < 12
        && topics.iter().any(|topic| topic.name.is_none() || !topic.topic_id.is_zero())
    {
        return refuse(cx, topics);
    }
    let mut seen = BTreeSet::new();
    let topics = asked.map(|topics| {
        let distinct = topics.into_iter().filter(|topic| seen.insert((topic.name.clone(), topic.topic_id)));
        distinct
            .map(|topic| match topic.name {
                Some(name) if topic.topic_id.is_zero() => Named::Name(name),
                _ => Named::Id(topic.topic_id),
            })
            .collect()
    });
    let mut metadata = Metadata {
        topics,
        include_topic_operations: request.include_topic_authorized_operations,
        include_cluster_operations: request.include_cluster_authorized_operations,
        brokers_until: cx.now.tick.plus_ms(BROKER_WAIT_MS),
        creating: false,
        visible_at: MetadataOffset::default(),
    };
    let may_create = cx.version() < 4 || request.allow_auto_topic_creation;
    if may_create && auto_create_enabled(cx) {
        metadata.create(cx);
    }
    Begun::settle(metadata, cx)
}

fn auto_create_enabled(cx: &Context<'_>) -> bool {
    let lookup = Lookup::new(cx.image).with_static(&cx.config().statics);
    broker_config("auto.create.topics.enable")
        .is_some_and(|definition| lookup.broker_config(definition).value.as_deref() == Some("true"))
}

fn refuse(cx: &mut Context<'_>, topics: &[MetadataRequestTopic]) -> Begun {
    let topics = topics
        .iter()
        .map(|topic| MetadataResponseTopic {
            error_code: cx.code(ErrorCode::InvalidRequest),
            name: Some(topic.name.clone().unwrap_or_default()),
            topic_id: topic.topic_id,
            ..Default::default()
        })
        .collect();
    Begun::Answered(cx.respond(&MetadataResponse { topics, ..Default::default() }))
}

/// Kafka's rule for topic names.
pub(crate) fn is_valid_name(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}

impl Metadata {
    /// Asks the controller for the topics that do not exist and may.
    fn create(&mut self, cx: &mut Context<'_>) {
        let topics: Vec<NewTopic> = self
            .named()
            .filter(|name| cx.image.topic_named(name).is_none() && is_valid_name(name))
            .filter_map(|name| {
                if &**name == GROUPS_TOPIC {
                    return Some(internal_topics::groups_topic(cx));
                }
                (!route::is_internal(name)).then(|| NewTopic {
                    name: name.to_string(),
                    partitions: -1,
                    replication_factor: -1,
                    assignments: Vec::new(),
                    configs: Vec::new(),
                })
            })
            .collect();
        if !topics.is_empty() {
            self.creating = true;
            cx.ask_controller(controller::Request::CreateTopics { topics, validate_only: false });
        }
    }

    fn named(&self) -> impl Iterator<Item = &KafkaString> {
        self.topics.iter().flatten().filter_map(|topic| match topic {
            Named::Name(name) => Some(name),
            Named::Id(_) => None,
        })
    }

    /// Whether every topic asked for has its leaders.
    fn is_complete(&self, image: &Image) -> bool {
        let led = |topic: &Topic| topic.partitions.iter().all(|partition| partition.leader.is_some());
        self.topics.iter().flatten().all(|named| {
            let topic = match named {
                Named::Name(name) => image.topic_named(name),
                Named::Id(id) => image.topic(TopicId(id.0)),
            };
            topic.is_none_or(led)
        })
    }

    fn look(&mut self, cx: &mut Context<'_>) -> Progress {
        if self.creating || cx.image.at() < self.visible_at || !self.is_complete(cx.image) {
            return Progress::Pending;
        }
        self.finish_with_brokers(cx)
    }

    fn finish_with_brokers(&mut self, cx: &mut Context<'_>) -> Progress {
        if cx.now.tick < self.brokers_until && route::live_brokers(cx.image).next().is_none() {
            cx.wake_at(self.brokers_until);
            return Progress::Pending;
        }
        self.finish(cx)
    }

    fn finish(&self, cx: &mut Context<'_>) -> Progress {
        let mut response = MetadataResponse {
            brokers: brokers(cx),
            cluster_id: Some(cx.image.cluster_id().into()),
            controller_id: route::controller_id(cx.image).0,
            ..Default::default()
        };
        if self.include_cluster_operations && cx.version() >= 8 && cx.version() <= 10 {
            response.cluster_authorized_operations = CLUSTER_OPERATIONS;
        }
        let image = cx.image;
        response.topics = match &self.topics {
            None => image.topics_by_name().map(|topic| self.topic(cx, topic)).collect(),
            Some(topics) => topics
                .iter()
                .map(|named| match named {
                    Named::Name(name) => match image.topic_named(name) {
                        Some(topic) => self.topic(cx, topic),
                        None => unknown(cx, name),
                    },
                    Named::Id(id) => match route::topic_by_wire_id(image, *id) {
                        Some(topic) => self.topic(cx, topic),
                        None => MetadataResponseTopic {
                            error_code: cx.code(ErrorCode::UnknownTopicId),
                            name: None,
                            topic_id: *id,
                            topic_authorized_operations: i32::MIN,
                            ..Default::default()
                        },
                    },
                })
                .collect(),
        };
        cx.respond(&response).into()
    }

    fn topic(&self, cx: &mut Context<'_>, topic: &Topic) -> MetadataResponseTopic {
        MetadataResponseTopic {
            error_code: 0,
            name: Some((&topic.name).into()),
            topic_id: Uuid(topic.id.0),
            is_internal: route::is_internal(&topic.name),
            partitions: topic
                .partitions
                .iter()
                .enumerate()
                .map(|(index, state)| partition(cx, index as i32, state))
                .collect(),
            topic_authorized_operations: if self.include_topic_operations { TOPIC_OPERATIONS } else { i32::MIN },
        }
    }
}

impl Operation for Metadata {
    fn begin(&mut self, cx: &mut Context<'_>) -> Progress {
        let wait_ms = if self.creating { AUTO_CREATE_WAIT_MS } else { LEADER_WAIT_MS };
        cx.wake_at(cx.now.tick.plus_ms(wait_ms));
        self.look(cx)
    }

    fn controller_answered(
        &mut self,
        cx: &mut Context<'_>,
        result: Result<controller::Response, controller::Error>,
    ) -> Progress {
        self.creating = false;
        if let Ok(controller::Response::TopicsCreated { visible_at, .. }) = result {
            // Also when it existed already: somebody else was quicker, and our view is behind.
            self.visible_at = visible_at;
        }
        self.look(cx)
    }

    fn metadata_changed(&mut self, cx: &mut Context<'_>) -> Progress {
        self.look(cx)
    }

    fn woken(&mut self, cx: &mut Context<'_>) -> Progress {
        self.finish_with_brokers(cx)
    }
}

fn unknown(cx: &mut Context<'_>, name: &KafkaString) -> MetadataResponseTopic {
    let code = if is_valid_name(name) { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
    MetadataResponseTopic {
        error_code: cx.code(code),
        name: Some(name.clone()),
        is_internal: route::is_internal(name),
        topic_authorized_operations: i32::MIN,
        ..Default::default()
    }
}

fn brokers(cx: &Context<'_>) -> Vec<MetadataResponseBroker> {
    route::live_brokers(cx.image)
        .map(|broker| {
            let (host, port) = route::address_of(cx.image, broker, cx.shared.controller.advertised());
            MetadataResponseBroker { node_id: broker.id.0, host, port, rack: broker.rack.as_ref().map(Into::into) }
        })
        .collect()
}

fn partition(cx: &mut Context<'_>, partition_index: i32, state: &PartitionState) -> MetadataResponsePartition {
    let code = if state.leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
    MetadataResponsePartition {
        error_code: cx.code(code),
        partition_index,
        leader_id: state.leader.unwrap_or(BrokerId::NONE).0,
        leader_epoch: state.leader_epoch.0,
        replica_nodes: ids(&state.replicas),
        isr_nodes: ids(&state.isr),
        offline_replicas: offline(cx.image, state),
    }
}

pub(crate) fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|id| id.0).collect()
}

/// Replicas on nodes that are not alive.
pub(crate) fn offline(image: &Image, state: &PartitionState) -> Vec<i32> {
    let dead = |id: &&BrokerId| !image.broker(**id).is_some_and(route::is_live);
    state.replicas.iter().filter(dead).map(|id| id.0).collect()
}

#[cfg(test)]
mod tests {
    use base_types::{BrokerEpoch, Incarnation};
    use peer_api::controller::{CreatedTopic, Refusal};
    use peer_api::metadata::{BrokerState, Gateway, Record};

    use super::*;
    use crate::testing::World;

    fn named(names: &[&str]) -> MetadataRequest {
        let topics = names
            .iter()
            .map(|name| MetadataRequestTopic { name: Some((*name).into()), ..Default::default() })
            .collect();
        MetadataRequest { topics: Some(topics), allow_auto_topic_creation: true, ..Default::default() }
    }

    fn quiet(names: &[&str]) -> MetadataRequest {
        MetadataRequest { allow_auto_topic_creation: false, ..named(names) }
    }

    fn told(response: &MetadataResponse) -> Vec<(i16, &str, usize)> {
        response
            .topics
            .iter()
            .map(|topic| (topic.error_code, topic.name.as_deref().unwrap_or("null"), topic.partitions.len()))
            .collect()
    }

    /// Trap 15.
    #[test]
    fn an_empty_list_means_all_in_v0_and_none_after_and_null_means_all() {
        let mut world = World::new(1);
        world.topic("b", &[1]);
        world.topic("a", &[1, 1]);
        let all = [(0, "a", 2), (0, "b", 1)];
        let empty = MetadataRequest { topics: Some(Vec::new()), ..quiet(&[]) };
        assert_eq!(told(&world.ask::<MetadataRequest>(0, &named(&[]))), all);
        for version in 4..=13 {
            assert_eq!(told(&world.ask::<MetadataRequest>(version, &empty)), []);
            let null = MetadataRequest { topics: None, ..quiet(&[]) };
            assert_eq!(told(&world.ask::<MetadataRequest>(version, &null)), all);
        }
    }

    #[test]
    fn every_version_tells_brokers_leaders_and_ids() {
        for version in SUPPORTED {
            let mut world = World::new(2);
            let id = world.topic("t", &[2]);
            let response = world.ask::<MetadataRequest>(version, &named(&["t"]));
            let brokers: Vec<_> = response.brokers.iter().map(|b| (b.node_id, b.host.as_str(), b.port)).collect();
            assert_eq!(brokers, [(1, "gw", 9092), (2, "gw", 9092)]);
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.leader_id, partition.error_code), (2, 0));
            assert_eq!(partition.leader_epoch, if version >= 7 { 5 } else { -1 });
            assert_eq!(partition.replica_nodes, [2, 7]);
            // Node 7 is in no metadata, so its replica is offline.
            assert_eq!(partition.offline_replicas, if version >= 5 { vec![7] } else { vec![] });
            assert_eq!(response.topics[0].topic_id.0, if version >= 10 { id.0 } else { [0; 16] });
            // Trap 26: the controller is a live broker.
            assert_eq!(response.controller_id, if version >= 1 { 1 } else { -1 });
            assert_eq!(response.cluster_id.as_deref(), (version >= 2).then_some("cluster"));
            assert_eq!(response.topics[0].topic_authorized_operations, i32::MIN);
        }
    }

    /// Traps 8 and 9.
    #[test]
    fn all_gateways_tell_the_same_addresses_and_several_ids_may_share_one() {
        let gateway = |id: i32| {
            Record::GatewayRegistered(Gateway {
                id: BrokerId(id),
                incarnation: Incarnation::ZERO,
                advertised_host: format!("g{id}"),
                advertised_port: 9092,
                rack: None,
                host: String::new(),
            })
        };
        let addresses = |own: i32| {
            let config = crate::Config { id: BrokerId(own), ..Default::default() };
            let mut world = World::with(5, config);
            world.change(vec![gateway(100), gateway(101)]);
            let response = world.ask::<MetadataRequest>(9, &quiet(&[]));
            response.brokers.iter().map(|b| (b.node_id, b.host.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(addresses(100), addresses(101));
        assert_eq!(addresses(100).len(), 5);
    }

    #[test]
    fn a_fenced_node_is_no_broker() {
        let mut world = World::new(2);
        let (broker, broker_epoch) = (BrokerId(1), BrokerEpoch(1));
        world.change(vec![Record::BrokerStateChanged { broker, broker_epoch, state: BrokerState::Fenced }]);
        let response = world.ask::<MetadataRequest>(9, &quiet(&[]));
        assert_eq!(response.brokers.iter().map(|b| b.node_id).collect::<Vec<_>>(), [2]);
        assert_eq!(response.controller_id, 2);
    }

    /// At start-up every node is still fenced.
    #[test]
    fn a_cluster_without_live_brokers_is_told_only_after_a_while() {
        let mut world = World::new(1);
        world.topic("t", &[1]);
        let (broker, broker_epoch) = (BrokerId(1), BrokerEpoch(1));
        let turn = |world: &mut World, state| {
            world.change(vec![Record::BrokerStateChanged { broker, broker_epoch, state }]);
        };
        let all = MetadataRequest { topics: None, ..quiet(&[]) };
        for request in [all, quiet(&[]), quiet(&["t"]), quiet(&["unknown"])] {
            turn(&mut world, BrokerState::Fenced);
            world.send(9, &request);
            world.pass(LEADER_WAIT_MS);
            assert!(world.is_silent(), "{request:?}");
            turn(&mut world, BrokerState::Active);
            assert_eq!(world.answer::<MetadataRequest>(9).1.brokers.len(), 1);
            turn(&mut world, BrokerState::Fenced);
            world.send(9, &request);
            world.pass(BROKER_WAIT_MS - 1);
            assert!(world.is_silent(), "{request:?}");
            world.pass(1);
            assert_eq!(world.answer::<MetadataRequest>(9).1.brokers.len(), 0);
        }
    }

    /// Traps 16 and 18: the first answer holds the new topic with its leaders.
    #[test]
    fn an_unknown_topic_is_made_and_awaited() {
        let mut world = World::new(1);
        world.send(12, &named(&["new", "bad name"]));
        let (id, call) = world.next_call();
        let controller::Request::CreateTopics { topics, validate_only: false } = call else { panic!("{call:?}") };
        assert_eq!((topics.len(), &*topics[0].name, topics[0].partitions), (1, "new", -1));
        let created = CreatedTopic { name: "new".into(), id: TopicId([1; 16]), partitions: 1, replication_factor: 1 };
        let visible_at = MetadataOffset(world.metadata_at().0 + 1);
        let answer = controller::Response::TopicsCreated { topics: vec![Ok(created)], visible_at };
        world.controller_answers(id, Ok(answer));
        assert!(world.is_silent());
        world.topic("new", &[1]);
        assert_eq!(told(&world.answer::<MetadataRequest>(12).1), [(0, "new", 1), (17, "bad name", 0)]);
    }

    #[test]
    fn a_topic_that_cannot_be_made_is_unknown() {
        let mut world = World::new(1);
        world.send(12, &named(&["new"]));
        let (id, _) = world.next_call();
        let refusal = Refusal { code: ErrorCode::InvalidReplicationFactor, message: String::new() };
        let visible_at = world.metadata_at();
        let answer = controller::Response::TopicsCreated { topics: vec![Err(refusal)], visible_at };
        world.controller_answers(id, Ok(answer));
        assert_eq!(told(&world.answer::<MetadataRequest>(12).1), [(3, "new", 0)]);
        world.send(12, &named(&["new"]));
        world.pass(AUTO_CREATE_WAIT_MS);
        assert_eq!(told(&world.answer::<MetadataRequest>(12).1), [(3, "new", 0)]);
    }

    #[test]
    fn nothing_is_made_when_client_or_cluster_forbids_it() {
        let mut world = World::new(1);
        assert_eq!(told(&world.ask::<MetadataRequest>(4, &quiet(&["new", "x/y"]))), [(3, "new", 0), (17, "x/y", 0)]);
        let internal = named(&["__transaction_state"]);
        assert_eq!(told(&world.ask::<MetadataRequest>(4, &internal)), [(3, "__transaction_state", 0)]);
        let mut statics = std::collections::BTreeMap::new();
        statics.insert("auto.create.topics.enable".to_owned(), "false".to_owned());
        let mut world = World::with(1, crate::Config { statics, ..Default::default() });
        assert_eq!(told(&world.ask::<MetadataRequest>(4, &named(&["new"]))), [(3, "new", 0)]);
    }

    /// Trap 18.
    #[test]
    fn a_leader_in_election_is_awaited_before_it_is_said_to_be_missing() {
        let mut world = World::new(2);
        let topic = world.topic("t", &[1]);
        world.lead(topic, 0, None, 6);
        world.send(9, &quiet(&["t"]));
        assert!(world.is_silent());
        world.lead(topic, 0, Some(2), 7);
        let (_, response) = world.answer::<MetadataRequest>(9);
        assert_eq!((response.topics[0].partitions[0].error_code, response.topics[0].partitions[0].leader_id), (0, 2));
        world.lead(topic, 0, None, 8);
        world.send(9, &quiet(&["t"]));
        world.pass(LEADER_WAIT_MS);
        let (_, response) = world.answer::<MetadataRequest>(9);
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id, partition.leader_epoch), (5, -1, 8));
        // Trap 17: error 0 never comes with no partitions.
        assert_eq!(response.topics[0].partitions.len(), 1);
    }

    #[test]
    fn topics_by_id_from_v12_and_refused_before() {
        let mut world = World::new(1);
        let id = world.topic("t", &[1]);
        let by_id = |id| MetadataRequest {
            topics: Some(vec![MetadataRequestTopic { topic_id: Uuid(id), name: None }]),
            ..quiet(&[])
        };
        assert_eq!(told(&world.ask::<MetadataRequest>(12, &by_id(id.0))), [(0, "t", 1)]);
        let response = world.ask::<MetadataRequest>(12, &by_id([9; 16]));
        assert_eq!((told(&response), response.topics[0].topic_id), (vec![(100, "null", 0)], Uuid([9; 16])));
        assert_eq!(told(&world.ask::<MetadataRequest>(10, &by_id(id.0))), [(42, "", 0)]);
    }

    #[test]
    fn authorized_operations_are_told_when_asked_for() {
        let mut world = World::new(1);
        world.topic("t", &[1]);
        let mut request = quiet(&["t"]);
        request.include_topic_authorized_operations = true;
        request.include_cluster_authorized_operations = true;
        let response = world.ask::<MetadataRequest>(8, &request);
        // The figures of Apache Kafka 4.3.0 without an authorizer.
        assert_eq!(
            (response.topics[0].topic_authorized_operations, response.cluster_authorized_operations),
            (3576, 8096)
        );
    }

    #[test]
    fn names_follow_kafkas_rule() {
        for good in ["a", "A.b_c-9", &"x".repeat(249)] {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }
}
