//! `thalweg`, the operator's tool: every verb against a cluster of real processes, what it prints and how it ends.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_e2e::cluster::{Cluster, ClusterSpec};
use tests_e2e::dev::Dev;
use tests_e2e::{place, wait};

/// What a run of the tool came to.
#[derive(Debug)]
struct Ran {
    code: i32,
    printed: String,
    said: String,
}

impl Ran {
    fn json(&self) -> Result<Value> {
        ensure!(self.code == 0, "{self:?}");
        serde_json::from_str(&self.printed).with_context(|| format!("{self:?}"))
    }

    /// One column of the rows.
    fn column(&self, name: &str) -> Result<Vec<Value>> {
        column(&self.json()?, name)
    }

    /// One column of the rows that are a part of the answer.
    fn column_of(&self, part: &str, name: &str) -> Result<Vec<Value>> {
        column(&self.json()?[part], name)
    }

    fn refused(&self, code: i32, with: &str) -> Result<()> {
        ensure!(self.code == code && self.said.contains(with), "expected {code} and `{with}`: {self:?}");
        Ok(())
    }
}

fn column(rows: &Value, name: &str) -> Result<Vec<Value>> {
    Ok(rows.as_array().context("no rows")?.iter().map(|row| row[name].clone()).collect())
}

struct Tool {
    bootstrap: String,
}

impl Tool {
    fn command(&self, arguments: &str) -> Result<Command> {
        let mut command = Command::new(place::binary("thalweg")?);
        command.args(arguments.split_whitespace()).args(["--bootstrap", &self.bootstrap]);
        Ok(command)
    }

    fn run(&self, arguments: &str) -> Result<Ran> {
        self.run_with(arguments, "")
    }

    /// Its rows as JSON.
    fn ask(&self, arguments: &str) -> Result<Ran> {
        self.run(&format!("{arguments} --output json"))
    }

    fn run_with(&self, arguments: &str, input: &str) -> Result<Ran> {
        let mut command = self.command(arguments)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        Ok(Ran {
            code: output.status.code().unwrap_or(-1),
            printed: String::from_utf8(output.stdout)?,
            said: String::from_utf8(output.stderr)?,
        })
    }

    fn done(&self, arguments: &str) -> Result<String> {
        let ran = self.run(arguments)?;
        ensure!(ran.code == 0, "thalweg {arguments}: {ran:?}");
        Ok(ran.printed)
    }

    /// Sends so many records to partition 0, `1` and up.
    fn produce(&self, topic: &str, count: usize) -> Result<()> {
        let lines: String = (1..=count).map(|number| format!("{number}\n")).collect();
        let ran = self.run_with(&format!("produce {topic} --partition 0"), &lines)?;
        ensure!(ran.code == 0 && ran.said.contains(&format!("{count} records sent")), "{ran:?}");
        Ok(())
    }
}

fn dev() -> Result<(Dev, Tool)> {
    let dev = Dev::start()?;
    let tool = Tool { bootstrap: dev.bootstrap() };
    Ok((dev, tool))
}

