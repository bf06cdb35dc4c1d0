//! Sixteen opaque bytes. Which id they are, and how it prints, is for `base-types` to say.

/// A UUID field as it stands on the wire: big-endian, all zero when absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    pub const ZERO: Self = Self([0; 16]);

    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}
