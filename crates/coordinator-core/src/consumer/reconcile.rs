//! One step of one member towards its target. A pure function on data.
//!
//! ```text
//!                    something to give up            all given up
//!  Stable (epoch e) ──────────────────────► Unrevoked ─────────────┐
//!     │  ▲                                  (stays in e)           ▼
//!     │  └──────────────────────────── Stable (target epoch)  ◄── next step
//!     └── nothing to give up ────────► Unreleased (target epoch): something is still with others
//! ```
//!
//! A member leaves its epoch only after it has said, by what it owns, that it has given up everything taken from it; and it is
//! given only what nobody else holds. That is all of G1: what a member holds is its own until it says otherwise, or is fenced.

use std::collections::BTreeSet;

use base_types::{TopicId, TopicPartition, planted};

use super::member::{Current, State};
use super::partitions::{Owned, Partitions};

pub struct Step<'a> {
    pub target_epoch: i32,
    pub target: &'a Partitions,
    /// Topics the member subscribes to, by name or by regular expression, that exist.
    pub subscribed: &'a BTreeSet<TopicId>,
    /// The member has just changed its subscription: what it subscribes to no more is taken from it at once.
    pub subscription_changed: bool,
    /// What the member says it owns; `None`: it did not say.
    pub owned: Option<&'a Partitions>,
    /// Somebody else holds the partition.
    pub is_held_by_other: &'a dyn Fn(&TopicPartition) -> bool,
}

/// The member must give up everything and join again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced;

impl Step<'_> {
    pub fn take(&self, current: &Current) -> Result<Current, Fenced> {
        match current.state {
            State::Stable if current.epoch != self.target_epoch => Ok(self.next(current)),
            State::Stable if self.subscription_changed => Ok(self.drop_unsubscribed(current)),
            State::Stable => Ok(current.clone()),
            State::UnrevokedPartitions if self.owns_any(&current.pending_revocation) => {
                if self.subscription_changed {
                    Ok(self.drop_unsubscribed(current))
                } else {
                    Ok(current.clone())
                }
            }
            State::UnrevokedPartitions | State::UnreleasedPartitions => Ok(self.next(current)),
            // Only a member without partitions can be reconciled from nothing.
            State::Unknown if self.owned.is_some_and(BTreeSet::is_empty) => {
                Ok(self.next(&Current { epoch: self.target_epoch, ..current.clone() }))
            }
            State::Unknown => Err(Fenced),
        }
    }

    /// A member that does not say what it owns may own everything.
    fn owns_any(&self, partitions: &Owned) -> bool {
        self.owned.is_none_or(|owned| owned.iter().any(|partition| partitions.contains_key(partition)))
    }

    fn is_wanted(&self, partition: &TopicPartition) -> bool {
        self.subscribed.contains(&partition.topic) && self.target.contains(partition)
    }

    fn next(&self, current: &Current) -> Current {
        let (assigned, revoked): (Owned, Owned) =
            current.assigned.iter().partition(|(partition, _)| self.is_wanted(partition));
        if !revoked.is_empty() && self.owns_any(&revoked) && !planted!(RevocationNotAwaited) {
            return Current {
                epoch: current.epoch,
                previous_epoch: current.epoch,
                state: State::UnrevokedPartitions,
                assigned,
                pending_revocation: revoked,
            };
        }
        let missing = self.target.iter().filter(|partition| self.is_wanted(partition));
        let (held, free): (Vec<TopicPartition>, Vec<TopicPartition>) = missing
            .filter(|partition| !assigned.contains_key(partition))
            .partition(|partition| (self.is_held_by_other)(partition));
        let mut assigned = assigned;
        assigned.extend(free.into_iter().map(|partition| (partition, self.target_epoch)));
        Current {
            epoch: self.target_epoch,
            previous_epoch: current.epoch,
            state: if held.is_empty() { State::Stable } else { State::UnreleasedPartitions },
            assigned,
            pending_revocation: Owned::new(),
        }
    }

    /// Cheaper than a whole step, and possible when there is no newer target yet.
    fn drop_unsubscribed(&self, current: &Current) -> Current {
        let (assigned, dropped): (Owned, Owned) =
            current.assigned.iter().partition(|(partition, _)| self.subscribed.contains(&partition.topic));
        if dropped.is_empty() {
            return current.clone();
        }
        let mut pending_revocation = current.pending_revocation.clone();
        pending_revocation.extend(dropped);
        if self.owns_any(&pending_revocation) {
            return Current {
                epoch: current.epoch,
                previous_epoch: current.epoch,
                state: State::UnrevokedPartitions,
                assigned,
                pending_revocation,
            };
        }
        Current { previous_epoch: current.epoch, assigned, ..current.clone() }
    }
}

#[cfg(test)]
mod tests {
    use base_types::PartitionIndex;

    use super::*;

