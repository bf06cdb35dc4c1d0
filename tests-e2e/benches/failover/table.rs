//! What was seen, as a table for a document.

use std::fmt;

use tests_e2e::failover::Library;

use super::Cells;
use super::system::Which;

/// Gaps in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    gaps: Vec<f64>,
    failed: u64,
}

#[derive(Debug, Default)]
pub struct Table {
    /// In the order in which they came.
    lines: Vec<&'static str>,
    gaps: Cells<Gaps>,
    said: Cells<String>,
}

impl Gaps {
    pub fn of(gaps: &[f64]) -> Gaps {
        Gaps { gaps: gaps.to_vec(), failed: 0 }
    }

    pub fn add(&mut self, gaps: impl IntoIterator<Item = f64>, failed: u64) {
        self.gaps.extend(gaps);
        self.failed += failed;
    }

    fn at(&self, per_mille: usize) -> f64 {
        let mut sorted = self.gaps.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted.get((sorted.len() * per_mille / 1000).min(last)).copied().unwrap_or(f64::NAN)
    }
}

/// Median, 99th percentile, worst.
impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} / {:.0} / {:.0} ms", self.at(500), self.at(990), self.at(1000))?;
        if self.failed > 0 {
            write!(f, ", {} failed", self.failed)?;
        }
        Ok(())
    }
}

impl Table {
    pub fn gaps(&mut self, line: &'static str, which: Which, library: Library) -> &mut Gaps {
        self.know(line);
        self.gaps.entry((line, which, library)).or_default()
    }

    pub fn say(&mut self, line: &'static str, which: Which, text: String) {
        self.know(line);
        self.said.insert((line, which, Library::Librdkafka), text);
    }

    fn know(&mut self, line: &'static str) {
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }

    pub fn text(&self, rounds: u32) -> String {
        let mut text = format!(
            "Longest time without an acknowledged write, of each partition: median / p99 / worst over {rounds} rounds.\n\n\
             | what | ours, librdkafka | ours, Java | Apache Kafka 4.3.0, librdkafka | Apache Kafka 4.3.0, Java |\n\
             |---|---|---|---|---|\n"
        );
        for line in &self.lines {
            text.push_str(&format!("| {line} |"));
            for which in [Which::Ours, Which::Kafka] {
                for library in [Library::Librdkafka, Library::Java] {
                    let cell = (*line, which, library);
                    let shown = self.gaps.get(&cell).map(ToString::to_string).or_else(|| self.said.get(&cell).cloned());
                    text.push_str(&format!(" {} |", shown.unwrap_or_else(|| "–".to_owned())));
                }
            }
            text.push('\n');
        }
        text
    }
}
