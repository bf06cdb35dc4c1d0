//! What is in an entry of the log and in a snapshot: metadata records, in the codec that `peer-api` pins with golden bytes.

use base_types::{Invariant, broken};
use bytes::Bytes;
use peer_api::metadata::codec::{decode_records, encode_records};
use peer_api::metadata::{Image, MetadataOffset, Record};

pub(crate) fn encode_entry(records: &[Record]) -> Vec<u8> {
    encode_records(records)
}

/// The records of a committed entry; none for an entry of Raft's own.
///
/// A committed entry that cannot be read cannot be skipped either: this node's image would differ from the others' (C5).
pub(crate) fn decode_entry(index: u64, data: &[u8]) -> Vec<Record> {
    if data.is_empty() {
        return Vec::new();
    }
    match decode_records(data) {
        Ok(records) => records,
        Err(error) => {
            broken(Invariant::C5, "every committed entry is readable", format_args!("entry {index}: {error}"))
        }
    }
}

pub(crate) fn encode_snapshot(image: &Image) -> Bytes {
    encode_records(&image.to_records()).into()
}

pub(crate) fn decode_snapshot(index: u64, data: &[u8]) -> Image {
    let mut image = Image::default();
    decode_entry(index, data).iter().for_each(|record| image.apply(record));
    image.advance(MetadataOffset(index));
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_the_image_it_was_made_of() {
        let mut image = Image::default();
        image.apply(&Record::ClusterNamed { cluster_id: "c".to_owned() });
        image.apply(&Record::FeatureChanged { name: "f".to_owned(), level: 2 });
        image.advance(MetadataOffset(7));
        assert_eq!(decode_snapshot(7, &encode_snapshot(&image)), image);
    }

    #[test]
    #[should_panic(expected = "invariant C5 broken")]
    fn an_unreadable_committed_entry_stops_the_process() {
        decode_entry(3, b"\xff");
    }
}
