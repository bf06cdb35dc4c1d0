//! `thalweg group reset`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::offsets::{Place, commit, committed, ends, expanded};
use super::{Group, must_be_empty};
use crate::cli::Reset;
use crate::client::Client;
use crate::command::topic::{EARLIEST, LATEST};
use crate::failure::Failure;
use crate::output::Table;

const COMMIT_VERSION: i16 = 8;

pub fn run(options: &Reset) -> Result<(), Failure> {
    let name = &options.name;
    let mut client = Client::connect(&options.target.bootstrap)?;
    // A group that nobody knows is made by the first commit.
    if let Ok(group) = Group::find(&mut client, name) {
        must_be_empty(name, &group)?;
    }
    let before = committed(&mut client, name)?;
    let places =
        if options.all_topics { before.keys().cloned().collect() } else { expanded(&mut client, &options.topic)? };
    let wanted = wanted(&mut client, options, &places, &before)?;
    if !options.dry_run && !wanted.is_empty() {
        commit(&mut client, COMMIT_VERSION, name, None, &wanted)?;
    }
    let mut table = Table::new(&["topic", "partition", "committed", "new_offset"]);
    for (place, offset) in &wanted {
        table.row(vec![json!(place.0), json!(place.1), json!(before.get(place)), json!(offset)]);
    }
    table.print(options.target.output);
    Ok(())
}

/// The new offsets, each where there are records or the next one.
fn wanted(
    client: &mut Client,
    options: &Reset,
    places: &BTreeSet<Place>,
    before: &BTreeMap<Place, i64>,
) -> Result<BTreeMap<Place, i64>, Failure> {
    let earliest = ends(client, places.iter(), EARLIEST)?;
    let latest = ends(client, places.iter(), LATEST)?;
    let at_time = match options.to_timestamp {
        Some(timestamp) => ends(client, places.iter(), timestamp)?,
        None => BTreeMap::new(),
    };
    let mut wanted = BTreeMap::new();
    for place in places {
        let (topic, partition) = place;
        let known = earliest.get(place).zip(latest.get(place));
        let (earliest, latest) = known
            .ok_or_else(|| Failure::Failed(format!("nobody can say where {topic}-{partition} begins and ends")))?;
        let offset = if options.to_earliest {
            *earliest
        } else if options.to_latest {
            *latest
        } else if let Some(offset) = options.to_offset {
            offset
        } else if let Some(by) = options.shift_by {
            let nothing = || Failure::Failed(format!("nothing is committed for {topic}-{partition} to shift from"));
            before.get(place).ok_or_else(nothing)?.saturating_add(by)
        } else {
            // Nothing is that young: what comes next.
            at_time.get(place).copied().filter(|offset| *offset >= 0).unwrap_or(*latest)
        };
        let nearest = offset.clamp(*earliest, *latest);
        if nearest != offset {
            eprintln!("{topic}-{partition}: there is no offset {offset}; the nearest is {nearest}");
        }
        wanted.insert(place.clone(), nearest);
    }
    Ok(wanted)
}
