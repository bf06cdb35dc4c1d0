//! Groups of the classic protocol: members join, a leader among them assigns, everyone syncs.
//!
//! ```text
//!            first join                 all joined, or time is over            the leader syncs
//!   Empty ───────────────► PreparingRebalance ───────────────► CompletingRebalance ───────────────► Stable
//!     ▲                      │    ▲                                     │                            │
//!     └── nobody is left ────┘    └──── a member comes, goes or changes ┴────────────────────────────┘
//! ```
//!
//! What members say to each other (`protocols`, assignments) is opaque, so that any `protocol_type` works; only subscriptions of
//! type "consumer" are looked into, to know whose offsets must be kept ([`subscription`]).
//!
//! The log holds a group as it was when it last became stable or empty. Everything else lives in memory: a group that is loaded
//! again in the middle of a rebalance begins from the generation before it, and its members join again.
//!
//! Invariants kept: G2 (who may commit), G6 (generations only grow).

mod conversion;
mod join;
mod membership;
mod rebalance;
mod subscription;
mod sync;

use std::collections::{BTreeMap, BTreeSet};

use base_types::{ErrorCode, Now, Tick, Timestamp, invariant, planted};
use bytes::Bytes;
use peer_api::groups::{
    ClassicGroupDescription, ClassicMemberDescription, GroupState, JoinProtocol, JoinedMember, OffsetCommit,
};

use crate::event::RequestKey;
use crate::records::{ClassicGroupValue, ClassicMemberValue};
use crate::turn::Turn;

/// The protocol type of ordinary consumers, whose subscriptions can be read.
const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

#[derive(Debug, Default)]
pub(crate) struct ClassicGroup {
    state: State,
    /// [`Timestamp::NONE`] for a group whose record does not say, and for one that never had members.
    state_since: Timestamp,
    generation: i32,
    /// `None` until the first member brings one.
    protocol_type: Option<String>,
    /// The winner of the last vote.
    protocol_name: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Instance ids and the members that bear them (KIP-345).
    static_members: BTreeMap<String, String>,
    /// Told their id and expected to join with it (KIP-394).
    pending_joins: BTreeSet<String>,
    /// Joined, and expected to sync.
    pending_syncs: BTreeSet<String>,
    /// How many members support a protocol.
    protocol_supporters: BTreeMap<String, usize>,
    /// Topics of the generation's subscriptions; `None` when they cannot be known.
    subscribed_topics: Option<BTreeSet<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum State {
    #[default]
    Empty,
    PreparingRebalance {
        /// Set while the group's first rebalance waits for more members.
        initial: Option<InitialDelay>,
    },
    CompletingRebalance,
    Stable,
}

/// The first rebalance waits for a delay, and for another one as long as members came meanwhile and time remains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InitialDelay {
    delay_ms: i32,
    remaining_ms: i32,
    member_added: bool,
}

#[derive(Debug, Default)]
struct Member {
    group_instance_id: Option<String>,
    client_id: String,
    client_host: String,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
    protocols: Vec<JoinProtocol>,
    assignment: Bytes,
    /// It has never been part of a generation.
    is_new: bool,
    awaiting_join: Option<RequestKey>,
    awaiting_sync: Option<RequestKey>,
    session_end: Tick,
    /// When its timer fires: not after the session's end.
    timer: Option<Tick>,
}

impl Member {
    fn metadata(&self, protocol_name: &str) -> Bytes {
        let protocol = self.protocols.iter().find(|protocol| protocol.name == protocol_name);
        protocol.map(|protocol| protocol.metadata.clone()).unwrap_or_default()
    }
}

impl ClassicGroup {
    pub fn new(now: Now) -> ClassicGroup {
        ClassicGroup { state_since: now.wall, ..ClassicGroup::default() }
    }

