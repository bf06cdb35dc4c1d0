//! What must hold for groups, judged from what their members were told: invariants G1 to G4 and G6 to G8 (G5 is about
//! transactions, of which there are none yet).
//!
//! ```text
//!   members, auditors ── what they ask and are told, when they take partitions and give them up ──► Judge ──► a complaint
//!   the cluster       ── who died, where the logs end ─────────────────────────────────────────────►       └► healed?
//! ```
//!
//! The judge sees everybody's facts in one order, that of the simulated world, and so knows what was over before something else
//! was begun. It knows nothing of coordinators. What it excuses, and why:
//!
//! - A commit that nobody answered may take effect at any later time at which its generation still counts.
//! - A member that was not heard of for its session owns nothing, whatever it believes; nor does one whose process is gone, or
//!   a static one in whose place another has come.
//! - Offsets that came with a retention of their own may go once the group may have been without members.
//! - A group of both protocols that may have been without members may have changed its protocol, and then counts from the start.
//!
//! Generations and member epochs are one thing here: `generation`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use base_types::Tick;

/// Members and auditors tell it, the cluster asks it.
pub type Shared = Rc<RefCell<Judge>>;

/// The last notes are kept for a report.
const NOTES_KEPT: usize = 300;

/// A group as its members are configured.
#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    pub partitions: i32,
    pub session_ms: u64,
    /// Its commits ask to be kept only as long as the group has members.
    pub offsets_expire: bool,
    pub protocol: GroupProtocol,
}

/// What the members of a group speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupProtocol {
    /// Commits keep a member alive as heartbeats do; a generation is begun by all members at once.
    Classic,
    /// Only heartbeats keep a member alive; each member comes to a new epoch by itself.
    Consumer,
    /// Some the one and some the other: the group is of the consumer protocol as long as it has a member who speaks that. The
    /// judge demands what both protocols promise.
    Mixed,
}

/// A process that is, or means to be, a member of a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Who {
    pub group: usize,
    /// Of processes in one slot (a static member and whoever was started in its place) one is to be a member.
    pub slot: i32,
    pub process: i32,
}

/// When something was asked, and what was known of the group by then.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    order: u64,
    tick: Tick,
    newest: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CommitId(pub u64);

/// What a member was told of its commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Acknowledged,
    /// For certain: it must never be seen.
    Refused,
    Unknown,
}

/// An offset as it was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub partition: i32,
    /// −1: none.
    pub offset: i64,
    /// As [`CommitId::note`] wrote it.
    pub note: String,
}

impl CommitId {
    /// Goes with the offset as its metadata, so that whoever fetches it knows which commit it is.
    pub fn note(self) -> String {
        format!("commit {}", self.0)
    }

    fn parse(note: &str) -> Option<CommitId> {
        note.strip_prefix("commit ")?.parse().ok().map(CommitId)
    }
}

#[derive(Debug)]
pub struct Judge {
    groups: Vec<Record>,
    commits: BTreeMap<CommitId, Commit>,
    last_order: u64,
    last_commit: u64,
    complaint: Option<String>,
    notes: VecDeque<String>,
}

#[derive(Debug)]
struct Record {
    group: Group,
    /// The highest generation that any member was told of, in an answer that rests on the log, and when that was.
    newest: i32,
    newest_at: u64,
    /// Who was given what in each generation of the classic protocol.
    assigned: BTreeMap<i32, BTreeMap<String, BTreeSet<i32>>>,
    members: BTreeMap<Who, Member>,
    /// In the order in which they were sent.
    commits_of: BTreeMap<i32, Vec<CommitId>>,
    last_fetched: BTreeMap<i32, i64>,
    consumed: BTreeMap<i32, Ranges>,
    /// The group may last have been without members at this point of the order, and has had some until then.
    last_gap: u64,
    had_members_until: Tick,
    pub commits_acknowledged: usize,
}

#[derive(Debug, Default)]
struct Member {
    /// When it last asked to be taken in as one that nobody knows.
    entered: u64,
    generation: Option<i32>,
    /// Since when.
    owned: BTreeMap<i32, u64>,
    /// The end of the session that the last answered sign of life began.
    session_end: Tick,
    /// By member id.
    epochs: BTreeMap<String, i32>,
    has_stopped: bool,
}

