//! Clients: they speak Kafka's protocol in real bytes to whichever gateway answers. One file for each kind.
//!
//! | file | what it does |
//! |---|---|
//! | `producer.rs` | sends records, idempotent or not, with any acks, several requests under way |
//! | `reader.rs` | reads everything, with and without sessions; seeks; in the end, completely |
//! | `operator.rs` | creates, alters, trims and deletes topics of its own |
//! | `adversary.rs` | repeats, delays and misnumbers the batches of one producer over two connections |
//! | `operations.rs` | what they ask: one file for each operation, with what is a legal answer and what it says of the cluster |
//! | `book.rs` | what all of them did and were told: a history for `history-checker`, and the first answer that cannot be |
//! | `member.rs` | a member of a group: what it does with the partitions it has, in either protocol |
//! | `classic_member.rs`, `consumer_member.rs` | how it comes to have them: by JoinGroup and SyncGroup, or by ConsumerGroupHeartbeat |
//! | `auditor.rs` | asks again and again what groups have committed |

pub mod adversary;
pub mod auditor;
pub mod book;
pub mod classic_member;
pub mod consumer_member;
pub mod member;
pub mod operations;
pub mod operator;
pub mod producer;
pub mod reader;

use std::collections::VecDeque;

use base_types::Tick;
use bytes::{Bytes, BytesMut};
use kafka_wire::{KafkaString, Request, decode_response, encode_request};

use crate::network::{Payload, Purpose, StreamId};
use crate::world::{Context, Input, ProcessId};

pub const TOPIC: &str = "simulated";
/// Before a client dials again, and before it repeats what was refused.
const PAUSE_MS: u64 = 100;

/// A connection to whichever gateway answers. Answers come in the order of the questions (W1).
pub struct Connection {
    /// Tells the connections of one process apart.
    token: u64,
    gateways: Gateways,
    stream: Option<StreamId>,
    /// How many streams there were, this one included.
    streams: u32,
    correlation: i32,
    open: VecDeque<Question>,
}

/// One that has no answer yet.
#[derive(Clone, Copy)]
struct Question {
    correlation: i32,
    give_up_at: Tick,
}

/// Which gateways a client tries.
#[derive(Clone, Copy, Debug)]
pub enum Gateways {
    /// One after the other, beginning after this one.
    Any {
        count: i32,
        last: i32,
    },
    Only(i32),
}

/// What an input was to a connection.
pub enum News {
    Nothing,
    /// The oldest open question is.
    Answered(Bytes),
    /// To no open question an answer will come: each may have been heard or not.
    Unanswered,
}

impl Gateways {
    fn next(&mut self) -> i32 {
        match self {
            Gateways::Any { count, last } => {
                *last += 1;
                1 + *last % *count
            }
            Gateways::Only(id) => *id,
        }
    }
}

impl Connection {
    pub fn new(token: u64, gateways: Gateways) -> Connection {
        Connection { token, gateways, stream: None, streams: 0, correlation: 0, open: VecDeque::new() }
    }

    pub fn handle(&mut self, context: &mut Context<'_>, input: &Input) -> News {
        match input {
            Input::Started => self.dial(context),
            Input::DialFailed { token } if *token == self.token => self.dial(context),
            Input::Dialled { stream, token } if *token == self.token => {
                self.stream = Some(*stream);
                self.streams += 1;
            }
            Input::Received { stream, payload: Payload::Frame(frame) } if self.stream == Some(*stream) => {
                self.check_order(frame);
                return News::Answered(frame.clone());
            }
            Input::Closed { stream } if self.stream == Some(*stream) => {
                self.stream = None;
                self.dial(context);
                return self.give_up();
            }
            Input::Ticked if self.next_deadline().is_some_and(|until| until <= context.now.tick) => {
                self.leave(context);
                return self.give_up();
            }
            _ => {}
        }
        News::Nothing
    }

    /// Whether something can be asked, whatever else is open.
    pub fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Open, and nothing is asked.
    pub fn is_free(&self) -> bool {
        self.is_open() && self.open.is_empty()
    }

    /// Counts up with every stream: what has the same number was asked, and is answered, in order.
    pub fn streams(&self) -> u32 {
        self.streams
    }

    pub fn next_deadline(&self) -> Option<Tick> {
        self.open.iter().map(|question| question.give_up_at).min()
    }

    /// The connection is open.
    pub fn ask<R: Request>(&mut self, context: &mut Context<'_>, version: i16, request: &R, answer_ms_max: u64) {
        if self.send(context, version, request) {
            let give_up_at = context.now.tick.plus_ms(answer_ms_max);
            self.open.push_back(Question { correlation: self.correlation, give_up_at });
        }
    }

    /// What Kafka does not answer: a produce with acks=0.
    pub fn tell<R: Request>(&mut self, context: &mut Context<'_>, version: i16, request: &R) {
        self.send(context, version, request);
    }

    /// An answer that cannot be read is a bug of the gateway, which the run must not hide.
    pub fn decode<R: Request>(&self, frame: Bytes, version: i16) -> R::Response {
        match decode_response::<R>(frame, version) {
            Ok((_, response)) => response,
            Err(error) => panic!("an answer that is not Kafka's protocol: {error}"),
        }
    }

    /// Nothing is open: goes to the next gateway.
    pub fn change(&mut self, context: &mut Context<'_>) {
        assert!(self.open.is_empty(), "who leaves has heard all answers");
        if self.is_open() {
            self.leave(context);
        }
    }

    fn leave(&mut self, context: &mut Context<'_>) {
        if let Some(stream) = self.stream.take() {
            context.close(stream);
        }
        self.dial(context);
    }

    fn send<R: Request>(&mut self, context: &mut Context<'_>, version: i16, request: &R) -> bool {
        let Some(stream) = self.stream else { return false };
        self.correlation += 1;
        match frame(self.correlation, version, request) {
            Ok(frame) => context.send(stream, Payload::Frame(frame)),
            Err(error) => panic!("a client asks for what version {version} cannot say: {error}"),
        }
        true
    }

    fn check_order(&mut self, frame: &Bytes) {
        let answered = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
        let asked = self.open.pop_front().map(|question| question.correlation);
        assert_eq!(answered, asked, "W1: an answer out of order");
    }

    fn dial(&mut self, context: &mut Context<'_>) {
        let gateway = self.gateways.next();
        context.dial(ProcessId::Gateway(gateway), Purpose::Kafka, self.token, PAUSE_MS);
    }

    fn give_up(&mut self) -> News {
        let were_open = !self.open.is_empty();
        self.open.clear();
        if were_open { News::Unanswered } else { News::Nothing }
    }
}

/// A request without its length prefix.
fn frame<R: Request>(correlation: i32, version: i16, request: &R) -> Result<Bytes, kafka_wire::EncodeError> {
    let client_id = Some(KafkaString::from_static("sim"));
    let segments = encode_request(correlation, client_id, version, request)?;
    let mut whole = BytesMut::new();
    segments.iter().for_each(|segment| whole.extend_from_slice(segment));
    Ok(whole.freeze().slice(4..))
}
