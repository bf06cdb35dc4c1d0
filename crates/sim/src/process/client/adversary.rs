//! What no well-behaved producer does: it sends each batch over two connections at once, repeats old ones, and misnumbers others.
//!
//! | sent | must come of it |
//! |---|---|
//! | one batch over two connections, again until it is acknowledged | it is there once (P1); all who acknowledge it tell one offset (P2) |
//! | a batch that was acknowledged, once more, late | the same offset, or none; nothing is appended (P1, P2) |
//! | a batch whose number leaves a gap | nothing is appended (P3) |
//! | the next epoch from zero on, then a batch of the epoch before | the former is taken, the latter never (P4) |
//!
//! That nothing was appended is for the history's judge to find out: these records count as failed, whatever was answered or not.
//! One batch at a time is new, so that what is legal does not depend on which connection is quicker.

use std::collections::VecDeque;

use base_types::{ErrorCode, ProducerEpoch, ProducerId, Tick};
use bytes::Bytes;
use history_checker::Delivery;

use super::book::{Sends, Shared, Topic};
use super::operations::init_producer_id::InitProducerId;
use super::operations::metadata::Metadata;
use super::operations::produce::{self, ACKS_ALL, Batch, Fate, Part, Produce};
use super::operations::{Asked, Scribe};
use super::{Connection, Gateways, News, PAUSE_MS, TOPIC};
use crate::world::{Context, Input, Process};

/// How many acknowledged batches are remembered, to be repeated: more than a partition remembers of a producer.
const REMEMBERED: usize = 8;
/// A partition remembers so many.
const WINDOW: usize = 5;
const GAP: i32 = 1_000;
const VERSION: i16 = 9;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub id: i32,
    pub gateways: i32,
    /// Between two batches.
    pub pace_ms: u64,
    /// Sends nothing new after this.
    pub stop_ms: u64,
}

pub struct Adversary {
    settings: Settings,
    scribe: Scribe,
    lines: [Line; 2],
    target: Option<(Topic, i32)>,
    producer: Option<(ProducerId, ProducerEpoch)>,
    next_sequence: i32,
    /// The batch that is to be acknowledged next.
    current: Option<Attempt>,
    /// The newest last, each with its offset. Of the current epoch.
    acknowledged: VecDeque<(Attempt, Option<i64>)>,
    wait_until: Option<Tick>,
    /// How many batches there were.
    number: u64,
}

struct Line {
    connection: Connection,
    asked: Option<What>,
}

#[derive(Clone)]
struct Attempt {
    number: u64,
    sends: Sends,
    records: Bytes,
    is_settled: bool,
}

enum What {
    Metadata(Asked<Metadata>),
    Init(Asked<InitProducerId>),
    Current(Asked<Produce>, u64),
    /// An acknowledged batch, with its number.
    Repeated(Asked<Produce>, u64),
    /// What must not be appended, and the error that says so.
    Wrong(Asked<Produce>, &'static str),
}

impl Adversary {
    pub fn new(settings: Settings, book: &Shared) -> Adversary {
        let line = |place: i32| {
            let gateways = Gateways::Any { count: settings.gateways, last: settings.id + place };
            Line { connection: Connection::new(place as u64, gateways), asked: None }
        };
        Adversary {
            settings,
            scribe: Scribe::new(book),
            lines: [line(0), line(1)],
            target: None,
            producer: None,
            next_sequence: 0,
            current: None,
            acknowledged: VecDeque::new(),
            wait_until: None,
            number: 0,
        }
    }

    /// Nothing waits to be acknowledged.
    pub fn is_settled(&self) -> bool {
        self.current.as_ref().is_none_or(|current| current.is_settled)
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        if self.wait_until.is_some() {
            return;
        }
        for place in 0..self.lines.len() {
            let line = &self.lines[place];
            if line.asked.is_none() && line.connection.is_free() {
                let what = self.next(context, place);
                self.lines[place].asked = what;
            }
        }
    }

    fn next(&mut self, context: &mut Context<'_>, place: usize) -> Option<What> {
        let (scribe, connection) = (&mut self.scribe, &mut self.lines[place].connection);
        let (Some(target), Some(producer)) = (self.target.clone(), self.producer) else {
            // One line finds out for both.
            return match (place, &self.target) {
                (0, None) => Some(What::Metadata(scribe.ask(connection, context, Metadata { version: 12 }))),
                (0, Some(_)) => Some(What::Init(scribe.ask(connection, context, InitProducerId { version: 4 }))),
                _ => None,
            };
        };
        if let Some(current) = self.current.clone().filter(|current| !current.is_settled) {
            return self.send(context, place, &current, &target).map(|asked| What::Current(asked, current.number));
        }
        if context.now.tick.0 >= self.settings.stop_ms {
            return None;
        }
        if !self.acknowledged.is_empty() && context.random.chance(400) {
            return self.misbehave(context, place, &target, producer);
        }
        self.number += 1;
        if self.number.is_multiple_of(50) {
            // The next epoch begins from zero.
            self.producer = Some((producer.0, ProducerEpoch(producer.1.0 + 1)));
            self.next_sequence = 0;
            self.acknowledged.clear();
        }
        let count = context.random.between(1, 3);
        let attempt = self.attempt(context, &target, self.producer?, self.next_sequence, count);
        self.next_sequence += count as i32;
        self.current = Some(attempt.clone());
        self.send(context, place, &attempt, &target).map(|asked| What::Current(asked, attempt.number))
    }

