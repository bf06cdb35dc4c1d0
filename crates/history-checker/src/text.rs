//! The text form of a history: one line for each operation, so that a run is stored while it goes on and read by people and tools.
//!
//! ```text
//! # a remark
//! compacted audit-0
//! 1 10 15 sent orders-0 42 - idempotent acknowledged@5
//! 1 16 19 sent audit-0 43 7 plain indeterminate
//! 2 3 4 assigned orders-0 audit-0
//! 2 5 5 sought orders-0 0
//! 2 20 21 polled uncommitted orders-0@5=42 audit-0@0=43
//! 2 90 91 finished orders-0 6
//! 3 95 96 trimmed orders-0 2
//! │ │  │  │    └ what it was about; a send: partition, value, key, delivery, outcome; a record: partition@offset=value
//! │ │  │  └ what it was
//! │ │  └ its end
//! │ └ its start
//! └ its client
//! ```
//!
//! `-` stands for what is not there: a key, the number of a place. Which partitions are compacted is said before the operations.
//! What is written is read back to the same history.

use std::fmt;
use std::str::{FromStr, SplitAsciiWhitespace};

use base_types::Offset;

use crate::history::{
    Action, Client, Delivery, History, Isolation, Key, Moment, Operation, OperationId, Outcome, Partition, Polled,
    Record, Sent, Value, is_partition_name,
};

/// Where a text stops being a history, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Counted from one.
    pub line: usize,
    pub problem: Problem,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The line ends where this was expected.
    Missing(&'static str),
    /// This word stands where that was expected.
    Wrong { word: String, expected: &'static str },
    /// The operation is complete, and this word follows.
    Surplus(String),
    /// The operation ends before it starts.
    Backwards { start: Moment, end: Moment },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.problem {
            Problem::Missing(expected) => write!(f, "it ends where {expected} is expected"),
            Problem::Wrong { word, expected } => write!(f, "`{word}` stands where {expected} is expected"),
            Problem::Surplus(word) => write!(f, "`{word}` follows a complete operation"),
            Problem::Backwards { start, end } => write!(f, "the operation starts at {} and ends at {}", start.0, end.0),
        }
    }
}

impl std::error::Error for ParseError {}

impl History {
    /// One operation as its line, without the line break.
    pub fn line(&self, id: OperationId) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| {
            let Operation { client, start, end, action } = self.operation(id);
            write!(f, "{} {} {} ", client.0, start.0, end.0)?;
            match action {
                Action::Sent(sent) => self.write_sent(f, sent),
                Action::Polled(polled) => self.write_polled(f, polled),
                Action::Assigned { partitions } => {
                    f.write_str("assigned")?;
                    partitions.iter().try_for_each(|&partition| write!(f, " {}", self.name(partition)))
                }
                Action::Sought { partition, to: Some(to) } => write!(f, "sought {} {to}", self.name(*partition)),
                Action::Sought { partition, to: None } => write!(f, "sought {} -", self.name(*partition)),
                Action::Finished { partition, end } => write!(f, "finished {} {end}", self.name(*partition)),
                Action::Trimmed { partition, to } => write!(f, "trimmed {} {to}", self.name(*partition)),
            }
        })
    }

    fn write_sent(&self, f: &mut fmt::Formatter<'_>, sent: &Sent) -> fmt::Result {
        write!(f, "sent {} {} ", self.name(sent.partition), sent.value.0)?;
        match sent.key {
            Some(key) => write!(f, "{}", key.0)?,
            None => f.write_str("-")?,
        }
        f.write_str(match sent.delivery {
            Delivery::Plain => " plain ",
            Delivery::Idempotent => " idempotent ",
            Delivery::Transactional => " transactional ",
        })?;
        match sent.outcome {
            Outcome::Acknowledged { at: Some(offset) } => write!(f, "acknowledged@{offset}"),
            Outcome::Acknowledged { at: None } => f.write_str("acknowledged"),
            Outcome::Failed => f.write_str("failed"),
            Outcome::Aborted => f.write_str("aborted"),
            Outcome::Indeterminate => f.write_str("indeterminate"),
        }
    }

    fn write_polled(&self, f: &mut fmt::Formatter<'_>, polled: &Polled) -> fmt::Result {
        f.write_str(match polled.isolation {
            Isolation::ReadUncommitted => "polled uncommitted",
            Isolation::ReadCommitted => "polled committed",
        })?;
        polled
            .records
            .iter()
            .try_for_each(|record| write!(f, " {}@{}={}", self.name(record.partition), record.offset, record.value.0))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for partition in self.compacted() {
            writeln!(f, "compacted {}", self.name(partition))?;
        }
        self.operations().try_for_each(|(id, _)| writeln!(f, "{}", self.line(id)))
    }
}

impl FromStr for History {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<History, ParseError> {
        let mut history = History::new();
        for (before, line) in text.lines().enumerate() {
            let words = Words { words: line.split_ascii_whitespace() };
            read_line(&mut history, words).map_err(|problem| ParseError { line: before + 1, problem })?;
        }
        Ok(history)
    }
}

fn read_line(history: &mut History, mut words: Words<'_>) -> Result<(), Problem> {
    let Some(first) = words.next_word() else { return Ok(()) };
    if first.starts_with('#') {
        return Ok(());
    }
    if first == "compacted" {
        let partition = words.partition(history)?;
        history.compact(partition);
        return words.end();
    }
    let client = Client(number(first, "a client's number, `compacted` or `#`")?);
    let start = Moment(words.number("the moment of the start")?);
    let end = Moment(words.number("the moment of the end")?);
    if end < start {
        return Err(Problem::Backwards { start, end });
    }
    let action = read_action(history, &mut words)?;
    words.end()?;
    history.push(Operation { client, start, end, action });
    Ok(())
}

