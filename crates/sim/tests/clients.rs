//! The clients' judges on trial: answers that no cluster may give are not let through, and those beside them are.

use bytes::Bytes;
use history_checker::{Client, Delivery};
use kafka_wire::k00_produce::{PartitionProduceResponse, TopicProduceResponse};
use kafka_wire::k01_fetch::{FetchableTopicResponse, PartitionData};
use kafka_wire::k02_list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_wire::k03_metadata::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_wire::k21_delete_records::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_wire::{
    DeleteRecordsResponse, FetchResponse, InitProducerIdResponse, ListOffsetsResponse, MetadataResponse,
    ProduceResponse, Records, Uuid,
};
use record_batch::{BatchLimits, ProducedBatch, StampedBatch};

use sim::process::client::book::{Book, Topic};
use sim::process::client::operations::delete_records::DeleteRecords;
use sim::process::client::operations::fetch::{Fetch, Said, Want};
use sim::process::client::operations::init_producer_id::InitProducerId;
use sim::process::client::operations::list_offsets::{End, ListOffsets};
use sim::process::client::operations::metadata::{Metadata, View};
use sim::process::client::operations::produce::{self, Batch, Fate, Part, Produce};
use sim::process::client::operations::{Notes, Operation};

/// One client and its book.
struct Trial {
    book: Book,
    view: View,
    client: Client,
}

impl Trial {
    fn new() -> Trial {
        let mut book = Book::default();
        let client = book.client();
        Trial { book, view: View::default(), client }
    }

    fn answer<O: Operation>(
        &mut self,
        operation: O,
        answer: <O::Request as kafka_wire::Request>::Response,
    ) -> O::Outcome {
        let asked = self.book.now();
        let mut notes = Notes { book: &mut self.book, view: &mut self.view, client: self.client, asked };
        operation.answered(&mut notes, answer)
    }

    fn sends(&mut self, count: u64) -> std::ops::Range<u64> {
        self.book.sends(self.client, (&topic(), 0), Delivery::Idempotent, count)
    }

    /// Reads these values from offset 0 on, and is told that the log ends there.
    fn reads_to_the_end(&mut self, values: &[u64]) {
        let reader = self.book.client();
        let asked = self.book.now();
        self.book.sought(reader, &topic(), 0, 0);
        let records = (0..).zip(values.iter().copied()).collect();
        self.book.polled(reader, asked, &[(topic(), 0, records)]);
        self.book.finished(reader, asked, &topic(), 0, values.len() as i64);
    }

    fn complaint(&self) -> &str {
        self.book.complaint().map_or("", |complaint| complaint.split(':').next().unwrap_or_default())
    }
}

fn topic() -> Topic {
    Topic { name: "simulated".to_owned(), id: Uuid([7; 16]) }
}

fn verdict(tamper: impl FnOnce(&mut Trial, std::ops::Range<u64>)) -> String {
    let mut trial = Trial::new();
    let sends = trial.sends(3);
    tamper(&mut trial, sends);
    let said = trial.book.judge().err().unwrap_or_default();
    said.split(':').next().unwrap_or_default().to_owned()
}

#[test]
fn the_book_is_judged_by_what_was_promised_and_read() {
    let acknowledged = |trial: &mut Trial, sends: std::ops::Range<u64>, read: &[u64]| {
        trial.book.acknowledged(sends, Some(0));
        trial.reads_to_the_end(read);
    };
    assert_eq!(verdict(|trial, sends| acknowledged(trial, sends, &[0, 1, 2])), "");
    assert_eq!(verdict(|trial, sends| acknowledged(trial, sends, &[0, 1])), "R2");
    assert_eq!(verdict(|trial, sends| acknowledged(trial, sends, &[0, 1, 2, 1])), "P1");
    assert_eq!(verdict(|trial, sends| acknowledged(trial, sends, &[0, 1, 2, 9])), "R18");
    let failed = |trial: &mut Trial, sends: std::ops::Range<u64>| {
        trial.book.failed(sends);
        trial.reads_to_the_end(&[0, 1, 2]);
    };
    assert_eq!(verdict(failed), "R17");
    // Nobody knows: it may be there or not, but in order.
    let open = |read: &'static [u64]| move |trial: &mut Trial, _| trial.reads_to_the_end(read);
    assert_eq!(verdict(open(&[])), "");
    assert_eq!(verdict(open(&[0, 1])), "");
    assert_eq!(verdict(open(&[1, 0])), "W1");
}

