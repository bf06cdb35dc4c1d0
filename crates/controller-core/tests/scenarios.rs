//! Scenario files: commands and what came of them, recorded.
//!
//! A line that begins with `> ` is a command to one controller that is the only voter; the lines below it are what it sent and
//! how the metadata changed. `UPDATE=1 cargo test -p controller-core --test scenarios` writes them anew: read the diff.

#[path = "scenarios/harness.rs"]
mod harness;

use std::path::Path;

use harness::Harness;

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its files and one variable")]
fn scenarios_give_what_is_recorded() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 6, "{files:?}");
    for path in files {
        let recorded = std::fs::read_to_string(&path).unwrap();
        let mut harness = Harness::new();
        let mut output = String::new();
        for line in recorded.lines() {
            if let Some(command) = line.strip_prefix("> ") {
                output.push_str(&format!("> {command}\n{}", harness.run(command)));
            } else if line.starts_with('#') || line.is_empty() {
                output.push_str(line);
                output.push('\n');
            }
        }
        if std::env::var("UPDATE").is_ok() {
            std::fs::write(&path, output).unwrap();
        } else {
            assert!(recorded == output, "{}:\n{}", path.display(), difference(&recorded, &output));
        }
    }
}

fn difference(recorded: &str, output: &str) -> String {
    let line = recorded.lines().zip(output.lines()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.lines().skip(line.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n  ");
    format!("line {}:\nrecorded\n  {}\ngot\n  {}", line + 1, around(recorded), around(output))
}

/// Whatever a node led, its successors are elected by one proposal, so that all of them lead at the same moment.
#[test]
fn three_thousand_partitions_of_a_failed_node_change_in_one_update() {
    let mut harness = Harness::new();
    for command in ["up 1 2 3", "create 3 t 3000 3", "bye 1"] {
        harness.run(command);
    }
    let told = harness.run("tick 200");
    assert_eq!(told.lines().filter(|line| line.starts_with("2: delta")).count(), 1);
    let shown = harness.run("show");
    let partitions: Vec<&str> = shown.lines().filter(|line| line.starts_with("t-")).collect();
    assert_eq!(partitions.len(), 3000);
    for partition in partitions {
        let led = partition.contains("leader=2") || partition.contains("leader=3");
        assert!(led && (partition.contains("isr=2,3") || partition.contains("isr=3,2")), "{partition}");
    }
}
