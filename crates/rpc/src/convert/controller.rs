//! Everyone and the metadata controller.

use base_types::{
    BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId, TopicId,
    TopicPartition,
};
use bytes::Bytes;
use peer_api::controller::{
    ActiveController, AlterPartition, BrokerHeartbeat, ConfigChange, ConfigChanges, ConfigOperation, CreatedTopic,
    DeletedTopic, ElectionKind, ElectionTopics, Error, FeatureUpdate, FeatureUpdateKind, FromController,
    HeartbeatAnswer, IsrChange, NewPartitions, NewTopic, QuorumInfo, QuorumVoter, Reassign, ReassignedTopic, Refusal,
    RegisterBroker, RegisterGateway, Request, Response, Role, ToController, TopicOutcomes, TopicSelector,
};
use peer_api::metadata::codec::{decode_records, encode_records};
use peer_api::metadata::{ConfigResource, MetadataOffset, PartitionState, Record, Update};
use peer_api::storage::RequestId;

use super::{each, from_code, from_partition, from_uuid, narrow, to_partition, to_uuid};
use crate::proto::base::v1 as base;
use crate::proto::controller::v1 as proto;
use crate::wire::{Malformed, Payload, Pieces, Wire};

impl Wire for ToController {
    type Header = proto::ToController;

    fn encode(self, traceparent: String, _payload: &mut Pieces) -> proto::ToController {
        use proto::to_controller::Message as Out;
        let (id, message) = match self {
            ToController::Hello { role, follow_from } => (0, Out::Hello(to_hello(role, follow_from))),
            ToController::Call { id, request } => (id.0, to_request(request)),
        };
        proto::ToController { id, message: Some(message), traceparent }
    }

    fn decode(header: proto::ToController, payload: Payload) -> Result<(ToController, String), Malformed> {
        use proto::to_controller::Message as In;
        payload.finish()?;
        let message = match header.message.ok_or(Malformed::Missing("message"))? {
            In::Hello(hello) => from_hello(hello)?,
            request => ToController::Call { id: RequestId(header.id), request: from_request(request)? },
        };
        Ok((message, header.traceparent))
    }
}

impl Wire for FromController {
    type Header = proto::FromController;

    fn encode(self, traceparent: String, payload: &mut Pieces) -> proto::FromController {
        use proto::from_controller::Message as Out;
        let (id, message) = match self {
            FromController::Welcome { controller, term } => {
                (0, Out::Welcome(proto::Welcome { controller: controller.0, term }))
            }
            FromController::NotActive { active } => (0, Out::StreamNotActive(to_not_active(active))),
            FromController::Update(Update::Snapshot { at, records }) => {
                payload.push(encode_records(&records).into());
                (0, Out::Snapshot(proto::Snapshot { at: at.0 }))
            }
            FromController::Update(Update::Delta { from, to, records }) => {
                payload.push(encode_records(&records).into());
                (0, Out::Delta(proto::Delta { from: from.0, to: to.0 }))
            }
            FromController::Answer { id, result: Ok(response) } => (id.0, to_response(response)),
            FromController::Answer { id, result: Err(error) } => (id.0, to_error(error)),
        };
        proto::FromController { id, message: Some(message), traceparent, payload: Bytes::new() }
    }

    fn decode(header: proto::FromController, mut payload: Payload) -> Result<(FromController, String), Malformed> {
        use proto::from_controller::Message as In;
        let id = RequestId(header.id);
        let message = match header.message.ok_or(Malformed::Missing("message"))? {
            In::Welcome(welcome) => {
                FromController::Welcome { controller: BrokerId(welcome.controller), term: welcome.term }
            }
            In::StreamNotActive(not_active) => FromController::NotActive { active: from_active(not_active.active) },
            In::Snapshot(snapshot) => FromController::Update(Update::Snapshot {
                at: MetadataOffset(snapshot.at),
                records: from_records(&mut payload)?,
            }),
            In::Delta(delta) => FromController::Update(Update::Delta {
                from: MetadataOffset(delta.from),
                to: MetadataOffset(delta.to),
                records: from_records(&mut payload)?,
            }),
            In::NotActive(not_active) => {
                let error = Error::NotActive { active: from_active(not_active.active) };
                FromController::Answer { id, result: Err(error) }
            }
            In::Failure(failure) => FromController::Answer { id, result: Err(from_failure(failure)?) },
            response => FromController::Answer { id, result: Ok(from_response(response)?) },
        };
        payload.finish()?;
        Ok((message, header.traceparent))
    }
}