fn read_action(history: &mut History, words: &mut Words<'_>) -> Result<Action, Problem> {
    const EXPECTED: &str = "sent, polled, assigned, sought, finished or trimmed";
    match words.expect(EXPECTED)? {
        "sent" => Ok(Action::Sent(Sent {
            partition: words.partition(history)?,
            value: Value(words.number("a value")?),
            key: words.number_or_none("a key or `-`")?.map(Key),
            delivery: words.delivery()?,
            outcome: words.outcome()?,
        })),
        "polled" => {
            let isolation = words.isolation()?;
            let mut records = Vec::new();
            while let Some(word) = words.next_word() {
                records.push(read_record(history, word)?);
            }
            Ok(Action::Polled(Polled { isolation, records }))
        }
        "assigned" => {
            let mut partitions = Vec::new();
            while let Some(name) = words.next_word() {
                partitions.push(named(history, name)?);
            }
            Ok(Action::Assigned { partitions })
        }
        "sought" => Ok(Action::Sought {
            partition: words.partition(history)?,
            to: words.number_or_none("an offset or `-`")?.map(Offset),
        }),
        "finished" => {
            Ok(Action::Finished { partition: words.partition(history)?, end: Offset(words.number("an offset")?) })
        }
        "trimmed" => {
            Ok(Action::Trimmed { partition: words.partition(history)?, to: Offset(words.number("an offset")?) })
        }
        word => Err(wrong(word, EXPECTED)),
    }
}

fn read_record(history: &mut History, word: &str) -> Result<Record, Problem> {
    const EXPECTED: &str = "a record as partition@offset=value";
    let (name, rest) = word.split_once('@').ok_or_else(|| wrong(word, EXPECTED))?;
    let (offset, value) = rest.split_once('=').ok_or_else(|| wrong(word, EXPECTED))?;
    Ok(Record {
        partition: named(history, name)?,
        offset: Offset(number(offset, "an offset")?),
        value: Value(number(value, "a value")?),
    })
}

fn named(history: &mut History, name: &str) -> Result<Partition, Problem> {
    if is_partition_name(name) {
        Ok(history.partition(name))
    } else {
        Err(wrong(name, "the name of a partition, as orders-0,"))
    }
}

fn number<T: FromStr>(word: &str, expected: &'static str) -> Result<T, Problem> {
    word.parse().map_err(|_| wrong(word, expected))
}

fn wrong(word: &str, expected: &'static str) -> Problem {
    Problem::Wrong { word: word.to_owned(), expected }
}

/// The words of a line that have not been read yet.
struct Words<'a> {
    words: SplitAsciiWhitespace<'a>,
}

impl<'a> Words<'a> {
    fn next_word(&mut self) -> Option<&'a str> {
        self.words.next()
    }

    fn expect(&mut self, expected: &'static str) -> Result<&'a str, Problem> {
        self.next_word().ok_or(Problem::Missing(expected))
    }

    fn end(&mut self) -> Result<(), Problem> {
        self.next_word().map_or(Ok(()), |word| Err(Problem::Surplus(word.to_owned())))
    }

    fn number<T: FromStr>(&mut self, expected: &'static str) -> Result<T, Problem> {
        number(self.expect(expected)?, expected)
    }

    fn number_or_none<T: FromStr>(&mut self, expected: &'static str) -> Result<Option<T>, Problem> {
        match self.expect(expected)? {
            "-" => Ok(None),
            word => number(word, expected).map(Some),
        }
    }

    fn partition(&mut self, history: &mut History) -> Result<Partition, Problem> {
        named(history, self.expect("the name of a partition")?)
    }

    fn isolation(&mut self) -> Result<Isolation, Problem> {
        const EXPECTED: &str = "uncommitted or committed";
        match self.expect(EXPECTED)? {
            "uncommitted" => Ok(Isolation::ReadUncommitted),
            "committed" => Ok(Isolation::ReadCommitted),
            word => Err(wrong(word, EXPECTED)),
        }
    }

    fn delivery(&mut self) -> Result<Delivery, Problem> {
        const EXPECTED: &str = "plain, idempotent or transactional";
        match self.expect(EXPECTED)? {
            "plain" => Ok(Delivery::Plain),
            "idempotent" => Ok(Delivery::Idempotent),
            "transactional" => Ok(Delivery::Transactional),
            word => Err(wrong(word, EXPECTED)),
        }
    }

    fn outcome(&mut self) -> Result<Outcome, Problem> {
        const EXPECTED: &str = "acknowledged@offset, acknowledged, failed, aborted or indeterminate";
        match self.expect(EXPECTED)? {
            "acknowledged" => Ok(Outcome::Acknowledged { at: None }),
            "failed" => Ok(Outcome::Failed),
            "aborted" => Ok(Outcome::Aborted),
            "indeterminate" => Ok(Outcome::Indeterminate),
            word => match word.strip_prefix("acknowledged@") {
                Some(offset) => Ok(Outcome::Acknowledged { at: Some(Offset(number(offset, "an offset")?)) }),
                None => Err(wrong(word, EXPECTED)),
            },
        }
    }
}
