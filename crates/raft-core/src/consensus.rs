//! One voter.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use base_types::{BrokerId, Random, Tick, invariant, planted};
use bytes::Bytes;
use raft::eraftpb::{
    ConfChange, ConfChangeV2, ConfState, Entry, EntryType, Message, MessageType, Snapshot, SnapshotMetadata,
};
use raft::{RawNode, ReadOnlyOption, SnapshotStatus, StateRole, Storage};
use raft_prost::Message as _;

use crate::effect::{Committed, Effect, Effects, Installed, Persist, ReadId, Role, WriteId};
use crate::format::{self, FormatError, Stored};
use crate::log::Log;

#[derive(Clone, Debug)]
pub struct Config {
    pub id: BrokerId,
    /// Everyone who votes, this node included: the membership until the first snapshot, which has its own. Until then all nodes must be
    /// given the same, at every start.
    pub voters: Vec<BrokerId>,
    pub tick_ms: u64,
    pub heartbeat_ticks: usize,
    /// A follower that hears nothing for between once and twice this long stands for election.
    pub election_ticks: usize,
    /// Entries kept below a snapshot, for followers that are only a little behind.
    pub entries_kept: u64,
}

impl Config {
    pub fn new(id: BrokerId, voters: Vec<BrokerId>) -> Config {
        Config { id, voters, tick_ms: 50, heartbeat_ticks: 2, election_ticks: 14, entries_kept: 1000 }
    }
}

/// Everything that can happen, proposals apart: they are answered on the spot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Ticked,
    MessageReceived(Bytes),
    PersistCompleted(WriteId),
    ReadIndexRequested(ReadId),
    /// The stream to the peer ended, or there could be none. The peer is probed before more is sent; if it leads, it may be dead.
    PeerLost(BrokerId),
}

/// How far a voter has come, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    pub id: BrokerId,
    pub log_end: u64,
    pub heard_at: Option<Tick>,
    pub caught_up_at: Option<Tick>,
}

/// Nothing was appended. Definite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    NotLeader,
    /// Too much is waiting to be committed.
    Busy,
}

/// The store does not hold a log this node can go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoverError {
    Format(FormatError),
    /// Entries are missing: the node must not vote under its identity (C9).
    Gap {
        expected: u64,
        found: u64,
    },
    /// The log ends below what this node had known to be committed (C9).
    CommittedLost {
        committed: u64,
        last: u64,
    },
    Raft(String),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverError::Format(error) => error.fmt(f),
            RecoverError::Gap { expected, found } => {
                write!(f, "the stored consensus log has a gap: entry {expected} was expected, {found} found")
            }
            RecoverError::CommittedLost { committed, last } => {
                write!(f, "the stored consensus log ends at {last}, but {committed} was committed")
            }
            RecoverError::Raft(text) => write!(f, "the stored consensus log is not usable: {text}"),
        }
    }
}

impl std::error::Error for RecoverError {}

impl From<FormatError> for RecoverError {
    fn from(error: FormatError) -> RecoverError {
        RecoverError::Format(error)
    }
}

pub struct Consensus {
    node: RawNode<Log>,
    config: Config,
    random: Random,
    /// Ours, in place of the one raft-rs draws.
    election_timeout: usize,
    /// Ticks until it stands for election, because the stream to the leader ended; unless it hears of one before.
    stands_in: Option<usize>,
    newcomer: Option<Newcomer>,
    /// Votes of the election under way that count only if everyone gives theirs.
    doubtful: BTreeMap<u64, Message>,
    role: Role,
    ticked_at: Tick,
    writes: u64,
    /// Asked for and not yet durable, with the number of the `Ready` they belong to.
    pending_writes: VecDeque<(WriteId, Option<u64>)>,
    /// Handed out once the write is durable.
    pending_install: Option<(WriteId, Installed)>,
    applied: u64,
    snapshots_sent: BTreeMap<u64, Tick>,
    heard_at: BTreeMap<u64, Tick>,
    caught_up_at: BTreeMap<u64, Tick>,
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus").field("role", &self.role).field("applied", &self.applied).finish_non_exhaustive()
    }
}