    fn attempt(
        &mut self,
        context: &Context<'_>,
        target: &(Topic, i32),
        (id, epoch): (ProducerId, ProducerEpoch),
        sequence: i32,
        count: u64,
    ) -> Attempt {
        let mut book = self.scribe.book.borrow_mut();
        let sends = book.sends(self.scribe.client, (&target.0, target.1), Delivery::Idempotent, count);
        let records = produce::batch(&sends, Some((id, epoch, sequence)), context.now.wall);
        Attempt { number: self.number, sends, records, is_settled: false }
    }

    fn misbehave(
        &mut self,
        context: &mut Context<'_>,
        place: usize,
        target: &(Topic, i32),
        (id, epoch): (ProducerId, ProducerEpoch),
    ) -> Option<What> {
        let is_old = epoch.0 > 0 && context.random.chance(300);
        if !is_old && context.random.chance(600) {
            let which = context.random.below(self.acknowledged.len() as u64) as usize;
            let (attempt, _) = self.acknowledged.get(which)?.clone();
            return self.send(context, place, &attempt, target).map(|asked| What::Repeated(asked, attempt.number));
        }
        let (epoch, sequence) =
            if is_old { (ProducerEpoch(epoch.0 - 1), GAP) } else { (epoch, self.next_sequence + GAP) };
        let wrong = self.attempt(context, target, (id, epoch), sequence, 1);
        self.scribe.book.borrow_mut().failed(wrong.sends.clone());
        let invariant = if is_old { "P4" } else { "P3" };
        self.send(context, place, &wrong, target).map(|asked| What::Wrong(asked, invariant))
    }

    fn send(
        &mut self,
        context: &mut Context<'_>,
        place: usize,
        attempt: &Attempt,
        (topic, partition): &(Topic, i32),
    ) -> Option<Asked<Produce>> {
        let line = &mut self.lines[place];
        let (sends, records) = (attempt.sends.clone(), attempt.records.clone());
        let batch = Batch { sends, records, sequence: None, may_be_there: true };
        let parts = vec![Part { topic: topic.clone(), partition: *partition, batch }];
        Some(self.scribe.ask(&mut line.connection, context, Produce { version: VERSION, acks: ACKS_ALL, parts }))
    }

    fn answered(&mut self, context: &mut Context<'_>, place: usize, frame: Bytes) {
        let Some(what) = self.lines[place].asked.take() else { return };
        let connection = &self.lines[place].connection;
        let mut pause_ms = PAUSE_MS;
        match what {
            What::Metadata(asked) => {
                self.scribe.answered(connection, asked, frame);
                self.target =
                    self.scribe.view.topic(TOPIC).map(|(topic, partitions)| {
                        (topic.clone(), context.random.below(partitions.max(1) as u64) as i32)
                    });
            }
            What::Init(asked) => self.producer = self.scribe.answered(connection, asked, frame),
            What::Current(asked, number) => {
                if let Some((_, fate)) = self.scribe.answered(connection, asked, frame).pop() {
                    self.current_is(number, fate);
                    if matches!(fate, Fate::There(_)) {
                        pause_ms = self.settings.pace_ms;
                    }
                }
            }
            What::Repeated(asked, number) => {
                if let Some((_, fate)) = self.scribe.answered(connection, asked, frame).pop() {
                    self.repeated_is(number, fate);
                }
            }
            What::Wrong(asked, invariant) => {
                if let Some((_, Fate::There(base))) = self.scribe.answered(connection, asked, frame).pop() {
                    let mut book = self.scribe.book.borrow_mut();
                    book.complain(invariant, format_args!("what must be refused was acknowledged at {base:?}"));
                }
            }
        }
        self.wait_until = Some(context.now.tick.plus_ms(pause_ms));
    }

