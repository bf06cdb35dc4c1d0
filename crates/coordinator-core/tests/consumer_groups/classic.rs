//! A consumer of the classic protocol: it joins, perhaps leads, syncs and heartbeats, and speaks ConsumerProtocol.

use std::collections::BTreeMap;

use base_types::{ErrorCode, PartitionIndex, TopicPartition};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use coordinator_core::RequestKey;
use peer_api::groups::{
    GroupRequest, GroupResponse, Heartbeat, JoinGroup, JoinProtocol, JoinRefused, Joined, JoinedMember, LeaveGroup,
    LeavingMember, SyncGroup, Synced,
};
use peer_api::metadata::Image;

use super::world::{GROUP, Owned, World};

#[derive(Clone, Debug, Default)]
pub struct ClassicClient {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub names: Vec<String>,
    /// It keeps what it owns while it joins (KIP-429).
    pub is_cooperative: bool,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub generation: i32,
    pub owned: Owned,
    pub stage: Stage,
    /// What the leader has yet to say.
    pub assignments: Vec<(String, Bytes)>,
    pub protocol_name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Stage {
    #[default]
    MustJoin,
    Joins(RequestKey),
    MustSync,
    Syncs(RequestKey),
    Stable,
}

impl ClassicClient {
    pub fn new(names: &[&str]) -> ClassicClient {
        ClassicClient {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            ..ClassicClient::default()
        }
    }

    /// The next thing it has to do, and everything that follows at once.
    pub fn go_on(&mut self, world: &mut World) {
        for _ in 0..8 {
            let before = self.stage;
            match self.stage {
                Stage::MustJoin => self.join(world),
                Stage::Joins(request) => self.hear_join(world, request),
                Stage::MustSync => self.sync(world),
                Stage::Syncs(request) => self.hear_sync(world, request),
                Stage::Stable => return,
            }
            if self.stage == before {
                return;
            }
        }
    }

