//! The number that opens every request, and what Kafka says about each: versions, header form, listener.

use std::fmt;
use std::ops::RangeInclusive;

pub use crate::generated::api_keys::ApiKey;
use crate::generated::api_keys::TABLE;

/// One row of the table of API keys.
pub(crate) struct Row {
    pub key: ApiKey,
    pub name: &'static str,
    /// Oldest and newest version; none when Kafka has removed the API or not yet introduced it.
    pub versions: Option<(i16, i16)>,
    /// First version with compact lengths and tagged fields.
    pub flexible_from: Option<i16>,
    pub on_broker_listener: bool,
    pub latest_version_unstable: bool,
}

impl ApiKey {
    /// Every key Kafka has assigned, in numeric order.
    pub fn all() -> impl Iterator<Item = ApiKey> {
        TABLE.iter().map(|row| row.key)
    }

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Versions this crate can read and write. `None` for keys that Kafka has removed, or added after 4.3.
    pub fn valid_versions(self) -> Option<RangeInclusive<i16>> {
        self.row().versions.map(|(min, max)| min..=max)
    }

    /// First version with compact lengths and tagged fields, if any has them.
    pub fn flexible_from(self) -> Option<i16> {
        self.row().flexible_from
    }

    pub fn is_flexible(self, version: i16) -> bool {
        self.flexible_from().is_some_and(|from| version >= from)
    }

    /// Whether clients may send it to a broker; the rest is spoken among controllers and brokers only.
    pub fn is_on_broker_listener(self) -> bool {
        self.row().on_broker_listener
    }

    /// Whether the newest version is still being designed and must not be advertised.
    pub fn is_latest_version_unstable(self) -> bool {
        self.row().latest_version_unstable
    }

    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// A client reads the answer to ApiVersions before it knows what the server speaks, so that header never changes.
    pub fn response_header_version(self, version: i16) -> i16 {
        if self != Self::ApiVersions && self.is_flexible(version) { 1 } else { 0 }
    }
}

impl From<ApiKey> for i16 {
    fn from(key: ApiKey) -> i16 {
        key as i16
    }
}

impl TryFrom<i16> for ApiKey {
    type Error = UnknownApiKey;

    fn try_from(key: i16) -> Result<Self, UnknownApiKey> {
        usize::try_from(key).ok().and_then(|index| TABLE.get(index)).map(|row| row.key).ok_or(UnknownApiKey(key))
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A number Kafka has not assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownApiKey(pub i16);

impl fmt::Display for UnknownApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown API key {}", self.0)
    }
}

impl std::error::Error for UnknownApiKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_their_own_position_in_the_table() {
        for (index, key) in ApiKey::all().enumerate() {
            assert_eq!(i16::from(key) as usize, index);
            assert_eq!(ApiKey::try_from(index as i16), Ok(key));
        }
        assert_eq!(ApiKey::all().count(), 95);
        assert_eq!(ApiKey::try_from(-1), Err(UnknownApiKey(-1)));
        assert_eq!(ApiKey::try_from(95), Err(UnknownApiKey(95)));
    }

    #[test]
    fn answer_to_api_versions_never_has_a_flexible_header() {
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
        assert_eq!(ApiKey::Metadata.response_header_version(9), 1);
        assert_eq!(ApiKey::Metadata.response_header_version(8), 0);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
    }

    #[test]
    fn table_says_what_kafka_says() {
        assert_eq!(ApiKey::Produce.valid_versions(), Some(3..=13));
        assert_eq!(ApiKey::LeaderAndIsr.valid_versions(), None);
        assert!(ApiKey::InitProducerId.is_latest_version_unstable());
        assert!(!ApiKey::BrokerHeartbeat.is_on_broker_listener());
        assert_eq!(ApiKey::all().filter(|key| key.is_on_broker_listener()).count(), 77);
    }
}