    fn current_is(&mut self, number: u64, fate: Fate) {
        let Some(current) = self.current.as_mut().filter(|current| current.number == number) else { return };
        match fate {
            Fate::There(base) if current.is_settled => self.repeated_is(number, Fate::There(base)),
            Fate::There(base) => {
                current.is_settled = true;
                self.scribe.book.borrow_mut().acknowledged(current.sends.clone(), base);
                self.acknowledged.push_back((current.clone(), base));
                if self.acknowledged.len() > REMEMBERED {
                    self.acknowledged.pop_front();
                }
            }
            // All before it is acknowledged, and it has not been itself.
            Fate::NotThere(code @ (ErrorCode::OutOfOrderSequenceNumber | ErrorCode::InvalidProducerEpoch))
                if !current.is_settled =>
            {
                let what = format_args!("batch {number}, which is the next one, is refused with {}", code.name());
                self.scribe.book.borrow_mut().complain("P3", what);
            }
            // It will never be taken where a clock has jumped; and the number of the next one is behind it.
            Fate::NotThere(ErrorCode::InvalidTimestamp) if !current.is_settled => self.begin_anew(),
            Fate::NotThere(code) if !code.is_retriable() && !current.is_settled => {
                let what = format_args!("batch {number} is refused for good with {}", code.name());
                self.scribe.book.borrow_mut().complain("answer", what);
            }
            Fate::NotThere(_) | Fate::Unknown => {}
        }
    }

    /// With a new producer id, as another client. The batch may have been appended by an attempt before, or be by the one under way.
    fn begin_anew(&mut self) {
        let mut book = self.scribe.book.borrow_mut();
        if let Some(current) = self.current.take() {
            book.unknown(current.sends);
        }
        self.scribe.client = book.client();
        self.producer = None;
        self.next_sequence = 0;
        self.acknowledged.clear();
    }

    /// A batch that was acknowledged before: at the same offset.
    fn repeated_is(&mut self, number: u64, fate: Fate) {
        let Some(place) = self.acknowledged.iter().position(|(attempt, _)| attempt.number == number) else { return };
        let (_, before) = &mut self.acknowledged[place];
        let mut book = self.scribe.book.borrow_mut();
        match fate {
            Fate::There(Some(offset)) if before.is_some_and(|before| before != offset) => {
                book.complain(
                    "P2",
                    format_args!("batch {number} is acknowledged at {offset}, and before at {before:?}"),
                );
            }
            Fate::There(offset) => *before = before.or(offset),
            Fate::NotThere(ErrorCode::OutOfOrderSequenceNumber) => {
                let younger = self.acknowledged.len() - 1 - place;
                if younger < WINDOW - 1 {
                    book.complain(
                        "P2",
                        format_args!("batch {number}, with {younger} younger ones, is not known any more"),
                    );
                }
            }
            Fate::NotThere(_) | Fate::Unknown => {}
        }
    }
}

impl Process for Adversary {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        for place in 0..self.lines.len() {
            match self.lines[place].connection.handle(context, &input) {
                News::Nothing => {}
                News::Answered(frame) => self.answered(context, place, frame),
                News::Unanswered => self.lines[place].asked = None,
            }
        }
        self.wait_until.take_if(|until| *until <= context.now.tick);
        self.go_on(context);
    }

    fn next_deadline(&self) -> Option<Tick> {
        let lines = self.lines.iter().filter_map(|line| line.connection.next_deadline());
        lines.chain(self.wait_until).min()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::super::book::Book;
    use super::*;

    /// With a batch that is not acknowledged.
    fn adversary(book: &Shared) -> Adversary {
        let mut adversary = Adversary::new(Settings { id: 6, gateways: 2, pace_ms: 100, stop_ms: 1_000 }, book);
        let topic = Topic { name: TOPIC.to_owned(), id: Default::default() };
        let sends = book.borrow_mut().sends(adversary.scribe.client, (&topic, 0), Delivery::Idempotent, 2);
        adversary.producer = Some((ProducerId(1), ProducerEpoch(3)));
        adversary.next_sequence = 20;
        adversary.current = Some(Attempt { number: 9, sends, records: Bytes::new(), is_settled: false });
        adversary
    }

    #[test]
    fn what_will_never_be_taken_is_given_up_and_the_next_is_by_another_producer() {
        let book: Shared = Rc::new(RefCell::new(Book::default()));
        let mut adversary = adversary(&book);
        let before = adversary.scribe.client;
        for fate in [Fate::NotThere(ErrorCode::NotEnoughReplicas), Fate::Unknown] {
            adversary.current_is(9, fate);
            assert!(!adversary.is_settled(), "{fate:?} is no reason to give up");
        }
        adversary.current_is(9, Fate::NotThere(ErrorCode::InvalidTimestamp));
        assert!(adversary.is_settled());
        assert_eq!((adversary.producer, adversary.next_sequence), (None, 0));
        assert!(adversary.scribe.client != before);
        assert_eq!(book.borrow().tally.unknown, 2, "an attempt before may have been taken");
        // What the other connection is told of it comes too late.
        adversary.current_is(9, Fate::There(Some(4)));
        assert!(book.borrow().complaint().is_none() && adversary.acknowledged.is_empty());
    }
}
