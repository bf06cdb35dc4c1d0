//! `thalweg consume --group`: a member of a group of the new protocol (KIP-848).
//!
//! What was printed is committed after each round, so that another member, or the same command run again, goes on from there: a
//! record may be printed twice after a crash, and none is left out.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base_types::ErrorCode;
use kafka_wire::k03_metadata::MetadataResponseTopic;
use kafka_wire::k68_consumer_group_heartbeat::{RequestTopicPartitions, ResponseTopicPartitions};
use kafka_wire::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, KafkaString, MetadataResponse};

use super::{Printer, Progress, begin, fetch, leaders};
use crate::cli::Consume;
use crate::client::Client;
use crate::command::group::offsets::{Committer, commit, committed};
use crate::command::topic::{EARLIEST, LATEST, offset_of};
use crate::failure::Failure;

const HEARTBEAT_VERSION: i16 = 0;
const COMMIT_VERSION: i16 = 9;
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
const JOINING: i32 = 0;
const LEAVING: i32 = -1;
/// How long a member that reads nothing waits before it looks again.
const IDLE: Duration = Duration::from_millis(100);
/// Coordinators gather changes before they share out (`group.consumer.assignment.interval.ms`), so who comes second is first told to read
/// nothing. Who is told nothing else for this long has nothing to read.
const NOTHING_TO_READ: Duration = Duration::from_secs(5);

struct Member<'a> {
    client: Client,
    options: &'a Consume,
    group: &'a str,
    metadata: MetadataResponse,
    topic: MetadataResponseTopic,
    id: KafkaString,
    epoch: i32,
    /// What it reads, and how far it has come.
    progress: BTreeMap<i32, Progress>,
    /// How far it has committed.
    kept: BTreeMap<i32, i64>,
    beat_at: Instant,
    /// What it reads has changed, and the coordinator is to hear of it.
    has_news: bool,
    /// When it was first told what to read.
    assigned_at: Option<Instant>,
}

pub fn run(options: &Consume, group: &str) -> Result<(), Failure> {
    let interrupted = on_interrupt()?;
    let mut client = Client::connect(&options.target.bootstrap)?;
    let (metadata, topic) = client.topic(&options.topic)?;
    let mut member = Member {
        client,
        options,
        group,
        metadata,
        topic,
        id: KafkaString::default(),
        epoch: JOINING,
        progress: BTreeMap::new(),
        kept: BTreeMap::new(),
        beat_at: Instant::now(),
        has_news: false,
        assigned_at: None,
    };
    // Who does not say that it leaves keeps its partitions from the others until its session ends.
    let worked = member.work(&mut Printer::new(options), &interrupted);
    let left = member.leave();
    worked.and(left)
}

/// Set when the process is asked to end: a member that leaves is not waited for by the others.
fn on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&interrupted);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::io("waiting for signals"))?;
    let shutdown = {
        let _within = runtime.enter();
        service_kit::Shutdown::on_signals().map_err(Failure::io("waiting for signals"))?
    };
    std::thread::spawn(move || {
        runtime.block_on(shutdown.requested());
        told.store(true, Ordering::Relaxed);
    });
    Ok(interrupted)
}

