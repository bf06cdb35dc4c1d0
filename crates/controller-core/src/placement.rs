//! Where the replicas of new partitions go.
//!
//! Brokers are lined up so that neighbours are in different racks. Each partition's first replica is the next broker of the
//! line; the others follow it, first those in racks that have none yet. After each turn round the line the followers start one
//! place further on, so that the loss of one broker spreads over all the others. Fenced brokers come last and never first.

use std::collections::BTreeMap;

use base_types::{BrokerId, Random};
use peer_api::metadata::{BrokerState, Image};

#[derive(Clone, Debug)]
struct Candidate {
    id: BrokerId,
    rack: Option<String>,
}

pub(crate) struct Placement {
    active: Vec<Candidate>,
    fenced: Vec<Candidate>,
    next: usize,
    shift: usize,
}

impl Placement {
    pub(crate) fn new(image: &Image, random: &mut Random) -> Placement {
        let active = line_up(image, BrokerState::Active);
        let fenced = line_up(image, BrokerState::Fenced);
        let next = random.below(active.len() as u64) as usize;
        Placement { active, fenced, next, shift: 0 }
    }

    /// `Err` with Kafka's text, for INVALID_REPLICATION_FACTOR.
    pub(crate) fn check(&self, replication_factor: i16) -> Result<usize, String> {
        let total = self.active.len() + self.fenced.len();
        let refuse =
            |why: String| Err(format!("Unable to replicate the partition {replication_factor} time(s): {why}"));
        match usize::try_from(replication_factor) {
            Err(_) | Ok(0) => refuse(format!(
                "Invalid replication factor {replication_factor}: the replication factor must be positive."
            )),
            Ok(_) if self.active.is_empty() => {
                refuse("All brokers are currently fenced, or have all their log directories cordoned.".to_owned())
            }
            Ok(wanted) if wanted > total => refuse(format!(
                "The target replication factor of {replication_factor} cannot be reached because only {total} broker(s) \
                 are registered or some brokers have all their log directories cordoned."
            )),
            Ok(wanted) => Ok(wanted),
        }
    }

    /// The replicas of one more partition. `wanted` comes from [`Placement::check`].
    pub(crate) fn place(&mut self, wanted: usize) -> Vec<BrokerId> {
        let count = self.active.len();
        let first = self.next % count;
        self.next += 1;
        if self.next.is_multiple_of(count) {
            self.shift += 1;
        }
        let others = count - 1;
        let followers = (0..others).map(|j| &self.active[(first + 1 + (self.shift + j) % others) % count]);
        let mut chosen = vec![&self.active[first]];
        let order: Vec<&Candidate> = followers.chain(&self.fenced).collect();
        for new_racks_only in [true, false] {
            for candidate in &order {
                let rack_is_new = chosen.iter().all(|other| other.rack != candidate.rack);
                let is_new = chosen.iter().all(|other| other.id != candidate.id);
                if chosen.len() < wanted && is_new && (rack_is_new || !new_racks_only) {
                    chosen.push(candidate);
                }
            }
        }
        chosen.iter().map(|candidate| candidate.id).collect()
    }
}

/// One of each rack, then the next of each rack.
fn line_up(image: &Image, state: BrokerState) -> Vec<Candidate> {
    let mut racks: BTreeMap<Option<&str>, Vec<Candidate>> = BTreeMap::new();
    for broker in image.brokers().filter(|broker| broker.state == state) {
        let candidate = Candidate { id: broker.id, rack: broker.rack.clone() };
        racks.entry(broker.rack.as_deref()).or_default().push(candidate);
    }
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|row| racks.values().filter_map(move |rack| rack.get(row).cloned())).collect()
}

#[cfg(test)]
mod tests {
    use base_types::{BrokerEpoch, Incarnation};
    use peer_api::metadata::{Broker, Record};

    use super::*;

    fn image(brokers: &[(i32, Option<&str>, BrokerState)]) -> Image {
        let mut image = Image::default();
        for (id, rack, state) in brokers {
            image.apply(&Record::BrokerRegistered(Broker {
                id: BrokerId(*id),
                epoch: BrokerEpoch(1),
                incarnation: Incarnation::ZERO,
                rack: rack.map(str::to_owned),
                peer_address: String::new(),
                host: String::new(),
                state: *state,
            }));
        }
        image
    }

    #[test]
    fn leaders_and_followers_spread_evenly() {
        let image = image(&[1, 2, 3, 4].map(|id| (id, None, BrokerState::Active)));
        let mut placement = Placement::new(&image, &mut Random::new(1));
        let mut leads = BTreeMap::new();
        let mut pairs = BTreeMap::new();
        for _ in 0..12 {
            let replicas = placement.place(2);
            *leads.entry(replicas[0]).or_insert(0) += 1;
            *pairs.entry((replicas[0], replicas[1])).or_insert(0) += 1;
        }
        assert!(leads.values().all(|&n| n == 3), "{leads:?}");
        assert_eq!(pairs.len(), 12, "every broker is followed by every other: {pairs:?}");
    }

    #[test]
    fn replicas_go_to_different_racks_while_there_are_any() {
        let racks = [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c")];
        let image = image(&racks.map(|(id, rack)| (id, Some(rack), BrokerState::Active)));
        let rack_of = |id: BrokerId| racks.iter().find(|(other, _)| *other == id.0).unwrap().1;
        let mut placement = Placement::new(&image, &mut Random::new(3));
        for _ in 0..50 {
            let replicas = placement.place(3);
            let mut seen: Vec<&str> = replicas.iter().map(|id| rack_of(*id)).collect();
            seen.sort_unstable();
            assert_eq!(seen, ["a", "b", "c"], "{replicas:?}");
        }
    }

    #[test]
    fn fenced_brokers_come_last_and_never_lead() {
        let image = image(&[
            (1, None, BrokerState::Active),
            (2, None, BrokerState::Fenced),
            (3, None, BrokerState::ShuttingDown),
        ]);
        let mut placement = Placement::new(&image, &mut Random::new(3));
        assert_eq!(placement.check(2), Ok(2));
        assert_eq!(placement.place(2), [BrokerId(1), BrokerId(2)]);
        assert!(placement.check(3).unwrap_err().contains("only 2 broker(s) are registered"));
    }
}
