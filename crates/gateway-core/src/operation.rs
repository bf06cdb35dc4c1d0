//! A request that waits for something.
//!
//! Every handler either answers at once or leaves an [`Operation`], which is told whatever it asked for and answers once.

use std::sync::Arc;

use base_types::{BrokerId, ErrorCode, Now, Tick};
use bytes::Bytes;
use kafka_wire::{Message, encode_response};
use peer_api::groups::Caller;
use peer_api::metadata::Image;
use peer_api::storage::{self, RequestId, TransportError};
use peer_api::{controller, storage::ToStorage};

use crate::effect::{CloseReason, Effect, Effects, RequestInfo};
use crate::event::Trace;
use crate::gateway::{Config, Shared};

/// One begun request; later ones have larger numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct OperationId(pub u64);

/// What an operation does with its request.
#[derive(Debug)]
pub(crate) enum Answer {
    Respond(Vec<Bytes>),
    /// `acks = 0`
    Silent,
    Close(CloseReason),
}

#[derive(Debug)]
pub(crate) enum Progress {
    Pending,
    Done(Answer),
}

impl From<Answer> for Progress {
    fn from(answer: Answer) -> Progress {
        Progress::Done(answer)
    }
}

/// What a handler makes of a request.
pub(crate) enum Begun {
    Answered(Answer),
    Waiting(Box<dyn Operation>),
    Produce(Box<crate::api::Produce>),
}

impl Begun {
    /// For handlers whose first look may already be the last.
    pub(crate) fn settle(mut operation: impl Operation + 'static, cx: &mut Context<'_>) -> Begun {
        match operation.begin(cx) {
            Progress::Pending => Begun::Waiting(Box::new(operation)),
            Progress::Done(answer) => Begun::Answered(answer),
        }
    }
}

/// The methods say what happened; each may be the one that ends it. What an operation never asked for it is never told.
pub(crate) trait Operation: Send {
    fn begin(&mut self, cx: &mut Context<'_>) -> Progress;

    fn storage_answered(
        &mut self,
        _cx: &mut Context<'_>,
        _call: RequestId,
        _result: Result<storage::Response, TransportError>,
    ) -> Progress {
        Progress::Pending
    }

    fn controller_answered(
        &mut self,
        _cx: &mut Context<'_>,
        _result: Result<controller::Response, controller::Error>,
    ) -> Progress {
        Progress::Pending
    }

    fn metadata_changed(&mut self, _cx: &mut Context<'_>) -> Progress {
        Progress::Pending
    }

    /// The tick of [`Context::wake_at`] has come.
    fn woken(&mut self, cx: &mut Context<'_>) -> Progress;

    /// The client is gone.
    fn abandoned(&mut self, _cx: &mut Context<'_>) {}
}

/// What the request was and whose, for the one who answers it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub info: RequestInfo,
    pub correlation_id: i32,
    pub caller: Arc<Caller>,
}

/// What a handler may see and ask for.
pub(crate) struct Context<'a> {
    pub now: Now,
    pub request: Request,
    pub operation: OperationId,
    pub image: &'a Image,
    pub shared: &'a mut Shared,
    pub effects: &'a mut Effects,
}

impl Context<'_> {
    pub fn version(&self) -> i16 {
        self.request.info.version
    }

    /// This gateway stops. Who produces or fetches is told that it does not lead, definitely, and so asks for metadata, on a connection
    /// that still stands.
    pub fn has_left(&self) -> bool {
        self.shared.controller.has_left()
    }

    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The code as the wire has it; counted when it is an error.
    pub fn code(&mut self, code: ErrorCode) -> i16 {
        if code != ErrorCode::None {
            *self.shared.stats.errors.entry(code).or_default() += 1;
        }
        code.code()
    }

    pub fn respond<M: Message>(&self, response: &M) -> Answer {
        match encode_response(self.request.correlation_id, self.version(), response) {
            Ok(segments) => Answer::Respond(segments),
            Err(_) => Answer::Close(CloseReason::Unanswerable),
        }
    }

    pub fn ask_storage(&mut self, node: BrokerId, request: storage::Request) -> RequestId {
        let id = self.shared.calls.begin(node, self.operation);
        let trace = self.request.info.stamp.trace;
        self.effects.push(Effect::ToStorage { node, message: ToStorage { id, request }, trace });
        id
    }

    /// The named fetch answers at once with what it has.
    pub fn cancel_fetch(&mut self, node: BrokerId, fetch: RequestId) {
        let id = self.shared.calls.next_id();
        let message = ToStorage { id, request: storage::Request::CancelFetch(fetch) };
        self.effects.push(Effect::ToStorage { node, message, trace: Trace::default() });
    }

    pub fn ask_controller(&mut self, request: controller::Request) {
        let asker = (self.operation, self.request.info.stamp.trace);
        self.shared.controller.ask(asker, request, self.effects);
    }

    /// Only the last call counts.
    pub fn wake_at(&mut self, tick: Tick) {
        self.shared.timers.set(self.operation, tick);
    }
}
