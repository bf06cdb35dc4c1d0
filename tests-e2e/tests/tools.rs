//! Apache Kafka's own Java tools against `thalweg dev`, beside the same against Apache Kafka: for the same cluster state they
//! must print the same, but for what names the cluster, its topic ids and its addresses.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use anyhow::{Context, Result};
use tests_e2e::dev::Dev;
use tests_e2e::oracle::{Kafka, OracleConfig, tool, tool_output};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const PERFORMANCE: &str = "org.apache.kafka.tools.ProducerPerformance";
const VERSIONS: &str = "org.apache.kafka.tools.BrokerApiVersionsCommand";
const QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
const CONSUMER_GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const GROUPS: &str = "org.apache.kafka.tools.GroupsCommand";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";
const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
const FEATURES: &str = "org.apache.kafka.tools.FeatureCommand";
const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";
const PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
const CONSUMER: &str = "org.apache.kafka.tools.VerifiableConsumer";

/// What a tool printed, without what has to differ.
fn comparable(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        // A line of the log begins with the time.
        .map(|line| line.split_once(" ERROR ").map_or(line, |(_, told)| told))
        .map(|line| {
            // Tables are as wide as what stands in them.
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_id = |at: usize| at > 0 && words[at - 1] == "TopicId:";
            let words: Vec<&str> = (0..words.len()).map(|at| if is_id(at) { "ID" } else { words[at] }).collect();
            words.join(" ")
        })
        // Data is in a folder of its own for each.
        .map(|line| match line.split_once("\"log_dirs\":[\"/") {
            Some((before, _)) => before.to_owned(),
            None => line,
        })
        .collect();
    lines.sort();
    lines
}

/// Runs the same on both and compares all that is printed and whether it went well.
fn same(ours: &str, theirs: &str, class: &str, arguments: &[&str]) -> Result<Option<String>> {
    let run = |bootstrap: &str| -> Result<(bool, Vec<String>)> {
        let mut all = vec!["--bootstrap-server", bootstrap];
        all.extend(arguments);
        let output = tool_output(class, &all)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // A failure is told on standard error, with a stack that names Kafka's own lines.
        let cause = String::from_utf8_lossy(&output.stderr)
            .lines()
            .find(|line| line.contains("Exception"))
            .unwrap_or("")
            .to_owned();
        let text = text.replace(bootstrap, "ADDRESS").replace(bootstrap.rsplit(':').next().unwrap_or_default(), "PORT");
        Ok((output.status.success(), comparable(&format!("{text}\n{cause}"))))
    };
    let (ours, theirs) = (run(ours)?, run(theirs)?);
    Ok((ours != theirs).then(|| format!("{class} {arguments:?}\n  ours:   {ours:?}\n  Kafka's: {theirs:?}\n")))
}

