//! The client programs of a run, each on a host of its own, and the journals that they write.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tests_e2e::{oracle, place};

use crate::journal::Journal;
use crate::network::{Host, Network};
use crate::patience;
use crate::random::Random;
use crate::wire::Topic;

/// Longer than a library tries to deliver a record.
const STOP_BOUND: Duration = Duration::from_secs(90);
/// Longer than a reader tries to catch up.
const FINISH_BOUND: Duration = Duration::from_secs(120);
const DONE: &str = "# producers are done";
/// Of one program's names; the next one begins behind it.
const NAMES: u32 = 1000;

/// Who sends and reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Library {
    Librdkafka,
    Java,
    Ours,
}

impl Library {
    pub const ALL: [Library; 3] = [Library::Librdkafka, Library::Java, Library::Ours];

    pub fn name(self) -> &'static str {
        match self {
            Library::Librdkafka => "librdkafka",
            Library::Java => "java",
            Library::Ours => "ours",
        }
    }

    fn command(self) -> Result<Command> {
        Ok(match self {
            Library::Librdkafka => {
                let mut python = Command::new(place::cache()?.join("python/bin/python"));
                python.arg(place::manifests().join("clients/python/confluent_chaos.py"));
                python
            }
            Library::Java => {
                oracle::java(&place::manifests().join("clients/java/Chaos.java").display().to_string(), 256)?
            }
            Library::Ours => {
                let mut ours = Command::new(std::env::current_exe()?);
                ours.arg("client");
                ours
            }
        })
    }
}

/// A running program; dropping it kills it.
pub struct Client {
    library: Library,
    child: Child,
    commands: ChildStdin,
    journal: PathBuf,
}

impl Client {
    #[expect(clippy::too_many_arguments, reason = "what a program is told")]
    pub fn start(
        library: Library,
        network: &Network,
        host: &Host,
        bootstrap: &str,
        topic: &Topic,
        place: u32,
        random: &mut Random,
        folder: &Path,
        pause: Duration,
    ) -> Result<Client> {
        let bare = library.command()?;
        let mut command = network.command(host, Path::new(bare.get_program()));
        command.args(bare.get_args());
        let partitions = topic.partitions.to_string();
        command.args(["--bootstrap", bootstrap, "--topic", &topic.name, "--partitions", &partitions]);
        command.args(["--first", &((place + 1) * NAMES).to_string()]);
        // A seed that every language can hold.
        command.args(["--seed", &random.below(1 << 31).to_string(), "--pause", &pause.as_secs_f64().to_string()]);
        let journal = folder.join(format!("{}.journal", library.name()));
        let words = File::create(folder.join(format!("{}.log", library.name())))?;
        command.stdin(Stdio::piped()).stdout(File::create(&journal)?).stderr(words);
        let mut child = command.spawn().with_context(|| format!("cannot start the client {}", library.name()))?;
        let commands = child.stdin.take().context("it has a standard input")?;
        Ok(Client { library, child, commands, journal })
    }

    pub fn name(&self) -> &'static str {
        self.library.name()
    }

    /// Nothing more is sent; what is under way comes to its end, see [`Client::wait_stopped`].
    pub fn stop(&mut self) -> Result<()> {
        self.tell("stop")
    }

    pub fn wait_stopped(&mut self) -> Result<()> {
        patience::until(&format!("the producers of {} to end", self.name()), STOP_BOUND, || {
            self.expect_running()?;
            ensure!(self.journal_text()?.contains(DONE), "they have not");
            Ok(())
        })
    }

    /// Its readers read to these ends, and then it ends.
    pub fn finish(&mut self, ends: &[i64]) -> Result<()> {
        let ends: Vec<String> = ends.iter().map(i64::to_string).collect();
        self.tell(&format!("finish {}", ends.join(" ")))
    }

    /// The end; whoever has not caught up has complained.
    pub fn wait(&mut self) -> Result<()> {
        let status = patience::until(&format!("{} to end", self.library.name()), FINISH_BOUND, || {
            self.child.try_wait()?.context("it runs")
        })?;
        ensure!(status.success(), "the client {} ended with {status}", self.name());
        Ok(())
    }

    pub fn expect_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the client {} ended with {status}", self.name()),
        }
    }

    pub fn add_to(&self, journal: &mut Journal) -> Result<()> {
        journal.read(self.name(), &self.journal_text()?)
    }

    fn journal_text(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.journal)?)
    }

    fn tell(&mut self, words: &str) -> Result<()> {
        writeln!(self.commands, "{words}").with_context(|| format!("the client {} does not listen", self.name()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended; the test's own result matters more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
