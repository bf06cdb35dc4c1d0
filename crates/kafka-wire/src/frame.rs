//! Whole frames: length, header, body.
//!
//! ```text
//!   request    length:i32 │ RequestHeader v1 or v2      │ body      v2 when the API is flexible at that version
//!   response   length:i32 │ ResponseHeader v0 or v1     │ body      v1 likewise, except for ApiVersions
//! ```
//!
//! The length is written here but read by whoever owns the socket, because the limit on it is theirs.

use bytes::Bytes;

use crate::{
    ApiKey, DecodeError, DecodeErrorKind, EncodeError, KafkaString, Reader, RequestHeader, ResponseHeader, Writer,
    for_each_api,
};

/// A request or response of one API. The methods are those each message has of its own; the trait is for code that is
/// generic over messages.
pub trait Message: Sized {
    const API_KEY: ApiKey;
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A message that asks, and the one that answers it.
pub trait Request: Message {
    type Response: Message;
}

/// Reads the header that opens every request, choosing its form by the key and version in it.
///
/// A version we do not know is not an error here: an ApiVersions request of the future must be answered (in version 0), so
/// its correlation id has to be found.
pub fn decode_request_header(r: &mut Reader) -> Result<RequestHeader, DecodeError> {
    let mut ahead = r.clone();
    let key = ahead.i16()?;
    let version = ahead.i16()?;
    let Ok(key) = ApiKey::try_from(key) else { return Err(r.error(DecodeErrorKind::UnknownApiKey { key })) };
    RequestHeader::decode(r, key.request_header_version(version))
}

/// A request as a frame with its length prefix, in slices for a vectored write.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: Option<KafkaString>,
    version: i16,
    request: &R,
) -> Result<Vec<Bytes>, EncodeError> {
    let header =
        RequestHeader { request_api_key: R::API_KEY.into(), request_api_version: version, correlation_id, client_id };
    let mut w = Writer::with_capacity(FIRST_CAPACITY);
    w.i32(0);
    header.encode(&mut w, R::API_KEY.request_header_version(version))?;
    request.encode(&mut w, version)?;
    w.finish_frame()
}

/// A response as a frame with its length prefix, in slices for a vectored write.
pub fn encode_response<M: Message>(correlation_id: i32, version: i16, response: &M) -> Result<Vec<Bytes>, EncodeError> {
    let mut w = Writer::with_capacity(FIRST_CAPACITY);
    w.i32(0);
    ResponseHeader { correlation_id }.encode(&mut w, M::API_KEY.response_header_version(version))?;
    response.encode(&mut w, version)?;
    w.finish_frame()
}

/// Reads the answer (without its length prefix) to a request `R` that was sent in `version`; returns the correlation id
/// with it. An ApiVersions answer with error 35 (UNSUPPORTED_VERSION) comes in version 0 whatever was asked; that caller
/// tries version 0 second.
pub fn decode_response<R: Request>(frame: Bytes, version: i16) -> Result<(i32, R::Response), DecodeError> {
    let mut r = Reader::new(frame);
    let header = ResponseHeader::decode(&mut r, R::API_KEY.response_header_version(version))?;
    let response = R::Response::decode(&mut r, version)?;
    r.expect_end()?;
    Ok((header.correlation_id, response))
}

/// Room for most frames that carry no records.
const FIRST_CAPACITY: usize = 512;

macro_rules! implement_message {
    ($key:ident, $message:ident) => {
        impl Message for crate::$message {
            const API_KEY: ApiKey = ApiKey::$key;

            fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
                crate::$message::decode(r, version)
            }

            fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
                crate::$message::encode(self, w, version)
            }
        }
    };
}

macro_rules! implement_messages {
    ($($key:ident $request:ident $response:ident;)*) => {$(
        implement_message!($key, $request);
        implement_message!($key, $response);

        impl Request for crate::$request {
            type Response = crate::$response;
        }
    )*};
}

