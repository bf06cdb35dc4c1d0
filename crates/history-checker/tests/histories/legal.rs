//! What looks odd and is right: nothing of it may be called an anomaly.

use history_checker::{History, Kind, judge};

fn is_clean(text: &str) {
    let history: History = text.parse().expect("a history");
    let verdict = judge(&history);
    assert!(verdict.is_clean() && verdict.information.is_empty(), "{}", verdict.told(&history));
}

/// Legal, and told for information.
fn informs(text: &str, kind: Kind) {
    let history: History = text.parse().expect("a history");
    let verdict = judge(&history);
    assert!(verdict.is_clean(), "{}", verdict.told(&history));
    let kinds: Vec<Kind> = verdict.information.iter().map(|found| found.kind).collect();
    assert_eq!(kinds, [kind]);
}

#[test]
fn nothing_is_clean() {
    is_clean("");
}

#[test]
fn an_indeterminate_send_may_be_absent() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent indeterminate
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        2 5 5 sought t-0 0
        2 5 6 polled uncommitted t-0@1=11
        2 7 8 finished t-0 2
        ",
    );
}

#[test]
fn an_indeterminate_send_may_be_there_and_may_come_late() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent indeterminate
        2 3 4 finished t-0 0
        2 5 6 polled uncommitted t-0@0=10
        2 7 8 finished t-0 1
        ",
    );
}

#[test]
fn a_value_that_is_sent_again_after_an_indeterminate_send_may_be_there_twice() {
    is_clean(
        "
        1 1 2 sent t-0 10 - plain indeterminate
        1 3 4 sent t-0 10 - plain acknowledged@1
        2 5 6 polled uncommitted t-0@0=10 t-0@1=10
        ",
    );
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent indeterminate
        1 3 4 sent t-0 10 - idempotent acknowledged@0
        2 5 6 polled uncommitted t-0@0=10 t-0@1=10
        ",
    );
}

#[test]
fn of_a_value_that_was_sent_again_one_record_may_be_there_and_the_other_not_looked_for() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent indeterminate
        1 3 4 sent t-0 10 - idempotent acknowledged@5
        2 5 6 polled uncommitted t-0@3=10
        ",
    );
}

#[test]
fn a_value_that_failed_may_be_there_when_it_was_sent_again() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent failed
        1 3 4 sent t-0 10 - idempotent indeterminate
        2 5 6 polled uncommitted t-0@0=10
        ",
    );
}

#[test]
fn a_failed_send_may_be_absent() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent failed
        1 3 4 sent t-0 11 - idempotent acknowledged@0
        2 5 6 polled uncommitted t-0@0=11
        2 7 8 finished t-0 1
        ",
    );
}

#[test]
fn a_producer_that_is_not_idempotent_may_repeat_itself() {
    informs(
        "
        1 1 2 sent t-0 10 - plain acknowledged@0
        2 5 6 polled uncommitted t-0@0=10 t-0@1=10
        ",
        Kind::Duplicated,
    );
}

#[test]
fn a_producer_that_is_not_idempotent_may_be_acknowledged_for_the_copy_that_nobody_has_looked_for() {
    is_clean(
        "
        1 1 2 sent t-0 10 - plain acknowledged@0
        2 5 6 polled uncommitted t-0@1=10
        ",
    );
}

#[test]
fn a_producer_that_is_not_idempotent_may_overtake_itself() {
    informs(
        "
        1 1 10 sent t-0 10 - plain acknowledged@1
        1 2 9 sent t-0 11 - plain acknowledged@0
        ",
        Kind::NonMonotonicSend,
    );
}

#[test]
fn sends_of_two_producers_at_one_time_have_no_order() {
    is_clean(
        "
        1 1 10 sent t-0 10 - idempotent acknowledged@1
        2 2 9 sent t-0 11 - idempotent acknowledged@0
        ",
    );
}

#[test]
fn what_begins_at_one_moment_or_when_the_other_ends_has_no_order() {
    is_clean(
        "
        1 1 10 sent t-0 10 - idempotent acknowledged@1
        1 1 10 sent t-0 11 - idempotent acknowledged@0
        2 5 6 sent t-1 20 - idempotent acknowledged@1
        3 6 7 sent t-1 21 - idempotent acknowledged@0
        ",
    );
}

