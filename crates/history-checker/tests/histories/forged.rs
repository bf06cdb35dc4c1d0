//! For every anomaly, histories that have it and nothing else. Operations are numbered from 0, as they stand.

use history_checker::{Finding, History, Kind, OperationId, judge};

/// The history has one anomaly, of this kind, about this value at this offset, proven by these operations.
fn proves(text: &str, kind: Kind, offset: impl Into<Option<i64>>, value: u64, evidence: &[u32]) {
    let history: History = text.parse().expect("a history");
    let verdict = judge(&history);
    let told = verdict.told(&history).to_string();
    let [found] = &verdict.anomalies[..] else { panic!("one anomaly was expected: {told}") };
    let Finding { kind: found_kind, offset: found_offset, value: found_value, evidence: found_evidence, .. } = found;
    assert_eq!(*found_kind, kind, "{told}");
    assert_eq!(found_offset.map(|offset| offset.0), offset.into(), "{told}");
    assert_eq!(found_value.0, value, "{told}");
    let evidence: Vec<OperationId> = evidence.iter().copied().map(OperationId).collect();
    assert_eq!(*found_evidence, evidence, "{told}");
    assert!(verdict.information.is_empty(), "{told}");
}

#[test]
fn an_acknowledged_record_that_a_poll_passes_over_is_lost() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        1 5 6 sent t-0 12 - idempotent acknowledged@2
        2 7 8 polled uncommitted t-0@0=10 t-0@2=12
    ";
    proves(text, Kind::Lost, 1, 11, &[1, 3]);
}

#[test]
fn an_acknowledged_record_between_two_polls_is_lost() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        1 3 4 sent t-0 11 - plain acknowledged@1
        1 5 6 sent t-0 12 - plain acknowledged@2
        2 7 8 polled uncommitted t-0@0=10
        2 9 9 polled uncommitted
        2 9 10 polled uncommitted t-0@2=12
    ";
    proves(text, Kind::Lost, 1, 11, &[1, 3, 5]);
}

#[test]
fn an_acknowledged_record_behind_the_place_that_was_sought_is_lost() {
    let text = "
        1 1 2 sent t-0 10 - transactional acknowledged@0
        1 3 4 sent t-0 11 - transactional acknowledged@1
        2 5 5 sought t-0 0
        2 7 8 polled committed t-0@1=11
    ";
    proves(text, Kind::Lost, 0, 10, &[0, 2, 3]);
}

#[test]
fn an_acknowledged_record_before_the_end_is_lost() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        2 7 8 polled uncommitted t-0@0=10
        2 9 9 finished t-0 2
    ";
    proves(text, Kind::Lost, 1, 11, &[1, 2, 3]);
}

#[test]
fn the_evidence_names_the_last_poll_before_the_loss() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        1 3 4 sent t-0 11 - plain acknowledged@1
        1 5 6 sent t-0 12 - plain acknowledged@2
        1 7 8 sent t-0 13 - plain acknowledged@3
        2 9 9 sought t-0 0
        2 9 10 polled uncommitted t-0@0=10
        2 11 12 polled uncommitted t-0@1=11
        2 13 14 polled uncommitted t-0@3=13
    ";
    proves(text, Kind::Lost, 2, 12, &[2, 6, 7]);
}

#[test]
fn what_several_readers_pass_over_is_lost_once() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        1 5 6 sent t-0 12 - idempotent acknowledged@2
        2 7 8 polled uncommitted t-0@0=10 t-0@2=12
        3 7 8 polled uncommitted t-0@0=10 t-0@2=12
    ";
    proves(text, Kind::Lost, 1, 11, &[1, 3]);
}

#[test]
fn a_trim_that_begins_after_the_poll_does_not_excuse_the_loss() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        1 5 6 sent t-0 12 - idempotent acknowledged@2
        2 7 8 polled uncommitted t-0@0=10 t-0@2=12
        3 9 9 trimmed t-0 3
    ";
    proves(text, Kind::Lost, 1, 11, &[1, 3]);
}

#[test]
fn compaction_does_not_excuse_the_loss_of_the_last_record_of_a_key() {
    let text = "
        compacted t-0
        1 1 2 sent t-0 10 7 idempotent acknowledged@0
        1 3 4 sent t-0 11 7 idempotent acknowledged@1
        1 5 6 sent t-0 12 8 idempotent acknowledged@2
        2 7 8 polled uncommitted t-0@0=10 t-0@2=12
    ";
    proves(text, Kind::Lost, 1, 11, &[1, 3]);
}

