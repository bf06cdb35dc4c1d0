//! A member of the classic protocol: joins, assigns if it leads, heartbeats, joins again when it is told to.
//!
//! What members tell each other is theirs alone, so it is as simple as can be: lists of partitions.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use kafka_wire::k11_join_group::{JoinGroupRequestProtocol, JoinGroupResponseMember};
use kafka_wire::k13_leave_group::MemberIdentity;
use kafka_wire::k14_sync_group::SyncGroupRequestAssignment;
use kafka_wire::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, KafkaString, LeaveGroupRequest, SyncGroupRequest,
};

use super::connection::Connection;
use super::{HEARTBEAT, NOT_YET, Partition, Protocol, Task, coordinator};

const UNKNOWN_MEMBER_ID: i16 = 25;
const ILLEGAL_GENERATION: i16 = 22;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;

pub async fn live(task: &Task, number: usize) -> Result<()> {
    let mut connection = coordinator(task).await?;
    let mut member_id = KafkaString::default();
    let mut owned = BTreeSet::new();
    loop {
        if task.protocol == Protocol::Eager {
            owned.clear();
            task.board.put(&task.group, number, &owned);
        }
        let joined = join(task, &mut connection, &mut member_id, &mut owned).await?;
        let Some(given) = sync(task, &mut connection, &joined).await? else { continue };
        let has_lost = !owned.is_subset(&given);
        owned = given;
        task.board.put(&task.group, number, &owned);
        // What was given up goes to others in the next generation.
        if task.protocol == Protocol::Cooperative && has_lost {
            continue;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(HEARTBEAT) => {}
                () = task.leave.notified() => return leave(task, number, &mut connection, &joined).await,
            }
            let heartbeat = HeartbeatRequest {
                group_id: task.group.as_str().into(),
                generation_id: joined.generation_id,
                member_id: joined.member_id.clone(),
                group_instance_id: None,
            };
            match connection.ask(4, &heartbeat).await?.error_code {
                0 => {}
                REBALANCE_IN_PROGRESS | ILLEGAL_GENERATION => break,
                UNKNOWN_MEMBER_ID => {
                    member_id = KafkaString::default();
                    owned.clear();
                    break;
                }
                code => bail!("heartbeat: {code}"),
            }
        }
    }
}

async fn join(
    task: &Task,
    connection: &mut Connection,
    member_id: &mut KafkaString,
    owned: &mut BTreeSet<Partition>,
) -> Result<JoinGroupResponse> {
    loop {
        let request = JoinGroupRequest {
            group_id: task.group.as_str().into(),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 60_000,
            member_id: member_id.clone(),
            protocol_type: "bench".into(),
            protocols: vec![JoinGroupRequestProtocol { name: "even".into(), metadata: written(owned) }],
            ..JoinGroupRequest::default()
        };
        let answer = connection.ask(9, &request).await?;
        match answer.error_code {
            0 => return Ok(answer),
            MEMBER_ID_REQUIRED => *member_id = answer.member_id,
            UNKNOWN_MEMBER_ID => {
                *member_id = KafkaString::default();
                owned.clear();
            }
            REBALANCE_IN_PROGRESS | 14..=16 => tokio::time::sleep(NOT_YET).await,
            code => bail!("join: {code}"),
        }
    }
}

/// `None`: the group has moved on.
async fn sync(
    task: &Task,
    connection: &mut Connection,
    joined: &JoinGroupResponse,
) -> Result<Option<BTreeSet<Partition>>> {
    let leads = joined.leader == joined.member_id;
    let request = SyncGroupRequest {
        group_id: task.group.as_str().into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("bench".into()),
        protocol_name: Some("even".into()),
        assignments: if leads { assignments(task, &joined.members)? } else { Vec::new() },
        ..SyncGroupRequest::default()
    };
    let answer = connection.ask(5, &request).await?;
    match answer.error_code {
        0 => Ok(Some(read(&answer.assignment)?)),
        REBALANCE_IN_PROGRESS | ILLEGAL_GENERATION | UNKNOWN_MEMBER_ID | 14..=16 => Ok(None),
        code => bail!("sync: {code}"),
    }
}

async fn leave(task: &Task, number: usize, connection: &mut Connection, joined: &JoinGroupResponse) -> Result<()> {
    task.board.remove(&task.group, number);
    let members = vec![MemberIdentity { member_id: joined.member_id.clone(), ..MemberIdentity::default() }];
    let request = LeaveGroupRequest { group_id: task.group.as_str().into(), members, ..LeaveGroupRequest::default() };
    connection.ask(5, &request).await.map(drop)
}

/// Even shares. Everyone keeps what it owns up to its share; what somebody has yet to give up is given to nobody.
fn assignments(task: &Task, members: &[JoinGroupResponseMember]) -> Result<Vec<SyncGroupRequestAssignment>> {
    let mut free: BTreeSet<Partition> =
        (0..task.topics.len()).flat_map(|topic| (0..task.partitions).map(move |index| (topic, index))).collect();
    let mut owned: Vec<(usize, BTreeSet<Partition>)> = Vec::with_capacity(members.len());
    for (place, member) in members.iter().enumerate() {
        owned.push((place, read(&member.metadata)?));
    }
    // Who has most may keep most.
    owned.sort_by_key(|(_, owned)| std::cmp::Reverse(owned.len()));
    let (share, mut larger) = (free.len() / members.len(), free.len() % members.len());
    let mut given: BTreeMap<usize, (usize, BTreeSet<Partition>)> = BTreeMap::new();
    for (_, owned) in &owned {
        owned.iter().for_each(|partition| _ = free.remove(partition));
    }
    for (place, owned) in owned {
        let quota = share + usize::from(larger > 0);
        larger = larger.saturating_sub(1);
        given.insert(place, (quota, owned.into_iter().take(quota).collect()));
    }
    let mut free = free.into_iter();
    for (quota, partitions) in given.values_mut() {
        let missing = quota.saturating_sub(partitions.len());
        partitions.extend(free.by_ref().take(missing));
    }
    let assignment = |(place, (_, partitions)): (usize, (usize, BTreeSet<Partition>))| {
        let member = members.get(place)?;
        Some(SyncGroupRequestAssignment { member_id: member.member_id.clone(), assignment: written(&partitions) })
    };
    Ok(given.into_iter().filter_map(assignment).collect())
}

fn written(partitions: &BTreeSet<Partition>) -> Bytes {
    partitions.iter().flat_map(|(topic, index)| [*topic as i32, *index]).flat_map(i32::to_be_bytes).collect()
}

fn read(bytes: &[u8]) -> Result<BTreeSet<Partition>> {
    let word = |bytes: &[u8]| bytes.first_chunk().map(|word| i32::from_be_bytes(*word));
    let pair = |pair: &[u8]| Some((usize::try_from(word(pair)?).ok()?, word(pair.get(4..)?)?));
    bytes.chunks(8).map(|bytes| pair(bytes).context("a partition")).collect()
}
