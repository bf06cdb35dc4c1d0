//! FindCoordinator (10): who coordinates a group or a transaction.
//!
//! Versions 0–6. v1: key type. v3: flexible. v4: many keys at once (KIP-699, trap 46). v5, v6: share groups' key type (KIP-932).
//!
//! A group's coordinator is the leader of its partition of `__consumer_offsets`, with the address that Metadata gives it; any
//! gateway serves the group all the same. The first question makes the topic. The answer waits for a while until there is a
//! leader: clients take `COORDINATOR_NOT_AVAILABLE` for a reason to pause.
//!
//! Transactions and share groups have no coordinators yet.

use std::ops::RangeInclusive;

use base_types::{ErrorCode, Tick};
use kafka_wire::k10_find_coordinator::Coordinator;
use kafka_wire::{FindCoordinatorRequest, FindCoordinatorResponse, KafkaString};
use peer_api::controller::{self, Error};
use peer_api::groups::{GROUPS_TOPIC, coordinator_partition};
use peer_api::metadata::{Broker, Image};

use crate::api::{error, internal_topics};
use crate::limits::COORDINATOR_WAIT_MS;
use crate::operation::{Answer, Begun, Context, Operation, Progress};
use crate::route;

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=6;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

const NOT_AVAILABLE: &str = "The coordinator is not available.";

struct Search {
    keys: Vec<KafkaString>,
    until: Tick,
    /// Why the topic could not be made.
    refusal: Option<String>,
}

pub(crate) fn begin(cx: &mut Context<'_>, request: FindCoordinatorRequest) -> Begun {
    let keys = if cx.version() >= 4 { request.coordinator_keys } else { vec![request.key] };
    let refusal = match request.key_type {
        GROUP => {
            let until = cx.now.tick.plus_ms(COORDINATOR_WAIT_MS);
            return Begun::settle(Search { keys, until, refusal: None }, cx);
        }
        TRANSACTION => (ErrorCode::CoordinatorNotAvailable, NOT_AVAILABLE),
        SHARE if cx.version() >= 6 => (ErrorCode::CoordinatorNotAvailable, NOT_AVAILABLE),
        _ => (ErrorCode::InvalidRequest, "This version knows no such type of key."),
    };
    Begun::Answered(answer(cx, keys, |_, _| Err((refusal.0, refusal.1.into()))))
}

/// The broker that coordinates a group, when there is one.
fn coordinator<'a>(image: &'a Image, group_id: &str) -> Option<&'a Broker> {
    let topic = image.topic_named(GROUPS_TOPIC)?;
    let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let leader = topic.partition(coordinator_partition(group_id, partitions))?.leader?;
    image.broker(leader).filter(|broker| route::is_live(broker))
}

impl Search {
    fn look(&mut self, cx: &mut Context<'_>) -> Progress {
        let found = self.keys.iter().all(|key| coordinator(cx.image, key).is_some());
        if found || self.refusal.is_some() || cx.now.tick >= self.until {
            return self.finish(cx).into();
        }
        cx.wake_at(self.until);
        Progress::Pending
    }

    fn finish(&mut self, cx: &mut Context<'_>) -> Answer {
        let text = self.refusal.take().unwrap_or_else(|| NOT_AVAILABLE.to_owned());
        answer(cx, std::mem::take(&mut self.keys), |cx, key| match coordinator(cx.image, key) {
            Some(broker) => Ok(broker),
            None => Err((ErrorCode::CoordinatorNotAvailable, text.as_str().into())),
        })
    }
}

impl Operation for Search {
    fn begin(&mut self, cx: &mut Context<'_>) -> Progress {
        if cx.image.topic_named(GROUPS_TOPIC).is_none() && !self.keys.is_empty() {
            let topics = vec![internal_topics::groups_topic(cx)];
            cx.ask_controller(controller::Request::CreateTopics { topics, validate_only: false });
        }
        self.look(cx)
    }

    fn controller_answered(
        &mut self,
        cx: &mut Context<'_>,
        result: Result<controller::Response, controller::Error>,
    ) -> Progress {
        let refusal = match result {
            Ok(controller::Response::TopicsCreated { topics, .. }) => topics.into_iter().find_map(Result::err),
            // Whoever asked at the same time may have made it.
            Ok(_) | Err(_) => None,
        };
        // Somebody else was quicker: it comes with the metadata.
        let refusal = refusal.filter(|refusal| refusal.code != ErrorCode::TopicAlreadyExists);
        self.refusal = refusal.map(|refusal| {
            let (_, text) = error::controller(&Error::Refused(refusal));
            format!("{NOT_AVAILABLE} {GROUPS_TOPIC} could not be created: {text}")
        });
        self.look(cx)
    }

