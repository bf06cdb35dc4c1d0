//! A group of either kind.

use crate::consumer::ConsumerGroup;

#[derive(Debug)]
pub(crate) enum Group {
    Consumer(ConsumerGroup),
}