#[test]
fn a_value_may_be_in_two_partitions() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-1 10 - idempotent acknowledged@7
        2 5 6 polled uncommitted t-0@0=10 t-1@7=10
        ",
    );
}

#[test]
fn a_record_may_be_read_before_it_is_acknowledged() {
    is_clean(
        "
        1 1 9 sent t-0 10 - idempotent acknowledged@0
        2 2 3 polled uncommitted t-0@0=10
        ",
    );
}

#[test]
fn a_record_may_be_of_the_first_of_two_sends_although_the_second_was_over_first() {
    is_clean(
        "
        1 5 6 sent t-0 10 - idempotent acknowledged@1
        2 1 9 sent t-0 10 - idempotent indeterminate
        3 2 3 polled uncommitted t-0@0=10
        ",
    );
}

#[test]
fn an_acknowledgement_without_an_offset_is_kept_anywhere() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent acknowledged
        2 3 3 sought t-0 0
        2 4 5 polled uncommitted t-0@3=10
        2 6 7 finished t-0 4
        ",
    );
}

#[test]
fn what_nobody_has_looked_for_is_not_lost() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        1 5 6 sent t-0 12 - idempotent acknowledged@2
        1 7 8 sent t-0 13 - idempotent acknowledged
        2 9 9 assigned t-0
        2 9 10 polled uncommitted t-0@1=11
        ",
    );
}

#[test]
fn an_end_says_nothing_about_what_is_acknowledged_later() {
    is_clean(
        "
        1 1 4 sent t-0 10 - idempotent acknowledged@0
        1 1 4 sent t-0 11 - idempotent acknowledged
        2 2 2 sought t-0 0
        2 4 5 finished t-0 0
        ",
    );
}

#[test]
fn an_end_may_lie_before_what_is_read_only_later() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent indeterminate
        2 4 6 finished t-0 0
        3 3 5 polled uncommitted t-0@0=10
        ",
    );
}

#[test]
fn the_end_of_one_partition_says_nothing_of_another() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-2 12 - idempotent acknowledged@0
        3 5 6 polled uncommitted t-2@0=12
        2 7 8 finished t-1 0
        2 9 9 finished t-0 1
        ",
    );
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        2 7 8 finished t-1 0
        ",
    );
}

#[test]
fn who_did_not_begin_at_the_beginning_has_not_read_everything() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent acknowledged
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        2 5 6 polled uncommitted t-0@1=11
        2 7 8 finished t-0 2
        ",
    );
}

#[test]
fn a_reader_may_seek_back_and_forth() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        1 5 6 sent t-0 12 - idempotent acknowledged@2
        2 7 8 polled uncommitted t-0@0=10 t-0@1=11
        2 9 9 sought t-0 0
        2 10 11 polled uncommitted t-0@0=10
        2 12 12 sought t-0 2
        2 13 14 polled uncommitted t-0@2=12
        2 15 15 sought t-0 -
        2 16 16 polled uncommitted t-0@1=11 t-0@2=12
        ",
    );
}

#[test]
fn a_rebalance_moves_a_reader_back_and_forth() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        1 5 6 sent t-0 12 - idempotent acknowledged@2
        2 7 8 polled uncommitted t-0@0=10 t-0@1=11
        2 9 9 assigned t-0 t-1
        2 10 11 polled uncommitted t-0@0=10
        2 12 12 assigned t-0
        2 13 14 polled uncommitted t-0@2=12
        ",
    );
}

#[test]
fn a_rebalance_inside_a_poll_counts_before_what_the_poll_returns() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        2 3 4 polled uncommitted t-0@0=10
        2 5 9 polled uncommitted t-0@0=10
        2 6 7 assigned t-0
        ",
    );
}

#[test]
fn a_client_that_starts_anew_begins_where_it_likes() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        2 3 4 polled uncommitted t-0@0=10
        3 5 6 polled uncommitted t-0@0=10
        ",
    );
}

#[test]
fn readers_may_go_past_what_was_trimmed() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        1 5 6 sent t-0 12 - idempotent acknowledged@2
        1 5 6 sent t-0 13 - idempotent acknowledged
        2 7 8 polled uncommitted t-0@0=10 t-0@1=11
        3 7 7 sought t-0 0
        9 7 12 trimmed t-0 2
        9 8 12 trimmed t-0 1
        3 8 9 polled uncommitted t-0@2=12
        3 10 11 finished t-0 3
        ",
    );
}