    fn metadata_changed(&mut self, cx: &mut Context<'_>) -> Progress {
        self.look(cx)
    }

    fn woken(&mut self, cx: &mut Context<'_>) -> Progress {
        self.look(cx)
    }
}

/// Puts what `find` says of each key into the form of the version.
fn answer<'a>(
    cx: &mut Context<'a>,
    keys: Vec<KafkaString>,
    find: impl Fn(&Context<'a>, &str) -> Result<&'a Broker, (ErrorCode, KafkaString)>,
) -> Answer {
    let coordinators: Vec<Coordinator> = keys
        .into_iter()
        .map(|key| match find(cx, &key) {
            Ok(broker) => {
                let (host, port) = route::address_of(cx.image, broker, cx.shared.controller.advertised());
                Coordinator { key, node_id: broker.id.0, host, port, ..Default::default() }
            }
            Err((code, text)) => Coordinator {
                key,
                node_id: -1,
                port: -1,
                error_code: cx.code(code),
                error_message: Some(text),
                ..Default::default()
            },
        })
        .collect();
    if cx.version() >= 4 {
        return cx.respond(&FindCoordinatorResponse { coordinators, ..Default::default() });
    }
    let only = coordinators.into_iter().next().unwrap_or_default();
    cx.respond(&FindCoordinatorResponse {
        error_code: only.error_code,
        error_message: only.error_message,
        node_id: only.node_id,
        host: only.host,
        port: only.port,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use base_types::TopicId;
    use peer_api::controller::{CreatedTopic, NewTopic, Refusal};
    use peer_api::metadata::{BrokerState, MetadataOffset, Record};

    use super::*;
    use crate::testing::World;

    fn one(group_id: &str) -> FindCoordinatorRequest {
        FindCoordinatorRequest { key: group_id.into(), ..Default::default() }
    }

    fn many(group_ids: &[&str]) -> FindCoordinatorRequest {
        let coordinator_keys = group_ids.iter().map(|group_id| (*group_id).into()).collect();
        FindCoordinatorRequest { coordinator_keys, ..Default::default() }
    }

    fn created(world: &World) -> controller::Response {
        let topic =
            CreatedTopic { name: GROUPS_TOPIC.into(), id: TopicId([1; 16]), partitions: 50, replication_factor: 3 };
        let visible_at = MetadataOffset(world.metadata_at().0 + 1);
        controller::Response::TopicsCreated { topics: vec![Ok(topic)], visible_at }
    }

    /// Trap 46: one in the older form, many in the newer.
    #[test]
    fn a_group_s_coordinator_leads_its_partition_and_has_the_address_of_metadata() {
        let mut world = World::new(3);
        let leaders: Vec<i32> = (0..50).map(|index| index % 3 + 1).collect();
        world.topic(GROUPS_TOPIC, &leaders);
        for version in 0..=3 {
            let response = world.ask::<FindCoordinatorRequest>(version, &one("test"));
            // Partition 48.
            assert_eq!((response.error_code, response.node_id), (0, 1));
            assert_eq!((response.host.as_str(), response.port), ("gw", 9092));
        }
        for version in 4..=6 {
            let response = world.ask::<FindCoordinatorRequest>(version, &many(&["test", "my-group", ""]));
            let told: Vec<_> =
                response.coordinators.iter().map(|c| (&*c.key, c.error_code, c.node_id, c.host.as_str())).collect();
            assert_eq!(told, [("test", 0, 1, "gw"), ("my-group", 0, 1, "gw"), ("", 0, 1, "gw")]);
        }
        assert!(world.calls.is_empty());
    }

    #[test]
    fn the_first_question_makes_the_topic_and_is_answered_when_it_has_a_leader() {
        let mut world = World::new(1);
        world.send(4, &many(&["a", "b"]));
        let (id, call) = world.next_call();
        let controller::Request::CreateTopics { topics, validate_only: false } = call else { panic!("{call:?}") };
        let config = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let expected = NewTopic {
            name: GROUPS_TOPIC.into(),
            partitions: 50,
            replication_factor: 3,
            assignments: Vec::new(),
            configs: vec![
                config("cleanup.policy", "compact"),
                config("compression.type", "producer"),
                config("segment.bytes", "104857600"),
            ],
        };
        assert_eq!(topics, [expected]);
        let answer = created(&world);
        world.controller_answers(id, Ok(answer));
        assert!(world.is_silent());
        world.topic(GROUPS_TOPIC, &[1; 50]);
        let (_, response) = world.answer::<FindCoordinatorRequest>(4);
        assert!(response.coordinators.iter().all(|found| found.node_id == 1 && found.error_code == 0));
        assert!(world.calls.is_empty());
    }

    #[test]
    fn settings_say_how_the_topic_is_made() {
        let settings = [
            ("offsets.topic.num.partitions", "7"),
            ("offsets.topic.replication.factor", "1"),
            ("offsets.topic.segment.bytes", "1048576"),
        ];
        let statics = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut world = World::with(1, crate::Config { statics, ..Default::default() });
        world.send(4, &many(&["a"]));
        let (_, call) = world.next_call();
        let controller::Request::CreateTopics { topics, .. } = call else { panic!("{call:?}") };
        assert_eq!((topics[0].partitions, topics[0].replication_factor), (7, 1));
        assert_eq!(topics[0].configs[2].1.as_deref(), Some("1048576"));
    }

    /// As in Kafka: with fewer brokers than copies there is no coordinator, and here the client is told why.
    #[test]
    fn a_topic_that_cannot_be_made_is_told_at_once() {
        let mut world = World::new(1);
        world.send(1, &one("a"));
        let (id, _) = world.next_call();
        let refusal = Refusal { code: ErrorCode::InvalidReplicationFactor, message: "only 1 broker".into() };
        let answer =
            controller::Response::TopicsCreated { topics: vec![Err(refusal)], visible_at: world.metadata_at() };
        world.controller_answers(id, Ok(answer));
        let (_, response) = world.answer::<FindCoordinatorRequest>(1);
        assert_eq!((response.error_code, response.node_id, response.port), (15, -1, -1));
        assert!(response.error_message.is_some_and(|message| message.contains("only 1 broker")));
    }

    #[test]
    fn a_topic_that_somebody_else_is_making_is_awaited() {
        let mut world = World::new(1);
        world.send(1, &one("a"));
        let (id, _) = world.next_call();
        let refusal = Refusal { code: ErrorCode::TopicAlreadyExists, message: String::new() };
        let answer =
            controller::Response::TopicsCreated { topics: vec![Err(refusal)], visible_at: world.metadata_at() };
        world.controller_answers(id, Ok(answer));
        assert!(world.is_silent());
        world.topic(GROUPS_TOPIC, &[1]);
        assert_eq!(world.answer::<FindCoordinatorRequest>(1).1.error_code, 0);
    }

    #[test]
    fn a_coordinator_in_election_is_awaited_and_then_not_available() {
        let mut world = World::new(2);
        let topic = world.topic(GROUPS_TOPIC, &[1]);
        world.lead(topic, 0, None, 6);
        world.send(4, &many(&["a"]));
        world.pass(COORDINATOR_WAIT_MS - 1);
        assert!(world.is_silent());
        world.lead(topic, 0, Some(2), 7);
        assert_eq!(world.answer::<FindCoordinatorRequest>(4).1.coordinators[0].node_id, 2);
        // A leader that clients cannot know is none.
        let (broker, broker_epoch) = (base_types::BrokerId(2), base_types::BrokerEpoch(1));
        world.change(vec![Record::BrokerStateChanged { broker, broker_epoch, state: BrokerState::Fenced }]);
        world.send(4, &many(&["a"]));
        world.pass(COORDINATOR_WAIT_MS);
        assert_eq!(world.answer::<FindCoordinatorRequest>(4).1.coordinators[0].error_code, 15);
    }

    #[test]
    fn transactions_have_no_coordinator_and_unknown_types_are_refused() {
        let mut world = World::with_groups(1);
        let mut code = |version, key_type| {
            let request = FindCoordinatorRequest { key_type, ..many(&["a"]) };
            world.ask::<FindCoordinatorRequest>(version, &request).coordinators[0].error_code
        };
        assert_eq!((code(5, 2), code(6, 2), code(6, 1), code(6, 3), code(6, 0)), (42, 15, 15, 42, 0));
    }
}
