//! A change that the controller makes, answered when this gateway's own view shows it.
//!
//! So a client that creates a topic and then asks the same gateway for its metadata finds it. The wait ends with the request's
//! time-out: the change is made then, only not seen here.

use std::collections::BTreeMap;

use base_types::Tick;
use kafka_wire::KafkaString;
use peer_api::controller::{Error, Refusal, Request, Response};

use crate::limits::{ADMIN_TIMEOUT_MS_MAX, ANSWER_GRACE_MS};
use crate::operation::{Answer, Begun, Context, Operation, Progress};

/// How the controller's answer becomes the client's.
pub(crate) trait Change: Send + 'static {
    fn answer(self, cx: &mut Context<'_>, result: Result<Response, Error>) -> Answer;
}

struct Administration<C> {
    change: Option<C>,
    request: Option<Request>,
    result: Option<Result<Response, Error>>,
    until: Tick,
}

pub(crate) fn ask(cx: &mut Context<'_>, change: impl Change, request: Request, timeout_ms: i32) -> Begun {
    let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0).clamp(1, ADMIN_TIMEOUT_MS_MAX);
    let until = cx.now.tick.plus_ms(timeout_ms);
    Begun::settle(Administration { change: Some(change), request: Some(request), result: None, until }, cx)
}

/// For requests that carry no time-out.
pub(crate) const TIMEOUT_MS: i32 = 30_000;

pub(crate) fn message(text: String) -> Option<KafkaString> {
    (!text.is_empty()).then(|| text.into())
}

/// How many times a request names each thing.
pub(crate) fn counted<K: Ord>(named: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    named.for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

/// What became of one of the things that were asked for, as code and message.
pub(crate) fn outcome(cx: &mut Context<'_>, result: Result<(), Refusal>) -> (i16, Option<KafkaString>) {
    match result {
        Ok(()) => (0, None),
        Err(refusal) => (cx.code(refusal.code), message(refusal.message)),
    }
}

impl<C: Change> Administration<C> {
    fn finish(&mut self, cx: &mut Context<'_>) -> Progress {
        let result = self.result.take().unwrap_or(Err(Error::TimedOut));
        match self.change.take() {
            Some(change) => change.answer(cx, result).into(),
            None => Progress::Pending,
        }
    }

    fn look(&mut self, cx: &mut Context<'_>) -> Progress {
        let Some(result) = &mut self.result else { return Progress::Pending };
        let visible_at = result.as_mut().ok().and_then(Response::visible_at_mut);
        if visible_at.is_some_and(|at| *at > cx.image.at()) { Progress::Pending } else { self.finish(cx) }
    }
}

impl<C: Change> Operation for Administration<C> {
    fn begin(&mut self, cx: &mut Context<'_>) -> Progress {
        if let Some(request) = self.request.take() {
            cx.ask_controller(request);
        }
        cx.wake_at(self.until);
        Progress::Pending
    }

    fn controller_answered(&mut self, cx: &mut Context<'_>, result: Result<Response, Error>) -> Progress {
        self.result = Some(result);
        // The change is made: seeing it takes moments, and the client's patience is not to be used up.
        cx.wake_at(cx.now.tick.plus_ms(ANSWER_GRACE_MS).min(self.until.max(cx.now.tick)));
        self.look(cx)
    }

    fn metadata_changed(&mut self, cx: &mut Context<'_>) -> Progress {
        self.look(cx)
    }

    fn woken(&mut self, cx: &mut Context<'_>) -> Progress {
        self.finish(cx)
    }
}
