//! C1, C2, C4, C5, C11, R14 and P7: what the controllers decided, and everybody's view of it.

use std::collections::{BTreeMap, VecDeque};

use base_types::{BrokerEpoch, BrokerId, ProducerId};
use peer_api::metadata::{Image, MetadataOffset};

use crate::world::ProcessId;

/// Committed metadata kept to compare views with.
const IMAGES_KEPT: usize = 64;

/// Over the whole run.
#[derive(Debug, Default)]
pub struct Controllers {
    leaders: BTreeMap<u64, i32>,
    /// In order of offset.
    images: VecDeque<Image>,
    /// How far each process had come in its present life.
    views: BTreeMap<ProcessId, (u64, MetadataOffset)>,
    epochs: BTreeMap<BrokerId, BrokerEpoch>,
    next_producer_id: Option<(MetadataOffset, ProducerId)>,
    /// The newest offset that anybody has seen.
    newest: MetadataOffset,
    /// The newest term that anybody has heard of.
    term: u64,
}

impl Controllers {
    /// C1: who leads the quorum in which term.
    pub fn leads(&mut self, term: u64, controller: i32) -> Result<(), String> {
        let known = *self.leaders.entry(term).or_insert(controller);
        if known == controller {
            Ok(())
        } else {
            Err(format!("C1: term {term} is led by controllers {known} and {controller}"))
        }
    }

    /// A controller has come to this term.
    pub fn votes(&mut self, term: u64) {
        self.term = self.term.max(term);
    }

    /// C2: whoever decides in the newest term has all that was committed in those before: nothing that anybody has seen is missing.
    pub fn decides(&self, term: u64, controller: i32, committed: MetadataOffset) -> Result<(), String> {
        if term < self.term || committed >= self.newest {
            Ok(())
        } else {
            Err(format!(
                "C2: controller {controller} decides in term {term} from {committed} on, and {} was committed",
                self.newest
            ))
        }
    }

    /// C4: what the leader of the newest term counts as confirmed by a voter is on that voter's disk.
    pub fn confirmed(&self, term: u64, voter: BrokerId, confirmed: u64, durable: u64) -> Result<(), String> {
        if term < self.term || confirmed <= durable {
            Ok(())
        } else {
            Err(format!(
                "C4: controller {voter} has confirmed {confirmed} in term {term}, and {durable} is durable there"
            ))
        }
    }

    /// C2, C5: what a controller has applied. Whatever was applied anywhere at the same offset is the same.
    pub fn applied(&mut self, controller: i32, image: &Image) -> Result<(), String> {
        self.newest = self.newest.max(image.at());
        let place = self.images.partition_point(|known| known.at() < image.at());
        match self.images.get(place) {
            Some(known) if known.at() == image.at() => {
                if known != image {
                    return Err(format!("C5: controller {controller} has other metadata at {}", image.at()));
                }
            }
            _ => {
                self.check_progress(image)?;
                self.images.insert(place, image.clone());
                if self.images.len() > IMAGES_KEPT {
                    self.images.pop_front();
                }
            }
        }
        Ok(())
    }

    /// C11, W4: a view is what was committed at that offset, and never goes back.
    pub fn viewed(&mut self, who: ProcessId, life: u64, image: &Image) -> Result<(), String> {
        self.newest = self.newest.max(image.at());
        let before = self.views.insert(who, (life, image.at()));
        if let Some((before_life, at)) = before
            && before_life == life
        {
            if at > image.at() {
                return Err(format!("C11: {who} is at {} after {at}", image.at()));
            }
            if at == image.at() {
                return Ok(());
            }
        }
        let place = self.images.partition_point(|known| known.at() < image.at());
        let known = self.images.get(place).filter(|known| known.at() == image.at());
        if known.is_some_and(|known| known != image) {
            return Err(format!("C11: {who} has other metadata than were committed at {}", image.at()));
        }
        Ok(())
    }

