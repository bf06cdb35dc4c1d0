//! Metadata controller: the shell around controller-core.
