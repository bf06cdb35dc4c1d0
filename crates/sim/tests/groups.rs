//! Groups of both protocols under faults, and the judge of groups itself.

use std::collections::{BTreeMap, BTreeSet};

use base_types::Tick;
use sim::checkers::groups::{Asked, Fetched, Group, GroupProtocol, Judge, Verdict, Who};
use sim::cluster::{Report, Shape, run};

const SEEDS: u64 = 60;

fn assert_holds(report: &Report) {
    if let Some((failure, lines)) = &report.failure {
        for line in lines {
            println!("{line}");
        }
        panic!("seed {}: {failure}; replay it with: make sim SEED={} ARGS=--groups", report.seed, report.seed);
    }
}

#[test]
fn the_same_seed_takes_the_same_way() {
    for seed in [1, 2] {
        let (first, second) = (run(seed, Shape::of_groups(), false), run(seed, Shape::of_groups(), false));
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed} took two ways");
    }
}

#[test]
fn groups_hold_through_crashes_pauses_and_partitions() {
    let reports: Vec<Report> = (1..=SEEDS).map(|seed| run(seed, Shape::of_groups(), false)).collect();
    reports.iter().for_each(assert_holds);
    let commits: usize = reports.iter().map(|report| report.commits).sum();
    let generations: usize = reports.iter().map(|report| report.generations).sum();
    println!("{commits} commits, {generations} generations");
    assert!(commits > 100 * SEEDS as usize, "only {commits} commits were acknowledged: the runs prove little");
    assert!(generations > 12 * SEEDS as usize, "only {generations} generations: the runs prove little");
}

/// Two members, two partitions, sessions of a second.
struct Trial {
    judge: Judge,
    now: Tick,
}

const A: Who = Who { group: 0, slot: 1, process: 1 };
const B: Who = Who { group: 0, slot: 2, process: 2 };
/// Bears the same instance id as A.
const STAND_IN: Who = Who { group: 0, slot: 1, process: 51 };

impl Trial {
    fn new(protocol: GroupProtocol) -> Trial {
        let group =
            Group { name: "tried".to_owned(), partitions: 2, session_ms: 1_000, offsets_expire: false, protocol };
        Trial { judge: Judge::new(vec![group]), now: Tick(0) }
    }