#[derive(Debug)]
struct Commit {
    group: usize,
    who: Who,
    offsets: BTreeMap<i32, i64>,
    /// Since when its member had had each partition.
    since: BTreeMap<i32, u64>,
    sent: u64,
    /// Since when it is known to have happened.
    happened: Option<u64>,
    refused: bool,
    /// Why no coordinator may take it.
    flaw: Option<String>,
}

impl Judge {
    pub fn new(groups: Vec<Group>) -> Judge {
        let record = |group| Record {
            group,
            newest: 0,
            newest_at: 0,
            assigned: BTreeMap::new(),
            members: BTreeMap::new(),
            commits_of: BTreeMap::new(),
            last_fetched: BTreeMap::new(),
            consumed: BTreeMap::new(),
            last_gap: 0,
            had_members_until: Tick(0),
            commits_acknowledged: 0,
        };
        Judge {
            groups: groups.into_iter().map(record).collect(),
            commits: BTreeMap::new(),
            last_order: 0,
            last_commit: 0,
            complaint: None,
            notes: VecDeque::new(),
        }
    }

    /// The first thing that cannot be right.
    pub fn complaint(&self) -> Option<&String> {
        self.complaint.as_ref()
    }

    pub fn notes(&self) -> impl Iterator<Item = &String> {
        self.notes.iter()
    }

    pub fn commits_acknowledged(&self) -> usize {
        self.groups.iter().map(|record| record.commits_acknowledged).sum()
    }

    /// The generations that all groups together have gone through.
    pub fn generations(&self) -> usize {
        self.groups.iter().map(|record| usize::try_from(record.newest).unwrap_or(0)).sum()
    }

    /// Something is asked now.
    pub fn ask(&mut self, group: usize, now: Tick) -> Asked {
        Asked { order: self.next_order(), tick: now, newest: self.groups[group].newest }
    }

    // - membership -

    /// A sign of life was answered with success: the session goes on at least from when it was sent. A classic coordinator that
    /// loads tells everyone so, also whom the group has left behind.
    pub fn lives(&mut self, who: Who, asked: Asked) {
        let order = self.next_order();
        let record = &mut self.groups[who.group];
        if record.group.protocol != GroupProtocol::Consumer && record.member(who).generation < Some(asked.newest) {
            return;
        }
        if asked.tick > record.had_members_until {
            record.last_gap = order;
        }
        let session_end = asked.tick.plus_ms(record.group.session_ms);
        record.had_members_until = record.had_members_until.max(session_end);
        record.member(who).session_end = session_end;
    }

    /// A process is there that means to be a member.
    pub fn starts(&mut self, who: Who, now: Tick) {
        self.note(now, who, format_args!("starts"));
        self.groups[who.group].member(who);
    }

    /// It asks to be taken in, as one that nobody knows: whoever bore its instance id may be fenced from now on.
    pub fn enters(&mut self, who: Who) {
        let order = self.next_order();
        self.groups[who.group].member(who).entered = order;
    }

    /// The member says that it leaves.
    pub fn leaves(&mut self, who: Who, now: Tick) {
        self.is_out(who, now, "it leaves");
        let record = &mut self.groups[who.group];
        record.member(who).session_end = Tick(0);
        record.had_members_until = record.members.values().map(|member| member.session_end).max().unwrap_or(Tick(0));
    }

    /// The member takes itself for none any more.
    pub fn is_out(&mut self, who: Who, now: Tick, why: &str) {
        self.note(now, who, format_args!("is out: {why}"));
        let member = self.groups[who.group].member(who);
        member.generation = None;
        member.owned.clear();
    }

    /// It will not come back by itself.
    pub fn stops(&mut self, who: Who, now: Tick, why: &str) {
        self.is_out(who, now, why);
        self.groups[who.group].member(who).has_stopped = true;
    }