/// As the controller's log has them.
fn from_records(payload: &mut Payload) -> Result<Vec<Record>, Malformed> {
    decode_records(&payload.take_rest()).map_err(Malformed::Records)
}

fn to_hello(role: Role, follow_from: Option<MetadataOffset>) -> proto::Hello {
    use proto::hello::Role as Out;
    let (role, node) = match role {
        Role::Broker(id) => (Out::Broker, id.0),
        Role::Gateway(id) => (Out::Gateway, id.0),
        Role::Tool => (Out::Tool, 0),
    };
    proto::Hello { role: role.into(), node, follow_from: follow_from.map(|offset| offset.0) }
}

fn from_hello(hello: proto::Hello) -> Result<ToController, Malformed> {
    use proto::hello::Role as In;
    let role = match hello.role() {
        In::Broker => Role::Broker(BrokerId(hello.node)),
        In::Gateway => Role::Gateway(BrokerId(hello.node)),
        In::Tool => Role::Tool,
        In::Unspecified => return Err(Malformed::Unknown { field: "role", value: hello.role.into() }),
    };
    Ok(ToController::Hello { role, follow_from: hello.follow_from.map(MetadataOffset) })
}

fn to_request(request: Request) -> proto::to_controller::Message {
    use proto::to_controller::Message as Out;
    match request {
        Request::RegisterBroker(register) => Out::RegisterBroker(proto::RegisterBroker {
            broker: register.broker.0,
            cluster_id: register.cluster_id,
            incarnation: to_uuid(register.incarnation.0),
            rack: register.rack,
            peer_address: register.peer_address,
            host: register.host,
            clean_since: register.clean_since.map(|epoch| epoch.0),
            intact_since: register.intact_since.map(|epoch| epoch.0),
        }),
        Request::BrokerHeartbeat(heartbeat) => Out::BrokerHeartbeat(proto::BrokerHeartbeat {
            broker: heartbeat.broker.0,
            broker_epoch: heartbeat.broker_epoch.0,
            metadata_offset: heartbeat.metadata_offset.0,
            want_shutdown: heartbeat.want_shutdown,
            damaged: heartbeat.damaged.into_iter().map(to_damaged).collect(),
            not_open: heartbeat.not_open.into_iter().filter_map(to_partition).collect(),
            more: heartbeat.more,
        }),
        Request::RegisterGateway(register) => Out::RegisterGateway(proto::RegisterGateway {
            gateway: register.gateway.0,
            incarnation: to_uuid(register.incarnation.0),
            advertised_host: register.advertised_host,
            advertised_port: register.advertised_port.into(),
            rack: register.rack,
            host: register.host,
        }),
        Request::GatewayHeartbeat { gateway, incarnation, want_shutdown } => {
            let incarnation = to_uuid(incarnation.0);
            Out::GatewayHeartbeat(proto::GatewayHeartbeat { gateway: gateway.0, incarnation, want_shutdown })
        }
        Request::AlterPartition(alter) => Out::AlterPartition(proto::AlterPartition {
            broker: alter.broker.0,
            broker_epoch: alter.broker_epoch.0,
            changes: alter.changes.into_iter().map(to_isr_change).collect(),
        }),
        Request::CreateTopics { topics, validate_only } => Out::CreateTopics(proto::CreateTopics {
            topics: topics.into_iter().map(to_new_topic).collect(),
            validate_only,
        }),
        Request::DeleteTopics(topics) => {
            Out::DeleteTopics(proto::DeleteTopics { topics: topics.into_iter().map(to_selector).collect() })
        }
        Request::CreatePartitions { topics, validate_only } => Out::CreatePartitions(proto::CreatePartitions {
            topics: topics.into_iter().map(to_new_partitions).collect(),
            validate_only,
        }),
        Request::AlterConfigs { changes, validate_only } => Out::AlterConfigs(proto::AlterConfigs {
            changes: changes.into_iter().map(to_config_changes).collect(),
            validate_only,
        }),
        Request::Reassign(request) => Out::Reassign(to_reassign(request)),
        Request::UnregisterBroker { broker } => Out::UnregisterBroker(proto::UnregisterBroker { broker: broker.0 }),
        Request::UpdateFeatures { updates, validate_only } => Out::UpdateFeatures(proto::UpdateFeatures {
            updates: updates.into_iter().map(to_feature_update).collect(),
            validate_only,
        }),
        Request::ElectLeaders { kind, topics } => Out::ElectLeaders(to_election(kind, topics)),
        Request::AllocateProducerIds => Out::AllocateProducerIds(base::Empty {}),
        Request::DescribeQuorum => Out::DescribeQuorum(base::Empty {}),
    }
}

