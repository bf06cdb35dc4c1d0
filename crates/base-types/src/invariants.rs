//! The registry of invariants. Code, simulator, checkers, documents and metrics use these ids and no others.

macro_rules! registry {
    ($($id:ident $meaning:literal,)*) => {
        /// Something that must hold always. The name is the id; [`Invariant::meaning`] says what it demands.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Invariant {
            $(#[doc = $meaning] $id,)*
        }

        impl Invariant {
            pub const ALL: &[Invariant] = &[$(Invariant::$id,)*];

            pub fn meaning(self) -> &'static str {
                match self {
                    $(Invariant::$id => $meaning,)*
                }
            }
        }
    };
}

registry! {
    R1 "log matching: two replicas agree on (epoch, offset, CRC) up to the smaller of their high watermarks",
    R2 "leader completeness: a current leader's log holds every record ever acknowledged with acks=all",
    R3 "candidate completeness: every running member of ISR and ELR holds all records below the true high watermark",
    R4 "the replication quorum contains the election quorum: maximal ISR contains the controller's ISR and ELR",
    R5 "strict minimum ISR: the high watermark does not move while the ISR is smaller than min.insync.replicas",
    R6 "the true high watermark of a partition never goes back",
    R7 "a follower's high watermark is at most its log end and at most its leader's",
    R8 "leader epochs strictly increase and have at most one leader each",
    R9 "the partition epoch strictly increases with each change, and a change needs an exact match",
    R10 "offsets are dense, and none below the true high watermark is ever given to other bytes",
    R11 "the epoch cache strictly increases in epoch and in start offset and equals what a scan of the log yields",
    R12 "truncation never goes below the true high watermark and never happens on a leader",
    R13 "a replica that may have lost data is no leader and in neither ISR nor ELR until it has caught up",
    R14 "a fenced broker is in no ISR, broker epochs increase, and requests of an older incarnation are refused",
    R15 "ELR and ISR are disjoint subsets of the replicas, and a full ISR leaves no ELR",
    R16 "an acks=all success means fsynced on min.insync.replicas replicas at the moment of the reply",
    R17 "a definite error means that the record is never visible",
    R18 "data of a deleted topic never appears in one made again under its name",
    R19 "a reassignment removes replicas only after the new set is in the ISR",
    C1 "at most one controller leader per term",
    C2 "the same index of the metadata log holds the same command everywhere",
    C3 "commit index and applied index never go back, restarts included",
    C4 "term, vote and entries are durable before any message that implies them",
    C5 "the applied state is a deterministic fold of the log",
    C6 "a snapshot and the tail of the log equal the full replay",
    C7 "reads of metadata are linearizable",
    C8 "membership changes come one at a time",
    C9 "a node with a damaged or missing log never votes under its old identity",
    C10 "missing metadata never deletes data",
    C11 "every view of the metadata is a prefix of the committed log",
    S1 "a recovered log holds every synced batch and a prefix of the others, never a torn or reordered one",
    S2 "damage below the durable end is corruption, never a torn tail: neither truncated nor served",
    S3 "no bytes are served whose CRC was not verified since they were read",
    S4 "the as-of offset of derived state is at most the durable log end",
    S5 "derived state equals what a rebuild from the log yields",
    S6 "a failed fsync fails the directory for the life of the process",
    S7 "recovery tolerates the loss of any rename or create whose directory was not synced",
    S8 "a full disk leaves a recoverable state and never a partial acknowledgement",
    S9 "retention never removes data at or above the high watermark, nor the active segment",
    S10 "compaction keeps each key's last value and moves no offset",
    S11 "the log start offset never goes back",
    S12 "the clean-shutdown mark is there exactly when the last stop was clean",
    P1 "each (producer id, epoch, sequence) is appended at most once",
    P2 "a retry within the window of five batches is answered with the original offset",
    P3 "a gap in the sequence is refused and nothing is appended",
    P4 "an older producer epoch is refused and nothing is appended",
    P5 "producer state is the same on all replicas at the same offset",
    P6 "a (producer id, epoch) is handed to one client at most",
    P7 "producer ids are unique across controller fail-overs",
    P8 "sequences wrap from the largest to zero",
    P9 "expiry never touches a producer with an open transaction",
    G1 "no partition of a group has two owners in one generation",
    G2 "a committed offset is changed only by the current generation or member epoch",
    G3 "an acknowledged commit survives every change of coordinator",
    G4 "a fetch of offsets never answers none, nor an older one, for what has a commit",
    G5 "offsets that a transaction may yet change are not given to whoever asks for stable ones",
    G6 "generations of a group and epochs of its members never go back",
    G7 "a group converges within its time-outs once faults end",
    G8 "offsets expire only past their retention, and never while their topic is consumed",
    W1 "requests of one connection reach a partition's leader in order, and answers leave in order",
    W2 "a non-idempotent produce is attempted at most once after its bytes were handed to the transport",
    W3 "a produce is answered only after the leader has answered",
    W4 "metadata answers on a connection never go back",
    W5 "a fetch returns only records below the high watermark",
    W6 "the loss of a gateway loses nothing but sessions",
    W7 "memory in use stays within the configured budget",
    W8 "nothing is allocated in proportion to a claim before it is authenticated, authorised and bounded",
    W9 "internal APIs cannot be reached from client listeners",
}

/// Reports a broken invariant and stops: the process must not go on from a state that cannot be true.
#[cold]
#[inline(never)]
#[track_caller]
pub fn broken(invariant: Invariant, condition: &str, detail: std::fmt::Arguments<'_>) -> ! {
    panic!("invariant {invariant:?} broken ({}): {condition}: {detail}", invariant.meaning());
}

/// Asserts an invariant by id, in every build: `invariant!(R5, isr >= min, "isr {isr} min {min}")`.
#[macro_export]
macro_rules! invariant {
    ($id:ident, $condition:expr) => {
        $crate::invariant!($id, $condition, "")
    };
    ($id:ident, $condition:expr, $($detail:tt)+) => {
        if !$condition {
            $crate::broken($crate::Invariant::$id, stringify!($condition), format_args!($($detail)+));
        }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    #[should_panic(expected = "invariant R5 broken")]
    fn a_broken_invariant_stops_and_names_its_id() {
        let isr = 1;
        invariant!(R5, isr >= 2, "isr {isr}");
    }
}