    /// The process is gone, with all it believed.
    pub fn died(&mut self, process: i32, now: Tick) {
        for group in 0..self.groups.len() {
            let dead: Vec<Who> =
                self.groups[group].members.keys().filter(|who| who.process == process).copied().collect();
            for who in dead {
                self.note(now, who, format_args!("dies"));
                let member = self.groups[group].member(who);
                let Member { entered, session_end, .. } = *member;
                *member = Member { entered, session_end, ..Member::default() };
            }
        }
    }

    /// Classic protocol: a generation was joined. It is not in the log yet, so another coordinator may give its number again.
    pub fn joined(&mut self, who: Who, generation: i32, asked: Asked, now: Tick) {
        self.note(now, who, format_args!("joined generation {generation}"));
        self.may_begin_anew(who, generation, asked, now);
        self.must_not_go_back(who, generation, asked, "joined");
    }

    /// Classic protocol: the member has its assignment. `key`: its instance id, or its member id.
    pub fn synced(
        &mut self,
        who: Who,
        key: &str,
        generation: i32,
        asked: Asked,
        partitions: &BTreeSet<i32>,
        now: Tick,
    ) {
        self.note(now, who, format_args!("synced in {generation} with {partitions:?}"));
        // Beside members of the consumer protocol it may sync in an epoch that others have left behind.
        if self.groups[who.group].group.protocol == GroupProtocol::Classic {
            self.must_not_go_back(who, generation, asked, "synced");
        }
        let order = self.next_order();
        let record = &mut self.groups[who.group];
        record.reached(generation, order);
        let assigned = record.assigned.entry(generation).or_default();
        let other = assigned.iter().find(|(other, theirs)| *other != key && !theirs.is_disjoint(partitions));
        let doubled = other.map(|(other, theirs)| format!("{other} has {theirs:?} and {key} has {partitions:?}"));
        assigned.insert(key.to_owned(), partitions.clone());
        if let Some(doubled) = doubled {
            self.complain(who.group, format_args!("G1: in generation {generation} {doubled}"));
        }
        self.groups[who.group].member(who).generation = Some(generation);
    }

    /// Consumer protocol: a heartbeat was answered with this epoch.
    pub fn heartbeat_answered(&mut self, who: Who, member_id: &str, epoch: i32, asked: Asked, joins: bool, now: Tick) {
        if joins {
            self.note(now, who, format_args!("joined as {member_id} in epoch {epoch}"));
            self.may_begin_anew(who, epoch, asked, now);
            self.must_not_go_back(who, epoch, asked, "joined");
        }
        let order = self.next_order();
        let record = &mut self.groups[who.group];
        record.reached(epoch, order);
        let member = record.member(who);
        let before = member.epochs.insert(member_id.to_owned(), epoch).unwrap_or(0);
        member.generation = Some(epoch);
        if epoch < before {
            self.complain(who.group, format_args!("G6: {member_id} was in epoch {before} and is told {epoch}"));
        } else if epoch != before {
            self.note(now, who, format_args!("is in epoch {epoch}"));
        }
    }

    /// A group that is without members and offsets goes away, and the next one of the name counts from the start.
    fn may_begin_anew(&mut self, who: Who, generation: i32, asked: Asked, now: Tick) {
        let record = &mut self.groups[who.group];
        // One that is empty and changes its protocol counts from the start, whatever offsets it has; and the answer may have waited.
        let is_mixed = record.group.protocol == GroupProtocol::Mixed;
        let has_offsets = record.commits_acknowledged > 0 && !record.group.offsets_expire && !is_mixed;
        let joined_by = if is_mixed { now } else { asked.tick };
        let had_no_members = record.last_gap > record.newest_at || joined_by >= record.had_members_until;
        if generation <= record.newest && !has_offsets && had_no_members {
            (record.newest, record.newest_at) = (0, 0);
            record.assigned.clear();
            record.members.values_mut().for_each(|member| member.epochs.clear());
        }
    }

    fn must_not_go_back(&mut self, who: Who, generation: i32, asked: Asked, what: &str) {
        // The group may have begun anew since.
        let newest = asked.newest.min(self.groups[who.group].newest);
        if generation < newest {
            self.complain(who.group, format_args!("G6: {who:?} {what} in generation {generation} after {newest}"));
        }
    }

