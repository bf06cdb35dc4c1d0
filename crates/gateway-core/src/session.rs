//! Fetch sessions (KIP-227): what a consumer asked for last time, so that it need not say it again.
//!
//! ```text
//!  id  epoch   means                                     answer
//!  0   -1      all partitions, no session                all partitions, id 0
//!  any  0      all partitions, begin a session           all partitions, new id, or 0 when there is no room
//!  n   k ≥ 1   what changed since request k-1            what changed since answer k-1
//!  n   -1      all partitions, end session n             all partitions, id 0
//! ```
//!
//! Sessions belong to one gateway and are no loss: whoever names an unknown one is told so and begins again (W6, trap 42).
//! Bounded by number and by partitions; eviction is Kafka's, by age of use and then by size. A session that would grow beyond what there is
//! room for ends, and its client is told so as if it had been evicted.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{ErrorCode, Random, Tick, invariant};
use kafka_wire::k01_fetch::FetchPartition;
use kafka_wire::{FetchRequest, KafkaString, Uuid};

use crate::limits::{FETCH_SESSION_EVICTION_MS, FETCH_SESSION_PARTITIONS_MAX, FETCH_SESSIONS_MAX};

/// A partition as the client names it: by topic name up to Fetch v12, by topic id after. The other one is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Key {
    pub topic: KafkaString,
    pub topic_id: Uuid,
    pub partition: i32,
}

/// What a client wants of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    pub last_fetched_epoch: i32,
    pub bytes_max: i32,
}

/// How a fetch stands to its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plan {
    Sessionless,
    /// Begin one with the answer.
    New,
    /// `epoch` is the one the next request must have.
    Incremental {
        id: i32,
        epoch: i32,
    },
}

/// What an answer says of a partition, as far as a session must remember it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Said {
    pub failed: bool,
    pub has_records: bool,
    pub has_news: bool,
    pub high_watermark: i64,
    pub log_start: i64,
}

pub(crate) struct Sessions {
    sessions: BTreeMap<i32, Session>,
    by_use: BTreeSet<(Tick, i32)>,
    partitions: usize,
    partitions_max: usize,
    evicted: u64,
    random: Random,
}

struct Session {
    by_id: bool,
    epoch: i32,
    created: Tick,
    used: Tick,
    partitions: BTreeMap<Key, Cached>,
    /// Whoever was given records goes to the end, so that no partition starves.
    order: BTreeMap<u64, Key>,
    next_place: u64,
}

struct Cached {
    wanted: Wanted,
    place: u64,
    high_watermark: i64,
    log_start: i64,
}