#[test]
fn kafkas_java_tools_print_what_they_print_against_kafka() -> Result<()> {
    let dev = Dev::start()?;
    let kafka = Kafka::start(&OracleConfig::default())?;
    let (ours, theirs) = (dev.bootstrap(), kafka.bootstrap());
    let mut differences: Vec<String> = Vec::new();
    let create = ["--create", "--topic", "orders", "--partitions", "3", "--config", "retention.ms=60000"];
    differences.extend(same(&ours, &theirs, TOPICS, &create)?);
    differences.extend(same(&ours, &theirs, TOPICS, &["--create", "--topic", "plain"])?);
    differences.extend(same(&ours, &theirs, TOPICS, &["--list"])?);
    differences.extend(same(&ours, &theirs, TOPICS, &["--describe", "--topic", "orders"])?);
    differences.extend(same(&ours, &theirs, TOPICS, &["--create", "--topic", "orders"])?);
    differences.extend(same(&ours, &theirs, TOPICS, &["--create", "--topic", "wide", "--replication-factor", "3"])?);
    differences.extend(same(&ours, &theirs, TOPICS, &["--create", "--topic", "bad name"])?);
    differences.extend(same(&ours, &theirs, TOPICS, &["--create", "--topic", "odd", "--config", "retention.ms=soon"])?);
    differences.extend(same(&ours, &theirs, TOPICS, &["--alter", "--topic", "plain", "--partitions", "4"])?);
    differences.extend(same(&ours, &theirs, TOPICS, &["--alter", "--topic", "plain", "--partitions", "2"])?);
    differences.extend(same(&ours, &theirs, TOPICS, &["--describe", "--topic", "plain"])?);

    let topic = ["--entity-type", "topics", "--entity-name", "orders"];
    let with = |more: &[&'static str]| -> Vec<&'static str> { topic.iter().chain(more).copied().collect() };
    differences.extend(same(
        &ours,
        &theirs,
        CONFIGS,
        &with(&["--alter", "--add-config", "max.message.bytes=2000000"]),
    )?);
    differences.extend(same(&ours, &theirs, CONFIGS, &with(&["--describe"]))?);
    differences.extend(same(&ours, &theirs, CONFIGS, &with(&["--alter", "--delete-config", "retention.ms"]))?);
    differences.extend(same(&ours, &theirs, CONFIGS, &with(&["--describe"]))?);
    differences.extend(same(&ours, &theirs, CONFIGS, &with(&["--alter", "--add-config", "no.such.config=1"]))?);

    for bootstrap in [&ours, &theirs] {
        let properties = format!("bootstrap.servers={bootstrap}");
        let arguments = [
            "--topic",
            "plain",
            "--num-records",
            "5000",
            "--record-size",
            "100",
            "--throughput",
            "-1",
            "--producer-props",
            &properties,
        ];
        let printed = tool(PERFORMANCE, &arguments)?;
        assert!(printed.contains("5000 records sent"), "{printed}");
    }
    let sum = |bootstrap: &str| -> Result<i64> {
        let printed = tool(OFFSETS, &["--bootstrap-server", bootstrap, "--topic", "plain"])?;
        let offset = |line: &str| line.rsplit(':').next().context("no offset")?.parse::<i64>().context("no number");
        printed.lines().filter(|line| line.starts_with("plain:")).map(offset).sum()
    };
    assert_eq!((sum(&ours)?, sum(&theirs)?), (5000, 5000));
    differences.extend(same(&ours, &theirs, OFFSETS, &["--topic", "orders"])?);
    differences.extend(same(&ours, &theirs, OFFSETS, &["--topic", "orders", "--time", "earliest"])?);
    differences.extend(same(&ours, &theirs, OFFSETS, &["--topic", "plain", "--time", "earliest"])?);
    for (kind, which) in [
        ("preferred", vec!["--all-topic-partitions"]),
        ("preferred", vec!["--topic", "orders", "--partition", "1"]),
        ("unclean", vec!["--topic", "orders", "--partition", "1"]),
        ("preferred", vec!["--topic", "orders", "--partition", "9"]),
        ("preferred", vec!["--topic", "nothing", "--partition", "0"]),
    ] {
        let election = tool_with(&["--election-type", kind], &which);
        differences.extend(same(&ours, &theirs, ELECTION, &election)?);
    }
    differences.extend(same(&ours, &theirs, TOPICS, &["--delete", "--topic", "orders"])?);
    differences.extend(same(&ours, &theirs, TOPICS, &["--describe", "--topic", "orders"])?);

    assert!(differences.is_empty(), "{}", differences.concat());

    let versions = tool(VERSIONS, &["--bootstrap-server", &ours])?;
    for api in ["Produce(0): 0 to 13", "Fetch(1): 4 to 18", "Metadata(3): 0 to 13", "ApiVersions(18): 0 to 4"] {
        assert!(versions.contains(api), "{api} is missing in {versions}");
    }
    let quorum = tool(QUORUM, &["--bootstrap-server", &ours, "describe", "--status"])?;
    assert!(quorum.contains("LeaderId:") && quorum.contains("CurrentVoters:"), "{quorum}");
    let dirs = tool(LOG_DIRS, &["--bootstrap-server", &ours, "--describe", "--topic-list", "plain"])?;
    assert!(dirs.contains("\"partition\":\"plain-3\"") && dirs.contains("\"offsetLag\":0"), "{dirs}");
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn kafkas_group_tools_print_what_they_print_against_kafka() -> Result<()> {
    let dev = Dev::start()?;
    let kafka = Kafka::start(&OracleConfig::default())?;
    let (ours, theirs) = (dev.bootstrap(), kafka.bootstrap());
    for bootstrap in [&ours, &theirs] {
        let at = ["--bootstrap-server", bootstrap];
        tool(TOPICS, &tool_with(&at, &["--create", "--topic", "words", "--partitions", "3"]))?;
        let produce = ["--topic", "words", "--max-messages", "300", "--repeating-keys", "30"];
        let printed = tool(PRODUCER, &tool_with(&at, &produce))?;
        assert!(printed.contains("\"acked\":300"), "{printed}");
        for protocol in ["classic", "consumer"] {
            let consume = ["--topic", "words", "--max-messages", "300", "--reset-policy", "earliest"];
            let group = ["--group-id", protocol, "--group-protocol", protocol];
            let printed = tool(CONSUMER, &tool_with(&tool_with(&at, &consume), &group))?;
            for event in ["partitions_assigned", "offsets_committed", "shutdown_complete"] {
                assert!(printed.contains(event), "{protocol}: no {event} in {printed}");
            }
        }
    }
    let group = ["--group", "classic"];
    let topic = ["--topic", "words"];
    let reset = ["--group", "classic", "--topic", "words:1", "--reset-offsets", "--to-offset", "2"];
    let commands: Vec<(&str, Vec<&str>)> = vec![
        (CONSUMER_GROUPS, vec!["--list"]),
        (CONSUMER_GROUPS, vec!["--list", "--state"]),
        (CONSUMER_GROUPS, vec!["--list", "--type"]),
        (CONSUMER_GROUPS, tool_with(&["--describe"], &group)),
        (CONSUMER_GROUPS, tool_with(&["--describe", "--members"], &group)),
        (CONSUMER_GROUPS, tool_with(&["--describe", "--state"], &group)),
        (CONSUMER_GROUPS, vec!["--describe", "--group", "consumer"]),
        (CONSUMER_GROUPS, vec!["--describe", "--state", "--group", "consumer"]),
        (CONSUMER_GROUPS, vec!["--describe", "--group", "nobody"]),
        (CONSUMER_GROUPS, tool_with(&reset, &["--dry-run"])),
        (CONSUMER_GROUPS, tool_with(&reset, &["--execute"])),
        (CONSUMER_GROUPS, tool_with(&["--describe", "--offsets"], &group)),
        (CONSUMER_GROUPS, tool_with(&["--delete-offsets", "--group", "consumer"], &topic)),
        (CONSUMER_GROUPS, vec!["--describe", "--group", "consumer"]),
        (CONSUMER_GROUPS, vec!["--delete", "--group", "consumer"]),
        (CONSUMER_GROUPS, vec!["--delete", "--group", "nobody"]),
        (GROUPS, vec!["--list"]),
        // The groups' own topic is one like any other to those who delete topics.
        (TOPICS, vec!["--create", "--topic", "__consumer_offsets"]),
        (TOPICS, vec!["--delete", "--topic", "__consumer_offsets"]),
        (TOPICS, vec!["--list"]),
        (CONSUMER_GROUPS, vec!["--list"]),
    ];
    let mut differences = Vec::new();
    for (class, arguments) in commands {
        differences.extend(same(&ours, &theirs, class, &arguments)?);
    }
    assert!(differences.is_empty(), "{}", differences.concat());
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn kafkas_tool_that_deletes_records_prints_what_it_prints_against_kafka() -> Result<()> {
    let dev = Dev::start()?;
    let kafka = Kafka::start(&OracleConfig::default())?;
    let (ours, theirs) = (dev.bootstrap(), kafka.bootstrap());
    for bootstrap in [&ours, &theirs] {
        let at = ["--bootstrap-server", bootstrap];
        tool(TOPICS, &tool_with(&at, &["--create", "--topic", "words", "--partitions", "1"]))?;
        let kept = ["--create", "--topic", "kept", "--config", "cleanup.policy=compact"];
        tool(TOPICS, &tool_with(&at, &kept))?;
        let printed = tool(PRODUCER, &tool_with(&at, &["--topic", "words", "--max-messages", "300"]))?;
        assert!(printed.contains("\"acked\":300"), "{printed}");
        // A consumer that comes and goes makes the topic of the groups.
        let consume = ["--topic", "words", "--max-messages", "1", "--reset-policy", "earliest", "--group-id", "g"];
        tool(CONSUMER, &tool_with(&at, &consume))?;
    }
    let folder = std::env::temp_dir().join(format!("thalweg-delete-records-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("offsets.json");
    let path = file.display().to_string();
    let mut differences = Vec::new();
    // A partition that does not exist is looked for by the tool for a minute, and never asked about.
    let asks = [
        ("words", 0, 100),
        ("words", 0, 40),
        ("words", 0, 301),
        ("words", 0, -2),
        ("kept", 0, 0),
        ("__consumer_offsets", 0, 0),
        ("words", 0, -1),
    ];
    for (topic, partition, offset) in asks {
        let ask = format!(r#"{{"topic": "{topic}", "partition": {partition}, "offset": {offset}}}"#);
        std::fs::write(&file, format!(r#"{{"partitions": [{ask}], "version": 1}}"#))?;
        differences.extend(same(&ours, &theirs, DELETE_RECORDS, &["--offset-json-file", &path])?);
        differences.extend(same(&ours, &theirs, OFFSETS, &["--topic", "words", "--time", "earliest"])?);
        differences.extend(same(&ours, &theirs, OFFSETS, &["--topic", "words", "--time", "latest"])?);
    }
    std::fs::remove_dir_all(&folder)?;
    assert!(differences.is_empty(), "{}", differences.concat());
    let earliest = tool(OFFSETS, &["--bootstrap-server", &ours, "--topic", "words", "--time", "earliest"])?;
    assert!(earliest.contains("words:0:300"), "{earliest}");
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn kafkas_tool_that_moves_partitions_prints_what_it_prints_against_kafka() -> Result<()> {
    let dev = Dev::start()?;
    let kafka = Kafka::start(&OracleConfig::default())?;
    let (ours, theirs) = (dev.bootstrap(), kafka.bootstrap());
    for bootstrap in [&ours, &theirs] {
        let at = ["--bootstrap-server", bootstrap];
        tool(TOPICS, &tool_with(&at, &["--create", "--topic", "words", "--partitions", "2"]))?;
    }
    let folder = tempfile::tempdir()?;
    let (topics, moves) = (folder.path().join("topics.json"), folder.path().join("moves.json"));
    std::fs::write(&topics, r#"{"topics": [{"topic": "words"}], "version": 1}"#)?;
    let (topics, moves) = (topics.display().to_string(), moves.display().to_string());
    let generate = ["--generate", "--topics-to-move-json-file", &topics, "--broker-list", "1"];
    let mut differences = Vec::new();
    differences.extend(same(&ours, &theirs, REASSIGN, &generate)?);
    // There is one broker: whatever moves is where it is to be, and what is not cannot be.
    for target in
        [("words", 0, "[1]"), ("words", 0, "[2]"), ("words", 7, "[1]"), ("nothing", 0, "[1]"), ("words", 0, "[]")]
    {
        let (topic, partition, replicas) = target;
        let one = format!(r#"{{"topic": "{topic}", "partition": {partition}, "replicas": {replicas}}}"#);
        std::fs::write(&moves, format!(r#"{{"partitions": [{one}], "version": 1}}"#))?;
        for verb in [vec!["--execute"], vec!["--execute", "--throttle", "1000000"], vec!["--verify"], vec!["--cancel"]]
        {
            // The others would wait for the broker that is not there, to set or take away its throttle, for a minute at either.
            // Of a topic that is not there only the code is the same when its throttle is taken away, and not the text.
            if (replicas == "[2]" && verb != ["--execute"])
                || (topic == "nothing" && (verb == ["--verify"] || verb == ["--cancel"]))
            {
                continue;
            }
            let arguments = tool_with(&["--reassignment-json-file", &moves], &verb);
            differences.extend(same(&ours, &theirs, REASSIGN, &arguments)?.map(|text| format!("{target:?}: {text}")));
        }
    }
    differences.extend(same(&ours, &theirs, REASSIGN, &["--list"])?);
    differences.extend(same(&ours, &theirs, TOPICS, &["--describe", "--topic", "words"])?);
    let throttled = ["--entity-type", "brokers", "--entity-name", "1", "--alter", "--add-config"];
    let rates = "leader.replication.throttled.rate=1000,follower.replication.throttled.rate=2000";
    differences.extend(same(&ours, &theirs, CONFIGS, &tool_with(&throttled, &[rates]))?);
    differences.extend(same(
        &ours,
        &theirs,
        CONFIGS,
        &tool_with(&throttled, &["leader.replication.throttled.rate=x"]),
    )?);
    differences.extend(same(
        &ours,
        &theirs,
        CONFIGS,
        &tool_with(&throttled, &["leader.replication.throttled.rate=-1"]),
    )?);
    let of_all = ["--entity-type", "brokers", "--entity-default", "--alter", "--add-config"];
    differences.extend(same(
        &ours,
        &theirs,
        CONFIGS,
        &tool_with(&of_all, &["leader.replication.throttled.rate=1000"]),
    )?);
    assert!(differences.is_empty(), "{}", differences.concat());
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

/// Kafka knows features that we do not have; what it says of ours must be the same.
#[test]
fn kafkas_tool_for_features_prints_what_it_prints_against_kafka() -> Result<()> {
    let dev = Dev::start()?;
    let kafka = Kafka::start(&OracleConfig::default())?;
    let (ours, theirs) = (dev.bootstrap(), kafka.bootstrap());
    let described = |bootstrap: &str| -> Result<Vec<String>> {
        let printed = tool(FEATURES, &["--bootstrap-server", bootstrap, "describe"])?;
        let known = ["eligible.leader.replicas.version", "group.version", "metadata.version"];
        let is_known = |line: &&str| line.split_whitespace().nth(1).is_some_and(|name| known.contains(&name));
        let lines = printed.lines().filter(is_known);
        // The epoch is a position in the metadata.
        Ok(lines.map(|line| line.split("Epoch:").next().unwrap_or_default().to_owned()).collect())
    };
    let (of_ours, of_theirs) = (described(&ours)?, described(&theirs)?);
    assert_eq!((of_ours.len(), &of_ours), (3, &of_theirs));
    let mut differences = Vec::new();
    for arguments in [
        vec!["upgrade", "--feature", "group.version=1"],
        vec!["downgrade", "--feature", "group.version=0", "--dry-run"],
        vec!["downgrade", "--feature", "group.version=0"],
        vec!["upgrade", "--feature", "group.version=1"],
        vec!["upgrade", "--feature", "group.version=9"],
        vec!["upgrade", "--feature", "metadata.version=31"],
        vec!["downgrade", "--feature", "group.version=0", "--unsafe"],
        vec!["upgrade", "--feature", "group.version=1", "--dry-run"],
    ] {
        differences.extend(same(&ours, &theirs, FEATURES, &arguments)?);
    }
    differences.extend(same(&ours, &theirs, CLUSTER, &["unregister", "--id", "77"])?);
    assert!(differences.is_empty(), "{}", differences.concat());
    assert_eq!(described(&ours)?, described(&theirs)?);
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

fn tool_with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    first.iter().chain(more).copied().collect()
}
