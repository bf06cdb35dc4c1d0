//! What becomes of one partition when its ISR changes, its leader may no longer lead (KIP-966), or its replicas move (KIP-455).
//!
//! ```text
//!   a member leaves, ISR then ≥ min.insync.replicas   it is out
//!   a member leaves, ISR then < min.insync.replicas   it goes to the ELR: the high watermark stands still, so it lacks nothing
//!   leader                                            stays if it may; else ISR, else ELR (when the ISR is empty), else the last
//!                                                     known leader, else – only if configured – anyone, else none
//!   the leader is of neither ISR nor ELR              the history is unclean since its epoch: what was committed before may go
//!   everyone who is to stay is in the ISR             the move is complete: the others are replicas no more (R19)
//!   a replica goes, or is found damaged               another leader epoch, so that nothing it said before counts if it returns
//! ```

use std::collections::BTreeSet;

use base_types::{BrokerId, planted};
use peer_api::metadata::PartitionState;

/// What holds for the partition and its brokers at this moment.
pub(crate) struct Circumstances<'a> {
    /// `min.insync.replicas`, as configured.
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
    /// Under another leader epoch, whoever leads: what a member said before counts no more.
    pub(crate) new_epoch: bool,
    /// Lead by the preferred replica if it may.
    pub(crate) prefer_first: bool,
    /// Who the replicas are to be; `None`: who they are.
    pub(crate) replicas: Option<Replicas>,
}

/// The replicas of a partition and those among them that a move brings or takes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replicas {
    pub(crate) all: Vec<BrokerId>,
    pub(crate) adding: Vec<BrokerId>,
    pub(crate) removing: Vec<BrokerId>,
}

impl Replicas {
    pub(crate) fn of(state: &PartitionState) -> Replicas {
        Replicas { all: state.replicas.clone(), adding: state.adding.clone(), removing: state.removing.clone() }
    }

    /// On the way from these to `target`: those that go stand at the end until everyone else is in sync.
    pub(crate) fn towards(&self, target: &[BrokerId]) -> Replicas {
        let sorted = |ids: Vec<BrokerId>| ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
        let arrives = |id: &&BrokerId| !self.all.contains(id) || self.adding.contains(id);
        let adding = sorted(target.iter().filter(arrives).copied().collect());
        let removing = sorted(self.all.iter().filter(|id| !target.contains(id)).copied().collect());
        let all = target.iter().chain(&removing).copied().collect();
        Replicas { all, adding, removing }
    }

    /// As they were before the move that is under way.
    pub(crate) fn reverted(&self) -> Replicas {
        let all = self.all.iter().filter(|id| !self.adding.contains(id)).copied().collect();
        Replicas { all, adding: Vec::new(), removing: Vec::new() }
    }

    /// As they are once the move is complete.
    pub(crate) fn moved(&self) -> Replicas {
        let all = self.all.iter().filter(|id| !self.removing.contains(id)).copied().collect();
        Replicas { all, adding: Vec::new(), removing: Vec::new() }
    }
}