impl Sessions {
    pub fn new(random: Random) -> Sessions {
        Sessions {
            sessions: BTreeMap::new(),
            by_use: BTreeSet::new(),
            partitions: 0,
            partitions_max: FETCH_SESSION_PARTITIONS_MAX,
            evicted: 0,
            random,
        }
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn partitions(&self) -> usize {
        self.partitions
    }

    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What a request wants in all, its session included. Takes the partitions out of the request.
    pub fn open(
        &mut self,
        now: Tick,
        version: i16,
        request: &mut FetchRequest,
    ) -> Result<(Plan, Vec<(Key, Wanted)>), ErrorCode> {
        let topics = std::mem::take(&mut request.topics);
        let named = topics.into_iter().flat_map(|topic| {
            topic.partitions.into_iter().map(move |partition| {
                let key = Key { topic: topic.topic.clone(), topic_id: topic.topic_id, partition: partition.partition };
                (key, wanted(&partition))
            })
        });
        match (request.session_id, request.session_epoch) {
            (0, -1) => Ok((Plan::Sessionless, named.collect())),
            (id, -1) => {
                self.remove(id);
                Ok((Plan::Sessionless, named.collect()))
            }
            (id, 0) => {
                self.remove(id);
                Ok((Plan::New, named.collect()))
            }
            (id, epoch) => {
                let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
                if session.epoch != epoch {
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                if session.by_id != (version >= 13) {
                    return Err(ErrorCode::FetchSessionTopicIdError);
                }
                let others = self.partitions - session.partitions.len();
                let mut full = false;
                for (key, wanted) in named {
                    session.want(key, wanted);
                    full |= others + session.partitions.len() > self.partitions_max;
                    if full {
                        break;
                    }
                }
                for topic in std::mem::take(&mut request.forgotten_topics_data) {
                    for partition in topic.partitions {
                        session.forget(&Key { topic: topic.topic.clone(), topic_id: topic.topic_id, partition });
                    }
                }
                self.partitions = others + session.partitions.len();
                if full {
                    self.remove(id);
                    self.evicted += 1;
                    return Err(ErrorCode::FetchSessionIdNotFound);
                }
                if session.partitions.is_empty() {
                    self.remove(id);
                    return Ok((Plan::Sessionless, Vec::new()));
                }
                session.epoch = next_epoch(epoch);
                self.by_use.remove(&(session.used, id));
                session.used = now;
                self.by_use.insert((now, id));
                Ok((Plan::Incremental { id, epoch: session.epoch }, session.all()))
            }
        }
    }

    /// A full answer is about to be given: begins a session for it, if there is room. Returns its id, 0 for none.
    pub fn begin(&mut self, now: Tick, version: i16, partitions: &[(Key, Wanted, Said)]) -> i32 {
        if !self.make_room(now, partitions.len()) {
            return 0;
        }
        let id = loop {
            let id = (self.random.next_u64() >> 33) as i32;
            if id != 0 && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            by_id: version >= 13,
            epoch: 1,
            created: now,
            used: now,
            partitions: BTreeMap::new(),
            order: BTreeMap::new(),
            next_place: 0,
        };
        for (key, wanted, said) in partitions {
            session.want(key.clone(), *wanted);
            session.said(key, *said);
        }
        self.partitions += session.partitions.len();
        self.by_use.insert((now, id));
        self.sessions.insert(id, session);
        id
    }

    /// An incremental answer is about to be given: whether this partition belongs in it.
    pub fn include(&mut self, id: i32, key: &Key, said: Said) -> bool {
        match self.sessions.get_mut(&id) {
            Some(session) => session.said(key, said),
            // Evicted while its client waited: the answer is whole, the next request is told to begin again.
            None => true,
        }
    }

    pub fn check_invariants(&self) {
        invariant!(W7, self.sessions.len() <= FETCH_SESSIONS_MAX);
        invariant!(W7, self.sessions.len() == self.by_use.len());
        invariant!(W7, self.partitions <= self.partitions_max);
        let partitions: usize = self.sessions.values().map(|session| session.partitions.len()).sum();
        invariant!(W7, partitions == self.partitions, "{partitions} in sessions, {} counted", self.partitions);
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.by_use.remove(&(session.used, id));
            self.partitions -= session.partitions.len();
        }
    }

    /// Kafka's eviction: the one unused for longest, if long enough; else the smallest, if it is old enough and smaller
    /// than the newcomer.
    fn make_room(&mut self, now: Tick, size: usize) -> bool {
        while self.sessions.len() >= FETCH_SESSIONS_MAX || self.partitions + size > self.partitions_max {
            let unused = self.by_use.first().filter(|(used, _)| now.ms_since(*used) > FETCH_SESSION_EVICTION_MS);
            let victim = unused.map(|(_, id)| *id).or_else(|| {
                let old = |session: &Session| now.ms_since(session.created) > FETCH_SESSION_EVICTION_MS;
                let (id, session) = self
                    .sessions
                    .iter()
                    .filter(|(_, session)| old(session))
                    .min_by_key(|(_, session)| session.partitions.len())?;
                (session.partitions.len() < size).then_some(*id)
            });
            let Some(victim) = victim else { return false };
            self.remove(victim);
            self.evicted += 1;
        }
        true
    }
}

impl Session {
    fn want(&mut self, key: Key, wanted: Wanted) {
        if let Some(cached) = self.partitions.get_mut(&key) {
            cached.wanted = wanted;
            return;
        }
        // What is kept must not keep its frame, and needs a topic's name but once.
        let first = Key { partition: i32::MIN, ..key.clone() };
        let neighbour = self.partitions.range(first..).next().filter(|(known, _)| known.topic == key.topic);
        let topic = neighbour.map_or_else(|| key.topic.detach(), |(known, _)| known.topic.clone());
        let key = Key { topic, ..key };
        let place = self.next_place;
        self.next_place += 1;
        self.order.insert(place, key.clone());
        self.partitions.insert(key, Cached { wanted, place, high_watermark: -1, log_start: -1 });
    }