fn from_request(request: proto::to_controller::Message) -> Result<Request, Malformed> {
    use proto::to_controller::Message as In;
    Ok(match request {
        In::Hello(_) => return Err(Malformed::Missing("request")),
        In::RegisterBroker(register) => Request::RegisterBroker(RegisterBroker {
            broker: BrokerId(register.broker),
            cluster_id: register.cluster_id,
            incarnation: from_incarnation(register.incarnation)?,
            rack: register.rack,
            peer_address: register.peer_address,
            host: register.host,
            clean_since: register.clean_since.map(BrokerEpoch),
            intact_since: register.intact_since.map(BrokerEpoch),
        }),
        In::BrokerHeartbeat(heartbeat) => Request::BrokerHeartbeat(BrokerHeartbeat {
            broker: BrokerId(heartbeat.broker),
            broker_epoch: BrokerEpoch(heartbeat.broker_epoch),
            metadata_offset: MetadataOffset(heartbeat.metadata_offset),
            want_shutdown: heartbeat.want_shutdown,
            damaged: each(heartbeat.damaged, from_damaged)?,
            not_open: each(heartbeat.not_open, |partition| from_partition(Some(partition)))?,
            more: heartbeat.more,
        }),
        In::RegisterGateway(register) => Request::RegisterGateway(RegisterGateway {
            gateway: BrokerId(register.gateway),
            incarnation: from_incarnation(register.incarnation)?,
            advertised_host: register.advertised_host,
            advertised_port: narrow(register.advertised_port, "advertised port")?,
            rack: register.rack,
            host: register.host,
        }),
        In::GatewayHeartbeat(heartbeat) => Request::GatewayHeartbeat {
            gateway: BrokerId(heartbeat.gateway),
            incarnation: from_incarnation(heartbeat.incarnation)?,
            want_shutdown: heartbeat.want_shutdown,
        },
        In::AlterPartition(alter) => Request::AlterPartition(AlterPartition {
            broker: BrokerId(alter.broker),
            broker_epoch: BrokerEpoch(alter.broker_epoch),
            changes: each(alter.changes, from_isr_change)?,
        }),
        In::CreateTopics(create) => {
            Request::CreateTopics { topics: each(create.topics, from_new_topic)?, validate_only: create.validate_only }
        }
        In::DeleteTopics(delete) => Request::DeleteTopics(each(delete.topics, from_selector)?),
        In::CreatePartitions(create) => Request::CreatePartitions {
            topics: create.topics.into_iter().map(from_new_partitions).collect(),
            validate_only: create.validate_only,
        },
        In::AlterConfigs(alter) => Request::AlterConfigs {
            changes: each(alter.changes, from_config_changes)?,
            validate_only: alter.validate_only,
        },
        In::ElectLeaders(election) => from_election(election)?,
        In::Reassign(request) => Request::Reassign(from_reassign(request)),
        In::UnregisterBroker(request) => Request::UnregisterBroker { broker: BrokerId(request.broker) },
        In::UpdateFeatures(update) => Request::UpdateFeatures {
            updates: each(update.updates, from_feature_update)?,
            validate_only: update.validate_only,
        },
        In::AllocateProducerIds(base::Empty {}) => Request::AllocateProducerIds,
        In::DescribeQuorum(base::Empty {}) => Request::DescribeQuorum,
    })
}

