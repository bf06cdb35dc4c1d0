//! Fetches: planned against the replicas, read from the disk, checked again, and kept waiting until there is enough (KIP-74).

use std::collections::{BTreeMap, BTreeSet};

use base_types::{Now, Tick, TopicPartition};
use bytes::Bytes;
use peer_api::storage::{FetchRequest, FetchResponse, Fetched, ReadError, RequestId, Response};
use replica_core::FetchPlan;

use super::{StorageNode, answer};
use crate::effect::{Effect, Effects};
use crate::event::{FetchKey, FetchPart, GatewayStream, ReadFailure};

#[derive(Debug, Default)]
pub(super) struct Fetches {
    waiting: BTreeMap<FetchKey, Waiting>,
    by_request: BTreeMap<(GatewayStream, RequestId), FetchKey>,
    deadlines: BTreeSet<(Tick, FetchKey)>,
    /// Something happened in a partition that these wait for; looked at once, at the end of the step.
    woken: BTreeSet<FetchKey>,
    last: u64,
}

#[derive(Debug)]
struct Waiting {
    stream: GatewayStream,
    id: RequestId,
    request: FetchRequest,
    deadline: Tick,
    /// The places in the request whose parts are being read.
    reading: Option<Vec<usize>>,
    /// Something happened during the read: look again after it.
    missed: bool,
    /// Answer with whatever there is.
    cancelled: bool,
}