/// A voter that began without a past (C9): it was never started before, or its directory was wiped. Nobody can tell which, so what it said
/// in an earlier life may count somewhere. It follows and confirms, but an election in which it takes part must be unanimous, until it
/// has all that was committed when a leader first knew of its new life. It is written down with the hard state.
#[derive(Debug, Default)]
struct Newcomer {
    /// The words by which it knows the leader's answer.
    question: u64,
    asks_in: usize,
    /// Committed when the leader was asked.
    due: Option<u64>,
    /// Who stood last without a past either: where nothing was ever committed, nothing can be lost.
    beginners: BTreeSet<u64>,
}

/// What a newcomer's votes and questions are marked with.
const NEWCOMER: &[u8] = b"newcomer";
/// A snapshot that was sent and neither arrived nor failed within this time is sent again.
const SNAPSHOT_MS_MAX: u64 = 5_000;
/// After a pause of the process at most so many ticks are caught up on.
const TICKS_MAX: u64 = 40;

impl Consensus {
    /// Goes on from what the store holds. A sole voter leads before this returns. Entries already committed come as effects.
    pub fn recover(
        config: Config,
        stored: Stored,
        now: Tick,
        random: Random,
        effects: &mut Effects,
    ) -> Result<Consensus, RecoverError> {
        let voters: Vec<u64> = config.voters.iter().map(|id| raft_id(*id)).collect();
        let is_new = stored == Stored::default();
        let (hard_state, was_newcomer) =
            stored.hard_state.as_ref().map(format::decode_hard_state).transpose()?.unwrap_or_default();
        let snapshot = stored.snapshot.as_ref().map(format::decode_snapshot).transpose()?.unwrap_or_default();
        let conf_state = if snapshot.is_empty() {
            ConfState { voters: voters.clone(), ..ConfState::default() }
        } else {
            snapshot.get_metadata().get_conf_state().clone()
        };
        let meta = snapshot.get_metadata();
        let snapshot_at = (meta.index, meta.term);
        let entries = decode_entries(&stored.entries, snapshot_at.0)?;
        let mut log = Log::new(hard_state.clone(), conf_state, snapshot.clone(), snapshot_at);
        log.append(&entries);
        if log.last() < hard_state.commit {
            return Err(RecoverError::CommittedLost { committed: hard_state.commit, last: log.last() });
        }
        log.hard_state.commit = hard_state.commit.max(snapshot_at.0);
        let raft_config = raft::Config {
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: snapshot_at.0,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            max_uncommitted_size: 64 << 20,
            max_committed_size_per_ready: 4 << 20,
            ..raft::Config::new(raft_id(config.id))
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&raft_config, log, &logger).map_err(|error| RecoverError::Raft(error.to_string()))?;
        let mut consensus = Consensus {
            node,
            random,
            election_timeout: config.election_ticks,
            stands_in: None,
            newcomer: None,
            doubtful: BTreeMap::new(),
            role: Role { term: hard_state.term, leader: None, is_leader: false },
            ticked_at: now,
            writes: 0,
            pending_writes: VecDeque::new(),
            pending_install: None,
            applied: snapshot_at.0,
            snapshots_sent: BTreeMap::new(),
            heard_at: BTreeMap::new(),
            caught_up_at: BTreeMap::new(),
            config,
        };
        if !snapshot.is_empty() {
            effects.push(Effect::Installed(Installed { index: snapshot_at.0, data: snapshot.data.into() }));
        }
        consensus.draw_election_timeout();
        if voters == [raft_id(consensus.config.id)] {
            consensus.act(|node| node.campaign());
        } else if is_new || was_newcomer {
            consensus.newcomer = Some(Newcomer { question: consensus.random.next_u64(), ..Newcomer::default() });
        }
        consensus.drain(now, effects);
        Ok(consensus)
    }