    fn forget(&mut self, key: &Key) {
        if let Some(cached) = self.partitions.remove(key) {
            self.order.remove(&cached.place);
        }
    }

    fn all(&self) -> Vec<(Key, Wanted)> {
        self.order
            .values()
            .filter_map(|key| self.partitions.get(key).map(|cached| (key.clone(), cached.wanted)))
            .collect()
    }

    fn said(&mut self, key: &Key, said: Said) -> bool {
        let Some(cached) = self.partitions.get_mut(key) else { return true };
        let changed = said.high_watermark != cached.high_watermark || said.log_start != cached.log_start;
        let include = said.failed || said.has_records || said.has_news || changed;
        // After an error the next answer is given whole, whatever it says.
        cached.high_watermark = if said.failed { -1 } else { said.high_watermark };
        cached.log_start = if said.failed { -1 } else { said.log_start };
        if said.has_records {
            self.order.remove(&cached.place);
            cached.place = self.next_place;
            self.next_place += 1;
            self.order.insert(cached.place, key.clone());
        }
        include
    }
}

fn wanted(partition: &FetchPartition) -> Wanted {
    Wanted {
        current_leader_epoch: partition.current_leader_epoch,
        fetch_offset: partition.fetch_offset,
        last_fetched_epoch: partition.last_fetched_epoch,
        bytes_max: partition.partition_max_bytes,
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use kafka_wire::k01_fetch::{FetchTopic, ForgottenTopic};

    use super::*;

    fn request(id: i32, epoch: i32, partitions: &[i32]) -> FetchRequest {
        let partitions = partitions
            .iter()
            .map(|&partition| FetchPartition { partition, fetch_offset: i64::from(partition), ..Default::default() })
            .collect();
        FetchRequest {
            session_id: id,
            session_epoch: epoch,
            topics: vec![FetchTopic { topic: "t".into(), partitions, ..Default::default() }],
            ..Default::default()
        }
    }

    fn said(high_watermark: i64, has_records: bool) -> Said {
        Said { failed: false, has_records, has_news: false, high_watermark, log_start: 0 }
    }

    fn begin(sessions: &mut Sessions, now: Tick, partitions: &[i32]) -> i32 {
        let (plan, all) = sessions.open(now, 12, &mut request(0, 0, partitions)).unwrap();
        assert_eq!(plan, Plan::New);
        let told: Vec<_> = all.into_iter().map(|(key, wanted)| (key, wanted, said(5, false))).collect();
        sessions.begin(now, 12, &told)
    }

    fn key(partition: i32) -> Key {
        Key { topic: "t".into(), topic_id: Uuid::ZERO, partition }
    }

    fn sessions() -> Sessions {
        Sessions::new(Random::new(1))
    }

    #[test]
    fn an_increment_changes_adds_and_forgets_partitions() {
        let mut sessions = sessions();
        let id = begin(&mut sessions, Tick(0), &[0, 1]);
        assert_ne!(id, 0);
        let mut next = request(id, 1, &[2]);
        next.forgotten_topics_data =
            vec![ForgottenTopic { topic: "t".into(), partitions: vec![0], ..Default::default() }];
        let (plan, all) = sessions.open(Tick(1), 12, &mut next).unwrap();
        assert_eq!(plan, Plan::Incremental { id, epoch: 2 });
        assert_eq!(all.iter().map(|(key, _)| key.partition).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(sessions.partitions(), 2);
        sessions.check_invariants();
    }

    #[test]
    fn an_increment_is_told_only_what_changed_and_records_go_last() {
        let mut sessions = sessions();
        let id = begin(&mut sessions, Tick(0), &[0, 1]);
        assert!(!sessions.include(id, &key(0), said(5, false)));
        assert!(sessions.include(id, &key(0), said(6, false)));
        assert!(sessions.include(id, &key(0), said(6, true)));
        let failed = Said { failed: true, ..said(-1, false) };
        assert!(sessions.include(id, &key(1), failed));
        assert!(sessions.include(id, &key(1), said(5, false)));
        let (_, all) = sessions.open(Tick(1), 12, &mut request(id, 1, &[])).unwrap();
        assert_eq!(all.iter().map(|(key, _)| key.partition).collect::<Vec<_>>(), [1, 0]);
    }

    /// Trap 42.
    #[test]
    fn an_unknown_session_a_wrong_epoch_and_mixed_topic_names_are_told_apart() {
        let mut sessions = sessions();
        let id = begin(&mut sessions, Tick(0), &[0]);
        let code = |result: Result<(Plan, Vec<(Key, Wanted)>), ErrorCode>| result.unwrap_err();
        assert_eq!(code(sessions.open(Tick(1), 12, &mut request(id ^ 1, 1, &[]))), ErrorCode::FetchSessionIdNotFound);
        assert_eq!(code(sessions.open(Tick(1), 12, &mut request(id, 2, &[]))), ErrorCode::InvalidFetchSessionEpoch);
        assert_eq!(code(sessions.open(Tick(1), 13, &mut request(id, 1, &[]))), ErrorCode::FetchSessionTopicIdError);
        assert!(sessions.open(Tick(1), 12, &mut request(id, 1, &[])).is_ok());
        assert_eq!(code(sessions.open(Tick(1), 12, &mut request(id, 1, &[]))), ErrorCode::InvalidFetchSessionEpoch);
    }

    #[test]
    fn ending_a_session_and_emptying_it_both_remove_it() {
        let mut sessions = sessions();
        let id = begin(&mut sessions, Tick(0), &[0]);
        assert_eq!(sessions.open(Tick(1), 12, &mut request(id, -1, &[0])).unwrap().0, Plan::Sessionless);
        assert_eq!(sessions.len(), 0);
        let id = begin(&mut sessions, Tick(0), &[0]);
        let mut empty = request(id, 1, &[]);
        empty.forgotten_topics_data =
            vec![ForgottenTopic { topic: "t".into(), partitions: vec![0], ..Default::default() }];
        assert_eq!(sessions.open(Tick(1), 12, &mut empty).unwrap().0, Plan::Sessionless);
        assert_eq!((sessions.len(), sessions.partitions()), (0, 0));
    }

    #[test]
    fn a_full_cache_evicts_the_unused_then_the_small_and_else_refuses() {
        let mut sessions = sessions();
        for _ in 0..FETCH_SESSIONS_MAX {
            assert_ne!(begin(&mut sessions, Tick(0), &[0]), 0);
        }
        assert_eq!(begin(&mut sessions, Tick(10), &[0, 1]), 0);
        let later = Tick(FETCH_SESSION_EVICTION_MS + 1);
        assert_ne!(begin(&mut sessions, later, &[0, 1]), 0);
        assert_eq!((sessions.len(), sessions.evicted()), (FETCH_SESSIONS_MAX, 1));
        // All used just now: only size counts.
        let ids: Vec<i32> = sessions.sessions.keys().copied().collect();
        for id in ids {
            sessions.open(later, 12, &mut request(id, 1, &[])).unwrap();
        }
        assert_eq!(begin(&mut sessions, later, &[0]), 0);
        assert_ne!(begin(&mut sessions, later, &[0, 1]), 0);
        assert_eq!(sessions.evicted(), 2);
        sessions.check_invariants();
    }

    #[test]
    fn a_session_that_outgrows_the_cache_ends() {
        let mut sessions = sessions();
        sessions.partitions_max = 4;
        let other = begin(&mut sessions, Tick(0), &[0]);
        let id = begin(&mut sessions, Tick(0), &[0, 1]);
        assert!(sessions.open(Tick(1), 12, &mut request(id, 1, &[2])).is_ok());
        sessions.check_invariants();
        let refused = sessions.open(Tick(2), 12, &mut request(id, 2, &[3, 4]));
        assert_eq!(refused.unwrap_err(), ErrorCode::FetchSessionIdNotFound);
        assert_eq!((sessions.len(), sessions.partitions(), sessions.evicted()), (1, 1, 1));
        assert!(sessions.open(Tick(3), 12, &mut request(other, 1, &[])).is_ok());
        sessions.check_invariants();
    }

    #[test]
    fn a_session_keeps_a_topic_s_name_once() {
        let mut sessions = sessions();
        let id = begin(&mut sessions, Tick(0), &[0, 1]);
        sessions.open(Tick(1), 12, &mut request(id, 1, &[2])).unwrap();
        let names: BTreeSet<*const u8> =
            sessions.sessions[&id].order.values().map(|key| key.topic.as_bytes().as_ptr()).collect();
        assert_eq!(names.len(), 1);
    }

    #[test]
    fn the_epoch_wraps_to_one() {
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
