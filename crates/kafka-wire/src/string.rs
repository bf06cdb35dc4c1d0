//! UTF-8 text that shares the memory it was read from.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// A string field. Cloning is a reference count; comparing, hashing and printing are those of `str`.
///
/// Invariant: the bytes are valid UTF-8; the only ways in are `&str`, `String` and [`KafkaString::from_utf8`].
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KafkaString(Bytes);

impl KafkaString {
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Takes the bytes as text, or `None` when they are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Option<Self> {
        std::str::from_utf8(&bytes).is_ok().then_some(Self(bytes))
    }

    pub fn as_str(&self) -> &str {
        // Checked on the way in. Without unsafe code the check is paid again; names are short.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// A copy that does not keep the frame alive. For whatever is stored beyond the request.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Deref for KafkaString {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for KafkaString {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// Lets maps keyed by names be asked with `&str`: order and hash are those of the text.
impl Borrow<str> for KafkaString {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Hash for KafkaString {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl From<&str> for KafkaString {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for KafkaString {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&String> for KafkaString {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<KafkaString> for String {
    fn from(text: KafkaString) -> Self {
        text.as_str().to_owned()
    }
}

impl PartialEq<str> for KafkaString {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for KafkaString {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for KafkaString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KafkaString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::DefaultHasher;

    use super::*;

    fn hash_of(value: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn maps_keyed_by_name_are_asked_with_plain_text() {
        let names = ["orders", "", "zürich", "orders-2"];
        let lengths: BTreeMap<KafkaString, usize> =
            names.iter().map(|name| (KafkaString::from(*name), name.len())).collect();
        for name in names {
            assert_eq!(lengths.get(name), Some(&name.len()));
            assert_eq!(hash_of(KafkaString::from(name)), hash_of(name));
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        assert_eq!(KafkaString::from_utf8(Bytes::from_static(b"\xff")), None);
    }

    #[test]
    fn detached_copy_does_not_share_the_frame() {
        let frame = Bytes::from(vec![b'x'; 100]);
        let name = KafkaString::from_utf8(frame.slice(..3)).unwrap();
        assert_eq!(name.as_bytes().as_ptr(), frame.as_ptr());
        assert_ne!(name.detach().as_bytes().as_ptr(), frame.as_ptr());
        assert_eq!(name.detach(), name);
    }
}