#[test]
fn a_later_record_of_the_key_excuses_nothing_without_compaction() {
    let text = "
        1 1 2 sent t-0 10 7 idempotent acknowledged@0
        1 3 4 sent t-0 11 7 idempotent acknowledged@1
        2 5 5 sought t-0 0
        2 7 8 polled uncommitted t-0@1=11
    ";
    proves(text, Kind::Lost, 0, 10, &[0, 2, 3]);
}

#[test]
fn an_acknowledged_record_at_the_end_is_unseen() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        2 5 5 sought t-0 0
        2 7 8 polled uncommitted t-0@0=10
        2 9 9 finished t-0 1
    ";
    proves(text, Kind::Unseen, 1, 11, &[1, 4]);
}

#[test]
fn an_end_that_was_told_before_the_send_does_not_matter_but_a_later_one_does() {
    let text = "
        2 1 2 finished t-0 0
        1 3 4 sent t-0 10 - idempotent acknowledged@0
        2 5 6 finished t-0 0
        2 7 8 finished t-0 1
    ";
    proves(text, Kind::Unseen, 0, 10, &[1, 2]);
}

#[test]
fn of_several_ends_that_were_told_after_the_send_the_lowest_counts() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        2 3 4 finished t-0 1
        3 5 6 finished t-0 0
    ";
    proves(text, Kind::Unseen, 0, 10, &[0, 2]);
}

#[test]
fn what_was_acknowledged_without_an_offset_is_unseen_by_whoever_read_everything() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        2 5 5 sought t-0 0
        2 7 8 polled uncommitted t-0@1=11
        2 9 9 finished t-0 2
    ";
    proves(text, Kind::Unseen, None, 10, &[0, 4]);
}

#[test]
fn an_end_before_what_was_read_is_a_truncation() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        2 5 6 polled uncommitted t-0@0=10 t-0@1=11
        3 7 7 sought t-0 0
        3 7 8 polled uncommitted t-0@0=10
        3 9 9 finished t-0 1
    ";
    proves(text, Kind::Truncated, 1, 11, &[2, 5]);
}

#[test]
fn an_indeterminate_record_that_was_read_must_stay() {
    let text = "
        1 1 2 sent t-0 10 - plain indeterminate
        2 5 6 polled uncommitted t-0@0=10
        2 9 9 finished t-0 0
    ";
    proves(text, Kind::Truncated, 0, 10, &[1, 2]);
}

#[test]
fn of_all_that_was_truncated_the_highest_is_named() {
    let text = "
        1 1 2 sent t-0 10 - plain indeterminate
        1 1 2 sent t-0 11 - plain indeterminate
        2 5 6 polled uncommitted t-0@0=10 t-0@1=11
        3 5 6 polled uncommitted t-0@0=10
        2 9 9 finished t-0 0
    ";
    proves(text, Kind::Truncated, 1, 11, &[2, 4]);
}

#[test]
fn an_idempotent_record_at_another_offset_than_acknowledged_is_misplaced() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        2 3 4 polled uncommitted t-0@1=10
    ";
    proves(text, Kind::Misplaced, 0, 10, &[0, 1]);
}

#[test]
fn a_plain_record_is_misplaced_when_a_reader_has_looked_where_it_was_acknowledged() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        2 3 3 sought t-0 0
        2 4 5 polled uncommitted t-0@1=10
    ";
    proves(text, Kind::Misplaced, 0, 10, &[0, 2, 1]);
}

#[test]
fn one_of_two_acknowledged_copies_is_misplaced() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        1 5 6 sent t-0 10 - idempotent acknowledged@2
        1 7 8 sent t-0 12 - idempotent acknowledged@3
        2 9 10 polled uncommitted t-0@0=10 t-0@1=11 t-0@3=12
    ";
    proves(text, Kind::Misplaced, 2, 10, &[2, 4]);
}

#[test]
fn an_acknowledged_offset_with_another_value_is_inconsistent() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent indeterminate
        2 5 6 polled uncommitted t-0@0=11
    ";
    proves(text, Kind::Inconsistent, 0, 10, &[0, 2]);
}

#[test]
fn two_readers_that_read_two_values_at_one_offset_are_inconsistent() {
    let text = "
        1 1 9 sent t-0 10 - plain indeterminate
        1 1 9 sent t-0 11 - plain indeterminate
        2 5 6 polled uncommitted t-0@0=11
        3 5 6 polled uncommitted t-0@0=10
    ";
    proves(text, Kind::Inconsistent, 0, 10, &[3, 2]);
}

