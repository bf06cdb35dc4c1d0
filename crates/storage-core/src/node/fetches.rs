//! Fetches: planned against the replicas, read from the disk, checked again, and kept waiting until there is enough (KIP-74).
//!
//! ```text
//!             something to read                   enough, or it cannot or must not wait
//!   serve ───────────────────────► Reading ─────────────────────────────────────────────► answer
//!    ▲  │                             │  too little, and nothing new since                   ▲
//!    │  └───── nothing to read ───────┴──────────► Parked ── deadline, nothing to read ──────┘
//!    └──────── woken, cancelled, deadline ───────────┘
//! ```
//!
//! Only a parked fetch is known to its partitions, so one that finds enough at once costs them nothing.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{Now, Offset, Tick, TopicPartition};
use bytes::Bytes;
use peer_api::storage::{FetchRequest, FetchResponse, Fetched, ReadError, RequestId, Response};
use replica_core::FetchPlan;

use super::{StorageNode, answer};
use crate::effect::{Effect, Effects};
use crate::event::{FetchKey, FetchPart, GatewayStream, ReadFailure};

#[derive(Debug, Default)]
pub(super) struct Fetches {
    open: BTreeMap<FetchKey, Fetch>,
    by_request: BTreeSet<(GatewayStream, RequestId, FetchKey)>,
    /// Of those that are parked.
    deadlines: BTreeSet<(Tick, FetchKey)>,
    /// Something happened in a partition that these wait for; looked at once, at the end of the step.
    woken: BTreeSet<FetchKey>,
    last: u64,
}

#[derive(Debug)]
struct Fetch {
    stream: GatewayStream,
    id: RequestId,
    request: FetchRequest,
    deadline: Tick,
    /// Answer with whatever there is.
    cancelled: bool,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The disk reads these. Its answer is awaited, whatever happens meanwhile.
    Reading(Vec<Range>),
    /// It waits for something to happen in its partitions, or for its deadline.
    Parked,
}

/// What is read for one place in the request.
#[derive(Clone, Copy, Debug)]
struct Range {
    place: usize,
    below: Offset,
}

/// In the order asked.
type Plans = Vec<(TopicPartition, Result<FetchPlan, ReadError>)>;
type Answers = Vec<(TopicPartition, Result<Fetched, ReadError>)>;

impl Fetches {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        self.deadlines.first().map(|&(tick, _)| tick)
    }

    pub(super) fn wake(&mut self, waiters: &BTreeSet<FetchKey>) {
        self.woken.extend(waiters);
    }

    /// Names the next read. Coordinators read under names of the same kind.
    pub(super) fn new_key(&mut self) -> FetchKey {
        self.last += 1;
        FetchKey(self.last)
    }

    fn add(&mut self, fetch: Fetch) -> FetchKey {
        let key = self.new_key();
        self.by_request.insert((fetch.stream, fetch.id, key));
        self.open.insert(key, fetch);
        key
    }

    fn of_request(&self, stream: GatewayStream, ids: std::ops::RangeInclusive<RequestId>) -> Vec<FetchKey> {
        let (first, last) = ((stream, *ids.start(), FetchKey(0)), (stream, *ids.end(), FetchKey(u64::MAX)));
        self.by_request.range(first..=last).map(|&(_, _, key)| key).collect()
    }
}

impl Fetch {
    /// Whether it is answered with these, however little they are.
    fn must_answer(&self, now: Now, answers: &Answers) -> bool {
        let urgent = |answer: &Result<Fetched, ReadError>| match answer {
            Ok(fetched) => fetched.diverging.is_some(),
            Err(_) => true,
        };
        let bytes: usize = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).map(Fetched::size).sum();
        // No more than `bytes_max` can ever come together.
        let enough = bytes >= self.request.bytes_min.min(self.request.bytes_max) as usize;
        let waits_for_nothing = self.cancelled || self.deadline <= now.tick || self.request.partitions.is_empty();
        enough || waits_for_nothing || answers.iter().any(|(_, answer)| urgent(answer))
    }
}

