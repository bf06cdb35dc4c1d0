//! What the service mains share: configuration, logs, metrics, health, shutdown.
