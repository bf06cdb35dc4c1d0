//! A batch's records as one compressed block, and back within bounds.

use std::fmt;
use std::io::{self, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use zstd::zstd_safe;

use crate::header::Compression;

/// Records cannot be decompressed. The same bytes will never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecompressError {
    /// More bytes come out than the caller allows.
    TooLarge { max: usize },
    /// The bytes are not what their compression code says.
    Damaged { compression: Compression },
}

/// Decompresses `bytes` to at most `max` bytes. Allocates at most about twice `max` and a few fixed buffers, whatever the
/// bytes claim.
pub(crate) fn decompress(compression: Compression, bytes: &[u8], max: usize) -> Result<Vec<u8>, DecompressError> {
    match compression {
        Compression::None if bytes.len() > max => Err(DecompressError::TooLarge { max }),
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => read_bounded(compression, MultiGzDecoder::new(bytes), max),
        Compression::Snappy => snappy::decompress(bytes, max),
        // The decoder would also take lz4's legacy frames, which no Kafka client writes or reads.
        Compression::Lz4 if !bytes.starts_with(&LZ4_MAGIC) => Err(DecompressError::Damaged { compression }),
        Compression::Lz4 => read_bounded(compression, FrameDecoder::new(bytes), max),
        Compression::Zstd => unzstd(bytes, max),
    }
}

/// Compresses in the form that all of Kafka's clients read.
pub(crate) fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => in_memory(gzip(bytes)),
        Compression::Snappy => snappy::compress(bytes),
        Compression::Lz4 => in_memory(lz4(bytes)),
        Compression::Zstd => in_memory(zstd::bulk::compress(bytes, zstd::DEFAULT_COMPRESSION_LEVEL)),
    }
}

const LZ4_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Blocks are independent because Kafka's Java decoder knows no others.
fn lz4(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Writing to memory with fixed parameters has no way to fail.
fn in_memory(result: io::Result<Vec<u8>>) -> Vec<u8> {
    result.expect("compression into memory")
}

fn read_bounded(compression: Compression, reader: impl Read, max: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    reader
        .take((max as u64).saturating_add(1))
        .read_to_end(&mut out)
        .map_err(|_| DecompressError::Damaged { compression })?;
    if out.len() > max { Err(DecompressError::TooLarge { max }) } else { Ok(out) }
}

/// Decompresses in one piece: the output is the window, so that a frame which asks for 128 MiB of it costs nothing.
/// Java's client does not say how much will come out; then the room grows until it is enough or over the limit.
fn unzstd(bytes: &[u8], max: usize) -> Result<Vec<u8>, DecompressError> {
    const FIRST_GUESS_MIN: usize = 64 * 1024;
    const OUTPUT_TOO_SMALL: usize = 0_usize.wrapping_sub(70); // ZSTD_error_dstSize_tooSmall

    let damaged = DecompressError::Damaged { compression: Compression::Zstd };
    let mut room = match zstd_safe::get_frame_content_size(bytes).map_err(|_| damaged)? {
        Some(size) => {
            usize::try_from(size).ok().filter(|&size| size <= max).ok_or(DecompressError::TooLarge { max })?
        }
        None => bytes.len().saturating_mul(4).max(FIRST_GUESS_MIN).min(max),
    };
    loop {
        let mut out = Vec::with_capacity(room);
        match zstd_safe::decompress(&mut out, bytes) {
            Ok(_) if out.len() > max => return Err(DecompressError::TooLarge { max }),
            Ok(_) => return Ok(out),
            Err(OUTPUT_TOO_SMALL) if room < max => room = room.saturating_mul(4).max(FIRST_GUESS_MIN).min(max),
            Err(OUTPUT_TOO_SMALL) => return Err(DecompressError::TooLarge { max }),
            Err(_) => return Err(damaged),
        }
    }
}

mod snappy {
    //! Kafka's snappy: the framing of xerial's `SnappyOutputStream`, or one raw block, which some clients send.
    //!
    //! ```text
    //!   82 53 4e 41 50 50 59 00   version i32   compatible version i32   ( length i32   raw block )*
    //! ```

    use snap::raw::{Decoder, Encoder, decompress_len};

    use super::DecompressError;
    use crate::header::Compression;

    const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
    const STREAM_HEADER_LEN: usize = 16;
    const BLOCK_LEN: usize = 32 * 1024;
    /// The best a raw block can do is 64 bytes out of 3, so a claim beyond this is a lie and nothing is allocated for it.
    const RATIO_MAX: usize = 22;

    const DAMAGED: DecompressError = DecompressError::Damaged { compression: Compression::Snappy };

    pub(super) fn decompress(bytes: &[u8], max: usize) -> Result<Vec<u8>, DecompressError> {
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        if !bytes.starts_with(&MAGIC) {
            take_block(&mut decoder, bytes, &mut out, max)?;
            return Ok(out);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            // Streams may follow each other.
            if rest.starts_with(&MAGIC) {
                rest = rest.get(STREAM_HEADER_LEN..).ok_or(DAMAGED)?;
                continue;
            }
            let (length, behind) = rest.split_first_chunk().ok_or(DAMAGED)?;
            let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| DAMAGED)?;
            let (block, behind) = behind.split_at_checked(length).ok_or(DAMAGED)?;
            take_block(&mut decoder, block, &mut out, max)?;
            rest = behind;
        }
        Ok(out)
    }

    pub(super) fn compress(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new();
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&1_i32.to_be_bytes());
        out.extend_from_slice(&1_i32.to_be_bytes());
        for block in bytes.chunks(BLOCK_LEN) {
            let block = encoder.compress_vec(block).expect("a block far below snappy's limit of 4 GiB");
            out.extend_from_slice(&(block.len() as u32).to_be_bytes());
            out.extend_from_slice(&block);
        }
        out
    }

    fn take_block(decoder: &mut Decoder, block: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), DecompressError> {
        let length = decompress_len(block).map_err(|_| DAMAGED)?;
        if length > block.len().saturating_mul(RATIO_MAX) {
            return Err(DAMAGED);
        }
        let start = out.len();
        if length > max - start {
            return Err(DecompressError::TooLarge { max });
        }
        out.resize(start + length, 0);
        let room = out.get_mut(start..).unwrap_or_default();
        decoder.decompress(block, room).map_err(|_| DAMAGED)?;
        Ok(())
    }
}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecompressError::TooLarge { max } => write!(f, "the records decompress to more than {max} bytes"),
            DecompressError::Damaged { compression } => {
                write!(f, "the records are not the {} that they claim to be", compression.name())
            }
        }
    }
}

