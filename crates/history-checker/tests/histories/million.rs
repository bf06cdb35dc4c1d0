//! Histories as long as a day of chaos gives. What bounds these tests is the number of operations, never a clock: the judge sorts and sweeps, and a
//! rule that looked at pairs would not come to an end.

use base_types::Random;
use history_checker::{History, Kind, judge};

use crate::model::{Shape, Story};

const OPERATIONS: usize = 1_000_000;

#[test]
fn a_million_operations_are_clean() {
    let shape = Shape { partitions: 12, producers: 24, consumers: 12, operations: OPERATIONS, final_poll_records: 500 };
    let mut story = Story::of(&mut Random::new(1), shape);
    let operations = std::mem::take(&mut story.operations);
    let history = story.history(operations);
    let verdict = judge(&history);
    println!("{:?}", verdict.judged);
    assert!(verdict.is_clean(), "{}", verdict.told(&history));
    assert!(verdict.judged.operations >= OPERATIONS && verdict.judged.acknowledged > OPERATIONS / 10);
    assert!(verdict.judged.records_read > OPERATIONS);
}

#[test]
fn many_readers_that_pass_over_the_same_do_not_multiply_the_work() {
    const COUNT: u64 = 50_000;
    let mut text = String::from("compacted compacted-0\n");
    let mut now = 0;
    let mut line = |text: &mut String, client: u64, rest: String| {
        now += 2;
        text.push_str(&format!("{client} {now} {} {rest}\n", now + 1));
    };
    // In one partition what is passed over is lost, in the other it has a successor, in the third it is read out of order.
    for value in 0..COUNT {
        line(&mut text, 1, format!("sent lost-0 {value} - idempotent acknowledged@{value}"));
        line(&mut text, 1, format!("sent compacted-0 {value} 7 idempotent acknowledged@{value}"));
        line(&mut text, 1, format!("sent back-0 {value} - idempotent acknowledged@{value}"));
    }
    line(&mut text, 2, format!("polled uncommitted compacted-0@0=0 compacted-0@1=1 lost-0@{0}={0}", COUNT - 1));
    let backwards: String = (0..COUNT).rev().map(|value| format!(" back-0@{value}={value}")).collect();
    line(&mut text, 2, format!("sought back-0 0\n2 {0} {0} polled uncommitted{backwards}", 10 * COUNT));
    for reader in 0..COUNT {
        line(&mut text, 3 + reader, String::from("sought lost-0 0"));
        line(&mut text, 3 + reader, String::from("sought compacted-0 0"));
        line(&mut text, 3 + reader, format!("polled uncommitted lost-0@{0}={0} compacted-0@{0}={0}", COUNT - 1));
    }
    let history: History = text.parse().expect("a history");
    let verdict = judge(&history);
    println!("{:?}", verdict.judged);
    let of = |kind| verdict.anomalies.iter().filter(|found| found.kind == kind).count() as u64;
    assert_eq!((of(Kind::Lost), of(Kind::NonMonotonicPoll)), (COUNT - 1, COUNT - 1));
    assert_eq!(verdict.anomalies.len() as u64, 2 * (COUNT - 1));
}