#[test]
fn a_topic_made_again_is_another_partition_of_the_history() {
    let mut trial = Trial::new();
    let sends = trial.sends(1);
    trial.book.acknowledged(sends, Some(0));
    let again = Topic { id: Uuid([8; 16]), ..topic() };
    let reader = trial.book.client();
    let asked = trial.book.now();
    trial.book.polled(reader, asked, &[(again, 0, vec![(0, 0)])]);
    assert!(trial.book.judge().unwrap_err().starts_with("R18: "));
    assert!(trial.book.is_new_topic(Uuid([9; 16])));
    assert!(!trial.book.is_new_topic(Uuid([9; 16])) && !trial.book.is_new_topic(Uuid::ZERO));
}

#[test]
fn a_producer_id_is_handed_out_once() {
    let mut trial = Trial::new();
    let given = |producer_id| InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() };
    assert!(trial.answer(InitProducerId { version: 4 }, given(5)).is_some());
    assert!(trial.answer(InitProducerId { version: 4 }, given(6)).is_some());
    assert_eq!(trial.complaint(), "");
    trial.answer(InitProducerId { version: 4 }, given(5));
    assert_eq!(trial.complaint(), "P7");
}

fn metadata(leader_epochs: &[i32]) -> MetadataResponse {
    let partitions = (0..).zip(leader_epochs).map(|(partition_index, &leader_epoch)| MetadataResponsePartition {
        partition_index,
        leader_epoch,
        ..Default::default()
    });
    let told = MetadataResponseTopic {
        name: Some(topic().name.as_str().into()),
        topic_id: topic().id,
        partitions: partitions.collect(),
        ..Default::default()
    };
    let topics = if leader_epochs.is_empty() { Vec::new() } else { vec![told] };
    MetadataResponse { topics, ..Default::default() }
}

#[test]
fn metadata_never_grows_older_on_a_connection() {
    for (first, second, complaint) in [
        (&[1, 1][..], &[1, 2][..], ""),
        (&[1, 1], &[1, 1, 0], ""),
        (&[1, 2], &[1, 1], "W4"),
        (&[1, 2], &[1], "W4"),
        (&[1], &[], "W4"),
    ] {
        let mut trial = Trial::new();
        trial.answer(Metadata { version: 12 }, metadata(first));
        trial.answer(Metadata { version: 12 }, metadata(second));
        assert_eq!(trial.complaint(), complaint, "{first:?} {second:?}");
    }
}

fn listed(offset: i64, leader_epoch: i32) -> ListOffsetsResponse {
    let partition = ListOffsetsPartitionResponse { offset, leader_epoch, ..Default::default() };
    let topic = ListOffsetsTopicResponse { partitions: vec![partition], ..Default::default() };
    ListOffsetsResponse { topics: vec![topic], ..Default::default() }
}

#[test]
fn neither_end_of_a_log_goes_back() {
    let cases = [
        (End::Latest, [(5, 1), (5, 2)], ""),
        (End::Latest, [(5, 1), (4, 2)], "R6"),
        (End::Earliest, [(5, 1), (6, 1)], ""),
        (End::Earliest, [(5, 1), (4, 1)], "S11"),
        // Another leader may not have begun to trim; what was answered counts, see below.
        (End::Earliest, [(5, 1), (4, 2)], ""),
    ];
    for (end, answers, complaint) in cases {
        let mut trial = Trial::new();
        for (offset, epoch) in answers {
            let list = ListOffsets { version: 6, end, partitions: vec![(topic(), 0, epoch)] };
            trial.answer(list, listed(offset, epoch));
        }
        assert_eq!(trial.complaint(), complaint, "{end:?} {answers:?}");
    }
}

#[test]
fn what_was_deleted_stays_deleted() {
    let trimmed = |low_watermark| {
        let partition = DeleteRecordsPartitionResult { low_watermark, ..Default::default() };
        let topic = DeleteRecordsTopicResult { partitions: vec![partition], ..Default::default() };
        DeleteRecordsResponse { topics: vec![topic], ..Default::default() }
    };
    let delete = || DeleteRecords { version: 2, topic: topic(), partition: 0, to: 5 };
    let mut trial = Trial::new();
    trial.answer(delete(), trimmed(4));
    assert_eq!(trial.complaint(), "S11");
    let mut trial = Trial::new();
    trial.answer(delete(), trimmed(5));
    assert_eq!(trial.complaint(), "");
    let list = ListOffsets { version: 6, end: End::Earliest, partitions: vec![(topic(), 0, 9)] };
    trial.answer(list, listed(4, 9));
    assert_eq!(trial.complaint(), "S11");
}

