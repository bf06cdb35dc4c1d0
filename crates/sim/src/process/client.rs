//! Clients: they speak Kafka's protocol in real bytes to whichever gateway answers. One file for each workload.
//!
//! | file | workload |
//! |---|---|
//! | `log.rs` | producers that know what they were promised, and a consumer that remembers what it saw |
//! | `member.rs` | a member of a group: what it does with the partitions it has, in either protocol |
//! | `classic_member.rs`, `consumer_member.rs` | how it comes to have them: by JoinGroup and SyncGroup, or by ConsumerGroupHeartbeat |
//! | `auditor.rs` | asks again and again what groups have committed |

pub mod auditor;
pub mod classic_member;
pub mod consumer_member;
pub mod log;
pub mod member;

use base_types::Tick;
use bytes::{Bytes, BytesMut};
use kafka_wire::{KafkaString, Request, decode_response, encode_request};

use crate::network::{Payload, Purpose, StreamId};
use crate::world::{Context, Input, ProcessId};

pub const TOPIC: &str = "simulated";
/// Before a client dials again, and before it repeats what was refused.
const PAUSE_MS: u64 = 100;

/// A connection to whichever gateway answers, with one question at a time.
pub struct Connection {
    /// Tells the connections of one process apart.
    token: u64,
    gateways: Gateways,
    stream: Option<StreamId>,
    correlation: i32,
    /// Of the question that is open.
    give_up_at: Option<Tick>,
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
    Answered(Bytes),
    /// There was a question, and no answer will come: it may have been heard or not.
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
        Connection { token, gateways, stream: None, correlation: 0, give_up_at: None }
    }

    pub fn handle(&mut self, context: &mut Context<'_>, input: &Input) -> News {
        match input {
            Input::Started => self.dial(context),
            Input::DialFailed { token } if *token == self.token => self.dial(context),
            Input::Dialled { stream, token } if *token == self.token => self.stream = Some(*stream),
            Input::Received { stream, payload: Payload::Frame(frame) } if self.stream == Some(*stream) => {
                self.give_up_at = None;
                return News::Answered(frame.clone());
            }
            Input::Closed { stream } if self.stream == Some(*stream) => {
                self.stream = None;
                self.dial(context);
                return self.give_up();
            }
            Input::Ticked if self.give_up_at.is_some_and(|until| until <= context.now.tick) => {
                if let Some(stream) = self.stream.take() {
                    context.close(stream);
                }
                self.dial(context);
                return self.give_up();
            }
            _ => {}
        }
        News::Nothing
    }

    /// Open, and nothing is asked.
    pub fn is_free(&self) -> bool {
        self.stream.is_some() && self.give_up_at.is_none()
    }

    pub fn next_deadline(&self) -> Option<Tick> {
        self.give_up_at
    }

    /// The connection is free.
    pub fn ask<R: Request>(&mut self, context: &mut Context<'_>, version: i16, request: &R, answer_ms_max: u64) {
        let Some(stream) = self.stream else { return };
        self.correlation += 1;
        match frame(self.correlation, version, request) {
            Ok(frame) => context.send(stream, Payload::Frame(frame)),
            Err(error) => panic!("a client asks for what version {version} cannot say: {error}"),
        }
        self.give_up_at = Some(context.now.tick.plus_ms(answer_ms_max));
    }

    /// An answer that cannot be read is a bug of the gateway, which the run must not hide.
    pub fn decode<R: Request>(&self, frame: Bytes, version: i16) -> R::Response {
        match decode_response::<R>(frame, version) {
            Ok((answered, response)) => {
                assert_eq!(answered, self.correlation, "W1: an answer out of order");
                response
            }
            Err(error) => panic!("an answer that is not Kafka's protocol: {error}"),
        }
    }

    fn dial(&mut self, context: &mut Context<'_>) {
        let gateway = self.gateways.next();
        context.dial(ProcessId::Gateway(gateway), Purpose::Kafka, self.token, PAUSE_MS);
    }

    fn give_up(&mut self) -> News {
        if self.give_up_at.take().is_some() { News::Unanswered } else { News::Nothing }
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