#[test]
fn two_sends_acknowledged_at_one_offset_are_inconsistent() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        3 3 4 sent t-0 11 - idempotent acknowledged@0
    ";
    proves(text, Kind::Inconsistent, 0, 10, &[0, 1]);
}

#[test]
fn a_record_of_a_disputed_offset_is_not_lost_as_well() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        3 1 2 sent t-0 11 - idempotent acknowledged@0
        1 3 4 sent t-0 12 - idempotent acknowledged@1
        2 5 5 sought t-0 0
        2 5 6 polled uncommitted t-0@1=12
    ";
    proves(text, Kind::Inconsistent, 0, 10, &[0, 1]);
}

#[test]
fn a_record_of_a_disputed_offset_is_not_out_of_order_as_well() {
    let text = "
        1 1 4 sent t-0 10 - idempotent acknowledged@0
        3 1 2 sent t-0 11 - idempotent acknowledged@1
        3 3 4 sent t-0 12 - idempotent indeterminate
        2 5 6 polled uncommitted t-0@0=12
    ";
    proves(text, Kind::Inconsistent, 0, 10, &[0, 3]);
}

#[test]
fn two_records_in_each_others_place_are_two_inconsistent_offsets_and_nothing_else() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        2 5 5 sought t-0 0
        2 5 6 polled uncommitted t-0@0=11 t-0@1=10
        2 9 9 finished t-0 2
    ";
    let verdict = judge(&text.parse().expect("a history"));
    let found: Vec<_> = verdict.anomalies.iter().map(|found| (found.kind, found.offset.map(|at| at.0))).collect();
    assert_eq!(found, [(Kind::Inconsistent, Some(0)), (Kind::Inconsistent, Some(1))]);
}

#[test]
fn one_idempotent_send_at_two_offsets_is_duplicated() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        2 5 6 polled uncommitted t-0@0=10 t-0@1=10
    ";
    proves(text, Kind::Duplicated, 1, 10, &[0, 1]);
}

#[test]
fn an_indeterminate_send_may_have_left_one_record_but_not_two() {
    let text = "
        1 1 2 sent t-0 10 - idempotent indeterminate
        2 5 6 polled uncommitted t-0@0=10
        3 7 8 polled uncommitted t-0@1=10
    ";
    proves(text, Kind::Duplicated, 1, 10, &[0, 1, 2]);
}

#[test]
fn two_sends_may_have_left_two_records_but_not_three() {
    let text = "
        1 1 2 sent t-0 10 - transactional indeterminate
        1 3 4 sent t-0 10 - idempotent acknowledged@1
        2 7 8 polled uncommitted t-0@0=10 t-0@1=10 t-0@2=10
    ";
    proves(text, Kind::Duplicated, 1, 10, &[0, 2]);
}

#[test]
fn a_send_that_failed_for_certain_entitles_to_no_copy() {
    let text = "
        1 1 2 sent t-0 10 - idempotent failed
        1 3 4 sent t-0 10 - idempotent acknowledged@1
        2 7 8 polled uncommitted t-0@1=10 t-0@2=10
    ";
    proves(text, Kind::Duplicated, 2, 10, &[1, 2]);
}

#[test]
fn a_value_that_nobody_sent_is_a_phantom() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        2 5 6 polled uncommitted t-0@0=10 t-0@1=99
        3 5 7 polled uncommitted t-0@0=10 t-0@1=99
    ";
    proves(text, Kind::Phantom, 1, 99, &[1]);
}

#[test]
fn a_phantom_below_all_values_that_were_sent_is_found_too() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        2 5 6 polled uncommitted t-0@0=10 t-0@1=9
    ";
    proves(text, Kind::Phantom, 1, 9, &[1]);
}

#[test]
fn a_value_that_was_sent_elsewhere_is_a_phantom() {
    let text = "
        1 1 2 sent t-1 10 - idempotent acknowledged@0
        2 5 6 polled uncommitted t-0@0=10
    ";
    proves(text, Kind::Phantom, 0, 10, &[1]);
}

#[test]
fn a_value_that_is_read_before_it_is_sent_is_a_phantom() {
    let text = "
        2 1 2 polled uncommitted t-0@0=10
        1 3 4 sent t-0 10 - idempotent acknowledged@0
    ";
    proves(text, Kind::Phantom, 0, 10, &[0, 1]);
}

