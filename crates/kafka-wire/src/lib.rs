//! Kafka messages: bytes to typed requests and responses.