impl StorageNode {
    pub(super) fn fetch(
        &mut self,
        now: Now,
        stream: GatewayStream,
        id: RequestId,
        request: FetchRequest,
        effects: &mut Effects,
    ) {
        let deadline = now.tick.plus_ms(u64::from(request.wait_ms_max));
        let fetch = Fetch { stream, id, request, deadline, cancelled: false, phase: Phase::Parked };
        let key = self.fetches.add(fetch);
        self.serve(now, key, effects);
    }

    pub(super) fn cancel_fetch(&mut self, now: Now, stream: GatewayStream, id: RequestId, effects: &mut Effects) {
        for key in self.fetches.of_request(stream, id..=id) {
            if let Some(fetch) = self.fetches.open.get_mut(&key) {
                fetch.cancelled = true;
            }
            self.serve(now, key, effects);
        }
    }

    pub(super) fn forget_fetches(&mut self, stream: GatewayStream) {
        for key in self.fetches.of_request(stream, RequestId(0)..=RequestId(u64::MAX)) {
            self.unpark(key);
            self.close(key);
        }
    }

    pub(super) fn serve_woken_fetches(&mut self, now: Now, effects: &mut Effects) {
        while let Some(key) = self.fetches.woken.pop_first() {
            self.serve(now, key, effects);
        }
    }

    pub(super) fn expire_fetches(&mut self, now: Now, effects: &mut Effects) {
        while let Some(&(deadline, key)) = self.fetches.deadlines.first()
            && deadline <= now.tick
        {
            self.fetches.deadlines.pop_first();
            self.serve(now, key, effects);
        }
    }

    /// The disk has answered. What the replicas say now decides what may be served, not what they said before the read (W5).
    pub(super) fn fetch_read(
        &mut self,
        now: Now,
        key: FetchKey,
        parts: Vec<Result<Vec<Bytes>, ReadFailure>>,
        effects: &mut Effects,
    ) {
        let Some(fetch) = self.fetches.open.get_mut(&key) else { return };
        let Phase::Reading(ranges) = std::mem::replace(&mut fetch.phase, Phase::Parked) else { return };
        let Some(fetch) = self.fetches.open.get(&key) else { return };
        let plans = self.plans(&fetch.request);
        let mut answers = without_records(&plans);
        let mut room = Room { bytes_left: fetch.request.bytes_max as usize, nothing_yet: true };
        for (range, read) in ranges.iter().zip(parts) {
            let Some((_, Ok(plan))) = plans.get(range.place) else { continue };
            let Some((_, answer)) = answers.get_mut(range.place) else { continue };
            match (read, answer.as_mut()) {
                // The history that the client claims has gone meanwhile.
                _ if plan.below < range.below => {}
                (Ok(batches), Ok(fetched)) => fetched.records = room.take(batches),
                (Err(failure), _) => *answer = Err(read_error(failure)),
                (Ok(_), Err(_)) => {}
            }
        }
        if fetch.must_answer(now, &answers) {
            self.answer_fetch(key, answers, effects);
        } else if readable(&plans).any(|(place, plan)| !read_below(&ranges, place, plan.below)) {
            self.serve(now, key, effects);
        } else {
            self.park(key);
        }
    }

    pub(super) fn check_fetches(&self) {
        let parked = |fetch: &&Fetch| matches!(fetch.phase, Phase::Parked);
        assert_eq!(self.fetches.by_request.len(), self.fetches.open.len(), "a fetch that nobody asked for");
        assert_eq!(self.fetches.deadlines.len(), self.fetches.open.values().filter(parked).count(), "no deadline");
        for key in self.slots.values().flat_map(|slot| &slot.waiters) {
            assert!(self.fetches.open.get(key).is_some_and(|fetch| parked(&fetch)), "{key:?} waits no more");
        }
    }

    /// Reads what there is, answers what cannot wait, and lets the others wait. A fetch that is being read is looked at when
    /// the disk has answered.
    fn serve(&mut self, now: Now, key: FetchKey, effects: &mut Effects) {
        self.unpark(key);
        let Some(fetch) = self.fetches.open.get(&key) else { return };
        if matches!(fetch.phase, Phase::Reading(_)) {
            return;
        }
        let plans = self.plans(&fetch.request);
        let (mut ranges, mut parts) = (Vec::new(), Vec::new());
        for (place, plan) in readable(&plans) {
            let Some(asked) = fetch.request.partitions.get(place) else { continue };
            let FetchPlan { from, below, .. } = *plan;
            ranges.push(Range { place, below });
            parts.push(FetchPart { partition: asked.partition, from, below, bytes_max: asked.bytes_max as usize });
        }
        if !parts.is_empty() {
            effects.push(Effect::FetchRead { fetch: key, parts, bytes_max: fetch.request.bytes_max as usize });
            if let Some(fetch) = self.fetches.open.get_mut(&key) {
                fetch.phase = Phase::Reading(ranges);
            }
            return;
        }
        let answers = without_records(&plans);
        if fetch.must_answer(now, &answers) {
            self.answer_fetch(key, answers, effects);
        } else {
            self.park(key);
        }
    }