fn to_response(response: Response) -> proto::from_controller::Message {
    use proto::from_controller::Message as Out;
    match response {
        Response::BrokerRegistered { broker_epoch } => {
            Out::BrokerRegistered(proto::BrokerRegistered { broker_epoch: broker_epoch.0 })
        }
        Response::Heartbeat(answer) => Out::Heartbeat(proto::HeartbeatAnswer {
            fenced: answer.fenced,
            may_shutdown: answer.may_shutdown,
            given_up: answer.given_up.into_iter().map(to_damaged).collect(),
        }),
        Response::GatewayRegistered => Out::GatewayRegistered(base::Empty {}),
        Response::PartitionsAltered(partitions) => Out::PartitionsAltered(proto::PartitionsAltered {
            partitions: partitions
                .into_iter()
                .map(|(partition, result)| {
                    use proto::partition_altered::Result as Out;
                    let result = match result {
                        Ok(state) => Out::State(to_partition_state(state)),
                        Err(code) => Out::Error(code.code().into()),
                    };
                    proto::PartitionAltered { partition: to_partition(partition), result: Some(result) }
                })
                .collect(),
        }),
        Response::TopicsCreated { topics, visible_at } => Out::TopicsCreated(proto::TopicsCreated {
            topics: topics
                .into_iter()
                .map(|result| {
                    use proto::topic_created::Result as Out;
                    let result = match result {
                        Ok(topic) => Out::Topic(proto::CreatedTopic {
                            name: topic.name,
                            id: to_uuid(topic.id.0),
                            partitions: topic.partitions,
                            replication_factor: topic.replication_factor.into(),
                        }),
                        Err(refusal) => Out::Refusal(to_refusal(refusal)),
                    };
                    proto::TopicCreated { result: Some(result) }
                })
                .collect(),
            visible_at: visible_at.0,
        }),
        Response::TopicsDeleted { topics, visible_at } => Out::TopicsDeleted(proto::TopicsDeleted {
            topics: topics
                .into_iter()
                .map(|result| {
                    use proto::topic_deleted::Result as Out;
                    let result = match result {
                        Ok(topic) => Out::Topic(proto::DeletedTopic { name: topic.name, id: to_uuid(topic.id.0) }),
                        Err(refusal) => Out::Refusal(to_refusal(refusal)),
                    };
                    proto::TopicDeleted { result: Some(result) }
                })
                .collect(),
            visible_at: visible_at.0,
        }),
        Response::PartitionsCreated { topics, visible_at } => Out::PartitionsCreated(proto::PartitionsCreated {
            topics: topics.into_iter().map(to_outcome).collect(),
            visible_at: visible_at.0,
        }),
        Response::ConfigsAltered { resources, visible_at } => Out::ConfigsAltered(proto::ConfigsAltered {
            resources: resources.into_iter().map(to_outcome).collect(),
            visible_at: visible_at.0,
        }),
        Response::LeadersElected { topics, visible_at } => Out::LeadersElected(to_outcomes(topics, visible_at)),
        Response::Reassigned { topics, visible_at } => Out::Reassigned(to_outcomes(topics, visible_at)),
        Response::BrokerUnregistered { visible_at } => {
            Out::BrokerUnregistered(proto::Done { visible_at: visible_at.0 })
        }
        Response::FeaturesUpdated { visible_at } => Out::FeaturesUpdated(proto::Done { visible_at: visible_at.0 }),
        Response::ProducerIds { first, count } => Out::ProducerIds(proto::ProducerIds { first: first.0, count }),
        Response::Quorum(info) => Out::Quorum(to_quorum(info)),
    }
}