/// What a partition answers a fetch from offset 10 under leader epoch 3.
fn fetch(trial: &mut Trial, tell: impl FnOnce(&mut PartitionData)) -> Said {
    let want = Want { topic: topic(), partition: 0, offset: 10, leader_epoch: 3, last_epoch: 3 };
    let fetch = Fetch {
        version: 12,
        session: (0, -1),
        wants: vec![want],
        news: vec![0],
        forgotten: Vec::new(),
        wait_ms_max: 0,
    };
    let mut told = PartitionData { high_watermark: 20, log_start_offset: 2, ..Default::default() };
    tell(&mut told);
    let topic = FetchableTopicResponse { topic: "simulated".into(), partitions: vec![told], ..Default::default() };
    let answer = FetchResponse { responses: vec![topic], ..Default::default() };
    trial.answer(fetch, answer).parts.remove(0).1
}

fn stored(values: std::ops::Range<u64>, base_offset: i64) -> Bytes {
    let bytes = produce::batch(&values, None, base_types::Timestamp(0));
    let batch = ProducedBatch::check(bytes, &BatchLimits::default()).expect("a batch as clients send it");
    StampedBatch::stamp(&batch, base_types::Offset(base_offset), base_types::LeaderEpoch(3)).to_bytes()
}

#[test]
fn what_is_fetched_is_whole_dense_and_committed() {
    type Tell = fn(&mut PartitionData);
    let cases: [(Tell, &str); 8] = [
        (|told| told.records = Some(Records::from(stored(0..4, 10))), ""),
        // From the middle of a batch on.
        (|told| told.records = Some(Records::from(stored(0..4, 8))), ""),
        (|told| told.records = Some(Records::from(stored(0..4, 11))), "R10"),
        (|told| told.records = Some(Records::from(stored(0..11, 10))), "W5"),
        (
            |told| {
                let mut damaged = stored(0..4, 10).to_vec();
                if let Some(last) = damaged.last_mut() {
                    *last ^= 1;
                }
                told.records = Some(Records::from(Bytes::from(damaged)));
            },
            "S3",
        ),
        (|told| told.diverging_epoch.epoch = 2, "R6"),
        (|told| told.log_start_offset = 21, "S11"),
        (|told| told.error_code = 29, "answer"),
    ];
    for (at, (tell, complaint)) in cases.into_iter().enumerate() {
        let mut trial = Trial::new();
        fetch(&mut trial, tell);
        assert_eq!(trial.complaint(), complaint, "case {at}");
    }
    let mut trial = Trial::new();
    let Said::Read { records, next, last_epoch } =
        fetch(&mut trial, |told| told.records = Some(Records::from(stored(5..9, 8))))
    else {
        panic!("records were told");
    };
    assert_eq!((records, next, last_epoch), (vec![(10, 7), (11, 8)], 12, 3));
}

#[test]
fn within_an_epoch_the_high_watermark_does_not_go_back() {
    let mut trial = Trial::new();
    fetch(&mut trial, |told| told.high_watermark = 15);
    fetch(&mut trial, |told| told.high_watermark = 16);
    assert_eq!(trial.complaint(), "");
    fetch(&mut trial, |told| told.high_watermark = 15);
    assert_eq!(trial.complaint(), "R6");
}

#[test]
fn an_error_of_produce_says_whether_the_records_may_be_there() {
    for (code, fate) in [
        (0, Some(Fate::There(Some(4)))),
        (46, Some(Fate::There(None))),
        (7, Some(Fate::Unknown)),
        (20, Some(Fate::Unknown)),
        (6, Some(Fate::NotThere(base_types::ErrorCode::NotLeaderOrFollower))),
        (19, Some(Fate::NotThere(base_types::ErrorCode::NotEnoughReplicas))),
        (29, None),
    ] {
        let mut trial = Trial::new();
        let sends = trial.sends(1);
        let records = produce::batch(&sends, None, base_types::Timestamp(0));
        let batch = Batch { sends, records, sequence: None, may_be_there: false };
        let parts = vec![Part { topic: topic(), partition: 0, batch }];
        let told = PartitionProduceResponse {
            error_code: code,
            base_offset: if code == 0 { 4 } else { -1 },
            ..Default::default()
        };
        let topic = TopicProduceResponse { partition_responses: vec![told], ..Default::default() };
        let answer = ProduceResponse { responses: vec![topic], ..Default::default() };
        let fates = trial.answer(Produce { version: 9, acks: -1, parts }, answer);
        match fate {
            Some(fate) => assert_eq!((fates[0].1, trial.complaint()), (fate, "")),
            None => assert_eq!(trial.complaint(), "answer"),
        }
    }
}
