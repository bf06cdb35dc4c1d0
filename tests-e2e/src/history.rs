//! Compares what a client was promised with what is there.
//!
//! Three questions, each with its own answer: is everything acknowledged there, unchanged and where it was said to be; is the
//! order of each key kept; is nothing there twice.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::record::{Ack, Record, Seen};

/// What the producer's settings promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Idempotent, or nothing failed: each record once, order of each key kept.
    ExactlyOnce,
    /// Retries may repeat and reorder.
    AtLeastOnce,
}

/// How many differences are told.
const TOLD_MAX: usize = 5;

/// A record without what the server may choose.
type Content = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

/// An error tells the first differences. `with_headers`: the reading client shows headers faithfully.
pub fn judge(sent: &[Record], acks: &[Ack], seen: &[Seen], promise: Promise, with_headers: bool) -> Result<()> {
    let mut wrong = Vec::new();
    let at: BTreeMap<(i32, i64), &Record> =
        seen.iter().map(|seen| ((seen.partition, seen.offset), &seen.record)).collect();
    if at.len() != seen.len() {
        wrong.push(format!("{} records share an offset", seen.len() - at.len()));
    }
    let mut found: BTreeMap<Content, i64> = BTreeMap::new();
    for record in seen {
        *found.entry(content(&record.record, with_headers)).or_default() += 1;
    }

    let mut owed: BTreeMap<Content, i64> = BTreeMap::new();
    for ack in acks {
        let Some(record) = sent.get(ack.n) else { bail!("an answer for record {}, of {}", ack.n, sent.len()) };
        *owed.entry(content(record, with_headers)).or_default() += 1;
        let Some(place) = ack.place else { continue };
        match at.get(&place) {
            None => wrong.push(format!("acknowledged at {place:?} and not there: {}", brief(record))),
            Some(there) if content(there, with_headers) != content(record, with_headers) => {
                wrong.push(format!("at {place:?} there is {}, not {}", brief(there), brief(record)));
            }
            Some(there) if record.timestamp.is_some_and(|sent| there.timestamp != Some(sent)) => {
                wrong.push(format!("at {place:?} the time is {:?}, not {:?}", there.timestamp, record.timestamp));
            }
            Some(_) => {}
        }
    }
    for (content, owed) in &owed {
        let there = found.get(content).copied().unwrap_or_default();
        if there < *owed {
            wrong.push(format!(
                "acknowledged {owed} times and {there} times there: key {}",
                shown(content.0.as_deref())
            ));
        }
    }

    let mut asked: BTreeMap<Content, i64> = BTreeMap::new();
    for record in sent {
        *asked.entry(content(record, with_headers)).or_default() += 1;
    }
    for (content, there) in &found {
        let asked = asked.get(content).copied().unwrap_or_default();
        if asked == 0 {
            wrong.push(format!("never sent: key {}", shown(content.0.as_deref())));
        } else if promise == Promise::ExactlyOnce && *there > asked {
            wrong.push(format!("sent {asked} times and {there} times there: key {}", shown(content.0.as_deref())));
        }
    }
    if promise == Promise::ExactlyOnce {
        order_of_keys(sent, &at, &mut wrong);
    }

    if wrong.is_empty() {
        return Ok(());
    }
    let mut report = format!(
        "{} differences between {} sent, {} acknowledged and {} seen:",
        wrong.len(),
        sent.len(),
        acks.len(),
        seen.len()
    );
    for line in wrong.iter().take(TOLD_MAX) {
        write!(report, "\n  {line}")?;
    }
    bail!(report);
}