    /// The member begins to work on partitions. Nobody else may, but for one who has been silent for his session, or whose place
    /// has been taken. `asked`: what was answered with them.
    pub fn takes(&mut self, who: Who, partitions: &BTreeSet<i32>, asked: Asked, now: Tick) {
        let order = self.next_order();
        self.note(now, who, format_args!("takes {partitions:?}"));
        let record = &mut self.groups[who.group];
        record.member(who);
        // The answer may have waited for the member, and the group not.
        let is_late = asked.tick.plus_ms(record.group.session_ms) <= now || record.may_be_fenced(who);
        let mut doubled = None;
        for (other, member) in record.members.iter().filter(|(other, _)| **other != who && !is_late) {
            let shares = member.owned.keys().find(|partition| partitions.contains(partition));
            if let Some(partition) = shares
                && member.session_end > now
                && !record.may_be_fenced(*other)
            {
                doubled = Some(format!("G1: partition {partition} goes to {who:?} while {other:?} has it"));
            }
        }
        let since = if is_late { asked.order } else { order };
        record.member(who).owned.extend(partitions.iter().map(|&partition| (partition, since)));
        if let Some(doubled) = doubled {
            self.complain(who.group, format_args!("{doubled}"));
        }
    }

    /// The member has stopped to work on partitions, before it says so.
    pub fn gives_up(&mut self, who: Who, partitions: &BTreeSet<i32>, now: Tick) {
        self.note(now, who, format_args!("gives up {partitions:?}"));
        self.groups[who.group].member(who).owned.retain(|partition, _| !partitions.contains(partition));
    }

    /// Records up to `to` were worked on.
    pub fn consumes(&mut self, who: Who, partition: i32, from: i64, to: i64) {
        self.groups[who.group].consumed.entry(partition).or_default().add(from, to);
    }

    // - offsets -

    /// `late`: the member knows that these partitions are not its own any more, and tries all the same.
    pub fn commits(
        &mut self,
        who: Who,
        generation: i32,
        offsets: BTreeMap<i32, i64>,
        late: bool,
        now: Tick,
    ) -> CommitId {
        let sent = self.next_order();
        self.last_commit += 1;
        let id = CommitId(self.last_commit);
        self.note(
            now,
            who,
            format_args!("{} in {generation}: {offsets:?}{}", id.note(), if late { ", late" } else { "" }),
        );
        let record = &mut self.groups[who.group];
        let mut flaw = late.then(|| "the member had given the partition up".to_owned());
        if record.group.protocol == GroupProtocol::Classic && generation < record.newest {
            flaw = Some(format!("generation {} had begun", record.newest));
        }
        let mut since = BTreeMap::new();
        for &partition in offsets.keys() {
            let ours = record.members.get(&who).and_then(|member| member.owned.get(&partition)).copied();
            since.extend(ours.map(|ours| (partition, ours)));
            let later = |other: &Member| other.owned.get(&partition) > ours.as_ref();
            if let Some((other, _)) = record.members.iter().find(|(_, member)| later(member)) {
                flaw = Some(format!("{other:?} had been given {partition}"));
            }
            record.commits_of.entry(partition).or_default().push(id);
        }
        let group = who.group;
        let commit = Commit { group, who, offsets, since, sent, happened: None, refused: false, flaw };
        self.commits.insert(id, commit);
        id
    }

    pub fn commit_answered(&mut self, id: CommitId, asked: Asked, verdict: Verdict, now: Tick) {
        let order = self.next_order();
        let Some(commit) = self.commits.get_mut(&id) else { return };
        let who = commit.who;
        match verdict {
            Verdict::Acknowledged => {
                commit.happened.get_or_insert(order);
                let flaw = commit.flaw.clone();
                let record = &mut self.groups[who.group];
                record.commits_acknowledged += 1;
                if record.group.protocol == GroupProtocol::Classic {
                    self.lives(who, asked);
                }
                if let Some(flaw) = flaw {
                    self.complain(who.group, format_args!("G2: {} of {who:?} was taken though {flaw}", id.note()));
                }
            }
            Verdict::Refused => commit.refused = true,
            Verdict::Unknown => {}
        }
        self.note(now, who, format_args!("{}: {verdict:?}", id.note()));
    }