/// The new state, or `None` when nothing changes.
pub(crate) fn apply(old: &PartitionState, change: &Change, now: &Circumstances<'_>) -> Option<PartitionState> {
    let mut replicas = change.replicas.clone().unwrap_or_else(|| Replicas::of(old));
    let moved = replicas.moved();
    let complete = moved.all.iter().all(|id| change.isr.contains(id));
    if complete || (planted!(MoveDropsReplicasEarly) && !replicas.removing.is_empty()) {
        replicas = moved;
    }
    // No more than there are replicas: a topic with two of them and `min.insync.replicas=3` would take no write at all.
    let min_isr = now.min_isr.clamp(1, replicas.all.len().max(1));
    let mut isr: Vec<BrokerId> = change.isr.iter().filter(|id| replicas.all.contains(id)).copied().collect();
    let mut elr = if isr.len() >= min_isr && !planted!(ElrNotCleared) {
        Vec::new()
    } else {
        let held = |id: &BrokerId| old.elr.contains(id) || old.isr.contains(id);
        let kept =
            |id: &BrokerId| held(id) && !isr.contains(id) && (change.lost != Some(*id) || planted!(LostStaysEligible));
        replicas.all.iter().copied().filter(|id| kept(id)).collect()
    };
    let mut last_known_elr = old.last_known_elr.clone();
    if isr.is_empty()
        && let Some(leader) = old.leader
    {
        last_known_elr = vec![leader];
    }
    last_known_elr.retain(|id| replicas.all.contains(id));
    // The only replica is elected again whatever it lost: nobody else has more.
    if change.wiped && replicas.all.len() > 1 {
        last_known_elr.retain(|id| change.lost != Some(*id));
    }

    let lacks_nothing =
        |id: BrokerId| (now.eligible)(id) && (isr.contains(&id) || (isr.is_empty() && elr.contains(&id)));
    let preferred = replicas.all.first().copied().filter(|_| change.prefer_first);
    let mut candidates = preferred.into_iter().chain(old.leader).chain(replicas.all.iter().copied());
    let clean = candidates.find(|id| lacks_nothing(*id));
    let leader = match clean {
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
            let anyone = || replicas.all.iter().copied().find(|id| now.unclean && (now.eligible)(*id));
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
    if isr.len() >= min_isr && !planted!(ElrNotCleared) {
        elr.clear();
    }

    let all_stay = old.replicas.iter().all(|id| replicas.all.contains(id));
    let is_unclean = leader.is_some() && clean.is_none();
    let same = leader == old.leader && all_stay && !is_unclean && !change.new_epoch;
    let leader_epoch = if same || planted!(LeaderEpochKept) { old.leader_epoch } else { old.leader_epoch.next() };
    let new = PartitionState {
        replicas: replicas.all,
        isr,
        elr,
        last_known_elr,
        leader,
        leader_epoch,
        partition_epoch: old.partition_epoch,
        adding: replicas.adding,
        removing: replicas.removing,
        unclean_since: if is_unclean { Some(leader_epoch) } else { old.unclean_since },
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
            ..PartitionState::default()
        }
    }

    /// The result as `isr elr last-known leader leader-epoch`, and since when it is unclean.
    fn show(new: Option<PartitionState>) -> String {
        let list = |ids: &[BrokerId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match new {
            None => "unchanged".to_owned(),
            Some(new) => {
                assert_eq!(new.partition_epoch, PartitionEpoch(10));
                let leader = new.leader.map_or("none".to_owned(), |id| id.to_string());
                let unclean = new.unclean_since.map_or(String::new(), |epoch| format!(" unclean since {epoch}"));
                format!(
                    "isr=[{}] elr=[{}] known=[{}] leader={leader} epoch={}{unclean}",
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
        let shown = "isr=[2] elr=[] known=[] leader=2 epoch=5 unclean since 5";
        assert_eq!(with(&[1, 2], 2, false, &old, &to_isr(&[])), shown);
        assert_eq!(with(&[1], 2, false, &old, &to_isr(&[])), "unchanged");
        let shown = "isr=[3] elr=[] known=[] leader=3 epoch=5 unclean since 5";
        assert_eq!(with(&[3], 2, true, &old, &to_isr(&[])), shown);
    }

    /// What is cut under a clean election must not be taken for the loss that an unclean one allows (R12).
    #[test]
    fn only_an_unclean_election_says_since_when_the_history_is_unclean() {
        let old = PartitionState { unclean_since: Some(LeaderEpoch(2)), ..state(&[1, 2], &[], &[], Some(1)) };
        let shown = "isr=[2] elr=[1] known=[] leader=2 epoch=5 unclean since 2";
        assert_eq!(with(&[2], 2, true, &old, &to_isr(&[2])), shown, "from the ISR, though anyone would do");
        let old = PartitionState { leader: None, isr: Vec::new(), elr: ids(&[1]), ..old };
        let shown = "isr=[1] elr=[] known=[] leader=1 epoch=5 unclean since 2";
        assert_eq!(with(&[1, 2], 1, true, &old, &to_isr(&[])), shown, "from the ELR");
        let shown = "isr=[2] elr=[] known=[] leader=2 epoch=5 unclean since 5";
        assert_eq!(with(&[2], 1, true, &old, &to_isr(&[])), shown);
    }

    /// A leader that comes back without its end begins another epoch, or nobody would cut theirs.
    #[test]
    fn a_leader_that_is_elected_again_uncleanly_begins_an_epoch() {
        let old = PartitionState { replicas: ids(&[1]), ..state(&[1], &[], &[], Some(1)) };
        let lost = Change { lost: Some(BrokerId(1)), ..Change::default() };
        let shown = "isr=[1] elr=[] known=[] leader=1 epoch=5 unclean since 5";
        assert_eq!(with(&[1], 1, false, &old, &lost), shown);
    }

    #[test]
    fn the_preferred_replica_leads_only_from_the_isr() {
        let prefer = |isr: &[i32]| Change { prefer_first: true, ..to_isr(isr) };
        let old = state(&[2, 1], &[], &[], Some(2));
        assert_eq!(with(&[1, 2], 1, false, &old, &prefer(&[2, 1])), "isr=[2,1] elr=[] known=[] leader=1 epoch=5");
        let old = state(&[2, 3], &[], &[], Some(2));
        assert_eq!(with(&[1, 2, 3], 1, false, &old, &prefer(&[2, 3])), "unchanged");
    }

    fn shown_move(new: Option<PartitionState>) -> String {
        let list = |ids: &[BrokerId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let text = show(new.clone());
        new.map_or(text.clone(), |new| {
            format!("{} +[{}] -[{}] {text}", list(&new.replicas), list(&new.adding), list(&new.removing))
        })
    }

    fn moving(alive: &[i32], min_isr: usize, old: &PartitionState, change: &Change) -> String {
        let eligible = |id: BrokerId| alive.contains(&id.0);
        shown_move(apply(old, change, &Circumstances { min_isr, unclean: false, eligible: &eligible }))
    }

    #[test]
    fn a_move_is_complete_when_all_who_stay_are_in_sync_and_the_leader_epoch_grows_when_one_goes() {
        let old = state(&[1, 2, 3], &[], &[], Some(1));
        let target = Replicas::of(&old).towards(&ids(&[4, 2, 3]));
        let begun = Change { replicas: Some(target), ..to_isr(&[1, 2, 3]) };
        let now = Circumstances { min_isr: 2, unclean: false, eligible: &|_| true };
        let all = [1, 2, 3, 4];
        let shown = "4,2,3,1 +[4] -[1] isr=[1,2,3] elr=[] known=[] leader=1 epoch=4";
        assert_eq!(moving(&all, 2, &old, &begun), shown);
        let old = PartitionState { partition_epoch: PartitionEpoch(9), ..apply(&old, &begun, &now).unwrap() };
        let shown = "4,2,3,1 +[4] -[1] isr=[1,2,4] elr=[] known=[] leader=1 epoch=4";
        assert_eq!(moving(&all, 2, &old, &to_isr(&[1, 2, 4])), shown, "3 is to stay and is not in sync");
        let shown = "4,2,3 +[] -[] isr=[2,3,4] elr=[] known=[] leader=4 epoch=5";
        assert_eq!(moving(&all, 2, &old, &to_isr(&[1, 2, 3, 4])), shown);
        let led_by_2 = PartitionState { leader: Some(BrokerId(2)), ..old };
        let shown = "4,2,3 +[] -[] isr=[2,3,4] elr=[] known=[] leader=2 epoch=5";
        assert_eq!(
            moving(&all, 2, &led_by_2, &to_isr(&[1, 2, 3, 4])),
            shown,
            "1 may come back: its words of epoch 4 are void"
        );
    }

    #[test]
    fn another_order_or_fewer_replicas_need_no_waiting() {
        let old = state(&[1, 2, 3], &[], &[], Some(1));
        let to =
            |target: &[i32]| Change { replicas: Some(Replicas::of(&old).towards(&ids(target))), ..to_isr(&[1, 2, 3]) };
        let shown = "3,2,1 +[] -[] isr=[1,2,3] elr=[] known=[] leader=1 epoch=4";
        assert_eq!(moving(&[1, 2, 3], 2, &old, &to(&[3, 2, 1])), shown);
        let shown = "3 +[] -[] isr=[3] elr=[] known=[] leader=3 epoch=5";
        assert_eq!(moving(&[1, 2, 3], 2, &old, &to(&[3])), shown, "one replica is enough where there is one");
    }

    #[test]
    fn a_move_that_is_changed_under_way_goes_back_to_the_first_replicas() {
        let first = Replicas { all: ids(&[1, 2]), adding: Vec::new(), removing: Vec::new() };
        let second = first.towards(&ids(&[3, 2]));
        let same = second.towards(&ids(&[3, 2]));
        assert_eq!(same, second, "asked for twice");
        let third = second.towards(&ids(&[3, 4]));
        assert_eq!((third.adding.clone(), third.removing.clone()), (ids(&[3, 4]), ids(&[1, 2])));
        assert_eq!(third.reverted().all, ids(&[1, 2]));
        assert_eq!(second.reverted().all, ids(&[2, 1]), "in the order that Kafka gives them");
    }

    #[test]
    fn a_replica_that_goes_is_in_no_set_of_those_who_may_lead() {
        let old = PartitionState { removing: ids(&[1]), ..state(&[], &[1, 2], &[1], None) };
        let back = Change {
            replicas: Some(Replicas { all: ids(&[2, 3]), adding: Vec::new(), removing: Vec::new() }),
            ..to_isr(&[])
        };
        let shown = "2,3 +[] -[] isr=[] elr=[2] known=[] leader=none epoch=5";
        assert_eq!(moving(&[3], 2, &old, &back), shown);
    }
}
