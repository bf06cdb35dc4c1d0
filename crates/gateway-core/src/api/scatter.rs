//! A question about many partitions, asked of each one's leader, answered when all have answered.
//!
//! Errors are per partition and never of the whole (trap 66).

use std::collections::BTreeMap;

use base_types::{BrokerId, ErrorCode, PartitionIndex, TopicPartition};
use peer_api::storage::{ReadError, Request, RequestId, Response, TransportError};

use crate::api::error;
use crate::operation::{Answer, Begun, Context, Operation, Progress};

/// What one storage node found.
pub(crate) type FoundByPartition<F> = Vec<(TopicPartition, Result<F, ReadError>)>;

/// What is asked, and how the answer is put together.
pub(crate) trait Question: Sized + Send + 'static {
    type Ask: Send;
    type Found: Send;

    fn request(asks: Vec<Self::Ask>) -> Request;
    /// `None` for an answer to another question.
    fn found(response: Response) -> Option<FoundByPartition<Self::Found>>;
    /// The results are in the order of the asks.
    fn answer(self, cx: &mut Context<'_>, results: Vec<Result<Self::Found, ErrorCode>>) -> Answer;
}

struct Scatter<Q: Question> {
    question: Option<Q>,
    asks: BTreeMap<BrokerId, (Vec<usize>, Vec<Q::Ask>)>,
    results: Vec<Option<Result<Q::Found, ErrorCode>>>,
    calls: BTreeMap<RequestId, Vec<usize>>,
    timeout_ms: u64,
}

/// Asks each storage node for its part; those that are an error already are passed through.
pub(crate) fn ask<Q: Question>(
    cx: &mut Context<'_>,
    question: Q,
    asks: Vec<Result<(BrokerId, Q::Ask), ErrorCode>>,
    timeout_ms: u64,
) -> Begun {
    let mut scatter = Scatter {
        question: Some(question),
        asks: BTreeMap::new(),
        results: Vec::with_capacity(asks.len()),
        calls: BTreeMap::new(),
        timeout_ms,
    };
    for (index, ask) in asks.into_iter().enumerate() {
        match ask {
            Ok((node, ask)) => {
                let (indexes, asks) = scatter.asks.entry(node).or_default();
                indexes.push(index);
                asks.push(ask);
                scatter.results.push(None);
            }
            Err(code) => scatter.results.push(Some(Err(code))),
        }
    }
    Begun::settle(scatter, cx)
}

/// The leader of a partition by topic name.
pub(crate) fn leader(cx: &Context<'_>, topic: &str, partition: i32) -> Result<(TopicPartition, BrokerId), ErrorCode> {
    let topic = cx.image.topic_named(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let index = PartitionIndex(partition);
    let state = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let leader = state.leader.ok_or(ErrorCode::NotLeaderOrFollower)?;
    Ok((TopicPartition { topic: topic.id, partition: index }, leader))
}

impl<Q: Question> Scatter<Q> {
    fn go_on(&mut self, cx: &mut Context<'_>) -> Progress {
        if self.calls.is_empty() { self.finish(cx) } else { Progress::Pending }
    }

    fn finish(&mut self, cx: &mut Context<'_>) -> Progress {
        let results = std::mem::take(&mut self.results)
            .into_iter()
            .map(|result| result.unwrap_or(Err(ErrorCode::NotLeaderOrFollower)))
            .collect();
        match self.question.take() {
            Some(question) => question.answer(cx, results).into(),
            None => Progress::Pending,
        }
    }

    fn set(&mut self, index: usize, result: Result<Q::Found, ErrorCode>) {
        if let Some(place) = self.results.get_mut(index) {
            *place = Some(result);
        }
    }
}

impl<Q: Question> Operation for Scatter<Q> {
    fn begin(&mut self, cx: &mut Context<'_>) -> Progress {
        for (node, (indexes, asks)) in std::mem::take(&mut self.asks) {
            let id = cx.ask_storage(node, Q::request(asks));
            self.calls.insert(id, indexes);
        }
        cx.wake_at(cx.now.tick.plus_ms(self.timeout_ms));
        self.go_on(cx)
    }

    fn storage_answered(
        &mut self,
        cx: &mut Context<'_>,
        call: RequestId,
        result: Result<Response, TransportError>,
    ) -> Progress {
        let Some(indexes) = self.calls.remove(&call) else { return Progress::Pending };
        match result.map(Q::found) {
            Ok(Some(found)) if found.len() == indexes.len() => {
                for (index, (_, result)) in indexes.into_iter().zip(found) {
                    self.set(index, result.map_err(|error| error::read(&error)));
                }
            }
            Ok(_) => indexes.into_iter().for_each(|index| self.set(index, Err(ErrorCode::UnknownServerError))),
            Err(error) => indexes.into_iter().for_each(|index| self.set(index, Err(error::unreachable(error)))),
        }
        self.go_on(cx)
    }

    fn woken(&mut self, cx: &mut Context<'_>) -> Progress {
        self.finish(cx)
    }
}