    pub fn from_value(value: &ClassicGroupValue) -> ClassicGroup {
        let mut group = ClassicGroup {
            state: if value.members.is_empty() { State::Empty } else { State::Stable },
            state_since: value.state_since,
            generation: if planted!(GenerationRestartsAfterLoad) { 0 } else { value.generation },
            protocol_type: Some(value.protocol_type.clone()).filter(|name| !name.is_empty()),
            protocol_name: value.protocol.clone(),
            leader: value.leader.clone(),
            ..ClassicGroup::default()
        };
        for stored in &value.members {
            let name = value.protocol.clone().unwrap_or_default();
            let rebalance_timeout_ms = match stored.rebalance_timeout_ms {
                -1 => stored.session_timeout_ms,
                given => given,
            };
            let member = Member {
                group_instance_id: stored.group_instance_id.clone(),
                client_id: stored.client_id.clone(),
                client_host: stored.client_host.clone(),
                rebalance_timeout_ms,
                session_timeout_ms: stored.session_timeout_ms,
                protocols: vec![JoinProtocol { name, metadata: stored.subscription.clone() }],
                assignment: stored.assignment.clone(),
                ..Member::default()
            };
            group.insert(stored.member_id.clone(), member);
        }
        if group.leader.as_ref().is_some_and(|leader| !group.members.contains_key(leader)) {
            group.leader = group.members.keys().next().cloned();
        }
        group.subscribed_topics = group.read_subscriptions();
        group
    }