    /// Offsets were fetched. What had been committed, or seen, before they were asked for must be there, or something newer.
    pub fn fetches(&mut self, group: usize, asked: Asked, fetched: &[Fetched], now: Tick) {
        let order = self.next_order();
        for fetched in fetched {
            let Fetched { partition, offset, note } = fetched;
            let judged = if *offset < 0 {
                self.judge_none(group, *partition, asked, now)
            } else {
                self.judge_fetched(group, fetched, asked, order)
            };
            match judged {
                Ok(()) => drop(self.groups[group].last_fetched.insert(*partition, *offset)),
                Err(what) => {
                    let text = format!(
                        "{what}; fetched {offset} ({note:?}) of partition {partition}, asked at {}",
                        asked.tick.0
                    );
                    self.complain(group, format_args!("{text}"));
                }
            }
        }
    }

    fn judge_none(&self, group: usize, partition: i32, asked: Asked, now: Tick) -> Result<(), String> {
        let record = &self.groups[group];
        let known = record.commits_of(partition).filter_map(|id| Some((id, self.commits.get(&id)?)));
        let mut there = known.filter(|(_, commit)| commit.happened.is_some_and(|at| at < asked.order));
        let Some((id, commit)) = there.next_back() else { return Ok(()) };
        if !record.group.offsets_expire {
            return Err(format!("G4: {} of {:?} is not there", id.note(), commit.who));
        }
        if now >= record.had_members_until || record.last_gap > commit.sent {
            return Ok(());
        }
        Err(format!("G8: {} of {:?} is not there any more, and the group has members", id.note(), commit.who))
    }

    fn judge_fetched(&mut self, group: usize, fetched: &Fetched, asked: Asked, order: u64) -> Result<(), String> {
        let Fetched { partition, offset, note } = fetched;
        let id = CommitId::parse(note).ok_or("G4: nobody has committed that")?;
        let commit = self.commits.get(&id).filter(|commit| commit.group == group);
        let commit = commit.ok_or("G4: nobody of this group has committed that")?;
        if commit.offsets.get(partition) != Some(offset) {
            return Err(format!("G4: {} said {:?}", id.note(), commit.offsets));
        }
        if commit.refused {
            return Err(format!("G2: {} was refused", id.note()));
        }
        if let Some(flaw) = &commit.flaw
            && commit.happened.is_none()
        {
            return Err(format!("G2: {} of {:?} has happened though {flaw}", id.note(), commit.who));
        }
        let record = &self.groups[group];
        for newer in record.commits_of(*partition).filter_map(|id| self.commits.get(&id)) {
            let was_there = newer.happened.is_some_and(|at| at < asked.order);
            if was_there && record.came_before(commit, newer, *partition) {
                let theirs = newer.offsets.get(partition).copied().unwrap_or(-1);
                return Err(format!("G3: {:?} had committed {theirs} after it", newer.who));
            }
        }
        // Who sees it may rely on it from now on.
        if let Some(commit) = self.commits.get_mut(&id) {
            commit.happened.get_or_insert(order);
        }
        Ok(())
    }

    // - liveness -

    /// G7: every group has a member for each slot with a living process, all in one generation, that own every partition once,
    /// have worked on all that is in the logs, and have committed so.
    pub fn healed(&self, is_alive: impl Fn(i32) -> bool, ends: &BTreeMap<i32, i64>) -> Result<(), String> {
        let healed = |record: &Record| {
            record.settled(&is_alive)?;
            record.caught_up(ends)
        };
        self.groups.iter().try_for_each(|record| {
            healed(record).map_err(|what| format!("G7: group {} after the trouble: {what}", record.group.name))
        })
    }

    // - notes -

    fn next_order(&mut self) -> u64 {
        self.last_order += 1;
        self.last_order
    }

    fn complain(&mut self, group: usize, what: fmt::Arguments<'_>) {
        if self.complaint.is_none() {
            self.complaint = Some(format!("{what} (group {})", self.groups[group].group.name));
        }
    }