impl Fetches {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        self.deadlines.first().map(|&(tick, _)| tick)
    }

    pub(super) fn wake(&mut self, waiters: &BTreeSet<FetchKey>) {
        self.woken.extend(waiters);
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
        self.fetches.last += 1;
        let key = FetchKey(self.fetches.last);
        let deadline = now.tick.plus_ms(u64::from(request.wait_ms_max));
        for fetch in &request.partitions {
            if let Some(slot) = self.slots.get_mut(&fetch.partition) {
                slot.waiters.insert(key);
            }
        }
        self.fetches.by_request.insert((stream, id), key);
        self.fetches.deadlines.insert((deadline, key));
        let waiting = Waiting { stream, id, request, deadline, reading: None, missed: false, cancelled: false };
        self.fetches.waiting.insert(key, waiting);
        self.serve(now, key, effects);
    }

    pub(super) fn cancel_fetch(&mut self, now: Now, stream: GatewayStream, id: RequestId, effects: &mut Effects) {
        let Some(&key) = self.fetches.by_request.get(&(stream, id)) else { return };
        if let Some(waiting) = self.fetches.waiting.get_mut(&key) {
            waiting.cancelled = true;
        }
        self.serve(now, key, effects);
    }

    pub(super) fn forget_fetches(&mut self, stream: GatewayStream) {
        let of_stream = |(&key, waiting): (&FetchKey, &Waiting)| (waiting.stream == stream).then_some(key);
        let keys: Vec<FetchKey> = self.fetches.waiting.iter().filter_map(of_stream).collect();
        for key in keys {
            self.remove_fetch(key);
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

    /// The disk has answered. What a replica says now decides what may be served, not what it said before the read (W5).
    pub(super) fn fetch_read(
        &mut self,
        now: Now,
        key: FetchKey,
        parts: Vec<Result<Vec<Bytes>, ReadFailure>>,
        effects: &mut Effects,
    ) {
        let Some(waiting) = self.fetches.waiting.get_mut(&key) else { return };
        let Some(places) = waiting.reading.take() else { return };
        let mut read: BTreeMap<usize, Result<Vec<Bytes>, ReadFailure>> = places.into_iter().zip(parts).collect();
        let mut answers = self.plan_all(key);
        let Some(waiting) = self.fetches.waiting.get(&key) else { return };
        let mut room = Room { bytes_left: waiting.request.bytes_max as usize, nothing_yet: true };
        let mut failed = false;
        for (place, (_, plan)) in answers.iter_mut().enumerate() {
            match (&mut *plan, read.remove(&place)) {
                (Ok(planned), Some(Ok(batches))) => planned.records = room.take(batches),
                (Ok(_), Some(Err(failure))) => *plan = Err(read_error(failure)),
                (Ok(_), None) | (Err(_), _) => {}
            }
            failed |= plan.is_err();
        }
        let bytes: usize = answers.iter().flat_map(|(_, answer)| answer.as_ref().ok()).map(Fetched::size).sum();
        let enough = bytes >= waiting.request.bytes_min as usize || failed || waiting.cancelled;
        if enough || waiting.deadline <= now.tick {
            self.answer_fetch(key, answers, effects);
        } else if waiting.missed {
            self.serve(now, key, effects);
        }
    }

    /// Answers a fetch that is due or cannot be waited for, else reads what there is, else lets it wait.
    fn serve(&mut self, now: Now, key: FetchKey, effects: &mut Effects) {
        let Some(waiting) = self.fetches.waiting.get_mut(&key) else { return };
        if waiting.reading.is_some() {
            waiting.missed = true;
            return;
        }
        waiting.missed = false;
        let Some(waiting) = self.fetches.waiting.get(&key) else { return };
        let due = waiting.deadline <= now.tick || waiting.cancelled;
        let mut parts = Vec::new();
        let mut places = Vec::new();
        let mut urgent = false;
        for (place, fetch) in waiting.request.partitions.iter().enumerate() {
            let plan = self.plan(fetch.partition, place, key);
            urgent |= plan.as_ref().map_or(true, |plan| plan.diverging.is_some());
            if let Ok(plan) = plan
                && plan.from < plan.below
            {
                let bytes_max = fetch.bytes_max as usize;
                parts.push(FetchPart { partition: fetch.partition, from: plan.from, below: plan.below, bytes_max });
                places.push(place);
            }
        }
        if !parts.is_empty() {
            let bytes_max = waiting.request.bytes_max as usize;
            if let Some(waiting) = self.fetches.waiting.get_mut(&key) {
                waiting.reading = Some(places);
            }
            effects.push(Effect::FetchRead { fetch: key, parts, bytes_max });
        } else if due || urgent || waiting.request.bytes_min == 0 {
            let answers = self.plan_all(key);
            self.answer_fetch(key, answers, effects);
        }
    }

    fn plan(&self, partition: TopicPartition, place: usize, key: FetchKey) -> Result<FetchPlan, ReadError> {
        let waiting = self.fetches.waiting.get(&key).ok_or(ReadError::UnknownPartition)?;
        let fetch = waiting.request.partitions.get(place).ok_or(ReadError::UnknownPartition)?;
        let replica = self.replica(partition).ok_or(ReadError::UnknownPartition)?;
        replica.plan_fetch(fetch, waiting.request.isolation)
    }

    /// The answer without records.
    fn plan_all(&self, key: FetchKey) -> Vec<(TopicPartition, Result<Fetched, ReadError>)> {
        let Some(waiting) = self.fetches.waiting.get(&key) else { return Vec::new() };
        let partitions = waiting.request.partitions.iter().enumerate();
        let plan = |(place, fetch): (usize, &peer_api::storage::FetchPartition)| {
            let planned = self.plan(fetch.partition, place, key).map(|plan| Fetched {
                high_watermark: plan.high_watermark,
                last_stable_offset: plan.last_stable_offset,
                log_start: plan.log_start,
                diverging: plan.diverging,
                records: Vec::new(),
            });
            (fetch.partition, planned)
        };
        partitions.map(plan).collect()
    }

    fn answer_fetch(
        &mut self,
        key: FetchKey,
        partitions: Vec<(TopicPartition, Result<Fetched, ReadError>)>,
        effects: &mut Effects,
    ) {
        if let Some(waiting) = self.remove_fetch(key) {
            effects.push(answer(waiting.stream, waiting.id, Response::Fetch(FetchResponse { partitions })));
        }
    }

    fn remove_fetch(&mut self, key: FetchKey) -> Option<Waiting> {
        let waiting = self.fetches.waiting.remove(&key)?;
        self.fetches.by_request.remove(&(waiting.stream, waiting.id));
        self.fetches.deadlines.remove(&(waiting.deadline, key));
        for fetch in &waiting.request.partitions {
            if let Some(slot) = self.slots.get_mut(&fetch.partition) {
                slot.waiters.remove(&key);
            }
        }
        Some(waiting)
    }
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
            if fits {
                self.nothing_yet = false;
                self.bytes_left = self.bytes_left.saturating_sub(batch.len());
            } else {
                self.bytes_left = 0;
            }
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
