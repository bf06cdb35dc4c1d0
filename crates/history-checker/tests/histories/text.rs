//! The text form: what is written is read back, and what cannot be read is named exactly.

use history_checker::{History, Moment, ParseError, Problem};

#[test]
fn what_is_written_is_what_was_read() {
    let text = "\
compacted audit.log_2-0
1 10 15 sent orders-0 42 - idempotent acknowledged@5
1 16 19 sent audit.log_2-0 43 7 plain indeterminate
1 16 19 sent audit.log_2-0 44 8 plain acknowledged
1 16 19 sent orders-0 45 - transactional aborted
1 16 19 sent orders-0 46 - transactional failed
2 3 4 assigned orders-0 audit.log_2-0
2 3 4 assigned
2 5 5 sought orders-0 0
2 6 6 sought orders-0 -
2 20 21 polled uncommitted orders-0@5=42 audit.log_2-0@0=43
2 22 22 polled committed
2 90 91 finished orders-0 6
3 95 96 trimmed orders-0 2
";
    let history: History = text.parse().expect("a history");
    assert_eq!(history.to_string(), text);
    assert_eq!(history.operations().len(), 13);
}

#[test]
fn remarks_empty_lines_and_wide_spaces_are_passed_over() {
    let history: History = "\n# seed 7\n\n   1  2 3\tsought   t-0 4   \n".parse().expect("a history");
    assert_eq!(history.to_string(), "1 2 3 sought t-0 4\n");
}

/// The text cannot be read, for what is told of line 2.
fn refuses(line: &str, told: &str) {
    let error = format!("# the first line\n{line}").parse::<History>().expect_err("no history");
    assert_eq!(error.to_string(), format!("line 2: {told}"));
}

#[test]
fn what_is_missing_is_named() {
    refuses("1", "it ends where the moment of the start is expected");
    refuses("1 2", "it ends where the moment of the end is expected");
    refuses("1 2 3", "it ends where sent, polled, assigned, sought, finished or trimmed is expected");
    refuses("1 2 3 sent", "it ends where the name of a partition is expected");
    refuses("1 2 3 sent t-0", "it ends where a value is expected");
    refuses("1 2 3 sent t-0 4", "it ends where a key or `-` is expected");
    refuses("1 2 3 sent t-0 4 -", "it ends where plain, idempotent or transactional is expected");
    refuses(
        "1 2 3 sent t-0 4 - plain",
        "it ends where acknowledged@offset, acknowledged, failed, aborted or indeterminate is expected",
    );
    refuses("1 2 3 polled", "it ends where uncommitted or committed is expected");
    refuses("1 2 3 sought t-0", "it ends where an offset or `-` is expected");
    refuses("1 2 3 finished t-0", "it ends where an offset is expected");
    refuses("1 2 3 trimmed t-0", "it ends where an offset is expected");
    refuses("compacted", "it ends where the name of a partition is expected");
}

#[test]
fn what_is_wrong_is_named() {
    refuses("one 2 3", "`one` stands where a client's number, `compacted` or `#` is expected");
    refuses("1 -2 3", "`-2` stands where the moment of the start is expected");
    refuses("1 2 x", "`x` stands where the moment of the end is expected");
    refuses("1 2 3 send", "`send` stands where sent, polled, assigned, sought, finished or trimmed is expected");
    refuses("1 2 3 sought t/0 4", "`t/0` stands where the name of a partition, as orders-0, is expected");
    refuses(
        "1 2 3 sent t-0 4 5 exactly-once",
        "`exactly-once` stands where plain, idempotent or transactional is expected",
    );
    refuses("1 2 3 sent t-0 4 - plain acknowledged@", "`` stands where an offset is expected");
    refuses(
        "1 2 3 sent t-0 4 - plain ok",
        "`ok` stands where acknowledged@offset, acknowledged, failed, aborted or indeterminate is expected",
    );
    refuses("1 2 3 polled all", "`all` stands where uncommitted or committed is expected");
    refuses("1 2 3 polled committed t-0", "`t-0` stands where a record as partition@offset=value is expected");
    refuses("1 2 3 polled committed t-0@5", "`t-0@5` stands where a record as partition@offset=value is expected");
    refuses("1 2 3 polled committed @5=6", "`` stands where the name of a partition, as orders-0, is expected");
    refuses("1 2 3 polled committed t-0@x=6", "`x` stands where an offset is expected");
    refuses("1 2 3 polled committed t-0@5=-6", "`-6` stands where a value is expected");
}

#[test]
fn what_is_too_much_is_named() {
    refuses("1 2 3 finished t-0 4 5", "`5` follows a complete operation");
    refuses("compacted t-0 t-1", "`t-1` follows a complete operation");
}

#[test]
fn no_operation_ends_before_it_starts() {
    refuses("1 3 2 assigned t-0", "the operation starts at 3 and ends at 2");
    let error = "1 3 2 assigned".parse::<History>().expect_err("no history");
    assert_eq!(error, ParseError { line: 1, problem: Problem::Backwards { start: Moment(3), end: Moment(2) } });
}
