//! Bytes in JSON lines: base64 with padding, as Python and Node write it by default.

use anyhow::{Result, bail};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0u8; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            text.push(if place <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

pub fn decode(text: &str) -> Result<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        bail!("not base64: {} characters", text.len());
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let mut bits = 0u32;
    for (place, digit) in digits.iter().enumerate() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("not base64: byte {digit:#04x} at {place}"),
        };
        bits = (bits << 6) | u32::from(value);
        // After the second, third and fourth digit of a group one more byte is whole; the rest waits for the next digit.
        let in_group = place % 4;
        if in_group > 0 {
            bytes.push((bits >> (6 * (in_group + 1) - 8 * in_group)) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).expect("valid"), bytes.as_bytes());
        }
    }

    #[test]
    fn every_byte_in_every_place_comes_back() {
        for skip in 0..6 {
            let bytes: Vec<u8> = (0..=255).cycle().skip(skip).take(257 + skip).collect();
            assert_eq!(decode(&encode(&bytes)).expect("valid"), bytes);
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["Zg", "Zm9", "Zm9v!A==", "===="] {
            assert!(decode(text).is_err(), "{text}");
        }
    }
}