    /// The group as the log holds it when it has just become stable or empty.
    pub fn to_value(&self) -> ClassicGroupValue {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(member_id, member)| ClassicMemberValue {
            member_id: member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: member.assignment.clone(),
        });
        ClassicGroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol_name.clone(),
            leader: self.leader.clone(),
            state_since: self.state_since,
            members: members.collect(),
        }
    }

    /// The log was read to its end: sessions begin now, since nobody knows when their members were heard of last.
    pub fn loaded(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in &ids {
            self.extend_session(turn, member_id);
        }
        if self.members.len() > turn.settings.group_size_max {
            self.prepare_rebalance(turn);
        }
    }

    pub fn state(&self) -> GroupState {
        match self.state {
            State::Empty => GroupState::Empty,
            State::PreparingRebalance { .. } => GroupState::PreparingRebalance,
            State::CompletingRebalance => GroupState::CompletingRebalance,
            State::Stable => GroupState::Stable,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Empty, and nobody is about to join either.
    pub fn is_idle(&self) -> bool {
        self.is_empty() && self.pending_joins.is_empty()
    }

    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub fn describe(&self) -> ClassicGroupDescription {
        let is_stable = self.state == State::Stable;
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(member_id, member)| ClassicMemberDescription {
            member_id: member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if is_stable { member.metadata(protocol) } else { Bytes::new() },
            assignment: if is_stable { member.assignment.clone() } else { Bytes::new() },
        });
        ClassicGroupDescription {
            state: self.state(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: if is_stable { protocol.to_owned() } else { String::new() },
            members: members.collect(),
        }
    }

    /// Whether these offsets may be committed (G2).
    pub fn check_commit(&self, commit: &OffsetCommit) -> Result<(), ErrorCode> {
        let generation = commit.generation_or_epoch;
        // Without a generation it comes from a consumer that assigns itself, or from an operator.
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if generation < 0 && commit.member_id.is_empty() && commit.group_instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(&commit.member_id, commit.group_instance_id.as_deref())?;
        if generation != self.generation && !planted!(CommitOfAnyGeneration) {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            // The member knows the generation from its join and has yet to learn its assignment.
            State::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::Empty | State::PreparingRebalance { .. } | State::Stable => Ok(()),
        }
    }

    /// Whether a member consumes the topic. Where subscriptions cannot be read, ordinary consumers may consume anything.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            _ if planted!(OffsetsExpireInUse) => false,
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    pub fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Since when an offset that was committed at `committed_at` counts as unused; `None` while it is in use (KIP-211, G8).
    pub fn unused_since(&self, committed_at: Timestamp) -> Option<Timestamp> {
        match (&self.protocol_type, self.state) {
            // A consumer that assigns itself: only its commits say that it lives.
            (None, _) => Some(committed_at),
            (Some(_), State::Empty) if self.state_since != Timestamp::NONE => Some(self.state_since),
            (Some(_), State::Empty) => Some(committed_at),
            // The topic is not subscribed to, which the caller has looked at.
            (Some(_), State::Stable) if self.uses_consumer_protocol() && self.subscribed_topics.is_some() => {
                Some(committed_at)
            }
            (Some(_), _) => None,
        }
    }

    /// A commit shows that the member lives.
    pub fn committed(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        if matches!(self.state, State::Stable | State::PreparingRebalance { .. }) {
            self.extend_session(turn, member_id);
        }
    }

    pub fn check_invariants(&self, group_id: &str) {
        invariant!(G6, self.generation >= 0, "group {group_id}: generation {}", self.generation);
        let is_empty = self.members.is_empty();
        match self.state {
            State::Empty => assert!(is_empty, "group {group_id} is Empty and has members"),
            State::CompletingRebalance | State::Stable => assert!(!is_empty, "group {group_id} has no members"),
            State::PreparingRebalance { .. } => {}
        }
        assert_eq!(self.leader.is_none(), is_empty, "group {group_id}: leader {:?}", self.leader);
        if let Some(leader) = &self.leader {
            assert!(self.members.contains_key(leader), "group {group_id}: its leader {leader} is no member");
        }
        for (instance, member_id) in &self.static_members {
            let bearer = self.members.get(member_id).and_then(|member| member.group_instance_id.as_ref());
            invariant!(G1, bearer == Some(instance), "group {group_id}: {member_id} is not {instance}");
        }
        for (member_id, member) in &self.members {
            let preparing = matches!(self.state, State::PreparingRebalance { .. });
            assert!(preparing || member.awaiting_join.is_none(), "group {group_id}: {member_id} waits for a join");
            let completing = self.state == State::CompletingRebalance;
            assert!(completing || member.awaiting_sync.is_none(), "group {group_id}: {member_id} waits for a sync");
        }
    }

    fn transition(&mut self, now: Now, state: State) {
        self.state = state;
        self.state_since = now.wall;
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    fn insert(&mut self, member_id: String, member: Member) {
        if let Some(instance) = &member.group_instance_id {
            self.static_members.insert(instance.clone(), member_id.clone());
        }
        self.count_protocols(&member.protocols, true);
        self.pending_joins.remove(&member_id);
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        self.members.insert(member_id, member);
    }

    /// Takes the member out; what it waits for is the caller's to answer.
    fn take(&mut self, member_id: &str) -> Option<Member> {
        self.pending_joins.remove(member_id);
        self.pending_syncs.remove(member_id);
        let member = self.members.remove(member_id)?;
        self.count_protocols(&member.protocols, false);
        if let Some(instance) = &member.group_instance_id
            && self.static_members.get(instance).is_some_and(|bearer| bearer == member_id)
        {
            self.static_members.remove(instance);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    fn count_protocols(&mut self, protocols: &[JoinProtocol], added: bool) {
        // A client may name one twice, and is still one supporter.
        let names: BTreeSet<&String> = protocols.iter().map(|protocol| &protocol.name).collect();
        for name in names {
            let count = self.protocol_supporters.entry(name.clone()).or_default();
            *count = if added { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.protocol_supporters.remove(name);
            }
        }
    }

    /// A member, and the one that bears the instance id, if one is named.
    fn check_member(&self, member_id: &str, group_instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = group_instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(_) if planted!(FencingIgnored) => return Ok(()),
                Some(bearer) if bearer != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether a member with these protocols leaves the group with one that all support.
    fn supports(&self, protocol_type: &str, protocols: &[JoinProtocol]) -> bool {
        if self.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let everyone = self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.protocol_supporters.get(&protocol.name) == Some(&everyone))
    }

    /// Each member votes for the first of its protocols that all support; the most votes win.
    fn vote(&self) -> Option<String> {
        let everyone = self.members.len();
        let is_candidate = |name: &str| self.protocol_supporters.get(name) == Some(&everyone);
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(choice) = member.protocols.iter().find(|protocol| is_candidate(&protocol.name)) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    /// For the leader: everyone, with what they say in the chosen protocol.
    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(member_id, member)| JoinedMember {
            member_id: member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            metadata: member.metadata(protocol),
        });
        members.collect()
    }

    fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        u64::try_from(longest.unwrap_or(0)).unwrap_or(0)
    }

    fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let protocol = self.protocol_name.as_deref();
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription::topics(member.metadata(protocol?))?);
        }
        Some(topics)
    }
}
