//! A process of ours or of Apache Kafka: its output in a log file, its end certain.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// How long a process may take to end after SIGTERM.
pub const STOP_BOUND: Duration = Duration::from_secs(20);

/// A running process; dropping it kills it.
pub struct Process {
    name: String,
    log: PathBuf,
    /// Where in the log this process began.
    log_start: usize,
    child: Option<Child>,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`. It stays in our process group, so that an interrupt at the keyboard ends
    /// everything; what is to outlive us is given a group of its own by the caller.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot open {}", log.display()))?;
        let log_start = file.metadata()?.len() as usize;
        let command = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // Errors end a process in a few lines, which is what `log_tail` shows; panics keep their backtrace.
        command.env("RUST_LIB_BACKTRACE", "0");
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), log_start, child: Some(child) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(Some(ExitStatus::default())),
        }
    }

    /// An error with the end of the log if it has ended.
    pub fn expect_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.log_tail()),
        }
    }

    /// SIGKILL: what a power cut looks like to everybody else.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().with_context(|| format!("cannot kill {}", self.name))?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, then a bounded wait for the end.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let Some(child) = &mut self.child else { bail!("{} is not running", self.name) };
        signal(child.id(), Signal::TERM)?;
        let status = wait::until(&format!("{} to end after SIGTERM", self.name), STOP_BOUND, || Ok(child.try_wait()?))?;
        self.child = None;
        Ok(status)
    }

    /// Leaves it running when this handle goes; its pid is then the only way to it.
    pub fn detach(mut self) -> Option<u32> {
        self.child.take().map(|child| child.id())
    }

    /// The last lines of the log, for error messages.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.get(self.log_start..).unwrap_or_default().lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the test's own result matters more.
        let _ = self.kill9();
    }
}

/// Sends a signal to a process that we started.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a process id")?;
    kill_process(pid, signal).with_context(|| format!("cannot send {signal:?} to {pid:?}"))
}

/// Lines of a log that say something is broken, without those that contain one of `expected`.
pub fn error_lines(log: &str, expected: &[&str]) -> Vec<String> {
    const MARKS: &[&str] = &[" ERROR ", "\"level\":\"ERROR\"", "panicked at", "invariant broken"];
    let bad = log.lines().filter(|line| line.starts_with("ERROR ") || MARKS.iter().any(|mark| line.contains(mark)));
    bad.filter(|line| !expected.iter().any(|part| line.contains(part))).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_early_is_reported_with_its_words() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("log");
        let mut process =
            Process::start("talker", Command::new("sh").args(["-c", "echo last words >&2; exit 3"]), &log)
                .expect("started");
        wait::until("its end", Duration::from_secs(5), || process.ended()).expect("ended");
        let error = process.expect_running().expect_err("it has ended").to_string();
        assert!(error.contains("last words") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let process =
            Process::start("sleeper", Command::new("sleep").arg("600"), &folder.path().join("log")).expect("started");
        let pid = process.pid().expect("running");
        drop(process);
        assert!(signal(pid, Signal::CONT).is_err());
    }

    #[test]
    fn error_lines_are_found_unless_expected() {
        let log =
            "2026 ERROR one\n2026 INFO no ERRORS\n{\"level\":\"ERROR\",\"m\":\"two\"}\nthread 'x' panicked at y\n";
        assert_eq!(error_lines(log, &[]).len(), 3);
        assert_eq!(error_lines(log, &["two", "panicked"]), ["2026 ERROR one"]);
    }
}
