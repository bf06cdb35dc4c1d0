//! CRC-32C of a batch, its correction when the header changes, and what it makes of that of a larger piece.

use crate::HEADER_LEN;

/// Where the bytes under the CRC begin: at the attributes.
pub(crate) const CRC_START: usize = 21;

/// x³¹ in the reflected representation that CRC-32C uses is the lowest bit; this is its polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^(8·2^k) modulo the polynomial, for k from 0: what multiplying by 2^k zero bytes comes to.
const SHIFTS: [u32; 32] = shifts();

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC of a batch whose header became `new` from `old`, out of the CRC it had, without reading the body.
///
/// A CRC is linear: the difference of two CRCs is the CRC of the difference, which here is 40 bytes of header followed by
/// zeros. Apart from the time saved, damage done to the body after its CRC was verified stays visible: a CRC made afresh
/// would bless it.
pub(crate) fn corrected(crc: u32, old: &[u8; HEADER_LEN], new: &[u8; HEADER_LEN], body_len: usize) -> u32 {
    let difference = crc32c(covered(old)) ^ crc32c(covered(new));
    crc ^ followed_by_zeros(difference, body_len)
}

/// Of two pieces as if they were one, from the CRC of each: the bytes of neither are read.
pub fn joined_crc32c(first: u32, second: u32, second_len: usize) -> u32 {
    followed_by_zeros(first, second_len) ^ second
}

fn covered(head: &[u8; HEADER_LEN]) -> &[u8] {
    &head[CRC_START..]
}

/// The remainder `crc` after `zeros` further zero bytes.
fn followed_by_zeros(crc: u32, zeros: usize) -> u32 {
    let zeros = zeros as u64;
    SHIFTS.iter().enumerate().filter(|&(k, _)| zeros >> k & 1 == 1).fold(crc, |crc, (_, &shift)| multiply(crc, shift))
}

/// The product of two polynomials over GF(2), modulo CRC-32C's; the highest bit is x⁰.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = (b >> 1) ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
        bit >>= 1;
    }
    product
}

const fn shifts() -> [u32; 32] {
    let mut table = [0; 32];
    let mut shift = 1 << 23; // x⁸
    let mut k = 0;
    while k < table.len() {
        table[k] = shift;
        shift = multiply(shift, shift);
        k += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_crc32c_is_reproduced() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_joined_crc_is_what_reading_both_pieces_yields() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        for cut in [0, 1, 4, 255, 4_096, 65_537, 299_999, 300_000] {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(joined_crc32c(crc32c(first), crc32c(second), second.len()), crc32c(&bytes), "cut at {cut}");
        }
    }

    #[test]
    fn a_corrected_crc_equals_one_made_afresh_for_every_kind_of_length() {
        for body_len in [0, 1, 2, 3, 7, 8, 255, 256, 4097, 65_536, 1_000_003] {
            let body: Vec<u8> = (0..body_len).map(|i| (i * 7 + i / 251) as u8).collect();
            let (old, mut new) = ([0x5a; HEADER_LEN], [0x5a; HEADER_LEN]);
            new[22] = 8;
            new[35..43].copy_from_slice(&1_700_000_000_000_i64.to_be_bytes());
            let whole = |head: &[u8; HEADER_LEN]| crc32c(&[&head[CRC_START..], &body].concat());
            assert_eq!(corrected(whole(&old), &old, &new, body_len), whole(&new), "body of {body_len} bytes");
        }
    }
}
