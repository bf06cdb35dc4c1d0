//! `thalweg dev`: the three services in one process.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::{place, ports, wait};

const START_BOUND: Duration = Duration::from_secs(30);

/// A running `thalweg dev` on a folder of its own. The folder and the port stay over a restart.
pub struct Dev {
    process: Process,
    port: u16,
    arguments: Vec<String>,
    folder: TempDir,
}

impl Dev {
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// With more arguments, e.g. `--topic orders:3`.
    pub fn start_with(arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("thalweg-dev-").tempdir()?;
        let port = ports::free()?;
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let process = launch(folder.path(), port, &arguments)?;
        Ok(Self { process, port, arguments, folder })
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where the data is.
    pub fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// Starts again on the same data and port.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill9()?;
        self.process = launch(self.folder.path(), self.port, &self.arguments)?;
        Ok(())
    }

    /// Lines of the log that nobody expected.
    pub fn unexpected_errors(&self, expected: &[&str]) -> Result<Vec<String>> {
        Ok(process::error_lines(&std::fs::read_to_string(self.process.log())?, expected))
    }
}

fn launch(folder: &Path, port: u16, arguments: &[String]) -> Result<Process> {
    let mut command = Command::new(place::binary("thalweg")?);
    command.arg("dev").arg("--data-dir").arg(folder.join("data")).args(["--listen", &format!("127.0.0.1:{port}")]);
    let mut process = Process::start("thalweg dev", command.args(arguments), &folder.join("log"))?;
    wait::until("the port of thalweg dev", START_BOUND, || {
        process.expect_running()?;
        Ok(TcpStream::connect(("127.0.0.1", port)).ok())
    })?;
    Ok(process)
}
