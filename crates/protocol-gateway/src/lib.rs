//! Protocol gateway: the shell around gateway-core.