/// What is there of each key must be a subsequence of what was sent with that key.
fn order_of_keys(sent: &[Record], at: &BTreeMap<(i32, i64), &Record>, wrong: &mut Vec<String>) {
    type Values<'a> = Vec<Option<&'a [u8]>>;
    let mut sent_values: BTreeMap<&[u8], Values<'_>> = BTreeMap::new();
    for record in sent {
        if let Some(key) = &record.key {
            sent_values.entry(key).or_default().push(record.value.as_deref());
        }
    }
    let mut seen_values: BTreeMap<&[u8], Values<'_>> = BTreeMap::new();
    for record in at.values() {
        if let Some(key) = &record.key {
            seen_values.entry(key).or_default().push(record.value.as_deref());
        }
    }
    for (key, seen) in &seen_values {
        let mut rest = sent_values.get(key).into_iter().flatten();
        if !seen.iter().all(|value| rest.any(|sent| sent == value)) {
            wrong.push(format!("the order of key {} is not kept", shown(Some(key))));
        }
    }
}

fn content(record: &Record, with_headers: bool) -> Content {
    let mut headers = if with_headers { record.headers.clone() } else { Vec::new() };
    // Stable, so the order of a repeated name counts; between names some clients keep none.
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    (record.key.clone(), record.value.clone(), headers)
}

fn brief(record: &Record) -> String {
    format!("{} = {}", shown(record.key.as_deref()), shown(record.value.as_deref()))
}

fn shown(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".to_owned(),
        Some(bytes) => format!("{:?} ({} bytes)", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]), bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Vec<Record> {
        vec![Record::text("a", "1"), Record::text("b", "1"), Record::text("a", "2")]
    }

    fn acks() -> Vec<Ack> {
        (0..3).map(|n| Ack { n, place: Some((0, n as i64)) }).collect()
    }

    fn seen(order: &[usize]) -> Vec<Seen> {
        let records = sent();
        order
            .iter()
            .enumerate()
            .map(|(at, n)| Seen { partition: 0, offset: at as i64, record: records[*n].clone() })
            .collect()
    }

    fn complaint(acks: &[Ack], seen: &[Seen], promise: Promise) -> String {
        judge(&sent(), acks, seen, promise, true).expect_err("must be seen").to_string()
    }

    #[test]
    fn a_faithful_history_is_accepted() {
        judge(&sent(), &acks(), &seen(&[0, 1, 2]), Promise::ExactlyOnce, true).expect("nothing is wrong");
    }

    #[test]
    fn a_lost_record_is_seen() {
        assert!(complaint(&acks(), &seen(&[0, 1]), Promise::AtLeastOnce).contains("not there"));
    }

    #[test]
    fn an_unacknowledged_record_may_be_missing_or_there() {
        judge(&sent(), &acks()[..2], &seen(&[0, 1]), Promise::ExactlyOnce, true).expect("it was never promised");
        judge(&sent(), &acks()[..2], &seen(&[0, 1, 2]), Promise::ExactlyOnce, true).expect("it may have arrived");
    }

    #[test]
    fn a_repeated_record_is_wrong_only_where_once_was_promised() {
        judge(&sent(), &acks(), &seen(&[0, 1, 2, 2]), Promise::AtLeastOnce, true).expect("retries may repeat");
        assert!(complaint(&acks(), &seen(&[0, 1, 2, 2]), Promise::ExactlyOnce).contains("2 times there"));
    }

    #[test]
    fn a_reordered_key_is_seen() {
        let unplaced: Vec<Ack> = (0..3).map(|n| Ack { n, place: None }).collect();
        assert!(complaint(&unplaced, &seen(&[2, 1, 0]), Promise::ExactlyOnce).contains("order of key"));
    }

    #[test]
    fn a_changed_header_is_seen() {
        let mut changed = seen(&[0, 1, 2]);
        changed[1].record = changed[1].record.clone().header("h", "x");
        assert!(complaint(&acks(), &changed, Promise::ExactlyOnce).contains("differences"));
        judge(&sent(), &acks(), &changed, Promise::ExactlyOnce, false).expect("this reader shows no headers");
    }

    #[test]
    fn a_record_that_nobody_sent_is_seen() {
        let mut stray = seen(&[0, 1, 2]);
        stray.push(Seen { partition: 0, offset: 3, record: Record::text("c", "1") });
        assert!(complaint(&acks(), &stray, Promise::AtLeastOnce).contains("never sent"));
    }
}