#[test]
fn a_trim_that_begins_when_the_poll_ends_may_have_been_first() {
    is_clean(
        "
        1 1 2 sent t-0 10 - idempotent acknowledged@0
        1 3 4 sent t-0 11 - idempotent acknowledged@1
        2 5 5 sought t-0 0
        2 5 6 polled uncommitted t-0@1=11
        9 6 7 trimmed t-0 1
        ",
    );
}

#[test]
fn compaction_takes_away_what_has_a_later_record_of_its_key() {
    is_clean(
        "
        compacted t-0
        1 1 2 sent t-0 10 7 idempotent acknowledged@0
        1 3 4 sent t-0 11 7 idempotent acknowledged@1
        1 5 6 sent t-0 12 7 idempotent acknowledged@2
        1 7 8 sent t-0 13 8 idempotent acknowledged@3
        2 9 10 polled uncommitted t-0@0=10
        3 11 11 sought t-0 0
        3 11 12 polled uncommitted t-0@2=12 t-0@3=13
        3 13 14 finished t-0 4
        ",
    );
}

#[test]
fn compaction_may_have_been_for_a_record_that_nobody_knows_of() {
    is_clean(
        "
        compacted t-0
        1 1 2 sent t-0 10 7 idempotent acknowledged@0
        1 3 4 sent t-0 11 7 idempotent indeterminate
        1 5 6 sent t-0 12 8 idempotent acknowledged@2
        2 9 10 polled uncommitted t-0@0=10
        3 11 11 sought t-0 0
        3 11 12 polled uncommitted t-0@2=12
        ",
    );
    is_clean(
        "
        compacted t-0
        1 1 2 sent t-0 10 7 idempotent acknowledged@0
        1 3 4 sent t-0 11 7 idempotent acknowledged
        1 5 6 sent t-0 12 8 idempotent acknowledged@2
        2 9 9 sought t-0 0
        2 9 10 polled uncommitted t-0@2=12
        ",
    );
}

#[test]
fn compaction_may_have_been_for_a_record_that_was_aborted_once_and_sent_again() {
    is_clean(
        "
        compacted t-0
        1 1 2 sent t-0 11 7 transactional aborted
        1 3 4 sent t-0 10 7 idempotent acknowledged@2
        1 5 6 sent t-0 12 8 idempotent acknowledged@3
        1 7 9 sent t-0 11 7 transactional indeterminate
        2 3 3 polled uncommitted t-0@0=11
        3 10 10 sought t-0 0
        3 10 11 polled committed t-0@3=12
        ",
    );
}

#[test]
fn markers_of_transactions_and_aborted_records_leave_gaps() {
    is_clean(
        "
        1 1 5 sent t-0 10 - transactional acknowledged@0
        1 6 9 sent t-0 11 - transactional aborted
        1 10 12 sent t-0 12 - transactional acknowledged@4
        2 2 3 polled uncommitted t-0@0=10
        2 13 14 polled uncommitted t-0@2=11 t-0@4=12
        3 13 13 sought t-0 0
        3 13 14 polled committed t-0@0=10 t-0@4=12
        3 15 16 finished t-0 6
        ",
    );
}

#[test]
fn what_only_readers_of_uncommitted_records_have_read_may_be_aborted() {
    is_clean(
        "
        1 1 5 sent t-0 10 - transactional indeterminate
        1 6 9 sent t-0 11 - transactional acknowledged@2
        2 10 11 polled uncommitted t-0@0=10 t-0@2=11
        3 12 12 sought t-0 0
        3 12 13 polled committed t-0@2=11
        ",
    );
}

#[test]
fn a_value_that_was_aborted_and_sent_again_is_there_twice_for_readers_of_uncommitted_records() {
    is_clean(
        "
        1 1 5 sent t-0 10 - transactional aborted
        1 6 9 sent t-0 10 - transactional acknowledged@2
        2 10 11 polled uncommitted t-0@0=10 t-0@2=10
        3 12 12 sought t-0 0
        3 12 13 polled committed t-0@2=10
        ",
    );
}