#[test]
fn what_failed_for_certain_must_not_be_read() {
    let text = "
        1 1 2 sent t-0 10 - idempotent failed
        2 5 6 polled uncommitted t-0@0=10
        3 7 8 polled uncommitted t-0@0=10
    ";
    proves(text, Kind::FailedRead, 0, 10, &[0, 1]);
}

#[test]
fn what_failed_for_certain_twice_must_not_be_read() {
    let text = "
        1 1 2 sent t-0 10 - plain failed
        1 3 4 sent t-0 10 - plain failed
        2 5 6 polled committed t-0@0=10
    ";
    proves(text, Kind::FailedRead, 0, 10, &[0, 2]);
}

#[test]
fn who_does_not_find_what_failed_has_skipped_nothing() {
    let text = "
        1 1 2 sent t-0 10 - plain failed
        1 3 4 sent t-0 11 - plain acknowledged@1
        2 5 6 polled uncommitted t-0@0=10 t-0@1=11
        3 7 7 sought t-0 0
        3 7 8 polled uncommitted t-0@1=11
    ";
    proves(text, Kind::FailedRead, 0, 10, &[0, 2]);
}

#[test]
fn what_was_aborted_must_not_be_read_as_committed() {
    let text = "
        1 1 2 sent t-0 10 - transactional aborted
        2 3 4 polled uncommitted t-0@0=10
        3 5 6 polled committed t-0@0=10
    ";
    proves(text, Kind::AbortedRead, 0, 10, &[0, 2]);
}

#[test]
fn what_was_aborted_once_and_failed_once_must_not_be_read_as_committed() {
    let text = "
        1 1 2 sent t-0 10 - transactional failed
        1 3 4 sent t-0 10 - transactional aborted
        3 5 6 polled committed t-0@0=10
    ";
    proves(text, Kind::AbortedRead, 0, 10, &[1, 2]);
}

#[test]
fn what_was_sent_after_an_acknowledgement_must_lie_behind_it() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@1
        1 3 4 sent t-0 11 - plain acknowledged@0
    ";
    proves(text, Kind::Reordered, 0, 11, &[0, 1]);
}

#[test]
fn another_producer_too_must_lie_behind_what_was_acknowledged() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@5
        1 1 3 sent t-0 12 - idempotent acknowledged@6
        2 3 4 sent t-0 11 - idempotent acknowledged@4
    ";
    proves(text, Kind::Reordered, 4, 11, &[0, 2]);
}

#[test]
fn an_indeterminate_record_that_is_read_must_lie_behind_what_was_acknowledged_before_it_was_sent() {
    let text = "
        1 1 2 sent t-0 10 - idempotent acknowledged@1
        1 3 4 sent t-0 11 - idempotent indeterminate
        2 5 6 polled uncommitted t-0@0=11 t-0@1=10
    ";
    proves(text, Kind::Reordered, 0, 11, &[0, 1]);
}

#[test]
fn every_copy_of_a_record_must_lie_behind_what_was_acknowledged_before_it_was_sent() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@1
        1 3 4 sent t-0 11 - plain indeterminate
        2 5 6 polled uncommitted t-0@0=11 t-0@1=10 t-0@2=11
    ";
    let verdict = judge(&text.parse().expect("a history"));
    let found: Vec<_> = verdict.anomalies.iter().map(|found| (found.kind, found.offset.map(|at| at.0))).collect();
    assert_eq!(found, [(Kind::Reordered, Some(0))]);
}

#[test]
fn what_an_idempotent_producer_has_under_way_keeps_its_order() {
    let text = "
        1 1 10 sent t-0 10 - idempotent acknowledged@1
        1 2 9 sent t-0 11 - idempotent acknowledged@0
    ";
    proves(text, Kind::NonMonotonicSend, 0, 11, &[0, 1]);
}

#[test]
fn an_indeterminate_send_of_an_idempotent_producer_does_not_appear_behind_its_successor() {
    let text = "
        1 1 10 sent t-0 10 - idempotent indeterminate
        1 2 9 sent t-0 11 - idempotent acknowledged@0
        2 11 12 polled uncommitted t-0@0=11 t-0@1=10
    ";
    proves(text, Kind::NonMonotonicSend, 0, 11, &[0, 1]);
}