    pub fn heartbeat(&mut self, world: &mut World) -> Result<(), ErrorCode> {
        let heartbeat = Heartbeat {
            group_id: GROUP.to_owned(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id.clone(),
        };
        let GroupResponse::Heartbeat(result) = world.ask(GroupRequest::Heartbeat(heartbeat)) else { panic!() };
        match result {
            Ok(()) => {}
            Err(ErrorCode::RebalanceInProgress) => self.stage = Stage::MustJoin,
            Err(error) => self.be_refused(error),
        }
        result
    }

    pub fn leave(&self, world: &mut World) {
        let member = LeavingMember { member_id: self.member_id.clone(), group_instance_id: None, reason: None };
        world.ask(GroupRequest::LeaveGroup(LeaveGroup { group_id: GROUP.to_owned(), members: vec![member] }));
    }

    pub fn to_join(&self) -> JoinGroup {
        let name = if self.is_cooperative { "cooperative-sticky" } else { "range" };
        JoinGroup {
            group_id: GROUP.to_owned(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id.clone(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![JoinProtocol { name: name.to_owned(), metadata: Bytes::new() }],
            reason: None,
            requires_known_member_id: false,
            supports_skip_assignment: true,
        }
    }

    pub fn join(&mut self, world: &mut World) {
        if !self.is_cooperative {
            self.owned.clear();
        }
        let mut join = self.to_join();
        join.protocols[0].metadata = subscription(&self.names, &self.owned, &world.image);
        self.stage = Stage::Joins(world.send(GroupRequest::JoinGroup(join)));
    }

    fn hear_join(&mut self, world: &mut World, request: RequestKey) {
        match world.answer(request) {
            None => {}
            Some(Ok(GroupResponse::JoinGroup(Ok(joined)))) => self.joined(joined, &world.image),
            Some(Ok(GroupResponse::JoinGroup(Err(JoinRefused { error, .. })))) => self.be_refused(error),
            Some(Ok(other)) => panic!("{other:?}"),
            // The coordinator is another one.
            Some(Err(_)) => self.stage = Stage::MustJoin,
        }
    }

    fn joined(&mut self, joined: Joined, image: &Image) {
        self.generation = joined.generation_id;
        self.assignments = if joined.leader == joined.member_id && !joined.skip_assignment {
            assign(&joined.members, image)
        } else {
            Vec::new()
        };
        self.member_id = joined.member_id;
        self.protocol_name = joined.protocol_name;
        self.stage = Stage::MustSync;
    }

    fn sync(&mut self, world: &mut World) {
        let sync = SyncGroup {
            group_id: GROUP.to_owned(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: self.protocol_name.clone(),
            assignments: std::mem::take(&mut self.assignments),
        };
        self.stage = Stage::Syncs(world.send(GroupRequest::SyncGroup(sync)));
    }

    fn hear_sync(&mut self, world: &mut World, request: RequestKey) {
        match world.answer(request) {
            None => {}
            Some(Ok(GroupResponse::SyncGroup(Ok(Synced { assignment, .. })))) => {
                let told = read_assignment(assignment, &world.image);
                let must_give_up = !self.owned.is_subset(&told);
                self.owned = told;
                // A cooperative member that had to give up something joins again at once.
                self.stage = if must_give_up { Stage::MustJoin } else { Stage::Stable };
            }
            Some(Ok(GroupResponse::SyncGroup(Err(error)))) => self.be_refused(error),
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(_)) => self.stage = Stage::MustJoin,
        }
    }

    fn be_refused(&mut self, error: ErrorCode) {
        self.stage = Stage::MustJoin;
        match error {
            ErrorCode::RebalanceInProgress => {}
            ErrorCode::IllegalGeneration => {
                self.owned.clear();
                self.generation = 0;
            }
            ErrorCode::UnknownMemberId => {
                self.owned.clear();
                self.generation = 0;
                self.member_id.clear();
            }
            error => panic!("{error} for {self:?}"),
        }
    }
}

/// Each topic's partitions go round those who subscribe to it.
fn assign(members: &[JoinedMember], image: &Image) -> Vec<(String, Bytes)> {
    let subscriptions: Vec<Vec<String>> =
        members.iter().map(|member| read_subscription(member.metadata.clone())).collect();
    let mut given = vec![Owned::new(); members.len()];
    for topic in image.topics() {
        let takers: Vec<usize> = (0..members.len()).filter(|&m| subscriptions[m].contains(&topic.name)).collect();
        for index in 0..topic.partitions.len() {
            let Some(&taker) = takers.get(index % takers.len().max(1)) else { continue };
            given[taker].insert(TopicPartition { topic: topic.id, partition: PartitionIndex(index as i32) });
        }
    }
    members
        .iter()
        .zip(given)
        .map(|(member, given)| (member.member_id.clone(), write_assignment(&given, image)))
        .collect()
}

pub fn subscription(names: &[String], owned: &Owned, image: &Image) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(1);
    out.put_i32(names.len() as i32);
    names.iter().for_each(|name| put_text(&mut out, name));
    out.put_i32(-1);
    put_partitions(&mut out, owned, image);
    out.freeze()
}

pub fn write_assignment(given: &Owned, image: &Image) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(1);
    put_partitions(&mut out, given, image);
    out.put_i32(-1);
    out.freeze()
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

fn put_partitions(out: &mut BytesMut, partitions: &Owned, image: &Image) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        let Some(topic) = image.topic(partition.topic) else { continue };
        topics.entry(&topic.name).or_default().push(partition.partition.0);
    }
    out.put_i32(topics.len() as i32);
    for (name, partitions) in topics {
        put_text(out, name);
        out.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|&partition| out.put_i32(partition));
    }
}

fn get_text(bytes: &mut Bytes) -> String {
    let length = bytes.get_i16() as usize;
    String::from_utf8(bytes.split_to(length).to_vec()).expect("a name")
}

fn read_subscription(mut bytes: Bytes) -> Vec<String> {
    bytes.advance(2);
    (0..bytes.get_i32()).map(|_| get_text(&mut bytes)).collect()
}

fn read_assignment(mut bytes: Bytes, image: &Image) -> Owned {
    let mut told = Owned::new();
    if bytes.is_empty() {
        return told;
    }
    bytes.advance(2);
    for _ in 0..bytes.get_i32() {
        let name = get_text(&mut bytes);
        let topic = image.topic_named(&name).map(|topic| topic.id);
        for _ in 0..bytes.get_i32() {
            let partition = PartitionIndex(bytes.get_i32());
            told.extend(topic.map(|topic| TopicPartition { topic, partition }));
        }
    }
    told
}