impl std::error::Error for DecompressError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| if i % 100 < 60 { b'a' } else { ((i * i) >> 3) as u8 }).collect()
    }

    #[test]
    fn every_compression_gives_back_what_went_in() {
        for compression in Compression::ALL {
            for len in [0, 1, 100, 32 * 1024, 300_000] {
                let bytes = sample(len);
                let packed = compress(compression, &bytes);
                assert_eq!(decompress(compression, &packed, len), Ok(bytes), "{compression:?} of {len}");
            }
        }
    }

    #[test]
    fn one_byte_more_than_allowed_is_too_much() {
        for compression in Compression::ALL {
            let packed = compress(compression, &sample(100_000));
            assert_eq!(decompress(compression, &packed, 99_999), Err(DecompressError::TooLarge { max: 99_999 }));
        }
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let zeros = vec![0; 16 << 20];
        for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let bomb = compress(compression, &zeros);
            assert!(bomb.len() < zeros.len() / 20, "{compression:?}: {}", bomb.len());
            assert_eq!(decompress(compression, &bomb, 1 << 20), Err(DecompressError::TooLarge { max: 1 << 20 }));
        }
    }

    #[test]
    fn zstd_frames_that_do_not_say_their_size_are_read_whatever_window_they_ask_for() {
        let bytes = sample(3_000_000);
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 19).unwrap();
        encoder.set_parameter(zstd_safe::CParameter::WindowLog(27)).unwrap();
        encoder.write_all(&bytes).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(zstd_safe::get_frame_content_size(&packed).unwrap(), None);
        assert_eq!(decompress(Compression::Zstd, &packed, 4_000_000), Ok(bytes));
        let max = 2_999_999;
        assert_eq!(decompress(Compression::Zstd, &packed, max), Err(DecompressError::TooLarge { max }));
    }

    #[test]
    fn parts_that_follow_each_other_are_read_as_one() {
        let (one, two) = (sample(1000), sample(2000));
        for compression in [Compression::Gzip, Compression::Snappy, Compression::Zstd] {
            let packed = [compress(compression, &one), compress(compression, &two)].concat();
            assert_eq!(decompress(compression, &packed, 3000), Ok([one.clone(), two.clone()].concat()));
        }
    }

    #[test]
    fn raw_snappy_is_read_and_a_block_that_claims_the_impossible_is_not() {
        let bytes = sample(5000);
        let raw = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
        assert_eq!(decompress(Compression::Snappy, &raw, 5000), Ok(bytes));
        let lie = [0xff, 0xff, 0xff, 0x7f, 0, 0];
        let damaged = DecompressError::Damaged { compression: Compression::Snappy };
        assert_eq!(decompress(Compression::Snappy, &lie, usize::MAX), Err(damaged));
    }

    #[test]
    fn what_is_something_else_is_called_damaged() {
        for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let damaged = DecompressError::Damaged { compression };
            assert_eq!(decompress(compression, b"\xfe\xdcno such thing", 1000), Err(damaged));
            let mut packed = compress(compression, &sample(50_000));
            packed.truncate(packed.len() / 2);
            // lz4 frames have no length of their own: what is missing shows when the records are counted.
            if compression != Compression::Lz4 {
                assert_eq!(decompress(compression, &packed, 100_000), Err(damaged), "{compression:?} cut in half");
            }
        }
    }
}