    /// The newest committed metadata, unless somebody has seen newer ones that no running controller has.
    pub fn newest(&self) -> Option<&Image> {
        self.images.back().filter(|image| image.at() == self.newest)
    }

    /// R14, P7: what only grows.
    fn check_progress(&mut self, image: &Image) -> Result<(), String> {
        if self.images.back().is_some_and(|newest| newest.at() > image.at()) {
            return Ok(());
        }
        for broker in image.brokers() {
            let before = self.epochs.insert(broker.id, broker.epoch);
            if before.is_some_and(|before| before > broker.epoch) {
                return Err(format!("R14: {} is registered under {} after {before:?}", broker.id, broker.epoch));
            }
        }
        let next = image.next_producer_id();
        let before = self.next_producer_id.replace((image.at(), next));
        if before.is_some_and(|(_, before)| before > next) {
            return Err(format!("P7: producer ids from {next} on are given at {}, after {before:?}", image.at()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use peer_api::metadata::Record;

    use super::*;

    fn image(at: u64, cluster_id: &str) -> Image {
        let mut image = Image::default();
        image.apply(&Record::ClusterNamed { cluster_id: cluster_id.to_owned() });
        image.advance(MetadataOffset(at));
        image
    }

    #[test]
    fn a_term_has_one_leader() {
        let mut controllers = Controllers::default();
        assert_eq!(controllers.leads(1, 1), Ok(()));
        assert_eq!(controllers.leads(2, 2), Ok(()));
        assert!(controllers.leads(1, 2).unwrap_err().starts_with("C1"));
    }

    #[test]
    fn who_decides_in_the_newest_term_has_all_that_was_seen() {
        let mut controllers = Controllers::default();
        controllers.votes(1);
        assert_eq!(controllers.applied(1, &image(5, "a")), Ok(()));
        assert_eq!(controllers.decides(1, 1, MetadataOffset(5)), Ok(()));
        controllers.votes(3);
        assert_eq!(controllers.decides(2, 2, MetadataOffset(4)), Ok(()), "one of the past that does not know");
        assert!(controllers.decides(3, 3, MetadataOffset(4)).unwrap_err().starts_with("C2"));
    }

    #[test]
    fn what_the_leader_of_the_newest_term_counts_is_durable() {
        let mut controllers = Controllers::default();
        controllers.votes(2);
        assert_eq!(controllers.confirmed(2, BrokerId(1), 7, 7), Ok(()));
        assert_eq!(controllers.confirmed(1, BrokerId(1), 7, 6), Ok(()), "what a later leader has had removed");
        assert!(controllers.confirmed(2, BrokerId(1), 7, 6).unwrap_err().starts_with("C4"));
    }

    #[test]
    fn what_is_applied_at_an_offset_is_the_same_everywhere() {
        let mut controllers = Controllers::default();
        assert_eq!(controllers.applied(1, &image(5, "a")), Ok(()));
        assert_eq!(controllers.applied(2, &image(5, "a")), Ok(()));
        assert!(controllers.applied(3, &image(5, "b")).unwrap_err().starts_with("C5"));
    }

    #[test]
    fn a_view_is_what_was_committed_and_does_not_go_back_in_one_life() {
        let mut controllers = Controllers::default();
        for at in 4..6 {
            assert_eq!(controllers.applied(1, &image(at, "a")), Ok(()));
        }
        let node = ProcessId::Storage(1);
        assert_eq!(controllers.viewed(node, 1, &image(5, "a")), Ok(()));
        assert!(controllers.viewed(node, 1, &image(4, "a")).unwrap_err().starts_with("C11"));
        assert_eq!(controllers.viewed(node, 2, &image(4, "a")), Ok(()));
        assert!(controllers.viewed(node, 3, &image(5, "b")).unwrap_err().starts_with("C11"));
        assert!(controllers.newest().is_some());
        assert_eq!(controllers.viewed(node, 4, &image(9, "a")), Ok(()));
        assert!(controllers.newest().is_none(), "somebody has seen more than any controller that runs");
    }
}