#[test]
fn topics_are_trimmed_and_grown() -> Result<()> {
    let (dev, tool) = dev()?;
    tool.done("topic create t --partitions 2")?;
    tool.produce("t", 30)?;
    let planned = tool.ask("topic trim t --before end --dry-run")?;
    assert_eq!(planned.column("new_log_start_offset")?, [json!(30), json!(0)]);
    assert_eq!(tool.ask("topic describe t")?.column_of("partitions", "log_start_offset")?, [json!(0), json!(0)]);
    let trimmed = tool.ask("topic trim t --partition 0 --before 10")?;
    assert_eq!(trimmed.json()?, json!([{"partition": 0, "log_start_offset": 0, "new_log_start_offset": 10}]));
    assert_eq!(tool.done("consume t --exit --count 1")?, "11\n");
    let record = tool.ask("consume t --exit --count 1")?.json()?;
    assert_eq!((&record["offset"], &record["value"]), (&json!(10), &json!("11")));
    assert_eq!(tool.run("consume t --exit --count 1 --json")?.json()?, record);
    tool.run("topic trim t --partition 0 --before 31")?.refused(1, "OFFSET_OUT_OF_RANGE")?;
    tool.run("topic trim t --partition 0 --before 31 --dry-run")?.refused(1, "beyond the end")?;
    tool.run("topic trim t --partition 2 --before end")?.refused(2, "no partition 2")?;
    tool.run("topic trim nothing --before end")?.refused(1, "UNKNOWN_TOPIC_OR_PARTITION")?;
    tool.run("topic trim t --before soon")?.refused(2, "a bound is end or an offset")?;

    tool.done("topic add-partitions t --total 3 --dry-run")?;
    assert_eq!(tool.ask("topic describe t")?.column_of("partitions", "partition")?.len(), 2);
    tool.done("topic add-partitions t --total 3")?;
    assert_eq!(tool.ask("topic describe t")?.column_of("partitions", "partition")?.len(), 3);
    tool.run("topic add-partitions t --total 3")?.refused(1, "INVALID_PARTITIONS")?;
    tool.done("topic delete t")?;
    tool.run("topic describe t")?.refused(1, "UNKNOWN_TOPIC_OR_PARTITION")?;
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn groups_read_commit_and_are_set_back() -> Result<()> {
    let (dev, tool) = dev()?;
    tool.done("topic create t --partitions 2")?;
    tool.produce("t", 20)?;
    // Read in two goes: the second goes on where the first ended.
    assert_eq!(tool.done("consume t --group g --count 5")?, "1\n2\n3\n4\n5\n");
    let rest = tool.done("consume t --group g --exit")?;
    assert_eq!(rest.lines().count(), 15, "{rest}");
    assert_eq!(tool.done("consume t --group g --exit")?, "");

    let listed = tool.ask("group ls")?;
    let of_g = json!([{"group": "g", "state": "Empty", "type": "consumer", "protocol_type": "consumer"}]);
    assert_eq!(listed.json()?, of_g);
    let described = tool.ask("group describe g")?;
    assert!(described.said.contains("group g: Empty") && described.said.contains("0 records behind"), "{described:?}");
    assert_eq!(
        (described.column("committed")?, described.column("lag")?),
        (vec![json!(20), json!(0)], vec![json!(0), json!(0)])
    );
    tool.run("group describe nobody")?.refused(1, "nobody")?;

    // Back and forth, planned and done.
    let to = |how: &str| -> Result<Vec<Value>> {
        tool.ask(&format!("group reset g --topic t:0 {how}"))?.column("new_offset")
    };
    assert_eq!(to("--to-earliest --dry-run")?, [json!(0)]);
    assert_eq!(tool.ask("group describe g")?.column("lag")?, [json!(0), json!(0)]);
    assert_eq!(to("--to-offset 7")?, [json!(7)]);
    assert_eq!(tool.ask("group describe g")?.column("lag")?, [json!(13), json!(0)]);
    assert_eq!(to("--shift-by -3")?, [json!(4)]);
    assert_eq!(to("--shift-by 100")?, [json!(20)]);
    assert_eq!(to("--to-timestamp 1970-01-01T00:00:00Z")?, [json!(0)]);
    assert_eq!(to("--to-timestamp 4102444800000")?, [json!(20)]);
    assert_eq!(to("--to-earliest")?, [json!(0)]);
    assert_eq!(tool.ask("group reset g --all-topics --to-latest")?.column("new_offset")?, [json!(20), json!(0)]);
    assert_eq!(tool.ask("group reset new --topic t --to-earliest")?.column("committed")?, [json!(null), json!(null)]);
    tool.run("group reset g --topic t")?.refused(2, "--to-earliest")?;
    tool.run("group reset g --topic nothing --to-earliest")?.refused(1, "UNKNOWN_TOPIC_OR_PARTITION")?;
    tool.run("group reset g --topic t --to-timestamp soon")?.refused(2, "milliseconds since 1970")?;

    tool.done("group delete-offsets g --topic t:1 --dry-run")?;
    assert_eq!(tool.ask("group describe g")?.column("partition")?, [json!(0), json!(1)]);
    tool.done("group delete-offsets g --topic t:1")?;
    assert_eq!(tool.ask("group describe g")?.column("partition")?, [json!(0)]);
    assert_eq!(tool.ask("group delete g --dry-run")?.column("committed")?, [json!(20)]);
    tool.done("group delete g")?;
    tool.run("group delete g")?.refused(1, "GROUP_ID_NOT_FOUND")?;
    assert_eq!(tool.ask("group ls")?.column("group")?, [json!("new")]);
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_group_that_is_read_is_watched_and_not_meddled_with() -> Result<()> {
    let (dev, tool) = dev()?;
    tool.done("topic create t --partitions 2")?;
    tool.produce("t", 3)?;
    let mut reader = tool.command("consume t --group g")?.stdout(Stdio::piped()).spawn()?;
    let looked = wait::until("the reader to have read all", Duration::from_secs(30), || {
        let looked = tool.ask("group describe g")?;
        Ok((looked.code == 0 && looked.column("lag")? == [json!(0), json!(0)]).then_some(looked))
    })?;
    assert!(looked.said.contains("group g: Stable") && looked.said.contains("1 members"), "{looked:?}");
    assert_eq!(looked.column("client")?, [json!("thalweg"), json!("thalweg")]);
    let members = tool.ask("group describe g --members")?;
    assert_eq!(members.column("partitions")?, [json!(["t-0", "t-1"])]);
    for meddling in ["group reset g --topic t --to-earliest", "group delete g", "group delete g --dry-run"] {
        tool.run(meddling)?.refused(1, "stop them first")?;
    }
    tool.run("group delete-offsets g --topic t")?.refused(1, "GROUP_SUBSCRIBED_TO_TOPIC")?;

    // Watched: looked at again and again, until interrupted.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("watched");
    let mut watcher = tool.command("group describe g --watch 1")?.stdout(std::fs::File::create(&file)?).spawn()?;
    let times = || Ok::<_, anyhow::Error>(std::fs::read_to_string(&file)?.matches("TOPIC").count());
    wait::until("a second look", Duration::from_secs(30), || Ok((times()? >= 2).then_some(())))?;
    watcher.kill()?;
    watcher.wait()?;

    // A reader that is interrupted leaves its group at once, and ends well.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(reader.id())?).context("no pid")?,
        rustix::process::Signal::INT,
    )?;
    ensure!(reader.wait()?.success(), "the reader failed");
    let after = tool.ask("group describe g")?;
    assert!(after.said.contains("group g: Empty"), "{after:?}");
    tool.done("group delete g")?;
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn configs_are_described_and_altered() -> Result<()> {
    let (dev, tool) = dev()?;
    tool.done("topic create t")?;
    tool.done("config alter topic:t --set retention.ms=60000 --set cleanup.policy=delete --dry-run")?;
    let set = |resource: &str| -> Result<Vec<(String, String)>> {
        let described = tool.ask(&format!("config describe {resource}"))?;
        let text = |value: &Value| value.as_str().unwrap_or("null").to_owned();
        Ok(described.column("name")?.iter().map(text).zip(described.column("value")?.iter().map(text)).collect())
    };
    let has = |resource: &str, name: &str, value: &str| -> Result<bool> {
        Ok(set(resource)?.contains(&(name.to_owned(), value.to_owned())))
    };
    ensure!(!has("topic:t", "retention.ms", "60000")?, "set by a dry run");
    tool.done("config alter topic:t --set retention.ms=60000")?;
    assert_eq!(tool.ask("topic describe t")?.json()?["configs"], json!({ "retention.ms": "60000" }));
    assert!(tool.done("topic describe t")?.contains("retention.ms=60000"));
    ensure!(has("topic:t", "retention.ms", "60000")?, "not set");
    tool.done("config alter topic:t --append cleanup.policy=compact")?;
    ensure!(has("topic:t", "cleanup.policy", "delete,compact")?, "{:?}", set("topic:t")?);
    tool.done("config alter topic:t --subtract cleanup.policy=compact --unset retention.ms")?;
    ensure!(!has("topic:t", "retention.ms", "60000")? && has("topic:t", "cleanup.policy", "delete")?, "not unset");
    let all = tool.ask("config describe topic:t --all")?.column("name")?;
    assert!(all.len() > 25 && all.contains(&json!("max.message.bytes")), "{all:?}");
    tool.done("config alter cluster --set message.max.bytes=2000000")?;
    ensure!(
        has("cluster", "message.max.bytes", "2000000")? && has("topic:t", "max.message.bytes", "2000000")?,
        "not inherited"
    );
    tool.done("config alter broker:1 --set leader.replication.throttled.rate=1000000")?;
    ensure!(has("broker:1", "leader.replication.throttled.rate", "1000000")?, "{:?}", set("broker:1")?);
    tool.run("config alter topic:t --set no.such=1")?.refused(1, "INVALID_CONFIG")?;
    tool.run("config alter topic:t")?.refused(2, "nothing to alter")?;
    tool.run("config describe topic:nothing")?.refused(1, "UNKNOWN_TOPIC_OR_PARTITION")?;
    tool.run("config describe t")?.refused(2, "a resource is topic:NAME")?;
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn what_cannot_be_reached_is_said_and_has_its_own_exit_code() -> Result<()> {
    let tool = Tool { bootstrap: "127.0.0.1:1".to_owned() };
    tool.run("topic ls")?.refused(3, "is the cluster running")?;
    tool.run("group ls")?.refused(3, "is the cluster running")?;
    tool.run("no-such-verb")?.refused(2, "no-such-verb")
}

#[test]
fn partitions_are_moved_and_given_leaders() -> Result<()> {
    let cluster = Cluster::start(ClusterSpec::default())?;
    let tool = Tool { bootstrap: cluster.bootstrap() };
    tool.done("topic create t --partitions 2 --replication-factor 2")?;
    tool.produce("t", 1000)?;
    let planned = tool.ask("partitions move t --to 1,2 --dry-run")?;
    assert_eq!(planned.column("new_replicas")?, [json!([1, 2]), json!([2, 1])]);
    tool.done("partitions move t --to 1,2 --wait")?;
    assert_eq!(tool.ask("topic describe t")?.column_of("partitions", "replicas")?, [json!([1, 2]), json!([2, 1])]);
    tool.done("partitions move t --partition 0 --to 3,1 --wait")?;
    assert_eq!(tool.ask("topic describe t")?.column_of("partitions", "replicas")?, [json!([3, 1]), json!([2, 1])]);
    assert_eq!(tool.ask("partitions moves")?.json()?, json!([]));
    assert_eq!(tool.done("consume t --exit")?.lines().count(), 1000);
    tool.run("partitions move t --partition 0 --cancel")?.refused(1, "NO_REASSIGNMENT_IN_PROGRESS")?;
    tool.done("partitions move t --cancel")?;
    tool.run("partitions move t --to 1,9")?.refused(1, "INVALID_REPLICA_ASSIGNMENT")?;
    tool.run("partitions move t")?.refused(2, "--to")?;

    // The first replicas lead after an election, whoever led before.
    tool.done("partitions elect t")?;
    assert_eq!(tool.ask("topic describe t")?.column_of("partitions", "leader")?, [json!(3), json!(2)]);
    assert_eq!(tool.ask("partitions elect")?.json()?, json!([]));
    assert_eq!(tool.ask("partitions elect t --partition 1 --unclean")?.json()?, json!([]));
    tool.run("partitions elect t --partition 5")?.refused(2, "no partition 5")?;

    let status = tool.ask("cluster status")?;
    assert_eq!(status.column_of("brokers", "broker")?, [json!(1), json!(2), json!(3)]);
    let status = status.json()?;
    assert_eq!(column(&status["quorum"]["voters"], "id")?.len(), 3, "{status}");
    assert_eq!(status["ailing_partitions"], json!([]));
    assert_eq!(cluster.unexpected_errors(&[]), Vec::<String>::new());
    Ok(())
}
