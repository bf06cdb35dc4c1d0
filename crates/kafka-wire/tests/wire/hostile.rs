//! Frames that lie: golden messages, mutated by a seeded generator, and frames made to be expensive.
//!
//! `FUZZ_CASES` sets how many (100,000 when absent), `FUZZ_SEED` where the generator starts.

use base_types::Random;
use bytes::Bytes;
use kafka_wire::Reader;

use crate::allocation::peak_of;
use crate::golden::{self, Codec, Golden};

/// Most memory a decode may use: this many bytes per byte of its frame, and this many on top.
///
/// The worst case is an array of empty strings: one byte on the wire becomes 32 bytes in memory, and while the vector moves
/// for the last time its old half is still there, which makes 48. The rest is margin for messages to come. A message's own
/// struct and first elements are the constant.
const FACTOR: usize = 64;
const CONSTANT: usize = 4096;

fn bound(frame: &Bytes) -> usize {
    FACTOR * frame.len() + CONSTANT
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Decodes and compares with the bound; returns bytes allocated per byte of frame.
fn decode_within_bound(codec: &Codec, golden: &Golden, frame: Bytes, case: u64) -> f64 {
    let limit = bound(&frame);
    let length = frame.len();
    let decode = codec.decode;
    let (peak, _) = peak_of(|| decode(frame.clone(), golden.version));
    assert!(
        peak <= limit,
        "{} version {}: {peak} bytes for a frame of {length} (case {case}): {:02x?}",
        golden.message,
        golden.version,
        &frame[..],
    );
    peak as f64 / length.max(1) as f64
}

#[test]
fn decoder_never_panics_and_never_allocates_more_than_the_frame_justifies() {
    let goldens = golden::all();
    let codecs = golden::codecs();
    let seed = setting("FUZZ_SEED", 1);
    let cases = setting("FUZZ_CASES", 100_000);
    let mut random = Random::new(seed);
    let mut worst = (0.0, String::new());
    for case in 0..cases {
        let golden = &goldens[random.below(goldens.len() as u64) as usize];
        let frame = mutate(&golden.bytes, &mut random);
        let ratio = decode_within_bound(&codecs[golden.message], golden, frame, case);
        if ratio > worst.0 {
            worst = (ratio, format!("{} version {}", golden.message, golden.version));
        }
    }
    println!("{cases} cases from seed {seed}; worst: {:.1} bytes per byte, {}", worst.0, worst.1);
}

#[test]
fn frames_made_of_the_cheapest_elements_stay_within_the_bound() {
    // Long runs of one byte or of two in turn: empty strings, arrays of one, arrays that claim all that is left.
    let codecs = golden::codecs();
    let mut worst = (0.0, String::new());
    for golden in golden::all().into_iter().filter(|golden| golden.variant == "default") {
        for first in [0x00, 0x01, 0x02, 0x03, 0x7f] {
            for second in [0x00, 0x01, 0x02, 0x04, 0x3f] {
                for length in [16, 256, 4096, 65536] {
                    let frame: Bytes = [first, second].into_iter().cycle().take(length).collect();
                    let ratio = decode_within_bound(&codecs[golden.message], &golden, frame, 0);
                    // Short frames are all constant; only long ones show the factor.
                    if length >= 4096 && ratio > worst.0 {
                        worst = (ratio, format!("{} version {}", golden.message, golden.version));
                    }
                }
            }
        }
    }
    println!("worst: {:.1} bytes per byte, {}", worst.0, worst.1);
}

#[test]
fn arrays_that_claim_and_hold_the_most_elements_stay_within_the_bound() {
    // For every place in every message where a compact or plain array may begin: a claim of as many elements as bytes
    // remain, followed by that many bytes of empty elements.
    let codecs = golden::codecs();
    let mut worst = (0.0, String::new());
    for golden in golden::all().into_iter().filter(|golden| golden.variant == "filled") {
        for place in 0..golden.bytes.len().min(160) {
            for (claim, fill) in
                [(&[0x81, 0x20][..], 0x01), (&[0x81, 0x20], 0x00), (&[0x81, 0x0a], 0x01), (&[0, 0, 0x04, 0], 0x00)]
            {
                let mut frame = golden.bytes[..place].to_vec();
                frame.extend_from_slice(claim);
                frame.resize(frame.len() + 4096, fill);
                let ratio = decode_within_bound(&codecs[golden.message], &golden, frame.into(), place as u64);
                if ratio > worst.0 {
                    worst = (ratio, format!("{} version {}", golden.message, golden.version));
                }
            }
        }
    }
    println!("worst: {:.1} bytes per byte, {}", worst.0, worst.1);
}

/// The canary: a decoder that believes its frame must fail the check the real ones pass.
#[test]
#[should_panic(expected = "bytes for a frame of 8")]
fn canary_decoder_that_believes_a_count_is_caught() {
    let believing = Codec {
        decode: |bytes, _| {
            let count = Reader::new(bytes).i32()?;
            drop(std::hint::black_box(Vec::<u64>::with_capacity(count as usize)));
            Ok(())
        },
        round_trip: |_, _| Err(String::new()),
        encode_default: |_| Ok(Bytes::new()),
    };
    let frame = Bytes::from_static(&[0x00, 0x01, 0x00, 0x00, 0, 0, 0, 0]); // 65,536 elements
    let golden = Golden { message: "Canary", version: 0, variant: "", bytes: frame.clone() };
    decode_within_bound(&believing, &golden, frame, 0);
}

/// One to four changes of the kinds that break decoders: flipped bits, extreme bytes and lengths, cuts, repeats.
fn mutate(bytes: &[u8], random: &mut Random) -> Bytes {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.between(1, 4) {
        let place = random.below(bytes.len() as u64) as usize;
        match random.below(8) {
            _ if bytes.is_empty() => bytes.push(random.next_u64() as u8),
            0 => bytes[place] ^= 1 << random.below(8),
            1 => bytes[place] = [0x00, 0x01, 0x7f, 0x80, 0xff][random.below(5) as usize],
            2 => overwrite(&mut bytes, place, &[0x7f, 0xff, 0xff, 0xff]),
            3 => overwrite(&mut bytes, place, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            4 => overwrite(&mut bytes, place, &(random.next_u64() as u32 >> random.below(32)).to_be_bytes()),
            5 => bytes.truncate(place),
            6 => {
                let end = (place + random.between(1, 16) as usize).min(bytes.len());
                bytes.extend_from_within(place..end);
            }
            _ => {
                let length = place + random.below(2048) as usize;
                bytes.truncate(place);
                bytes.resize(length, random.below(4) as u8);
            }
        }
    }
    bytes.into()
}

fn overwrite(bytes: &mut Vec<u8>, place: usize, with: &[u8]) {
    bytes.resize(bytes.len().max(place + with.len()), 0);
    bytes[place..place + with.len()].copy_from_slice(with);
}
