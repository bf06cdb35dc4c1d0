//! What becomes of one partition when its ISR changes or its leader may no longer lead (KIP-966).
//!
//! ```text
//!   a member leaves, ISR then ≥ min.insync.replicas   it is out
//!   a member leaves, ISR then < min.insync.replicas   it goes to the ELR: the high watermark stands still, so it lacks nothing
//!   leader                                            stays if it may; else ISR, else ELR (when the ISR is empty), else the last
//!                                                     known leader, else – only if configured – anyone, else none
//! ```

use base_types::BrokerId;
use peer_api::metadata::PartitionState;

/// What holds for the partition and its brokers at this moment.
pub(crate) struct Circumstances<'a> {
    pub(crate) min_isr: usize,
    /// `unclean.leader.election.enable`.
    pub(crate) unclean: bool,
    /// Registered, not fenced, not shutting down.
    pub(crate) eligible: &'a dyn Fn(BrokerId) -> bool,
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) isr: Vec<BrokerId>,
    /// May lack what it had: out of ISR and ELR (R13).
    pub(crate) lost: Option<BrokerId>,
    /// Lacks everything: not even worth electing as the last known leader.
    pub(crate) wiped: bool,
    /// Lead by the preferred replica if it may.
    pub(crate) prefer_first: bool,
}

/// The new state, or `None` when nothing changes.
pub(crate) fn apply(old: &PartitionState, change: &Change, now: &Circumstances<'_>) -> Option<PartitionState> {
    let mut isr = change.isr.clone();
    let mut elr = if isr.len() >= now.min_isr {
        Vec::new()
    } else {
        let held = |id: &BrokerId| old.elr.contains(id) || old.isr.contains(id);
        let kept = |id: &BrokerId| held(id) && !isr.contains(id) && change.lost != Some(*id);
        old.replicas.iter().copied().filter(|id| kept(id)).collect()
    };
    let mut last_known_elr = old.last_known_elr.clone();
    if isr.is_empty()
        && let Some(leader) = old.leader
    {
        last_known_elr = vec![leader];
    }
    // The only replica is elected again whatever it lost: nobody else has more.
    if change.wiped && old.replicas.len() > 1 {
        last_known_elr.retain(|id| change.lost != Some(*id));
    }

    let clean = |id: BrokerId| (now.eligible)(id) && (isr.contains(&id) || (isr.is_empty() && elr.contains(&id)));
    let preferred = old.replicas.first().copied().filter(|_| change.prefer_first);
    let candidates = preferred.into_iter().chain(old.leader).chain(old.replicas.iter().copied());
    let leader = match candidates.into_iter().find(|id| clean(*id)) {
        Some(leader) => {
            if !isr.contains(&leader) {
                isr = vec![leader];
                elr.retain(|id| *id != leader);
            }
            Some(leader)
        }
        None => {
            let alone = isr.is_empty() && elr.is_empty();
            let last_known = match last_known_elr[..] {
                [id] if alone && (now.eligible)(id) => Some(id),
                _ => None,
            };
            let anyone = || old.replicas.iter().copied().find(|id| now.unclean && (now.eligible)(*id));
            let leader = last_known.or_else(anyone);
            if let Some(leader) = leader {
                isr = vec![leader];
                elr.clear();
            }
            leader
        }
    };
    if leader.is_some() {
        last_known_elr.clear();
    }
    // From here on the high watermark may move without the members of the ELR.
    if isr.len() >= now.min_isr {
        elr.clear();
    }

    let leader_epoch = if leader == old.leader { old.leader_epoch } else { old.leader_epoch.next() };
    let new = PartitionState {
        replicas: old.replicas.clone(),
        isr,
        elr,
        last_known_elr,
        leader,
        leader_epoch,
        partition_epoch: old.partition_epoch,
    };
    (new != *old).then(|| PartitionState { partition_epoch: old.partition_epoch.next(), ..new })
}

#[cfg(test)]
mod tests {
    use base_types::{LeaderEpoch, PartitionEpoch};

    use super::*;

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    fn state(isr: &[i32], elr: &[i32], last_known: &[i32], leader: Option<i32>) -> PartitionState {
        PartitionState {
            replicas: ids(&[1, 2, 3]),
            isr: ids(isr),
            elr: ids(elr),
            last_known_elr: ids(last_known),
            leader: leader.map(BrokerId),
            leader_epoch: LeaderEpoch(4),
            partition_epoch: PartitionEpoch(9),
        }
    }

