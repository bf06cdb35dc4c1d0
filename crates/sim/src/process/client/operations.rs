//! What clients ask. One file for each operation: how it is asked with the real codec, which answers are legal, and what an answer
//! says of the cluster.
//!
//! | file | predicted |
//! |---|---|
//! | `produce.rs` | which errors leave it open whether records are there; a gap or an older epoch is refused, a repetition has the first offset |
//! | `fetch.rs` | records are whole, dense and below the high watermark; what was read is never out of range again |
//! | `list_offsets.rs` | neither end of a log goes back for one client |
//! | `metadata.rs` | an answer is never older than one given before on the same connection |
//! | `init_producer_id.rs` | nobody gets an id that somebody has |
//! | `create_topics.rs`, `delete_topics.rs`, `create_partitions.rs` | what was done is seen on the same connection; a topic made again is another one |
//! | `alter_configs.rs`, `describe_configs.rs` | what was set is told on the same connection |
//! | `delete_records.rs` | the log begins there, and never lower again |

pub mod alter_configs;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_configs;
pub mod fetch;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod produce;

use base_types::ErrorCode;
use bytes::Bytes;
use history_checker::{Client, Moment};
use kafka_wire::Request;

use self::metadata::View;
use super::Connection;
use super::book::{Book, Shared};
use crate::world::Context;

/// How long a client waits for an answer.
const ANSWER_MS_MAX: u64 = 8_000;

/// A request and what may come of it.
pub trait Operation {
    type Request: Request;
    type Outcome;

    fn version(&self) -> i16;
    fn request(&self) -> Self::Request;

    /// Compares the answer with what may be said, and writes down what follows from it.
    fn answered(self, notes: &mut Notes<'_>, answer: <Self::Request as Request>::Response) -> Self::Outcome;
}

/// Under way.
pub struct Asked<O> {
    pub operation: O,
    at: Moment,
}

impl<O> Asked<O> {
    /// When it was asked.
    pub fn at(&self) -> Moment {
        self.at
    }
}

/// Who asks: its life in the book, and what it has been told so far.
pub struct Scribe {
    pub book: Shared,
    pub client: Client,
    pub view: View,
}

/// What an operation needs of a scribe.
pub struct Notes<'a> {
    pub book: &'a mut Book,
    pub view: &'a mut View,
    pub client: Client,
    /// When the question was asked.
    pub asked: Moment,
}

impl Scribe {
    pub fn new(book: &Shared) -> Scribe {
        let client = book.borrow_mut().client();
        Scribe { book: book.clone(), client, view: View::default() }
    }

    pub fn ask<O: Operation>(
        &mut self,
        connection: &mut Connection,
        context: &mut Context<'_>,
        operation: O,
    ) -> Asked<O> {
        let at = self.book.borrow_mut().now();
        connection.ask(context, operation.version(), &operation.request(), ANSWER_MS_MAX);
        Asked { operation, at }
    }

    pub fn answered<O: Operation>(&mut self, connection: &Connection, asked: Asked<O>, frame: Bytes) -> O::Outcome {
        let answer = connection.decode::<O::Request>(frame, asked.operation.version());
        self.view.on_stream(connection.streams());
        let mut book = self.book.borrow_mut();
        let mut notes = Notes { book: &mut book, view: &mut self.view, client: self.client, asked: asked.at };
        asked.operation.answered(&mut notes, answer)
    }
}

impl Notes<'_> {
    /// An error that this operation never ends with.
    pub fn never(&mut self, what: &str, code: i16) {
        let name = ErrorCode::from_code(code).map_or("no error of Kafka's", ErrorCode::name);
        self.book.complain("answer", format_args!("{what} is answered with {name} ({code})"));
    }
}

/// What an administrative request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Yes,
    /// Nothing was done, for certain: it may be asked again.
    No,
    /// Nothing was done: what was asked for is so already (a topic that is there or gone).
    Already,
    Unknown,
}

/// What every request to the controller may end with.
pub fn done(code: i16) -> Option<Done> {
    match ErrorCode::from_code(code)? {
        ErrorCode::None => Some(Done::Yes),
        // The controller is changing, or has too much to do.
        ErrorCode::NotController | ErrorCode::ThrottlingQuotaExceeded => Some(Done::No),
        ErrorCode::RequestTimedOut => Some(Done::Unknown),
        _ => None,
    }
}