    pub fn step(&mut self, now: Tick, event: Event, effects: &mut Effects) {
        match event {
            Event::Ticked => self.tick(now),
            Event::MessageReceived(bytes) => {
                // Bytes from a peer that cannot be read are as good as lost.
                let Ok(mut message) = Message::decode(bytes) else { return };
                let from = message.from;
                self.heard_at.insert(from, now);
                match message.get_msg_type() {
                    MessageType::MsgHeartbeat => {
                        // A leader that does not know yet that this log is shorter than it was.
                        message.commit = message.commit.min(self.node.raft.raft_log.last_index());
                    }
                    MessageType::MsgAppend if self.is_beginning(&message) => {
                        self.newcomer.iter_mut().for_each(|newcomer| newcomer.due = Some(0));
                    }
                    MessageType::MsgReadIndex if is_of_newcomer(&message) => self.begin_anew_with(from),
                    MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => self.note_beginner(&message),
                    MessageType::MsgTimeoutNow if self.pending_install.is_some() => return,
                    _ if self.is_doubtful(&message) => {
                        self.doubtful.insert(from, message);
                        self.count_doubtful();
                        self.drain(now, effects);
                        return;
                    }
                    _ => {}
                }
                self.act(|node| node.step(message));
                self.count_doubtful();
                self.note_progress(from, now);
            }
            Event::PersistCompleted(write) => self.persisted(write, effects),
            Event::ReadIndexRequested(read) => self.act(|node| {
                node.read_index(read.0.to_be_bytes().to_vec());
                Ok(())
            }),
            Event::PeerLost(peer) => {
                self.act(|node| {
                    node.report_unreachable(raft_id(peer));
                    Ok(())
                });
                if self.role.leader == Some(peer) {
                    self.leader_lost(raft_id(peer));
                }
            }
        }
        self.drain(now, effects);
    }

    /// Appends an entry and says at which index. Whether it commits is told by [`Effect::Committed`] with the same term.
    pub fn propose(&mut self, now: Tick, data: Vec<u8>, effects: &mut Effects) -> Result<u64, ProposeError> {
        if !self.role.is_leader {
            return Err(ProposeError::NotLeader);
        }
        self.node.propose(Vec::new(), data).map_err(|_| ProposeError::Busy)?;
        let index = self.node.raft.raft_log.last_index();
        self.drain(now, effects);
        Ok(index)
    }