fn from_response(response: proto::from_controller::Message) -> Result<Response, Malformed> {
    use proto::from_controller::Message as In;
    Ok(match response {
        In::Welcome(_)
        | In::StreamNotActive(_)
        | In::Snapshot(_)
        | In::Delta(_)
        | In::NotActive(_)
        | In::Failure(_) => return Err(Malformed::Missing("response")),
        In::BrokerRegistered(registered) => {
            Response::BrokerRegistered { broker_epoch: BrokerEpoch(registered.broker_epoch) }
        }
        In::Heartbeat(answer) => Response::Heartbeat(HeartbeatAnswer {
            fenced: answer.fenced,
            may_shutdown: answer.may_shutdown,
            given_up: each(answer.given_up, from_damaged)?,
        }),
        In::GatewayRegistered(base::Empty {}) => Response::GatewayRegistered,
        In::PartitionsAltered(altered) => Response::PartitionsAltered(each(altered.partitions, |altered| {
            use proto::partition_altered::Result as In;
            let result = match altered.result.ok_or(Malformed::Missing("altered partition"))? {
                In::State(state) => Ok(from_partition_state(state)),
                In::Error(code) => Err(from_code(code)?),
            };
            Ok((from_partition(altered.partition)?, result))
        })?),
        In::TopicsCreated(created) => Response::TopicsCreated {
            topics: each(created.topics, |created| {
                use proto::topic_created::Result as In;
                Ok(match created.result.ok_or(Malformed::Missing("created topic"))? {
                    In::Topic(topic) => Ok(CreatedTopic {
                        name: topic.name,
                        id: TopicId(from_uuid(topic.id, "topic id")?),
                        partitions: topic.partitions,
                        replication_factor: narrow(topic.replication_factor, "replication factor")?,
                    }),
                    In::Refusal(refusal) => Err(from_refusal(refusal)?),
                })
            })?,
            visible_at: MetadataOffset(created.visible_at),
        },
        In::TopicsDeleted(deleted) => Response::TopicsDeleted {
            topics: each(deleted.topics, |deleted| {
                use proto::topic_deleted::Result as In;
                Ok(match deleted.result.ok_or(Malformed::Missing("deleted topic"))? {
                    In::Topic(topic) => {
                        Ok(DeletedTopic { name: topic.name, id: TopicId(from_uuid(topic.id, "topic id")?) })
                    }
                    In::Refusal(refusal) => Err(from_refusal(refusal)?),
                })
            })?,
            visible_at: MetadataOffset(deleted.visible_at),
        },
        In::PartitionsCreated(created) => Response::PartitionsCreated {
            topics: each(created.topics, from_outcome)?,
            visible_at: MetadataOffset(created.visible_at),
        },
        In::LeadersElected(elected) => Response::LeadersElected {
            topics: each(elected.topics, from_outcomes)?,
            visible_at: MetadataOffset(elected.visible_at),
        },
        In::Reassigned(reassigned) => Response::Reassigned {
            topics: each(reassigned.topics, from_outcomes)?,
            visible_at: MetadataOffset(reassigned.visible_at),
        },
        In::BrokerUnregistered(done) => Response::BrokerUnregistered { visible_at: MetadataOffset(done.visible_at) },
        In::FeaturesUpdated(done) => Response::FeaturesUpdated { visible_at: MetadataOffset(done.visible_at) },
        In::ConfigsAltered(altered) => Response::ConfigsAltered {
            resources: each(altered.resources, from_outcome)?,
            visible_at: MetadataOffset(altered.visible_at),
        },
        In::ProducerIds(ids) => Response::ProducerIds { first: ProducerId(ids.first), count: ids.count },
        In::Quorum(info) => Response::Quorum(from_quorum(info)),
    })
}

fn to_error(error: Error) -> proto::from_controller::Message {
    use proto::failure::Kind;
    use proto::from_controller::Message as Out;
    let (kind, refusal) = match error {
        Error::NotActive { active } => return Out::NotActive(to_not_active(active)),
        Error::LostLeadership => (Kind::LostLeadership, None),
        Error::Refused(refusal) => (Kind::Refused, Some(to_refusal(refusal))),
        Error::TimedOut => (Kind::TimedOut, None),
        Error::Unreachable => (Kind::Unreachable, None),
    };
    Out::Failure(proto::Failure { kind: kind.into(), refusal })
}

fn from_failure(failure: proto::Failure) -> Result<Error, Malformed> {
    use proto::failure::Kind;
    Ok(match failure.kind() {
        Kind::LostLeadership => Error::LostLeadership,
        Kind::Refused => Error::Refused(from_refusal(failure.refusal.ok_or(Malformed::Missing("refusal"))?)?),
        Kind::TimedOut => Error::TimedOut,
        Kind::Unreachable => Error::Unreachable,
        Kind::Unspecified => return Err(Malformed::Unknown { field: "failure", value: failure.kind.into() }),
    })
}

fn to_not_active(active: Option<ActiveController>) -> proto::NotActive {
    proto::NotActive {
        active: active.map(|active| proto::ActiveController { id: active.id.0, address: active.address }),
    }
}

fn from_active(active: Option<proto::ActiveController>) -> Option<ActiveController> {
    active.map(|active| ActiveController { id: BrokerId(active.id), address: active.address })
}

fn to_refusal(refusal: Refusal) -> proto::Refusal {
    proto::Refusal { code: refusal.code.code().into(), message: refusal.message }
}

fn from_refusal(refusal: proto::Refusal) -> Result<Refusal, Malformed> {
    Ok(Refusal { code: from_code(refusal.code)?, message: refusal.message })
}

fn to_election(kind: ElectionKind, topics: ElectionTopics) -> proto::ElectLeaders {
    use proto::elect_leaders::Kind;
    let kind = match kind {
        ElectionKind::Preferred => Kind::Preferred,
        ElectionKind::Unclean => Kind::Unclean,
    };
    let (all, topics) = match topics {
        ElectionTopics::All => (true, Vec::new()),
        ElectionTopics::Named(topics) => (false, topics),
    };
    let topics = topics.into_iter().map(|(name, partitions)| proto::ElectionTopic { name, partitions }).collect();
    proto::ElectLeaders { kind: kind.into(), all, topics }
}

