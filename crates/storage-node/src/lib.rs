//! Storage node: the shell around storage-core.