    fn plans(&self, request: &FetchRequest) -> Plans {
        let plan = |fetch: &peer_api::storage::FetchPartition| {
            let replica = self.replica(fetch.partition).ok_or_else(|| self.without_replica(fetch.partition));
            (fetch.partition, replica.and_then(|replica| replica.plan_fetch(fetch, request.isolation)))
        };
        request.partitions.iter().map(plan).collect()
    }

    fn park(&mut self, key: FetchKey) {
        let Some(fetch) = self.fetches.open.get(&key) else { return };
        self.fetches.deadlines.insert((fetch.deadline, key));
        for asked in &fetch.request.partitions {
            if let Some(slot) = self.slots.get_mut(&asked.partition) {
                slot.waiters.insert(key);
            }
        }
    }

    fn unpark(&mut self, key: FetchKey) {
        let Some(fetch) = self.fetches.open.get(&key) else { return };
        if matches!(fetch.phase, Phase::Reading(_)) {
            return;
        }
        self.fetches.deadlines.remove(&(fetch.deadline, key));
        for asked in &fetch.request.partitions {
            if let Some(slot) = self.slots.get_mut(&asked.partition) {
                slot.waiters.remove(&key);
            }
        }
    }

    fn answer_fetch(&mut self, key: FetchKey, partitions: Answers, effects: &mut Effects) {
        if let Some(fetch) = self.close(key) {
            effects.push(answer(fetch.stream, fetch.id, Response::Fetch(FetchResponse { partitions })));
        }
    }

    fn close(&mut self, key: FetchKey) -> Option<Fetch> {
        let fetch = self.fetches.open.remove(&key)?;
        self.fetches.by_request.remove(&(fetch.stream, fetch.id, key));
        Some(fetch)
    }
}

fn readable(plans: &Plans) -> impl Iterator<Item = (usize, &FetchPlan)> {
    let planned = plans.iter().enumerate().filter_map(|(place, (_, plan))| Some((place, plan.as_ref().ok()?)));
    planned.filter(|(_, plan)| plan.from < plan.below)
}

fn read_below(ranges: &[Range], place: usize, below: Offset) -> bool {
    ranges.iter().any(|range| range.place == place && range.below == below)
}

fn without_records(plans: &Plans) -> Answers {
    let answer = |plan: &FetchPlan| Fetched {
        high_watermark: plan.high_watermark,
        last_stable_offset: plan.last_stable_offset,
        log_start: plan.log_start,
        diverging: plan.diverging,
        records: Vec::new(),
    };
    plans.iter().map(|(partition, plan)| (*partition, plan.as_ref().map(answer).map_err(Clone::clone))).collect()
}

/// What still fits into an answer. The first batch always does, or a consumer could never get past it (KIP-74).
struct Room {
    bytes_left: usize,
    nothing_yet: bool,
}

impl Room {
    fn take(&mut self, batches: Vec<Bytes>) -> Vec<Bytes> {
        let fits = |batch: &Bytes| {
            let fits = self.nothing_yet || batch.len() <= self.bytes_left;
            self.bytes_left = if fits { self.bytes_left.saturating_sub(batch.len()) } else { 0 };
            self.nothing_yet = false;
            fits
        };
        batches.into_iter().take_while(fits).collect()
    }
}

fn read_error(failure: ReadFailure) -> ReadError {
    match failure {
        // The log changed under the read: the client looks again.
        ReadFailure::OutOfRange => ReadError::OffsetNotAvailable,
        ReadFailure::Corrupt => ReadError::Corrupt,
        ReadFailure::Failed => ReadError::StorageFailed,
    }
}