    /// The index the next proposal will have.
    pub fn next_index(&self) -> u64 {
        self.node.raft.raft_log.last_index() + 1
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// Size of the log above the newest snapshot: when to make another one.
    pub fn bytes_since_snapshot(&self) -> u64 {
        self.node.store().bytes_since_snapshot()
    }

    /// The state machine at the applied index, so that the log below can go.
    pub fn compact(&mut self, data: Bytes, effects: &mut Effects) {
        let index = self.applied;
        let Ok(term) = self.node.store().term(index) else { return };
        let conf_state = Some(self.node.store().conf_state.clone());
        let snapshot = Snapshot { data: data.to_vec(), metadata: Some(SnapshotMetadata { conf_state, index, term }) };
        let keep_from = (index + 1).saturating_sub(self.config.entries_kept).max(self.node.store().first());
        let stored = format::encode_snapshot(&snapshot);
        self.node.mut_store().compact(snapshot, keep_from);
        let write = self.next_write(None);
        // Every entry below the snapshot may go from the store: only the memory feeds followers.
        effects.push(Effect::Persist(Persist {
            write,
            snapshot: Some(stored),
            remove_below: Some(index + 1),
            ..Persist::default()
        }));
    }

    /// Every voter's progress. Only a leader knows.
    pub fn progress(&self) -> Vec<PeerProgress> {
        let mut peers: Vec<PeerProgress> = self
            .node
            .raft
            .prs()
            .iter()
            .map(|(&id, progress)| PeerProgress {
                id: broker_id(id),
                log_end: progress.matched,
                heard_at: self.heard_at.get(&id).copied(),
                caught_up_at: self.caught_up_at.get(&id).copied(),
            })
            .collect();
        peers.sort_by_key(|peer| peer.id);
        peers
    }

    /// Hands leadership to another voter, if it is near enough.
    pub fn transfer_leadership(&mut self, now: Tick, to: BrokerId, effects: &mut Effects) {
        self.act(|node| {
            node.transfer_leader(raft_id(to));
            Ok(())
        });
        self.drain(now, effects);
    }

    /// When [`Event::Ticked`] is due next.
    pub fn next_deadline(&self) -> Tick {
        self.ticked_at.plus_ms(self.config.tick_ms)
    }

    fn tick(&mut self, now: Tick) {
        let due = now.ms_since(self.ticked_at) / self.config.tick_ms;
        self.ticked_at = if due > TICKS_MAX { now } else { self.ticked_at.plus_ms(due * self.config.tick_ms) };
        for _ in 0..due.min(TICKS_MAX) {
            self.ask_as_newcomer();
            // Who is still writing a snapshot down does not stand: raft-rs looks for entries that it has replaced.
            if self.pending_install.is_some() {
                continue;
            }
            self.act(|node| {
                node.tick();
                Ok(())
            });
            self.stands_in = self.stands_in.and_then(|ticks| ticks.checked_sub(1));
            if self.stands_in == Some(0) {
                self.act(|node| node.campaign());
            }
        }
        let overdue = |sent: &Tick| now.ms_since(*sent) > SNAPSHOT_MS_MAX;
        let late: Vec<u64> = self.snapshots_sent.iter().filter(|(_, sent)| overdue(sent)).map(|(id, _)| *id).collect();
        for peer in late {
            self.snapshots_sent.remove(&peer);
            self.act(|node| {
                node.report_snapshot(peer, SnapshotStatus::Failure);
                Ok(())
            });
        }
    }

    /// The stream to the leader has ended, which is how the death of a process is noticed at once. One that lives is heard from within a
    /// heartbeat, and all is as before. Otherwise somebody stands after two heartbeats: one voter after the other by rank, so that
    /// they do not split the votes; and a voter that still hears the leader grants no pre-vote.
    fn leader_lost(&mut self, leader: u64) {
        let me = raft_id(self.config.id);
        let rank = self.node.raft.prs().iter().filter(|(id, _)| **id < me && **id != leader).count();
        self.act(|node| {
            let term = node.raft.term;
            node.raft.become_follower(term, raft::INVALID_ID);
            Ok(())
        });
        self.stands_in = Some(self.config.heartbeat_ticks * (2 + rank));
    }

    /// A follower that asks as a newcomer may have confirmed what it has no more, to this leader. From here on only what it confirms anew counts.
    fn begin_anew_with(&mut self, newcomer: u64) {
        let last = self.node.raft.raft_log.last_index();
        if self.role.is_leader
            && let Some(progress) = self.node.raft.mut_prs().get_mut(newcomer)
        {
            progress.matched = 0;
            progress.become_probe();
            progress.next_idx = last + 1;
        }
    }

    /// The leader's log begins in its own term, and nothing of it is committed: there is no past to have forgotten.
    fn is_beginning(&self, append: &Message) -> bool {
        let first = append.entries.first().is_some_and(|entry| entry.index == 1 && entry.term == append.term);
        first && append.commit == 0 && self.node.raft.raft_log.last_index() == 0 && append.term >= self.node.raft.term
    }

    fn note_beginner(&mut self, request: &Message) {
        if let Some(newcomer) = &mut self.newcomer {
            if request.index == 0 {
                newcomer.beginners.insert(request.from);
            } else {
                newcomer.beginners.remove(&request.from);
            }
        }
    }

    /// Whether a newcomer takes part in an election that is about a past.
    fn is_doubtful(&self, vote: &Message) -> bool {
        let from_newcomer = vote.context == NEWCOMER;
        let to_newcomer = self.newcomer.is_some() && self.node.raft.raft_log.last_index() > 0;
        is_vote(vote) && (from_newcomer || to_newcomer)
    }

    /// Everyone has voted for this node: whatever was committed is in one of their logs, and none is longer than this one.
    fn count_doubtful(&mut self) {
        let raft = &self.node.raft;
        let (counts, term) = match raft.state {
            StateRole::PreCandidate => (MessageType::MsgRequestPreVoteResponse, raft.term + 1),
            StateRole::Candidate => (MessageType::MsgRequestVoteResponse, raft.term),
            StateRole::Follower | StateRole::Leader => return self.doubtful.clear(),
        };
        self.doubtful.retain(|_, vote| (vote.get_msg_type(), vote.term) == (counts, term));
        let granted =
            |id| id == raft.id || raft.prs().votes().get(&id) == Some(&true) || self.doubtful.contains_key(&id);
        if self.doubtful.is_empty() || !raft.prs().conf().voters().ids().iter().all(granted) {
            return;
        }
        for vote in std::mem::take(&mut self.doubtful).into_values() {
            self.act(|node| node.step(vote));
        }
    }

    /// Asks the leader what is committed, again and again, since the question or the answer may be lost.
    fn ask_as_newcomer(&mut self) {
        let asks_every = self.config.heartbeat_ticks;
        let Some(newcomer) = &mut self.newcomer else { return };
        if newcomer.due.is_some() || self.role.leader.is_none() || self.role.is_leader {
            return;
        }
        if newcomer.asks_in > 0 {
            newcomer.asks_in -= 1;
            return;
        }
        newcomer.asks_in = asks_every;
        let question = question(newcomer.question);
        self.act(|node| {
            node.read_index(question);
            Ok(())
        });
    }

    /// Whether a newcomer has just become a voter like the others: it leads, so everyone chose it or it makes the beginning; or it has
    /// caught up.
    fn end_newcomer(&mut self) -> bool {
        let raft = &self.node.raft;
        let ends = |newcomer: &mut Newcomer| {
            raft.state == StateRole::Leader || newcomer.due.is_some_and(|due| raft.raft_log.committed >= due)
        };
        self.newcomer.take_if(ends).is_some()
    }

    fn persisted(&mut self, write: WriteId, effects: &mut Effects) {
        let mut ready = None;
        while let Some((first, number)) = self.pending_writes.front()
            && *first <= write
        {
            ready = number.or(ready);
            self.pending_writes.pop_front();
        }
        if let Some(number) = ready {
            self.act(|node| {
                node.on_persist_ready(number);
                Ok(())
            });
        }
        if let Some((after, installed)) = self.pending_install.take_if(|(after, _)| *after <= write) {
            invariant!(C3, installed.index >= self.applied, "snapshot {after:?} at {}", installed.index);
            self.applied = installed.index;
            self.node.advance_apply_to(installed.index);
            effects.push(Effect::Installed(installed));
        }
    }

    /// Every call into raft-rs that may change term, role or leader goes through here.
    ///
    /// Refused messages (from a removed node, out of place) are no news to anyone, so errors end here.
    fn act(&mut self, call: impl FnOnce(&mut RawNode<Log>) -> raft::Result<()>) {
        let place = |node: &RawNode<Log>| (node.raft.term, node.raft.state, node.raft.leader_id);
        let before = place(&self.node);
        let _ = call(&mut self.node);
        if before != place(&self.node) {
            self.stands_in = None;
            self.draw_election_timeout();
        } else {
            self.node.raft.set_randomized_election_timeout(self.election_timeout);
        }
    }

    fn draw_election_timeout(&mut self) {
        let ticks = self.config.election_ticks as u64;
        self.election_timeout = (ticks + self.random.below(ticks)) as usize;
        self.node.raft.set_randomized_election_timeout(self.election_timeout);
    }

    fn drain(&mut self, now: Tick, effects: &mut Effects) {
        // Written down with the next write, or alone where there is none.
        let mut is_due = self.end_newcomer();
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            for state in ready.take_read_states() {
                if let Some(newcomer) = &mut self.newcomer
                    && state.request_ctx == question(newcomer.question)
                {
                    newcomer.due = Some(state.index);
                } else if let Ok(id) = <[u8; 8]>::try_from(&state.request_ctx[..]) {
                    effects.push(Effect::ReadReady { read: ReadId(u64::from_be_bytes(id)), index: state.index });
                }
            }
            is_due &= !ready.must_sync();
            let after = self.persist(&ready, effects);
            for message in ready.take_messages() {
                self.send(now, message, None, effects);
            }
            for message in ready.take_persisted_messages() {
                let is_early =
                    planted!(EntriesConfirmedBeforeDurable) && message.get_msg_type() == MessageType::MsgAppendResponse;
                self.send(now, message, after.filter(|_| !is_early), effects);
            }
            let committed = ready.take_committed_entries();
            self.node.advance_append_async(ready);
            self.hand_out(committed, effects);
            is_due |= self.end_newcomer();
        }
        if is_due {
            let hard_state = Some(format::encode_hard_state(&self.node.store().hard_state, false));
            let write = self.next_write(None);
            effects.push(Effect::Persist(Persist { write, hard_state, ..Persist::default() }));
        }
        let raft = &self.node.raft;
        let leader = (raft.leader_id != 0).then(|| broker_id(raft.leader_id));
        let role = Role { term: raft.term, leader, is_leader: raft.state == StateRole::Leader };
        if role != self.role {
            invariant!(C3, role.term >= self.role.term, "term {} after {}", role.term, self.role.term);
            self.role = role;
            if !role.is_leader {
                self.snapshots_sent.clear();
            }
            effects.push(Effect::RoleChanged(role));
        }
    }