#[test]
fn a_transaction_keeps_the_order_of_its_sends() {
    let text = "
        1 1 10 sent t-0 10 - transactional acknowledged@0
        1 2 10 sent t-0 11 - transactional acknowledged@2
        1 3 10 sent t-0 12 - transactional acknowledged@1
    ";
    proves(text, Kind::NonMonotonicSend, 1, 12, &[1, 2]);
}

#[test]
fn a_poll_goes_forward() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        1 3 4 sent t-0 11 - plain acknowledged@1
        1 5 6 sent t-0 12 - plain acknowledged@2
        1 7 8 sent t-0 13 - plain acknowledged@3
        2 9 10 polled uncommitted t-0@0=10 t-0@2=12 t-0@1=11 t-0@3=13
    ";
    proves(text, Kind::NonMonotonicPoll, 1, 11, &[4]);
}

#[test]
fn the_next_poll_goes_on_behind_the_last() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        1 3 4 sent t-0 11 - plain acknowledged@1
        2 5 6 polled uncommitted t-0@0=10 t-0@1=11
        2 7 8 polled uncommitted t-0@1=11
    ";
    proves(text, Kind::NonMonotonicPoll, 1, 11, &[2, 3]);
}

#[test]
fn the_evidence_names_the_last_poll_before_the_reader_went_back() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        1 3 4 sent t-0 11 - plain acknowledged@1
        2 5 6 polled uncommitted t-0@0=10
        2 7 8 polled uncommitted t-0@1=11
        2 9 10 polled uncommitted t-0@0=10
    ";
    proves(text, Kind::NonMonotonicPoll, 0, 10, &[3, 4]);
}

#[test]
fn a_reader_that_goes_back_and_reads_on_went_back_once() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        1 3 4 sent t-0 11 - plain acknowledged@1
        1 5 6 sent t-0 12 - plain acknowledged@2
        2 7 8 polled uncommitted t-0@0=10 t-0@1=11
        2 9 10 polled uncommitted t-0@0=10 t-0@1=11 t-0@2=12
    ";
    proves(text, Kind::NonMonotonicPoll, 0, 10, &[3, 4]);
}

#[test]
fn a_poll_does_not_go_below_the_place_that_was_sought() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        2 3 3 sought t-0 1
        2 5 6 polled uncommitted t-0@0=10
    ";
    proves(text, Kind::NonMonotonicPoll, 0, 10, &[1, 2]);
}

#[test]
fn a_poll_does_not_go_below_an_end_that_was_reached() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        2 5 6 polled uncommitted t-0@0=10
        2 7 8 finished t-0 2
        1 9 9 sent t-0 12 - plain indeterminate
        2 10 11 polled uncommitted t-0@1=12
    ";
    proves(text, Kind::NonMonotonicPoll, 1, 12, &[2, 4]);
}

#[test]
fn the_assignment_of_one_partition_does_not_excuse_another() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        2 5 6 polled uncommitted t-0@0=10
        2 7 7 assigned t-1
        2 7 7 sought t-2 0
        2 7 8 polled uncommitted t-0@0=10
    ";
    proves(text, Kind::NonMonotonicPoll, 0, 10, &[1, 4]);
}

#[test]
fn what_another_reader_has_read_must_not_be_passed_over() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        1 3 4 sent t-0 11 - plain acknowledged@1
        1 5 6 sent t-0 12 - plain acknowledged@2
        2 7 8 polled uncommitted t-0@0=10 t-0@1=11 t-0@2=12
        3 9 10 polled uncommitted t-0@0=10 t-0@2=12
    ";
    proves(text, Kind::SkippedPoll, 1, 11, &[3, 4]);
}

#[test]
fn an_indeterminate_record_that_one_reader_has_found_is_there_for_all() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        1 3 4 sent t-0 11 - plain indeterminate
        1 5 6 sent t-0 12 - plain acknowledged@2
        2 7 8 polled uncommitted t-0@0=10 t-0@1=11 t-0@2=12
        3 9 10 polled committed t-0@0=10
        3 11 12 polled committed t-0@2=12
    ";
    proves(text, Kind::SkippedPoll, 1, 11, &[3, 4, 5]);
}

#[test]
fn a_reader_that_has_gone_to_the_end_has_skipped_what_it_did_not_get() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        2 7 8 polled uncommitted t-0@0=10
        3 9 9 sought t-0 0
        3 11 12 finished t-0 1
    ";
    proves(text, Kind::SkippedPoll, 0, 10, &[1, 2, 3]);
}

