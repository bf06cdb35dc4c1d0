//! The one thing of a consumer's subscription that matters here: which topics it names.

use bytes::{Buf, Bytes};

/// The topics of a ConsumerProtocolSubscription of any version: they come first in all of them. `None` when it is none.
pub(super) fn topics(mut metadata: Bytes) -> Option<Vec<String>> {
    let version = metadata.try_get_i16().ok()?;
    let count = metadata.try_get_i32().ok()?;
    if version < 0 || count < 0 {
        return None;
    }
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(metadata.try_get_i16().ok()?).ok()?;
        if length > metadata.len() {
            return None;
        }
        topics.push(String::from_utf8(metadata.split_to(length).to_vec()).ok()?);
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_what_follows_is_not() {
        let subscription = Bytes::from_static(b"\0\x01\0\0\0\x02\0\x01a\0\x02bb\xff\xff\xff\xff\0\0\0\0");
        assert_eq!(topics(subscription.clone()), Some(vec!["a".to_owned(), "bb".to_owned()]));
        for end in 0..13 {
            assert_eq!(topics(subscription.slice(..end)), None, "cut at {end}");
        }
    }

    #[test]
    fn counts_that_the_bytes_do_not_justify_are_refused() {
        assert_eq!(topics(Bytes::from_static(b"\0\x01\x7f\xff\xff\xff")), None);
        assert_eq!(topics(Bytes::from_static(b"\0\x01\xff\xff\xff\xff")), None);
        assert_eq!(topics(Bytes::from_static(b"\xff\xff\0\0\0\0")), None);
    }
}