    /// The result as `isr elr last-known leader leader-epoch`.
    fn show(new: Option<PartitionState>) -> String {
        let list = |ids: &[BrokerId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match new {
            None => "unchanged".to_owned(),
            Some(new) => {
                assert_eq!(new.partition_epoch, PartitionEpoch(10));
                let leader = new.leader.map_or("none".to_owned(), |id| id.to_string());
                format!(
                    "isr=[{}] elr=[{}] known=[{}] leader={leader} epoch={}",
                    list(&new.isr),
                    list(&new.elr),
                    list(&new.last_known_elr),
                    new.leader_epoch
                )
            }
        }
    }

    fn with(alive: &[i32], min_isr: usize, unclean: bool, old: &PartitionState, change: &Change) -> String {
        let eligible = |id: BrokerId| alive.contains(&id.0);
        show(apply(old, change, &Circumstances { min_isr, unclean, eligible: &eligible }))
    }

    fn to_isr(isr: &[i32]) -> Change {
        Change { isr: ids(isr), ..Change::default() }
    }

    #[test]
    fn a_member_leaving_a_large_enough_isr_leaves_for_good() {
        let old = state(&[1, 2, 3], &[], &[], Some(1));
        assert_eq!(with(&[2, 3], 2, false, &old, &to_isr(&[2, 3])), "isr=[2,3] elr=[] known=[] leader=2 epoch=5");
        assert_eq!(with(&[1, 2], 2, false, &old, &to_isr(&[1, 2])), "isr=[1,2] elr=[] known=[] leader=1 epoch=4");
        assert_eq!(with(&[1, 2, 3], 2, false, &old, &to_isr(&[1, 2, 3])), "unchanged");
    }

    #[test]
    fn below_the_minimum_the_leaving_members_stay_eligible() {
        let old = state(&[1, 2], &[], &[], Some(1));
        assert_eq!(with(&[2], 2, false, &old, &to_isr(&[2])), "isr=[2] elr=[1] known=[] leader=2 epoch=5");
        let old = state(&[2], &[1], &[], Some(2));
        assert_eq!(with(&[], 2, false, &old, &to_isr(&[])), "isr=[] elr=[1,2] known=[2] leader=none epoch=5");
        let old = state(&[], &[1, 2], &[2], None);
        assert_eq!(with(&[1], 2, false, &old, &to_isr(&[])), "isr=[1] elr=[2] known=[] leader=1 epoch=5");
        assert_eq!(with(&[3], 2, false, &old, &to_isr(&[])), "unchanged", "3 may lack records");
        let old = state(&[1], &[2], &[], Some(1));
        assert_eq!(with(&[1, 3], 2, false, &old, &to_isr(&[1, 3])), "isr=[1,3] elr=[] known=[] leader=1 epoch=4");
    }

    /// Once an ISR of one is enough, the high watermark moves without the others (R3).
    #[test]
    fn an_elected_elr_member_that_is_enough_alone_leaves_no_elr() {
        let old = state(&[], &[1, 2], &[2], None);
        assert_eq!(with(&[1], 1, false, &old, &to_isr(&[])), "isr=[1] elr=[] known=[] leader=1 epoch=5");
    }

    #[test]
    fn what_may_have_lost_data_is_in_neither_set() {
        let lost = Change { isr: ids(&[]), lost: Some(BrokerId(1)), ..Change::default() };
        let old = state(&[1], &[2], &[], Some(1));
        assert_eq!(with(&[], 2, false, &old, &lost), "isr=[] elr=[2] known=[1] leader=none epoch=5");
        let old = state(&[], &[1], &[1], None);
        assert_eq!(with(&[], 2, false, &old, &lost), "isr=[] elr=[] known=[1] leader=none epoch=4");
        let wiped = Change { wiped: true, ..lost };
        assert_eq!(with(&[], 2, false, &old, &wiped), "isr=[] elr=[] known=[] leader=none epoch=4");
        let single = PartitionState { replicas: ids(&[1]), ..old };
        assert_eq!(with(&[], 2, false, &single, &wiped), "isr=[] elr=[] known=[1] leader=none epoch=4");
    }

    #[test]
    fn the_last_known_leader_leads_again_when_no_one_else_can() {
        let old = state(&[], &[], &[2], None);
        assert_eq!(with(&[1, 2], 2, false, &old, &to_isr(&[])), "isr=[2] elr=[] known=[] leader=2 epoch=5");
        assert_eq!(with(&[1], 2, false, &old, &to_isr(&[])), "unchanged");
        assert_eq!(with(&[3], 2, true, &old, &to_isr(&[])), "isr=[3] elr=[] known=[] leader=3 epoch=5");
    }

    #[test]
    fn the_preferred_replica_leads_only_from_the_isr() {
        let prefer = |isr: &[i32]| Change { prefer_first: true, ..to_isr(isr) };
        let old = state(&[2, 1], &[], &[], Some(2));
        assert_eq!(with(&[1, 2], 1, false, &old, &prefer(&[2, 1])), "isr=[2,1] elr=[] known=[] leader=1 epoch=5");
        let old = state(&[2, 3], &[], &[], Some(2));
        assert_eq!(with(&[1, 2, 3], 1, false, &old, &prefer(&[2, 3])), "unchanged");
    }
}