    /// Stores what a `Ready` brings, in memory now and durably by effect. Answers which write its messages must wait for.
    ///
    /// A commit index alone is not worth a write: Raft finds it again.
    fn persist(&mut self, ready: &raft::Ready, effects: &mut Effects) -> Option<WriteId> {
        let mut persist = Persist::default();
        if let Some(state) = ready.hs() {
            self.node.mut_store().hard_state = state.clone();
        }
        if !ready.snapshot().is_empty() {
            let snapshot = ready.snapshot();
            let index = snapshot.get_metadata().index;
            persist.snapshot = Some(format::encode_snapshot(snapshot));
            persist.remove_below = Some(index + 1);
            persist.remove_from = Some(index + 1);
            self.node.mut_store().install(snapshot.clone());
        }
        if let Some(first) = ready.entries().first() {
            if self.node.mut_store().append(ready.entries()) {
                persist.remove_from = Some(first.index);
            }
            persist.entries = ready.entries().iter().map(|entry| (entry.index, format::encode_entry(entry))).collect();
        }
        if ready.must_sync() {
            persist.hard_state =
                Some(format::encode_hard_state(&self.node.store().hard_state, self.newcomer.is_some()));
            persist.write = self.next_write(Some(ready.number()));
            if !ready.snapshot().is_empty() {
                let index = ready.snapshot().get_metadata().index;
                let installed = Installed { index, data: ready.snapshot().data.clone().into() };
                self.pending_install = Some((persist.write, installed));
            }
            effects.push(Effect::Persist(persist));
        }
        self.pending_writes.back().map(|(write, _)| *write)
    }