    fn note(&mut self, now: Tick, who: Who, what: fmt::Arguments<'_>) {
        if self.notes.len() == NOTES_KEPT {
            self.notes.pop_front();
        }
        let name = &self.groups[who.group].group.name;
        self.notes.push_back(format!("{:>7} ms {name} {} (slot {}) {what}", now.0, who.process, who.slot));
    }
}

impl Record {
    fn member(&mut self, who: Who) -> &mut Member {
        self.members.entry(who).or_default()
    }

    /// In the classic protocol whoever comes with a static member's id takes its place at once.
    fn may_be_fenced(&self, who: Who) -> bool {
        let entered = self.members.get(&who).map_or(0, |member| member.entered);
        let replaces = |(other, theirs): (&Who, &Member)| other.slot == who.slot && theirs.entered > entered;
        self.group.protocol == GroupProtocol::Classic && self.members.iter().any(replaces)
    }

    fn reached(&mut self, generation: i32, order: u64) {
        if generation > self.newest {
            (self.newest, self.newest_at) = (generation, order);
        }
    }

    /// Whether the earlier of two commits cannot have taken effect after the later one: it was over before; or its member had
    /// lost the partition before the other one got it. (A member of the consumer protocol that joins again keeps what it had,
    /// and may get through what it sent before.)
    fn came_before(&self, earlier: &Commit, later: &Commit, partition: i32) -> bool {
        let was_fenced = earlier.since.get(&partition) < later.since.get(&partition)
            && (earlier.who != later.who || self.group.protocol == GroupProtocol::Classic);
        earlier.happened.is_some_and(|at| at < later.sent) || was_fenced
    }

    fn commits_of(&self, partition: i32) -> impl DoubleEndedIterator<Item = CommitId> + '_ {
        self.commits_of.get(&partition).into_iter().flatten().copied()
    }

    fn settled(&self, is_alive: &impl Fn(i32) -> bool) -> Result<(), String> {
        let alive = || self.members.iter().filter(|(who, member)| is_alive(who.process) && !member.has_stopped);
        let slots: BTreeSet<i32> = alive().map(|(who, _)| who.slot).collect();
        let mut generations = BTreeSet::new();
        let mut owners: BTreeMap<i32, i32> = BTreeMap::new();
        for slot in slots {
            let mut members = alive().filter(|(who, member)| who.slot == slot && member.generation.is_some());
            let (Some((who, member)), None) = (members.next(), members.next()) else {
                return Err(format!("slot {slot} has no member, or several"));
            };
            generations.extend(member.generation);
            for &partition in member.owned.keys() {
                if let Some(other) = owners.insert(partition, who.process) {
                    return Err(format!("{other} and {} both have partition {partition}", who.process));
                }
            }
        }
        if generations.len() > 1 {
            return Err(format!("its members are in generations {generations:?}"));
        }
        match (0..self.group.partitions).find(|partition| !owners.contains_key(partition)) {
            Some(partition) => Err(format!("nobody has partition {partition}")),
            None => Ok(()),
        }
    }

    fn caught_up(&self, ends: &BTreeMap<i32, i64>) -> Result<(), String> {
        for (partition, &end) in ends.iter().filter(|(_, end)| **end > 0) {
            let fetched = self.last_fetched.get(partition).copied().unwrap_or(-1);
            if fetched != end {
                return Err(format!("{fetched} of {end} is committed in partition {partition}"));
            }
            let gap = self.consumed.get(partition).map_or(Some(0), |consumed| consumed.first_gap(end));
            if let Some(gap) = gap {
                return Err(format!("nobody was given offset {gap} of partition {partition}"));
            }
        }
        Ok(())
    }
}

/// Numbers, as ranges that do not touch: where each begins and ends.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    fn add(&mut self, mut from: i64, mut to: i64) {
        while let Some((&start, &end)) = self.0.range(..=to).next_back().filter(|(_, end)| **end >= from) {
            self.0.remove(&start);
            (from, to) = (from.min(start), to.max(end));
        }
        self.0.insert(from, to);
    }

    /// The first number below `end` that is missing.
    fn first_gap(&self, end: i64) -> Option<i64> {
        let covered = self.0.first_key_value().filter(|(start, _)| **start <= 0).map_or(0, |(_, &to)| to);
        (covered < end).then_some(covered)
    }
}