for_each_api!(implement_messages);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k00_produce::{PartitionProduceData, TopicProduceData};
    use crate::k01_fetch::{FetchableTopicResponse, PartitionData};
    use crate::{
        ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, Records,
    };

    fn body(frame: Vec<Bytes>) -> Bytes {
        let whole = Bytes::from(frame.concat());
        assert_eq!(whole[..4], (whole.len() as i32 - 4).to_be_bytes());
        whole.slice(4..)
    }

    #[test]
    fn request_and_response_survive_their_frames_at_every_version() {
        for version in ApiKey::Fetch.valid_versions().unwrap() {
            let request = FetchRequest { max_wait_ms: 500, ..Default::default() };
            let mut r = Reader::new(body(encode_request(9, Some("client".into()), version, &request).unwrap()));
            let header = decode_request_header(&mut r).unwrap();
            assert_eq!((header.request_api_key, header.request_api_version, header.correlation_id), (1, version, 9));
            assert_eq!(header.client_id, Some("client".into()));
            assert_eq!(FetchRequest::decode(&mut r, version), Ok(request));
            r.expect_end().unwrap();

            let response = FetchResponse { throttle_time_ms: 3, ..Default::default() };
            let frame = body(encode_response(9, version, &response).unwrap());
            assert_eq!(decode_response::<FetchRequest>(frame, version), Ok((9, response)));
        }
    }

    #[test]
    fn header_of_a_future_api_versions_request_is_still_read() {
        let mut frame = body(encode_request(77, None, 4, &ApiVersionsRequest::default()).unwrap()).to_vec();
        frame[2..4].copy_from_slice(&99i16.to_be_bytes());
        let mut r = Reader::new(frame.into());
        let header = decode_request_header(&mut r).unwrap();
        assert_eq!((header.request_api_version, header.correlation_id), (99, 77));
        let kind = ApiVersionsRequest::decode(&mut r, 99).unwrap_err().kind;
        assert_eq!(kind, DecodeErrorKind::UnsupportedVersion { message: "ApiVersionsRequest", version: 99 });
    }

    #[test]
    fn answer_to_api_versions_has_no_tagged_fields_in_its_header() {
        let frame = body(encode_response(1, 3, &ApiVersionsResponse::default()).unwrap());
        // correlation id, error code, empty array, throttle time, tagged fields
        assert_eq!(frame[..], [0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn unknown_api_key_is_refused() {
        let kind = decode_request_header(&mut Reader::new(Bytes::from_static(&[0x7f, 0, 0, 0]))).unwrap_err().kind;
        assert_eq!(kind, DecodeErrorKind::UnknownApiKey { key: 0x7f00 });
    }

    #[test]
    fn batches_of_a_fetch_response_are_sent_from_where_they_lie() {
        let batches: [Bytes; 2] = [vec![1; 10_000].into(), vec![2; 20_000].into()];
        let records: Records = batches.iter().cloned().collect();
        let partition = PartitionData { records: Some(records), ..Default::default() };
        let topic = FetchableTopicResponse { partitions: vec![partition], ..Default::default() };
        let response = FetchResponse { responses: vec![topic], ..Default::default() };
        for version in ApiKey::Fetch.valid_versions().unwrap() {
            let segments = encode_response(1, version, &response).unwrap();
            for batch in &batches {
                assert_eq!(segments.iter().filter(|segment| segment.as_ptr() == batch.as_ptr()).count(), 1);
            }
            assert_eq!(decode_response::<FetchRequest>(body(segments), version), Ok((1, response.clone())));
        }
    }

    #[test]
    fn records_of_a_produce_request_are_a_slice_of_its_frame() {
        let partition = PartitionProduceData { index: 3, records: Some(vec![7; 100].into()) };
        let topic = TopicProduceData { partition_data: vec![partition], ..Default::default() };
        let request = ProduceRequest { topic_data: vec![topic], ..Default::default() };
        for version in ApiKey::Produce.valid_versions().unwrap() {
            let frame = body(encode_request(1, None, version, &request).unwrap());
            let mut r = Reader::new(frame.clone());
            decode_request_header(&mut r).unwrap();
            let decoded = ProduceRequest::decode(&mut r, version).unwrap();
            assert_eq!(decoded, request);
            let records = decoded.topic_data[0].partition_data[0].records.as_ref().unwrap();
            assert!(frame.as_ptr_range().contains(&records.as_ptr()));
        }
    }

    #[test]
    fn response_that_does_not_fill_its_frame_is_refused() {
        let mut frame = body(encode_response(5, 3, &ProduceResponse::default()).unwrap()).to_vec();
        frame.extend_from_slice(&[0, 0]);
        let kind = decode_response::<ProduceRequest>(frame.into(), 3).unwrap_err().kind;
        assert_eq!(kind, DecodeErrorKind::TrailingBytes { count: 2 });
    }
}
