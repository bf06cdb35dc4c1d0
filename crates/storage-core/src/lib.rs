//! A whole storage node: many replicas, fetch waiters, still pure.
