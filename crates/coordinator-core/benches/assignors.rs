//! How long the server-side assignors take. Prints figures; judges nothing.
//!
//! ```text
//! cargo bench --package coordinator-core --bench assignors
//! ```

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use base_types::TopicId;
use coordinator_core::assignor::{Assignor, Group, Member, Partitions, Topic};

fn main() {
    for (members, topics, partitions) in [(10, 9, 100), (10, 900, 1), (1_000, 100, 100), (1_000, 10, 1_000)] {
        for &assignor in Assignor::ALL {
            for (kind, is_mixed, has_racks) in [("alike", false, false), ("racks", false, true), ("mixed", true, false)]
            {
                run(assignor, members, topics, partitions, kind, is_mixed, has_racks);
            }
        }
    }
}

fn run(
    assignor: Assignor,
    members: usize,
    topics: usize,
    partitions: usize,
    kind: &str,
    is_mixed: bool,
    has_racks: bool,
) {
    let racks = ["a", "b", "c"];
    let id = |number: usize| TopicId((number as u128 + 1).to_be_bytes());
    let ids: Vec<String> = (0..members).map(|number| format!("member-{number:04}")).collect();
    // Mixed: each member leaves out one topic in four, another one each.
    let subscribed: Vec<BTreeSet<TopicId>> = (0..members)
        .map(|member| (0..topics).filter(|topic| !is_mixed || (topic + member) % 4 != 0).map(id).collect())
        .collect();
    let none = Partitions::new();
    let shape = || Topic {
        partitions,
        racks: (0..partitions).map(|index| vec![racks[index % 3], racks[(index + 1) % 3]]).collect(),
    };
    let group = |count: usize, targets: &'static [Partitions]| Group {
        members: (0..count)
            .map(|index| Member {
                member_id: ids[index].clone().leak(),
                instance_id: None,
                rack: has_racks.then(|| racks[index % 3]),
                subscribed: Box::leak(Box::new(subscribed[index].clone())),
                target: targets.get(index).unwrap_or(Box::leak(Box::new(none.clone()))),
            })
            .collect(),
        topics: (0..topics).map(|number| (id(number), shape())).collect::<BTreeMap<_, _>>(),
    };
    let timed = |group: &Group<'_>| {
        let start = Instant::now();
        let targets = assignor.assign(group);
        (start.elapsed().as_secs_f64() * 1e3, targets)
    };
    let (from_nothing, targets) = timed(&group(members, &[]));
    let (one_leaves, _) = timed(&group(members - 1, targets.leak()));
    let (_, half) = timed(&group(members / 2, &[]));
    let (doubles, _) = timed(&group(members, half.leak()));
    let total = topics * partitions;
    println!(
        "{:7} {kind:5} {members:5} members {topics:4} topics {total:6} partitions: \
         from nothing {from_nothing:8.2} ms, one leaves {one_leaves:8.2} ms, group doubles {doubles:8.2} ms",
        assignor.name()
    );
}