impl Member<'_> {
    fn work<W: Write>(&mut self, printer: &mut Printer<W>, interrupted: &AtomicBool) -> Result<(), Failure> {
        while !interrupted.load(Ordering::Relaxed) && !self.is_done(printer) {
            self.beat()?;
            if self.progress.values().all(Progress::is_done) {
                std::thread::sleep(IDLE);
                continue;
            }
            self.round(printer)?;
            printer.flush()?;
            self.commit()?;
        }
        Ok(())
    }

    /// Whether everything is printed that was asked for.
    fn is_done<W: Write>(&self, printer: &Printer<W>) -> bool {
        let is_told = |at: Instant| !self.progress.is_empty() || at.elapsed() >= NOTHING_TO_READ;
        let at_end =
            self.options.exit && self.assigned_at.is_some_and(is_told) && self.progress.values().all(Progress::is_done);
        printer.left == Some(0) || at_end
    }

    /// Says that it is still there when that is due, and takes up what it is to read.
    fn beat(&mut self) -> Result<(), Failure> {
        if Instant::now() < self.beat_at && !self.has_news {
            return Ok(());
        }
        let answer = self.heartbeat()?;
        match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) => {
                self.progress.clear();
                self.kept.clear();
                self.epoch = JOINING;
                self.beat_at = Instant::now();
                return Ok(());
            }
            Some(ErrorCode::UnsupportedVersion) => {
                let text = "the cluster does not know the new group protocol (KIP-848), which this command speaks";
                return Err(Failure::Failed(text.to_owned()));
            }
            _ => {
                let what = format!("group {}", self.group);
                Failure::check(&what, answer.error_code, answer.error_message.as_deref())?;
            }
        }
        self.epoch = answer.member_epoch;
        if let Some(id) = answer.member_id {
            self.id = id.detach();
        }
        let interval = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0).max(1);
        self.beat_at = Instant::now() + Duration::from_millis(interval);
        self.has_news = false;
        match answer.assignment {
            Some(assignment) => self.assigned(&assignment.topic_partitions),
            None => Ok(()),
        }
    }

    fn heartbeat(&mut self) -> Result<ConsumerGroupHeartbeatResponse, Failure> {
        let joins = self.epoch == JOINING;
        let owned = RequestTopicPartitions {
            topic_id: self.topic.topic_id,
            partitions: self.progress.keys().copied().collect(),
        };
        let topic_partitions = match (joins, self.has_news) {
            (true, _) => Some(Vec::new()),
            (false, true) if owned.partitions.is_empty() => Some(Vec::new()),
            (false, true) => Some(vec![owned]),
            (false, false) => None,
        };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: KafkaString::from(self.group),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: if joins { REBALANCE_TIMEOUT_MS } else { -1 },
            subscribed_topic_names: joins.then(|| vec![KafkaString::from(&self.options.topic)]),
            topic_partitions,
            ..ConsumerGroupHeartbeatRequest::default()
        };
        self.client.call_coordinator(self.group, HEARTBEAT_VERSION, &request, |answer| answer.error_code)
    }

    fn assigned(&mut self, topics: &[ResponseTopicPartitions]) -> Result<(), Failure> {
        let ours = topics.iter().filter(|topic| topic.topic_id == self.topic.topic_id);
        let mut partitions: Vec<i32> = ours.flat_map(|topic| &topic.partitions).copied().collect();
        partitions.sort_unstable();
        self.assigned_at.get_or_insert_with(Instant::now);
        if partitions.iter().eq(self.progress.keys()) {
            return Ok(());
        }
        self.has_news = true;
        self.progress.retain(|partition, _| partitions.contains(partition));
        self.kept.retain(|partition, _| partitions.contains(partition));
        let committed = committed(&mut self.client, self.group)?;
        (self.metadata, self.topic) = self.client.topic(&self.options.topic)?;
        for partition in partitions {
            if !self.progress.contains_key(&partition) {
                let mut progress = begin(&mut self.client, self.options, &self.metadata, &self.topic, partition)?;
                if let Some(&offset) = committed.get(&(self.options.topic.clone(), partition)) {
                    self.kept.insert(partition, offset);
                    if self.is_there(partition, offset)? {
                        progress.next = offset;
                    } else {
                        let next = progress.next;
                        eprintln!(
                            "partition {partition} does not hold the committed offset {offset}: going on at {next}"
                        );
                    }
                }
                self.progress.insert(partition, progress);
            }
        }
        Ok(())
    }

    /// Records before it may have been deleted, and a topic made anew may not have come so far.
    fn is_there(&mut self, partition: i32, offset: i64) -> Result<bool, Failure> {
        let mut at = |spec| offset_of(&mut self.client, &self.metadata, &self.topic, partition, spec);
        Ok((at(EARLIEST)?..=at(LATEST)?).contains(&offset))
    }

    fn round<W: Write>(&mut self, printer: &mut Printer<W>) -> Result<(), Failure> {
        let mut moved = false;
        for leader in leaders(&self.topic, &self.progress) {
            moved |= !fetch(&mut self.client, &self.metadata, &self.topic, leader, &mut self.progress, printer)?;
        }
        if moved {
            (self.metadata, self.topic) = self.client.topic(&self.options.topic)?;
        }
        Ok(())
    }

    /// Commits what was printed. A member that is out of date hears of it with its next heartbeat and commits then.
    fn commit(&mut self) -> Result<(), Failure> {
        let news: BTreeMap<i32, i64> = self
            .progress
            .iter()
            .filter(|(partition, progress)| self.kept.get(partition) != Some(&progress.next))
            .map(|(partition, progress)| (*partition, progress.next))
            .collect();
        if news.is_empty() {
            return Ok(());
        }
        let place = |(partition, offset): (&i32, &i64)| ((self.options.topic.clone(), *partition), *offset);
        let offsets = news.iter().map(place).collect();
        let by = Committer { member_id: &self.id, epoch: self.epoch };
        match commit(&mut self.client, COMMIT_VERSION, self.group, Some(by), &offsets) {
            Err(Failure::Refused { code, .. }) if is_out_of_date(code) => self.beat_at = Instant::now(),
            result => {
                result?;
                self.kept.extend(news);
            }
        }
        Ok(())
    }

    fn leave(mut self) -> Result<(), Failure> {
        if self.epoch == JOINING {
            return Ok(());
        }
        self.epoch = LEAVING;
        let answer = self.heartbeat()?;
        Failure::check(&format!("leaving group {}", self.group), answer.error_code, answer.error_message.as_deref())
    }
}

/// What the coordinator says to a member that has not heard of the latest.
fn is_out_of_date(code: i16) -> bool {
    let code = ErrorCode::from_code(code);
    matches!(code, Some(ErrorCode::StaleMemberEpoch | ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch))
}
