//! Every message in every version, as Kafka's own serialiser writes it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_wire::{ApiKey, DecodeError, EncodeError, Message, Reader, Writer, for_each_api};

/// One line of the fixture.
pub struct Golden {
    pub message: &'static str,
    pub version: i16,
    pub variant: &'static str,
    pub bytes: Bytes,
}

pub fn all() -> Vec<Golden> {
    include_str!("../../fixtures/golden.txt").lines().map(parse).collect()
}

fn parse(line: &'static str) -> Golden {
    let words: Vec<_> = line.split(' ').collect();
    let [message, version, variant, hex] = words[..] else { panic!("bad line {line}") };
    let digits = hex.trim_matches('-').as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    Golden { message, version: version.parse().unwrap(), variant, bytes: digits.chunks(2).map(byte).collect() }
}

/// What the tests do with a message without knowing which it is.
#[derive(Clone, Copy)]
pub struct Codec {
    /// Decodes, and drops the value.
    pub decode: fn(Bytes, i16) -> Result<(), DecodeError>,
    /// Decodes, demands the end of the frame, encodes again.
    pub round_trip: fn(Bytes, i16) -> Result<Bytes, String>,
    /// The value made by `Default`, encoded.
    pub encode_default: fn(i16) -> Result<Bytes, EncodeError>,
}

macro_rules! codec {
    ($message:ident) => {
        Codec {
            decode: |bytes, version| kafka_wire::$message::decode(&mut Reader::new(bytes), version).map(drop),
            round_trip: |bytes, version| {
                let mut reader = Reader::new(bytes);
                let message = kafka_wire::$message::decode(&mut reader, version).map_err(|error| error.to_string())?;
                reader.expect_end().map_err(|error| error.to_string())?;
                let mut writer = Writer::default();
                message.encode(&mut writer, version).map_err(|error| error.to_string())?;
                Ok(writer.finish().concat().into())
            },
            encode_default: |version| {
                let mut writer = Writer::default();
                kafka_wire::$message::default().encode(&mut writer, version)?;
                Ok(writer.finish().concat().into())
            },
        }
    };
}

pub fn codecs() -> BTreeMap<&'static str, Codec> {
    let mut codecs = BTreeMap::new();
    macro_rules! add {
        ($($message:ident)*) => {$( codecs.insert(stringify!($message), codec!($message)); )*};
    }
    macro_rules! add_apis {
        ($($key:ident $request:ident $response:ident;)*) => { add!($($request $response)*) };
    }
    for_each_api!(add_apis);
    add!(RequestHeader ResponseHeader);
    add!(ControlRecordTypeSchema EndTxnMarker ConsumerProtocolSubscription ConsumerProtocolAssignment);
    codecs
}

#[test]
fn every_message_kafka_writes_is_read_to_its_end_and_written_back_byte_for_byte() {
    let codecs = codecs();
    for golden in all() {
        let Golden { message, version, variant, bytes } = golden;
        let written = (codecs[message].round_trip)(bytes.clone(), version);
        assert_eq!(written, Ok(bytes), "{message} version {version}, {variant}");
    }
}

#[test]
fn defaults_are_kafkas_defaults() {
    let codecs = codecs();
    for golden in all().into_iter().filter(|golden| golden.variant == "default") {
        let written = (codecs[golden.message].encode_default)(golden.version);
        assert_eq!(written, Ok(golden.bytes), "{} version {}", golden.message, golden.version);
    }
}

#[test]
fn fixture_covers_every_version_of_every_message() {
    let covered: BTreeSet<_> = all().iter().map(|golden| (golden.message, golden.version, golden.variant)).collect();
    let mut expected = 0;
    let mut expect = |message: &'static str, versions: (i16, i16)| {
        for version in versions.0..=versions.1 {
            for variant in ["default", "filled", "null"] {
                assert!(covered.contains(&(message, version, variant)), "{message} version {version}, {variant}");
                expected += 1;
            }
        }
    };
    macro_rules! expect_apis {
        ($($key:ident $request:ident $response:ident;)*) => {$(
            expect(stringify!($request), kafka_wire::$request::VERSIONS);
            expect(stringify!($response), kafka_wire::$response::VERSIONS);
            let (min, max) = kafka_wire::$request::VERSIONS;
            assert_eq!(ApiKey::$key.valid_versions(), Some(min..=max));
            assert_eq!(<kafka_wire::$request as Message>::API_KEY, ApiKey::$key);
        )*};
    }
    for_each_api!(expect_apis);
    macro_rules! expect_others {
        ($($message:ident)*) => {$( expect(stringify!($message), kafka_wire::$message::VERSIONS); )*};
    }
    expect_others!(RequestHeader ResponseHeader);
    expect_others!(ControlRecordTypeSchema EndTxnMarker ConsumerProtocolSubscription ConsumerProtocolAssignment);
    assert_eq!(expected, covered.len());
}

