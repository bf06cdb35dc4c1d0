//! From what client programs say while they run to one history.
//!
//! ```text
//! send 7 100 ledger-0 42 idempotent       client 7 asks at moment 100 that value 42 be sent to ledger-0
//! sent 42 180 acknowledged@5              what came of it, and when; a value is sent once
//! 9 200 210 polled uncommitted ...        a line of the history as it is (history-checker's text form)
//! # producers are done                    a remark
//! ! position out of range                 something that must not happen, whatever else the history says
//! ```
//!
//! A send is told when it begins, so that one whose client dies is in the history: nobody knows what came of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use history_checker::History;

/// What the programs of a run said, taken together.
#[derive(Default)]
pub struct Journal {
    lines: String,
    last: u64,
    /// Those that nothing has come of yet: the words before and behind the end, by value.
    open: BTreeMap<u64, (String, String)>,
    pub complaints: Vec<String>,
}

impl Journal {
    /// Takes up all that one program said; `who` is named with its complaints.
    pub fn read(&mut self, who: &str, text: &str) -> Result<()> {
        for (before, line) in text.lines().enumerate() {
            self.line(who, line).with_context(|| format!("{who}, line {}: `{line}`", before + 1))?;
        }
        Ok(())
    }

    fn line(&mut self, who: &str, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            [] => {}
            ["#", ..] => {}
            ["!", ..] => self.complaints.push(format!("{who}: {line}")),
            ["send", client, start, partition, value, delivery] => {
                self.moment(start)?;
                let told = (format!("{client} {start}"), format!("sent {partition} {value} - {delivery}"));
                if self.open.insert(value.parse()?, told).is_some() {
                    bail!("this value is under way already");
                }
            }
            ["sent", value, end, outcome] => {
                self.moment(end)?;
                let told = self.open.remove(&value.parse()?).context("nobody sends this value")?;
                writeln!(self.lines, "{} {end} {} {outcome}", told.0, told.1)?;
            }
            [_, _, end, _, ..] => {
                self.moment(end)?;
                writeln!(self.lines, "{line}")?;
            }
            _ => bail!("this is no line of a journal"),
        }
        Ok(())
    }

    fn moment(&mut self, word: &str) -> Result<()> {
        self.last = self.last.max(word.parse().with_context(|| format!("`{word}` is no moment"))?);
        Ok(())
    }

    /// The history in its text form; what is still under way ends with the run, in the dark.
    pub fn text(&self) -> String {
        let mut text = self.lines.clone();
        for (before, behind) in self.open.values() {
            writeln!(text, "{before} {} {behind} indeterminate", self.last).expect("a string takes everything");
        }
        text
    }

    pub fn history(&self) -> Result<History> {
        Ok(self.text().parse()?)
    }
}

#[cfg(test)]
mod tests {
    use history_checker::{Kind, judge};

    use super::*;

    fn of(text: &str) -> Journal {
        let mut journal = Journal::default();
        journal.read("one", text).unwrap();
        journal
    }

    #[test]
    fn sends_find_their_outcomes_and_what_has_none_is_indeterminate() {
        let journal = of("send 1 10 t-0 7 idempotent\nsend 1 11 t-1 8 plain\n# done\nsent 7 20 acknowledged@0\n\
                          2 21 30 polled uncommitted t-0@0=7\n");
        let expected = "1 10 20 sent t-0 7 - idempotent acknowledged@0\n2 21 30 polled uncommitted t-0@0=7\n\
                        1 11 30 sent t-1 8 - plain indeterminate\n";
        assert_eq!(journal.text(), expected);
        assert!(judge(&journal.history().unwrap()).is_clean());
    }

    #[test]
    fn complaints_are_kept_with_who_made_them() {
        assert_eq!(of("! position out of range\n").complaints, ["one: ! position out of range"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_line() {
        for wrong in ["sent 7 20 failed", "nonsense", "send x", "send 1 1 t-0 7 plain\nsend 1 2 t-0 7 plain", "1 2 x y"]
        {
            let error = Journal::default().read("one", wrong).unwrap_err();
            assert!(error.to_string().starts_with("one, line"), "{error}");
        }
    }

    #[test]
    fn a_lost_record_is_found_through_the_journal() {
        let journal =
            of("send 1 10 t-0 7 plain\nsent 7 20 acknowledged@0\nsend 1 30 t-0 8 plain\nsent 8 40 acknowledged@1\n\
                          2 50 50 sought t-0 0\n2 51 60 polled uncommitted t-0@1=8\n2 61 61 finished t-0 2\n");
        let verdict = judge(&journal.history().unwrap());
        assert_eq!(verdict.anomalies.iter().map(|found| found.kind).collect::<Vec<_>>(), [Kind::Lost]);
    }
}