    fn expiring() -> Trial {
        let mut trial = Trial::new(GroupProtocol::Classic);
        let group = Group {
            name: "tried".to_owned(),
            partitions: 2,
            session_ms: 1_000,
            offsets_expire: true,
            protocol: GroupProtocol::Classic,
        };
        trial.judge = Judge::new(vec![group]);
        trial
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    fn ask(&mut self) -> Asked {
        self.judge.ask(0, self.now)
    }

    fn lives(&mut self, who: Who) {
        let asked = self.ask();
        self.judge.lives(who, asked);
    }

    fn sync(&mut self, who: Who, generation: i32, partitions: &[i32]) {
        let asked = self.ask();
        self.sync_asked(who, generation, partitions, asked);
    }

    fn sync_asked(&mut self, who: Who, generation: i32, partitions: &[i32], asked: Asked) {
        let partitions: BTreeSet<i32> = partitions.iter().copied().collect();
        let key = format!("member {}", who.process);
        self.judge.synced(who, &key, generation, asked, &partitions, self.now);
        self.judge.takes(who, &partitions, asked, self.now);
    }

    fn take(&mut self, who: Who, partitions: &[i32]) {
        let asked = self.ask();
        self.judge.takes(who, &partitions.iter().copied().collect(), asked, self.now);
    }

    /// A heartbeat of the consumer protocol.
    fn beat(&mut self, who: Who, epoch: i32, new: &[i32], joins: bool) {
        let asked = self.ask();
        self.judge.heartbeat_answered(who, &who.process.to_string(), epoch, asked, joins, self.now);
        self.judge.lives(who, asked);
        self.judge.takes(who, &new.iter().copied().collect(), asked, self.now);
    }

    /// Its note.
    fn commit(&mut self, who: Who, generation: i32, (partition, offset): (i32, i64), verdict: Verdict) -> String {
        let asked = self.ask();
        let id = self.judge.commits(who, generation, BTreeMap::from([(partition, offset)]), false, self.now);
        self.judge.commit_answered(id, asked, verdict, self.now);
        id.note()
    }

    fn fetch(&mut self, partition: i32, offset: i64, note: &str) {
        let asked = self.ask();
        let fetched = Fetched { partition, offset, note: note.to_owned() };
        self.judge.fetches(0, asked, &[fetched], self.now);
    }

    #[track_caller]
    fn holds(&self) {
        assert_eq!(self.judge.complaint(), None);
    }

    #[track_caller]
    fn breaks(&self, invariant: &str) {
        let complaint = self.judge.complaint().expect("the judge has seen nothing");
        assert!(complaint.starts_with(invariant), "{complaint}");
    }
}

#[test]
fn g1_in_one_generation_nobody_is_assigned_what_another_has() {
    let mut trial = Trial::new(GroupProtocol::Classic);
    trial.sync(A, 1, &[0]);
    trial.sync(B, 1, &[1]);
    trial.sync(A, 1, &[0]);
    trial.holds();
    trial.sync(B, 1, &[0, 1]);
    trial.breaks("G1");
}

#[test]
fn g1_a_partition_is_handed_on_when_it_was_given_up_or_its_member_has_long_been_silent() {
    for is_silent in [false, true] {
        let mut trial = Trial::new(GroupProtocol::Consumer);
        trial.beat(A, 1, &[0, 1], true);
        trial.pass(if is_silent { 1_000 } else { 999 });
        trial.beat(B, 2, &[1], true);
        if is_silent { trial.holds() } else { trial.breaks("G1") }
    }
    let mut trial = Trial::new(GroupProtocol::Consumer);
    trial.beat(A, 1, &[0, 1], true);
    trial.judge.gives_up(A, &BTreeSet::from([1]), trial.now);
    trial.beat(B, 2, &[1], true);
    trial.judge.died(A.process, trial.now);
    trial.beat(B, 3, &[0], false);
    trial.holds();
}

#[test]
fn in_a_mixed_group_each_member_comes_to_an_epoch_by_itself_and_has_what_it_has_alone() {
    let mut trial = Trial::new(GroupProtocol::Mixed);
    trial.sync(A, 1, &[0]);
    trial.lives(A);
    trial.beat(B, 2, &[1], true);
    trial.sync(A, 1, &[0]);
    trial.commit(A, 1, (0, 5), Verdict::Acknowledged);
    trial.holds();
    trial.take(B, &[0]);
    trial.breaks("G1");

    let mut trial = Trial::new(GroupProtocol::Mixed);
    trial.sync(A, 1, &[0]);
    trial.judge.gives_up(A, &BTreeSet::from([0]), trial.now);
    trial.beat(B, 2, &[0], true);
    trial.holds();
    trial.commit(A, 1, (0, 5), Verdict::Acknowledged);
    trial.breaks("G2");
}

#[test]
fn a_mixed_group_counts_from_the_start_only_when_it_may_have_been_without_members() {
    for is_alive in [false, true] {
        let mut trial = Trial::new(GroupProtocol::Mixed);
        trial.beat(B, 7, &[0], true);
        trial.commit(B, 7, (0, 5), Verdict::Acknowledged);
        trial.pass(if is_alive { 999 } else { 1_000 });
        let asked = trial.ask();
        trial.judge.joined(A, 1, asked, trial.now);
        if is_alive { trial.breaks("G6") } else { trial.holds() }
    }
}

#[test]
fn an_answer_that_waited_for_its_member_longer_than_a_session_takes_nothing_from_anybody() {
    for waited_ms in [999, 1_000] {
        let mut trial = Trial::new(GroupProtocol::Consumer);
        let asked = trial.ask();
        trial.beat(B, 1, &[0], true);
        trial.pass(waited_ms);
        let alive = trial.ask();
        trial.judge.lives(B, alive);
        trial.judge.takes(A, &BTreeSet::from([0]), asked, trial.now);
        if waited_ms < 1_000 {
            trial.breaks("G1");
            continue;
        }
        trial.commit(B, 1, (0, 5), Verdict::Acknowledged);
        trial.holds();
        trial.commit(A, 1, (0, 5), Verdict::Acknowledged);
        trial.breaks("G2");
    }
}

#[test]
fn who_was_left_behind_is_not_kept_alive_by_a_coordinator_that_loads() {
    let mut trial = Trial::new(GroupProtocol::Classic);
    trial.sync(A, 1, &[0, 1]);
    trial.lives(A);
    trial.pass(1_000);
    trial.sync(B, 2, &[0, 1]);
    trial.lives(A);
    trial.judge.gives_up(B, &BTreeSet::from([1]), trial.now);
    trial.sync(B, 3, &[1]);
    trial.holds();
}

#[test]
fn g2_a_commit_of_a_generation_that_is_over_must_be_refused() {
    let mut trial = Trial::new(GroupProtocol::Classic);
    trial.sync(A, 1, &[0, 1]);
    trial.commit(A, 1, (0, 5), Verdict::Acknowledged);
    trial.pass(1_000);
    trial.sync(B, 2, &[0]);
    trial.commit(A, 1, (0, 6), Verdict::Refused);
    trial.holds();
    trial.commit(A, 1, (0, 7), Verdict::Acknowledged);
    trial.breaks("G2");
}

#[test]
fn g2_what_was_refused_and_what_may_not_be_taken_must_not_be_seen() {
    for verdict in [Verdict::Refused, Verdict::Unknown] {
        let mut trial = Trial::new(GroupProtocol::Classic);
        trial.sync(A, 1, &[0, 1]);
        trial.pass(1_000);
        trial.sync(B, 2, &[0]);
        let note = trial.commit(A, 1, (0, 6), verdict);
        trial.holds();
        trial.fetch(0, 6, &note);
        trial.breaks("G2");
    }
}

#[test]
fn g2_a_static_member_that_was_replaced_commits_no_more() {
    let mut trial = Trial::new(GroupProtocol::Classic);
    trial.judge.enters(A);
    trial.sync(A, 1, &[0, 1]);
    trial.lives(A);
    trial.judge.enters(STAND_IN);
    trial.sync(STAND_IN, 1, &[]);
    trial.take(STAND_IN, &[0, 1]);
    trial.holds();
    trial.commit(A, 1, (0, 6), Verdict::Acknowledged);
    trial.breaks("G2");
}

#[test]
fn g2_who_gave_a_partition_up_commits_nothing_for_it() {
    let mut trial = Trial::new(GroupProtocol::Consumer);
    trial.beat(A, 1, &[0, 1], true);
    let asked = trial.ask();
    let id = trial.judge.commits(A, 1, BTreeMap::from([(1, 3)]), true, trial.now);
    trial.judge.commit_answered(id, asked, Verdict::Acknowledged, trial.now);
    trial.breaks("G2");
}

#[test]
fn g3_an_acknowledged_commit_is_not_undone() {
    let mut trial = Trial::new(GroupProtocol::Classic);
    trial.sync(A, 1, &[0]);
    let first = trial.commit(A, 1, (0, 5), Verdict::Acknowledged);
    let second = trial.commit(A, 1, (0, 9), Verdict::Acknowledged);
    trial.fetch(0, 9, &second);
    trial.holds();
    trial.fetch(0, 5, &first);
    trial.breaks("G3");
}

#[test]
fn g3_what_was_seen_once_is_as_good_as_acknowledged() {
    let mut trial = Trial::new(GroupProtocol::Classic);
    trial.sync(A, 1, &[0]);
    let first = trial.commit(A, 1, (0, 5), Verdict::Acknowledged);
    let second = trial.commit(A, 1, (0, 9), Verdict::Unknown);
    trial.fetch(0, 5, &first);
    trial.fetch(0, 9, &second);
    trial.holds();
    trial.fetch(0, 5, &first);
    trial.breaks("G3");
}

#[test]
fn an_unanswered_commit_may_take_effect_late_but_not_in_the_next_generation() {
    let mut trial = Trial::new(GroupProtocol::Classic);
    trial.sync(A, 1, &[0]);
    let unanswered = trial.commit(A, 1, (0, 5), Verdict::Unknown);
    trial.commit(A, 1, (0, 9), Verdict::Acknowledged);
    trial.fetch(0, 5, &unanswered);
    trial.holds();

    let mut trial = Trial::new(GroupProtocol::Classic);
    trial.sync(A, 1, &[0]);
    let unanswered = trial.commit(A, 1, (0, 5), Verdict::Unknown);
    trial.pass(1_000);
    trial.sync(B, 2, &[0]);
    trial.commit(B, 2, (0, 9), Verdict::Acknowledged);
    trial.fetch(0, 5, &unanswered);
    trial.breaks("G3");
}

#[test]
fn what_was_asked_before_a_commit_was_answered_may_miss_it() {
    let mut trial = Trial::new(GroupProtocol::Classic);
    trial.sync(A, 1, &[0]);
    let asked = trial.ask();
    trial.commit(A, 1, (0, 5), Verdict::Acknowledged);
    let nothing = Fetched { partition: 0, offset: -1, note: String::new() };
    trial.judge.fetches(0, asked, std::slice::from_ref(&nothing), trial.now);
    trial.holds();
    trial.fetch(0, -1, "");
    trial.breaks("G4");
}

#[test]
fn g4_a_fetch_tells_what_somebody_of_the_group_has_committed() {
    for (offset, note) in [(6, "commit 1"), (5, "commit 77"), (5, "")] {
        let mut trial = Trial::new(GroupProtocol::Classic);
        trial.sync(A, 1, &[0]);
        assert_eq!(trial.commit(A, 1, (0, 5), Verdict::Acknowledged), "commit 1");
        trial.fetch(0, 5, "commit 1");
        trial.holds();
        trial.fetch(0, offset, note);
        trial.breaks("G4");
    }
}

#[test]
fn g6_generations_and_epochs_do_not_go_back() {
    let mut trial = Trial::new(GroupProtocol::Classic);
    trial.sync(A, 2, &[0]);
    trial.commit(A, 2, (0, 1), Verdict::Acknowledged);
    trial.sync(B, 1, &[1]);
    trial.breaks("G6");

    // Who had asked before knows no better.
    let mut trial = Trial::new(GroupProtocol::Classic);
    let asked = trial.ask();
    trial.sync(A, 2, &[0]);
    trial.sync_asked(B, 1, &[1], asked);
    trial.holds();

    let mut trial = Trial::new(GroupProtocol::Consumer);
    trial.beat(A, 4, &[], true);
    trial.beat(A, 3, &[], false);
    trial.breaks("G6");
    let mut trial = Trial::new(GroupProtocol::Consumer);
    trial.beat(A, 4, &[0], true);
    trial.commit(A, 4, (0, 1), Verdict::Acknowledged);
    trial.beat(B, 3, &[], true);
    trial.breaks("G6");
}

#[test]
fn g7_a_healed_group_has_all_its_members_all_its_partitions_and_nothing_left_to_do() {
    let ends = BTreeMap::from([(0, 5), (1, 0)]);
    let mut trial = Trial::new(GroupProtocol::Classic);
    let healed = |trial: &Trial| trial.judge.healed(|_| true, &ends);
    trial.judge.starts(A, trial.now);
    trial.judge.starts(B, trial.now);
    trial.sync(A, 1, &[0]);
    let says = |trial: &Trial, what: &str| {
        let error = healed(trial).unwrap_err();
        assert!(error.starts_with("G7") && error.contains(what), "{error}");
    };
    says(&trial, "slot 2 has no member");
    trial.sync(B, 1, &[]);
    says(&trial, "nobody has partition 1");
    trial.take(B, &[1]);
    says(&trial, "-1 of 5 is committed");
    let note = trial.commit(A, 1, (0, 5), Verdict::Acknowledged);
    trial.fetch(0, 5, &note);
    says(&trial, "nobody was given offset 0");
    trial.judge.consumes(A, 0, 0, 2);
    trial.judge.consumes(A, 0, 3, 5);
    says(&trial, "nobody was given offset 2");
    trial.judge.consumes(A, 0, 1, 3);
    assert_eq!(healed(&trial), Ok(()));
    trial.sync(B, 2, &[1]);
    says(&trial, "generations {1, 2}");
    trial.holds();
    // The dead are not waited for, but what they had is.
    let error = trial.judge.healed(|process| process == B.process, &ends).unwrap_err();
    assert!(error.contains("nobody has partition 0"), "{error}");
}

#[test]
fn g8_offsets_go_only_when_the_group_may_have_been_without_members() {
    for is_silent in [false, true] {
        let mut trial = Trial::expiring();
        trial.sync(A, 1, &[0]);
        trial.lives(A);
        trial.commit(A, 1, (0, 5), Verdict::Acknowledged);
        trial.pass(if is_silent { 1_000 } else { 999 });
        trial.fetch(0, -1, "");
        if is_silent { trial.holds() } else { trial.breaks("G8") }
    }
}