    fn next_write(&mut self, ready: Option<u64>) -> WriteId {
        self.writes += 1;
        let write = WriteId(self.writes);
        self.pending_writes.push_back((write, ready));
        write
    }

    fn send(&mut self, now: Tick, mut message: Message, mut after: Option<WriteId>, effects: &mut Effects) {
        if message.get_msg_type() == MessageType::MsgReadIndex && is_of_newcomer(&message) {
            after = self.pending_writes.back().map(|(write, _)| *write);
        }
        if is_vote(&message) && self.newcomer.as_ref().is_some_and(|newcomer| !newcomer.beginners.contains(&message.to))
        {
            message.context = NEWCOMER.into();
        }
        if message.get_msg_type() == MessageType::MsgSnapshot {
            self.snapshots_sent.insert(message.to, now);
        }
        effects.push(Effect::Send { to: broker_id(message.to), bytes: message.encode_to_vec().into(), after });
    }

    fn hand_out(&mut self, entries: Vec<Entry>, effects: &mut Effects) {
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        let mut committed = Vec::with_capacity(entries.len());
        for entry in entries {
            invariant!(C3, entry.index == self.applied + 1, "entry {} after {}", entry.index, self.applied);
            self.applied = entry.index;
            let data = match entry.get_entry_type() {
                EntryType::EntryNormal => entry.data.into(),
                EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                    self.change_membership(&entry);
                    Bytes::new()
                }
            };
            committed.push(Committed { index: entry.index, term: entry.term, data });
        }
        effects.push(Effect::Committed(committed));
        self.node.advance_apply_to(last);
    }

    /// Joint changes of membership, one at a time (C8); nothing proposes them yet.
    fn change_membership(&mut self, entry: &Entry) {
        let state = if entry.get_entry_type() == EntryType::EntryConfChange {
            ConfChange::decode(&entry.data[..]).ok().and_then(|change| self.node.apply_conf_change(&change).ok())
        } else {
            ConfChangeV2::decode(&entry.data[..]).ok().and_then(|change| self.node.apply_conf_change(&change).ok())
        };
        if let Some(state) = state {
            self.node.mut_store().conf_state = state;
        }
    }

    fn note_progress(&mut self, from: u64, now: Tick) {
        if !self.role.is_leader {
            return;
        }
        let last = self.node.raft.raft_log.committed;
        if let Some(progress) = self.node.raft.prs().get(from) {
            if progress.matched >= last {
                self.caught_up_at.insert(from, now);
            }
            if progress.state != raft::ProgressState::Snapshot {
                self.snapshots_sent.remove(&from);
            }
        }
    }
}

