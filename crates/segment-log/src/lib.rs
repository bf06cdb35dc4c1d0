//! The log on a disk: shared journal, segments, index, recovery.
