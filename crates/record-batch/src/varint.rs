//! Protobuf's variable-length integers in zigzag order, as records use them.

/// Takes a varint off the front. `None`: it ends too early, is too long, or does not fit.
#[inline(always)]
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<i32> {
    let raw = u32::try_from(take_unsigned(bytes)?).ok()?;
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

#[inline(always)]
pub(crate) fn take_varlong(bytes: &mut &[u8]) -> Option<i64> {
    let raw = take_unsigned(bytes)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

pub(crate) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

pub(crate) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// One and two bytes are worth a path of their own: deltas and most lengths have no more.
#[inline(always)]
fn take_unsigned(bytes: &mut &[u8]) -> Option<u64> {
    match **bytes {
        [first, ref rest @ ..] if first < 0x80 => {
            *bytes = rest;
            Some(u64::from(first))
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *bytes = rest;
            Some(u64::from(first & 0x7f) | u64::from(second) << 7)
        }
        _ => take_long_unsigned(bytes),
    }
}

#[cold]
fn take_long_unsigned(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * i);
        if byte < 0x80 {
            *bytes = bytes.get(i + 1..)?;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_with_the_lengths_that_protobuf_gives_them() {
        let cases = [
            (0, 1),
            (-1, 1),
            (63, 1),
            (-64, 1),
            (64, 2),
            (-65, 2),
            (8191, 2),
            (8192, 3),
            (i64::MAX, 10),
            (i64::MIN, 10),
        ];
        for (value, length) in cases {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(out.len(), length, "length of {value}");
            let mut rest = out.as_slice();
            assert_eq!(take_varlong(&mut rest), Some(value));
            assert!(rest.is_empty());
            assert_eq!(take_varint(&mut out.as_slice()), i32::try_from(value).ok());
        }
    }

    #[test]
    fn numbers_that_end_early_or_do_not_fit_are_refused() {
        assert_eq!(take_varint(&mut [].as_slice()), None);
        assert_eq!(take_varint(&mut [0x80, 0x80].as_slice()), None);
        assert_eq!(take_varint(&mut [0xff, 0xff, 0xff, 0xff, 0x0f].as_slice()), Some(i32::MIN));
        assert_eq!(take_varint(&mut [0xff, 0xff, 0xff, 0xff, 0x1f].as_slice()), None);
        assert_eq!(take_varlong(&mut [0xff; 11].as_slice()), None);
        let mut two = [0xff; 10];
        two[9] = 2;
        assert_eq!(take_varlong(&mut two.as_slice()), None);
    }
}