fn decode_entries(stored: &[(u64, Bytes)], snapshot_at: u64) -> Result<Vec<Entry>, RecoverError> {
    let above = stored.iter().filter(|(index, _)| *index > snapshot_at);
    let mut entries = Vec::with_capacity(stored.len());
    for ((index, bytes), expected) in above.zip(snapshot_at + 1..) {
        if *index != expected {
            return Err(RecoverError::Gap { expected, found: *index });
        }
        entries.push(format::decode_entry(*index, bytes)?);
    }
    Ok(entries)
}

/// Longer than a [`ReadId`], so that the two are told apart.
fn question(number: u64) -> Vec<u8> {
    [NEWCOMER, &number.to_be_bytes()].concat()
}

/// Or the promise of one.
fn is_vote(message: &Message) -> bool {
    let kind = message.get_msg_type();
    matches!(kind, MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse) && !message.reject
}

fn is_of_newcomer(question: &Message) -> bool {
    question.entries.first().is_some_and(|entry| entry.data.starts_with(NEWCOMER))
}

/// Raft has no node 0, Kafka may.
fn raft_id(id: BrokerId) -> u64 {
    u64::from(id.0.unsigned_abs()) + 1
}

fn broker_id(id: u64) -> BrokerId {
    BrokerId((id - 1) as i32)
}