#[test]
fn a_trim_excuses_only_what_lies_below() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        1 3 4 sent t-0 11 - plain acknowledged@1
        1 5 6 sent t-0 12 - plain acknowledged@2
        2 7 8 polled uncommitted t-0@0=10 t-0@1=11 t-0@2=12
        9 7 7 trimmed t-0 1
        3 8 8 sought t-0 0
        3 9 10 polled uncommitted t-0@2=12
    ";
    proves(text, Kind::SkippedPoll, 1, 11, &[3, 5, 6]);
}

#[test]
fn a_trim_of_one_partition_does_not_excuse_another() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        1 3 4 sent t-1 11 - plain acknowledged@0
        1 5 6 sent t-1 12 - plain acknowledged@1
        9 7 7 trimmed t-0 5
        2 7 7 sought t-1 0
        2 9 10 polled uncommitted t-1@1=12
    ";
    proves(text, Kind::Lost, 0, 11, &[1, 4, 5]);
}

#[test]
fn what_a_reader_of_committed_records_has_found_is_there_for_all() {
    let text = "
        1 1 9 sent t-0 10 - transactional indeterminate
        1 1 9 sent t-0 11 - transactional indeterminate
        2 7 8 polled committed t-0@0=10 t-0@1=11
        3 9 9 sought t-0 0
        3 9 9 polled uncommitted t-0@1=11
    ";
    proves(text, Kind::SkippedPoll, 0, 10, &[2, 3, 4]);
}

#[test]
fn what_a_reader_read_out_of_order_once_it_may_not_pass_over_later() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        1 3 4 sent t-0 11 - plain acknowledged@1
        1 5 6 sent t-0 12 - plain acknowledged@2
        2 7 8 polled uncommitted t-0@0=10 t-0@2=12 t-0@1=11
        2 9 9 assigned t-0
        2 9 10 polled uncommitted t-0@0=10 t-0@2=12
    ";
    let verdict = judge(&text.parse().expect("a history"));
    let found: Vec<_> = verdict.anomalies.iter().map(|found| (found.kind, found.offset.map(|at| at.0))).collect();
    assert_eq!(found, [(Kind::NonMonotonicPoll, Some(1)), (Kind::SkippedPoll, Some(1))]);
}

#[test]
fn findings_are_in_the_order_of_their_kinds() {
    let text = "
        1 1 2 sent t-0 10 - plain acknowledged@0
        1 3 4 sent t-0 11 - plain acknowledged@1
        1 5 6 sent t-0 12 - plain acknowledged@2
        2 7 8 polled uncommitted t-0@0=10 t-0@0=10 t-0@2=12
    ";
    let verdict = judge(&text.parse().expect("a history"));
    let kinds: Vec<Kind> = verdict.anomalies.iter().map(|found| found.kind).collect();
    assert_eq!(kinds, [Kind::Lost, Kind::NonMonotonicPoll]);
}

#[test]
fn the_verdict_is_told_with_its_evidence() {
    let text = "
        1 1 2 sent t-0 10 - idempotent failed
        2 5 6 polled uncommitted t-0@0=10
        1 7 8 sent t-0 12 - plain acknowledged@1
        2 9 9 polled uncommitted t-0@1=12 t-0@2=12
    ";
    let history: History = text.parse().expect("a history");
    assert_eq!(
        judge(&history).told(&history).to_string(),
        "1 anomalies in 4 operations: 2 sends, 1 of them acknowledged, and 3 records read\n\
         FailedRead: value 10 in t-0 at offset 0\n    \
             operation 0: 1 1 2 sent t-0 10 - idempotent failed\n    \
             operation 1: 2 5 6 polled uncommitted t-0@0=10\n\
         for information: 1\n\
         Duplicated: value 12 in t-0 at offset 2\n    \
             operation 2: 1 7 8 sent t-0 12 - plain acknowledged@1\n    \
             operation 3: 2 9 9 polled uncommitted t-0@1=12 t-0@2=12\n"
    );
}

#[test]
fn of_many_findings_of_one_kind_the_first_are_told_and_the_others_counted() {
    let records: String = (0..25).map(|offset| format!(" t-0@{offset}={offset}")).collect();
    let history: History = format!("2 5 6 polled uncommitted{records}").parse().expect("a history");
    let told = judge(&history).told(&history).to_string();
    assert!(told.starts_with("25 anomalies in 1 operations"), "{told}");
    assert_eq!(told.matches("Phantom").count(), 10, "{told}");
    assert!(told.ends_with("    and 15 more of this kind\n"), "{told}");
}
