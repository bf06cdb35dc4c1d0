//! Bugs on purpose. The simulator or the model of replication must find each of them; that is how we know that it looks.
//!
//! `planted!(Name)` stands where the bug would be. It is `false`, and the bug is not compiled, unless the feature `planted` of this
//! crate is on, which nothing but one test of `sim` and one of `replication-model` ask for (decision 0008). Then it says whether that
//! bug was chosen for this thread. What each one does wrong is said in their `tests/planted.rs`, where each is looked for.

#[cfg(feature = "planted")]
pub use chosen::{Bug, choose, is_chosen};

#[cfg(feature = "planted")]
mod chosen {
    use std::cell::Cell;

    /// What is wrong, by the crate that it is in.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Bug {
        // coordinator-core, and its host in storage-core
        CommitAnsweredBeforeDurable,
        CommitOfAnyGeneration,
        CommitOfAnyEpoch,
        NoRebalanceAfterDeath,
        SessionsNeverEnd,
        RevocationNotAwaited,
        GenerationRestartsAfterLoad,
        LoadMissesLastBatch,
        CoordinatorOutlivesLeadership,
        FencingIgnored,
        OffsetsExpireInUse,

        // replica-core
        TruncatesToHighWatermark,
        JoinsBehindEpochStart,
        HighWatermarkOverCommittedIsr,
        HighWatermarkBelowMinIsr,
        FollowerReportsMemory,
        LateIsrAnswerTaken,
        EndToldBeforeEpochStart,
        ReadsBeyondHighWatermark,
        WindowOfFour,
        ProducersOutliveTruncation,
        EarlierLifeBelieved,

        // controller-core
        FencedStaysInIsr,
        ElrNotCleared,
        LostStaysEligible,
        BrokerEpochIgnored,
        PartitionEpochIgnored,
        MoveDropsReplicasEarly,
        LeaderEpochKept,

        // raft-core
        EntriesConfirmedBeforeDurable,

        // gateway-core
        UnknownSentAgain,
        AllAnsweredAtAppend,

        // segment-log
        JournalNotSynced,
        BlockCrcIgnored,
        FailedWriteIgnored,
        EpochsForgottenAtRestart,
    }

    thread_local! {
        static CHOSEN: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// A run of the simulator is one thread.
    pub fn choose(bug: Option<Bug>) {
        CHOSEN.set(bug);
    }

    pub fn is_chosen(bug: Bug) -> bool {
        CHOSEN.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
#[doc(hidden)]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_chosen($crate::planted::Bug::$bug)
    };
}

#[cfg(not(feature = "planted"))]
#[doc(hidden)]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}