#[test]
fn truncated_messages_are_refused_at_every_length() {
    let codecs = codecs();
    for golden in all() {
        for length in 0..golden.bytes.len() {
            let result = (codecs[golden.message].decode)(golden.bytes.slice(..length), golden.version);
            assert!(result.is_err(), "{} version {} cut to {length}", golden.message, golden.version);
        }
    }
}

#[test]
fn unknown_tagged_fields_are_skipped_and_not_written_back() {
    // The tagged section of the message itself is its last; an empty one is a single zero byte.
    let codecs = codecs();
    let mut tried = 0;
    for golden in all().into_iter().filter(|golden| golden.variant == "default" && golden.bytes.ends_with(&[0])) {
        let Some(key) = ApiKey::all().find(|key| golden.message.strip_prefix(key.name()).is_some_and(is_side)) else {
            continue;
        };
        if key.is_flexible(golden.version) {
            let mut bytes = golden.bytes[..golden.bytes.len() - 1].to_vec();
            bytes.extend_from_slice(&[2, 0x7e, 3, 1, 2, 3, 0x7f, 0]);
            let written = (codecs[golden.message].round_trip)(bytes.into(), golden.version);
            assert_eq!(written, Ok(golden.bytes), "{} version {}", golden.message, golden.version);
            tried += 1;
        }
    }
    assert!(tried > 250, "only {tried} messages were tried");
}

fn is_side(rest: &str) -> bool {
    rest == "Request" || rest == "Response"
}

mod rules_of_encoding {
    //! What happens to a field that the version lacks.

    use kafka_wire::k03_metadata::MetadataRequestTopic;
    use kafka_wire::{EncodeError, FetchRequest, FetchResponse, MetadataRequest, Uuid, Writer};

    #[test]
    fn set_field_that_may_not_be_dropped_is_refused() {
        let request = FetchRequest { replica_id: 3, ..Default::default() };
        assert_eq!(request.encode(&mut Writer::default(), 14), Ok(()));
        let refusal = EncodeError::FieldNotInVersion { field: "FetchRequest.replica_id", version: 15 };
        assert_eq!(request.encode(&mut Writer::default(), 15), Err(refusal));
    }

    #[test]
    fn set_field_that_may_be_dropped_is_dropped() {
        let (set, unset) = (FetchResponse { error_code: 9, ..Default::default() }, FetchResponse::default());
        let bytes = |response: &FetchResponse, version| {
            let mut w = Writer::default();
            response.encode(&mut w, version).unwrap();
            w.finish().concat()
        };
        assert_eq!(bytes(&set, 6), bytes(&unset, 6));
        assert_ne!(bytes(&set, 7), bytes(&unset, 7));
    }

    #[test]
    fn null_is_refused_where_the_version_has_none() {
        let all_topics = MetadataRequest { topics: None, ..Default::default() };
        assert_eq!(all_topics.encode(&mut Writer::default(), 1), Ok(()));
        let refusal = EncodeError::NullNotAllowed { field: "MetadataRequest.topics", version: 0 };
        assert_eq!(all_topics.encode(&mut Writer::default(), 0), Err(refusal));

        let by_id = MetadataRequestTopic { topic_id: Uuid([1; 16]), name: None };
        let request = MetadataRequest { topics: Some(vec![by_id]), ..Default::default() };
        assert_eq!(request.encode(&mut Writer::default(), 12), Ok(()));
        let refusal = EncodeError::NullNotAllowed { field: "MetadataRequestTopic.name", version: 9 };
        assert_eq!(request.encode(&mut Writer::default(), 9), Err(refusal));
    }

    #[test]
    fn version_kafka_does_not_define_is_refused() {
        let refusal = EncodeError::UnsupportedVersion { message: "FetchRequest", version: 3 };
        assert_eq!(FetchRequest::default().encode(&mut Writer::default(), 3), Err(refusal));
    }
}
