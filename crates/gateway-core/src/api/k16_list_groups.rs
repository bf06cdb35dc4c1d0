//! ListGroups (16): the groups of a broker.
//!
//! Versions 0–5. v3: flexible. v4: states, and a filter for them (KIP-518). v5: types, and a filter for them (KIP-848, trap 51).
//!
//! The request means one broker and does not name it: tools ask every one and put the answers together. It is answered with the
//! groups of every storage node that this gateway stands for in Metadata, so that together the gateways list each group once.
//! What cannot be asked is an error of the whole, since a list with holes looks like a list.
//!
//! Deviation from Kafka: a tool that asks three brokers through one gateway is given all groups three times, since nothing that
//! arrives here says which of the three was meant. Who gathers by name does not notice; `deviations.md` says who does not.

use std::ops::RangeInclusive;

use base_types::{BrokerId, ErrorCode, PartitionIndex};
use kafka_wire::{KafkaString, ListGroupsRequest, ListGroupsResponse, k16_list_groups};
use peer_api::groups::{GROUPS_TOPIC, GroupKind, GroupRequest, GroupResponse, ListGroups, ListedGroup};

use crate::api::coordination::{self, Ask, Place, Told};
use crate::limits::COORDINATOR_ANSWER_MS;
use crate::operation::{Answer, Begun, Context};
use crate::route;

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=5;

pub(crate) fn begin(cx: &mut Context<'_>, request: ListGroupsRequest) -> Begun {
    let words = |filter: Vec<KafkaString>| filter.iter().map(ToString::to_string).collect();
    let list = ListGroups { states: words(request.states_filter), types: words(request.types_filter) };
    let nodes = route::nodes_of(cx.image, cx.shared.controller.gateway());
    let asks = partitions_of(cx, &nodes)
        .map(|index| Ask { place: Place::Partition(index), request: GroupRequest::ListGroups(list.clone()) })
        .collect();
    coordination::ask_each(cx, asks, COORDINATOR_ANSWER_MS, answer)
}

/// The partitions whose groups these nodes coordinate. What has no leader has no coordinator, and is nobody's.
fn partitions_of<'a>(cx: &Context<'a>, nodes: &[BrokerId]) -> impl Iterator<Item = PartitionIndex> + use<'a> {
    let partitions = cx.image.topic_named(GROUPS_TOPIC).map(|topic| topic.partitions.as_slice()).unwrap_or_default();
    let nodes = nodes.to_vec();
    (0..).zip(partitions).filter_map(move |(index, state)| {
        state.leader.filter(|leader| nodes.contains(leader)).map(|_| PartitionIndex(index))
    })
}

fn answer(cx: &mut Context<'_>, told: Vec<Told>) -> Answer {
    let mut response = ListGroupsResponse::default();
    for told in told {
        let code = match told {
            Ok(GroupResponse::ListGroups(groups)) => {
                response.groups.extend(groups.into_iter().map(|group| listed(cx.version(), group)));
                continue;
            }
            Ok(_) => ErrorCode::UnknownServerError,
            // Tools do not know what to make of the code, for they asked for no group.
            Err(ErrorCode::NotCoordinator) => ErrorCode::CoordinatorNotAvailable,
            Err(code) => code,
        };
        let refusal = ListGroupsResponse { error_code: cx.code(code), ..Default::default() };
        return cx.respond(&refusal);
    }
    cx.respond(&response)
}

fn listed(version: i16, group: ListedGroup) -> k16_list_groups::ListedGroup {
    let kind = match group.kind {
        GroupKind::Classic => "classic",
        GroupKind::Consumer => "consumer",
    };
    k16_list_groups::ListedGroup {
        group_id: group.group_id.into(),
        protocol_type: group.protocol_type.into(),
        group_state: if version >= 4 { KafkaString::from_static(group.state.name()) } else { KafkaString::default() },
        group_type: if version >= 5 { KafkaString::from_static(kind) } else { KafkaString::default() },
    }
}

#[cfg(test)]
mod tests {
    use peer_api::groups::{CoordinatorError, GroupState};

    use super::*;
    use crate::testing::World;

    fn group(group_id: &str, kind: GroupKind, state: GroupState) -> ListedGroup {
        ListedGroup { group_id: group_id.into(), protocol_type: "consumer".into(), state, kind }
    }

    /// Trap 51.
    #[test]
    fn states_from_v4_and_types_from_v5_on() {
        for version in SUPPORTED {
            let mut world = World::new(2);
            world.topic(GROUPS_TOPIC, &[1, 2]);
            let words = |since, word: &str| if version >= since { vec![KafkaString::from(word)] } else { Vec::new() };
            let request = ListGroupsRequest { states_filter: words(4, "Stable"), types_filter: words(5, "consumer") };
            world.send(version, &request);
            let first = world.next_question();
            let second = world.next_question();
            let GroupRequest::ListGroups(asked) = first.2.request else { panic!() };
            assert_eq!((asked.states.len(), asked.types.len()), (usize::from(version >= 4), usize::from(version >= 5)));
            assert_eq!((first.0, second.0), (BrokerId(1), BrokerId(2)));
            let listed = vec![group("b", GroupKind::Consumer, GroupState::Reconciling)];
            world.coordinator_answers(second.0, second.1, Ok(GroupResponse::ListGroups(listed)));
            let listed = vec![group("a", GroupKind::Classic, GroupState::Stable)];
            world.coordinator_answers(first.0, first.1, Ok(GroupResponse::ListGroups(listed)));
            let (_, response) = world.answer::<ListGroupsRequest>(version);
            let told: Vec<_> = response
                .groups
                .iter()
                .map(|group| (&*group.group_id, &*group.group_state, &*group.group_type, &*group.protocol_type))
                .collect();
            let since = |since: i16, word: &'static str| if version >= since { word } else { "" };
            assert_eq!(
                told,
                [
                    ("a", since(4, "Stable"), since(5, "classic"), "consumer"),
                    ("b", since(4, "Reconciling"), since(5, "consumer"), "consumer"),
                ]
            );
        }
    }

    #[test]
    fn a_list_with_holes_is_an_error() {
        let answers =
            [(CoordinatorError::Lost, 15), (CoordinatorError::LoadInProgress, 14), (CoordinatorError::TimedOut, 15)];
        for (error, code) in answers {
            let mut world = World::new(1);
            world.topic(GROUPS_TOPIC, &[1, 1]);
            world.send(4, &ListGroupsRequest::default());
            let (node, first, _) = world.next_question();
            let (_, second, _) = world.next_question();
            let listed = vec![group("a", GroupKind::Classic, GroupState::Empty)];
            world.coordinator_answers(node, first, Ok(GroupResponse::ListGroups(listed)));
            world.coordinator_answers(node, second, Err(error));
            world.pass(crate::limits::COORDINATOR_RETRY_MS_MAX);
            let (_, response) = world.answer::<ListGroupsRequest>(4);
            assert_eq!((response.error_code, response.groups.len()), (code, 0), "{error:?}");
        }
    }
}