    fn partition(topic: u8, partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId([topic; 16]), partition: PartitionIndex(partition) }
    }

    fn owned(epoch: i32, partitions: &[TopicPartition]) -> Owned {
        partitions.iter().map(|&partition| (partition, epoch)).collect()
    }

    /// Target epoch 2; topics 1 and 2 are subscribed to; `held` is with others.
    fn step(
        current: &Current,
        target: &[TopicPartition],
        says: Option<&[TopicPartition]>,
        held: &[TopicPartition],
        subscription_changed: bool,
    ) -> Result<Current, Fenced> {
        let says: Option<Partitions> = says.map(|says| says.iter().copied().collect());
        Step {
            target_epoch: 2,
            target: &target.iter().copied().collect(),
            subscribed: &[TopicId([1; 16]), TopicId([2; 16])].into(),
            subscription_changed,
            owned: says.as_ref(),
            is_held_by_other: &|partition| held.contains(partition),
        }
        .take(current)
    }

    const A: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex(0) };
    const B: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex(1) };
    const C: TopicPartition = TopicPartition { topic: TopicId([2; 16]), partition: PartitionIndex(0) };

    fn stable(epoch: i32, partitions: &[TopicPartition]) -> Current {
        Current { epoch, previous_epoch: epoch, assigned: owned(epoch, partitions), ..Current::default() }
    }

    #[test]
    fn a_member_in_the_target_epoch_stays_as_it_is() {
        let current = stable(2, &[A]);
        assert_eq!(step(&current, &[A, B], None, &[], false), Ok(current));
    }

    #[test]
    fn what_is_free_is_given_with_the_target_epoch() {
        let next = step(&stable(1, &[A]), &[A, B], None, &[], false).expect("not fenced");
        let assigned: Owned = [(A, 1), (B, 2)].into();
        let expected = Current { epoch: 2, previous_epoch: 1, assigned, ..Current::default() };
        assert_eq!(next, expected);
    }

    #[test]
    fn what_others_hold_is_not_given_and_the_member_waits_in_the_target_epoch() {
        let next = step(&stable(1, &[]), &[A, B], None, &[B], false).expect("not fenced");
        assert_eq!((next.epoch, next.state), (2, State::UnreleasedPartitions));
        assert_eq!(next.assigned, owned(2, &[A]));
        let next = step(&next, &[A, B], None, &[], false).expect("not fenced");
        assert_eq!((next.epoch, next.state, next.assigned), (2, State::Stable, owned(2, &[A, B])));
    }

    #[test]
    fn a_member_stays_in_its_epoch_until_it_has_given_up_what_is_taken() {
        let revoking = step(&stable(1, &[A, B]), &[A, C], Some(&[A, B]), &[], false).expect("not fenced");
        assert_eq!((revoking.epoch, revoking.state), (1, State::UnrevokedPartitions));
        assert_eq!((revoking.assigned.clone(), revoking.pending_revocation.clone()), (owned(1, &[A]), owned(1, &[B])));
        for says in [None, Some(&[A, B][..]), Some(&[B])] {
            assert_eq!(step(&revoking, &[A, C], says, &[], false), Ok(revoking.clone()), "{says:?}");
        }
        let next = step(&revoking, &[A, C], Some(&[A]), &[], false).expect("not fenced");
        assert_eq!((next.epoch, next.state), (2, State::Stable));
        assert_eq!((next.assigned, next.pending_revocation), ([(A, 1), (C, 2)].into(), Owned::new()));
    }

    #[test]
    fn silence_does_not_give_up_anything() {
        let revoking = step(&stable(1, &[A]), &[], None, &[], false).expect("not fenced");
        assert_eq!(revoking.state, State::UnrevokedPartitions);
    }

    #[test]
    fn what_is_not_subscribed_to_is_not_given_and_is_taken_at_once() {
        let other = partition(9, 0);
        let next = step(&stable(1, &[]), &[A, other], Some(&[]), &[], false).expect("not fenced");
        assert_eq!(next.assigned, owned(2, &[A]));

        // No newer target: only the change of the subscription counts.
        let current = stable(2, &[A, other]);
        let revoking = step(&current, &[A, other], Some(&[A, other]), &[], true).expect("not fenced");
        assert_eq!((revoking.epoch, revoking.state), (2, State::UnrevokedPartitions));
        assert_eq!(revoking.pending_revocation, owned(2, &[other]));
        let next = step(&current, &[A, other], Some(&[A]), &[], true).expect("not fenced");
        assert_eq!((next.epoch, next.state, next.assigned), (2, State::Stable, owned(2, &[A])));
    }

    #[test]
    fn a_change_of_subscription_adds_to_what_is_being_taken() {
        let other = partition(9, 0);
        let current =
            Current { state: State::UnrevokedPartitions, pending_revocation: owned(1, &[B]), ..stable(1, &[A, other]) };
        let next = step(&current, &[A], Some(&[A, B, other]), &[], true).expect("not fenced");
        assert_eq!((next.assigned, next.pending_revocation), (owned(1, &[A]), owned(1, &[B, other])));
    }

    #[test]
    fn a_partition_given_up_and_meant_for_the_member_again_comes_back_with_a_new_epoch() {
        let revoking =
            Current { state: State::UnrevokedPartitions, pending_revocation: owned(1, &[B]), ..stable(1, &[A]) };
        let next = step(&revoking, &[A, B], Some(&[A]), &[], false).expect("not fenced");
        assert_eq!((next.state, next.assigned), (State::Stable, [(A, 1), (B, 2)].into()));
    }

    #[test]
    fn a_member_in_a_state_of_a_newer_version_begins_again_without_partitions() {
        let current = Current { state: State::Unknown, ..stable(1, &[A]) };
        assert_eq!(step(&current, &[A], None, &[], false), Err(Fenced));
        assert_eq!(step(&current, &[A], Some(&[A]), &[], false), Err(Fenced));
        let next = step(&current, &[A], Some(&[]), &[], false).expect("not fenced");
        assert_eq!((next.epoch, next.state), (2, State::Stable));
    }
}