fn from_election(election: proto::ElectLeaders) -> Result<Request, Malformed> {
    use proto::elect_leaders::Kind;
    let kind = match election.kind() {
        Kind::Preferred => ElectionKind::Preferred,
        Kind::Unclean => ElectionKind::Unclean,
        Kind::Unspecified => {
            return Err(Malformed::Unknown { field: "election", value: election.kind.into() });
        }
    };
    let named = election.topics.into_iter().map(|topic| (topic.name, topic.partitions));
    let topics = if election.all { ElectionTopics::All } else { ElectionTopics::Named(named.collect()) };
    Ok(Request::ElectLeaders { kind, topics })
}

fn to_outcomes(topics: Vec<TopicOutcomes>, visible_at: MetadataOffset) -> proto::PartitionOutcomes {
    let partition = |(partition, result): (i32, Result<(), Refusal>)| proto::PartitionOutcome {
        partition,
        refusal: result.err().map(to_refusal),
    };
    let topic = |topic: TopicOutcomes| proto::TopicOutcomes {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    proto::PartitionOutcomes { topics: topics.into_iter().map(topic).collect(), visible_at: visible_at.0 }
}

fn from_outcomes(topic: proto::TopicOutcomes) -> Result<TopicOutcomes, Malformed> {
    let partitions = each(topic.partitions, |outcome| {
        let refusal = outcome.refusal.map(from_refusal).transpose()?;
        Ok((outcome.partition, refusal.map_or(Ok(()), Err)))
    })?;
    Ok(TopicOutcomes { name: topic.name, partitions })
}

fn to_reassign(request: Reassign) -> proto::Reassign {
    let partition = |(partition, replicas): (i32, Option<Vec<BrokerId>>)| proto::ReassignedPartition {
        partition,
        cancel: replicas.is_none(),
        replicas: numbers(replicas.unwrap_or_default()),
    };
    let topic = |topic: ReassignedTopic| proto::ReassignedTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    proto::Reassign {
        topics: request.topics.into_iter().map(topic).collect(),
        allow_replication_factor_change: request.allow_replication_factor_change,
    }
}

fn from_reassign(request: proto::Reassign) -> Reassign {
    let partition =
        |asked: proto::ReassignedPartition| (asked.partition, (!asked.cancel).then(|| brokers(asked.replicas)));
    let topic = |topic: proto::ReassignedTopic| ReassignedTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    Reassign {
        topics: request.topics.into_iter().map(topic).collect(),
        allow_replication_factor_change: request.allow_replication_factor_change,
    }
}

fn to_feature_update(update: FeatureUpdate) -> proto::FeatureUpdate {
    use proto::feature_update::Kind;
    let kind = match update.kind {
        FeatureUpdateKind::Upgrade => Kind::Upgrade,
        FeatureUpdateKind::SafeDowngrade => Kind::SafeDowngrade,
        FeatureUpdateKind::UnsafeDowngrade => Kind::UnsafeDowngrade,
    };
    proto::FeatureUpdate { name: update.name, level: update.level.into(), kind: kind.into() }
}

fn from_feature_update(update: proto::FeatureUpdate) -> Result<FeatureUpdate, Malformed> {
    use proto::feature_update::Kind;
    let kind = match update.kind() {
        Kind::Upgrade => FeatureUpdateKind::Upgrade,
        Kind::SafeDowngrade => FeatureUpdateKind::SafeDowngrade,
        Kind::UnsafeDowngrade => FeatureUpdateKind::UnsafeDowngrade,
        Kind::Unspecified => {
            return Err(Malformed::Unknown { field: "feature update", value: update.kind.into() });
        }
    };
    Ok(FeatureUpdate { name: update.name, level: narrow(update.level, "feature level")?, kind })
}

fn to_outcome(result: Result<(), Refusal>) -> proto::Outcome {
    proto::Outcome { refusal: result.err().map(to_refusal) }
}

fn from_outcome(outcome: proto::Outcome) -> Result<Result<(), Refusal>, Malformed> {
    Ok(match outcome.refusal {
        None => Ok(()),
        Some(refusal) => Err(from_refusal(refusal)?),
    })
}

fn from_incarnation(id: Option<base::Uuid>) -> Result<Incarnation, Malformed> {
    from_uuid(id, "incarnation").map(Incarnation)
}

fn numbers(ids: Vec<BrokerId>) -> Vec<i32> {
    ids.into_iter().map(|id| id.0).collect()
}

fn brokers(ids: Vec<i32>) -> Vec<BrokerId> {
    ids.into_iter().map(BrokerId).collect()
}

fn to_damaged((partition, leader_epoch): (TopicPartition, LeaderEpoch)) -> proto::DamagedReplica {
    proto::DamagedReplica { partition: to_partition(partition), leader_epoch: leader_epoch.0 }
}

fn from_damaged(damaged: proto::DamagedReplica) -> Result<(TopicPartition, LeaderEpoch), Malformed> {
    Ok((from_partition(damaged.partition)?, LeaderEpoch(damaged.leader_epoch)))
}

fn to_isr_change(change: IsrChange) -> proto::IsrChange {
    proto::IsrChange {
        partition: to_partition(change.partition),
        leader_epoch: change.leader_epoch.0,
        partition_epoch: change.partition_epoch.0,
        isr: change
            .isr
            .into_iter()
            .map(|(broker, epoch)| proto::IsrMember { broker: broker.0, broker_epoch: epoch.0 })
            .collect(),
    }
}

fn from_isr_change(change: proto::IsrChange) -> Result<IsrChange, Malformed> {
    Ok(IsrChange {
        partition: from_partition(change.partition)?,
        leader_epoch: LeaderEpoch(change.leader_epoch),
        partition_epoch: PartitionEpoch(change.partition_epoch),
        isr: change.isr.into_iter().map(|member| (BrokerId(member.broker), BrokerEpoch(member.broker_epoch))).collect(),
    })
}

fn to_partition_state(state: PartitionState) -> proto::PartitionState {
    proto::PartitionState {
        replicas: numbers(state.replicas),
        isr: numbers(state.isr),
        elr: numbers(state.elr),
        last_known_elr: numbers(state.last_known_elr),
        leader: state.leader.map(|leader| leader.0),
        leader_epoch: state.leader_epoch.0,
        partition_epoch: state.partition_epoch.0,
        adding: numbers(state.adding),
        removing: numbers(state.removing),
        unclean_since: state.unclean_since.map(|epoch| epoch.0),
    }
}

fn from_partition_state(state: proto::PartitionState) -> PartitionState {
    PartitionState {
        replicas: brokers(state.replicas),
        isr: brokers(state.isr),
        elr: brokers(state.elr),
        last_known_elr: brokers(state.last_known_elr),
        leader: state.leader.map(BrokerId),
        leader_epoch: LeaderEpoch(state.leader_epoch),
        partition_epoch: PartitionEpoch(state.partition_epoch),
        adding: brokers(state.adding),
        removing: brokers(state.removing),
        unclean_since: state.unclean_since.map(LeaderEpoch),
    }
}

fn to_new_topic(topic: NewTopic) -> proto::NewTopic {
    proto::NewTopic {
        name: topic.name,
        partitions: topic.partitions,
        replication_factor: topic.replication_factor.into(),
        assignments: topic
            .assignments
            .into_iter()
            .map(|(partition, replicas)| proto::Assignment { partition: partition.0, replicas: numbers(replicas) })
            .collect(),
        configs: topic.configs.into_iter().map(|(name, value)| proto::ConfigEntry { name, value }).collect(),
    }
}

fn from_new_topic(topic: proto::NewTopic) -> Result<NewTopic, Malformed> {
    Ok(NewTopic {
        name: topic.name,
        partitions: topic.partitions,
        replication_factor: narrow(topic.replication_factor, "replication factor")?,
        assignments: topic
            .assignments
            .into_iter()
            .map(|assignment| (PartitionIndex(assignment.partition), brokers(assignment.replicas)))
            .collect(),
        configs: topic.configs.into_iter().map(|config| (config.name, config.value)).collect(),
    })
}

fn to_selector(selector: TopicSelector) -> proto::TopicSelector {
    use proto::topic_selector::Topic as Out;
    let topic = match selector {
        TopicSelector::Name(name) => Some(Out::Name(name)),
        TopicSelector::Id(id) => to_uuid(id.0).map(Out::Id),
    };
    proto::TopicSelector { topic }
}

fn from_selector(selector: proto::TopicSelector) -> Result<TopicSelector, Malformed> {
    use proto::topic_selector::Topic as In;
    Ok(match selector.topic.ok_or(Malformed::Missing("topic"))? {
        In::Name(name) => TopicSelector::Name(name),
        In::Id(id) => TopicSelector::Id(TopicId(from_uuid(Some(id), "topic id")?)),
    })
}

fn to_new_partitions(topic: NewPartitions) -> proto::NewPartitions {
    let assignments =
        topic.assignments.into_iter().map(|replicas| proto::Assignment { partition: 0, replicas: numbers(replicas) });
    proto::NewPartitions { name: topic.name, count: topic.count, assignments: assignments.collect() }
}

fn from_new_partitions(topic: proto::NewPartitions) -> NewPartitions {
    NewPartitions {
        name: topic.name,
        count: topic.count,
        assignments: topic.assignments.into_iter().map(|assignment| brokers(assignment.replicas)).collect(),
    }
}

fn to_config_changes(changes: ConfigChanges) -> proto::ConfigChanges {
    use proto::config_changes::Resource as Out;
    let resource = match changes.resource {
        ConfigResource::Cluster => Out::Cluster(base::Empty {}),
        ConfigResource::Broker(id) => Out::Broker(id.0),
        ConfigResource::Topic(name) => Out::Topic(name),
    };
    proto::ConfigChanges {
        resource: Some(resource),
        replace_all: changes.replace_all,
        changes: changes.changes.into_iter().map(to_config_change).collect(),
    }
}

fn from_config_changes(changes: proto::ConfigChanges) -> Result<ConfigChanges, Malformed> {
    use proto::config_changes::Resource as In;
    let resource = match changes.resource.ok_or(Malformed::Missing("config resource"))? {
        In::Cluster(base::Empty {}) => ConfigResource::Cluster,
        In::Broker(id) => ConfigResource::Broker(BrokerId(id)),
        In::Topic(name) => ConfigResource::Topic(name),
    };
    let replace_all = changes.replace_all;
    Ok(ConfigChanges { resource, replace_all, changes: each(changes.changes, from_config_change)? })
}

fn to_config_change(change: ConfigChange) -> proto::ConfigChange {
    use proto::config_change::Operation as Out;
    let operation = match change.operation {
        ConfigOperation::Set => Out::Set,
        ConfigOperation::Delete => Out::Delete,
        ConfigOperation::Append => Out::Append,
        ConfigOperation::Subtract => Out::Subtract,
    };
    proto::ConfigChange { name: change.name, operation: operation.into(), value: change.value }
}

fn from_config_change(change: proto::ConfigChange) -> Result<ConfigChange, Malformed> {
    use proto::config_change::Operation as In;
    let operation = match change.operation() {
        In::Set => ConfigOperation::Set,
        In::Delete => ConfigOperation::Delete,
        In::Append => ConfigOperation::Append,
        In::Subtract => ConfigOperation::Subtract,
        In::Unspecified => {
            return Err(Malformed::Unknown { field: "config operation", value: change.operation.into() });
        }
    };
    Ok(ConfigChange { name: change.name, operation, value: change.value })
}

fn to_quorum(info: QuorumInfo) -> proto::QuorumInfo {
    proto::QuorumInfo {
        leader: info.leader.0,
        leader_epoch: info.leader_epoch,
        high_watermark: info.high_watermark.0,
        voters: info
            .voters
            .into_iter()
            .map(|voter| proto::QuorumVoter {
                id: voter.id.0,
                log_end: voter.log_end.0,
                address: voter.address,
                last_fetch_ms_ago: voter.last_fetch_ms_ago,
                last_caught_up_ms_ago: voter.last_caught_up_ms_ago,
            })
            .collect(),
    }
}

fn from_quorum(info: proto::QuorumInfo) -> QuorumInfo {
    QuorumInfo {
        leader: BrokerId(info.leader),
        leader_epoch: info.leader_epoch,
        high_watermark: MetadataOffset(info.high_watermark),
        voters: info
            .voters
            .into_iter()
            .map(|voter| QuorumVoter {
                id: BrokerId(voter.id),
                log_end: MetadataOffset(voter.log_end),
                address: voter.address,
                last_fetch_ms_ago: voter.last_fetch_ms_ago,
                last_caught_up_ms_ago: voter.last_caught_up_ms_ago,
            })
            .collect(),
    }
}
