//! Signals and panics, on a process of its own: this test binary, started again with a role to play.
#![allow(clippy::disallowed_methods, reason = "a test of processes")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use service_kit::logs::{LogConfig, LogFormat};
use service_kit::trace::TraceConfig;
use service_kit::{Shutdown, Tasks};

const ROLE: &str = "SERVICE_KIT_TEST_ROLE";

/// Not a test by itself: what the started process does.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let log = LogConfig { format: LogFormat::Json, ..LogConfig::default() };
        let _guard = service_kit::logs::init("role", &log, &TraceConfig::default()).unwrap();
        let shutdown = Shutdown::on_signals().unwrap();
        let mut tasks = Tasks::new();
        tasks.spawn("idle", {
            let requested = shutdown.requested();
            async move {
                requested.await;
                Ok(())
            }
        });
        if role == "panic" {
            tasks.spawn("doomed", async { panic!("invariant R5 broken") });
        }
        eprintln!("up");
        let drain = async {
            if role == "slow" {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            eprintln!("drained");
            Ok(())
        };
        tasks.run(&shutdown, drain, Duration::from_secs(60)).await
    });
    std::process::exit(i32::from(ended.is_err()));
}

fn start(role: &str) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    (child, stderr)
}

fn wait_for(stderr: &mut impl BufRead, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        assert!(stderr.read_line(&mut seen).unwrap() > 0, "ended before {text:?}: {seen}");
    }
    seen
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn sigterm_drains_and_ends_well() {
    let (mut child, mut stderr) = start("quick");
    wait_for(&mut stderr, "up");
    send(&child, Signal::TERM);
    let seen = wait_for(&mut stderr, "drained");
    assert!(seen.contains(r#""signal":"SIGTERM""#), "{seen}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let (mut child, mut stderr) = start("slow");
    wait_for(&mut stderr, "up");
    send(&child, Signal::INT);
    wait_for(&mut stderr, "a second signal stops at once");
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
}

#[test]
fn a_panic_is_logged_and_aborts() {
    let (mut child, mut stderr) = start("panic");
    let mut seen = String::new();
    stderr.read_to_string(&mut seen).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::ABORT.as_raw()));
    let line = seen.lines().find(|line| line.contains("panic: the process ends")).unwrap();
    assert!(line.starts_with('{') && line.contains("invariant R5 broken") && line.contains("process.rs"), "{line}");
}
