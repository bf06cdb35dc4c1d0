//! Starts real processes and drives them with real Kafka clients.
