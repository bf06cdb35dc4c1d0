//! `make oracle`: a real Apache Kafka to compare with by hand; it ends when this process does.
#![allow(clippy::disallowed_methods, reason = "a tool: it reads its arguments")]

use anyhow::Result;
use tests_e2e::oracle::{Kafka, OracleConfig};

fn main() -> Result<()> {
    let port = std::env::args().nth(1).map(|port| port.parse()).transpose()?;
    let kafka = Kafka::start(&OracleConfig { port, ..OracleConfig::default() })?;
    println!("Apache Kafka serves on {}; press Enter to stop it", kafka.bootstrap());
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
