//! Bombs: what a batch claims or becomes must not decide how much memory is used. One test in a process of its own, because
//! the peak that it looks at is the process's.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "the peak of memory is read from /proc")]

use std::io::{self, Write};

use base_types::Timestamp;
use bytes::Bytes;
use record_batch::{
    Attributes, BatchBuilder, BatchHeader, Compression, DecompressError, Records, RecordsError, StampedBatch,
};

const BOMB: usize = 1 << 30;
const LIMIT: usize = 1 << 20;
/// For all of the decoders' own buffers; lz4's are the largest, with 12 MiB for blocks of 4 MiB.
const ALLOWED_KIB: usize = 24 << 10;

#[test]
fn neither_bombs_nor_claims_take_more_memory_than_the_limit_allows() {
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        zeros(&mut encoder).unwrap();
        encoder.finish().unwrap()
    };
    let lz4 = {
        let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max4MB);
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        zeros(&mut encoder).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        zeros(&mut encoder).unwrap();
        encoder.finish().unwrap()
    };
    // Says 2⁶⁰ bytes and holds three.
    let zstd_claim = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x19, 0, 0, b'a', b'b', b'c'];
    let snappy = {
        let block = snap::raw::Encoder::new().compress_vec(&vec![0; 32 << 10]).unwrap();
        let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
        for _ in 0..BOMB / (32 << 10) {
            out.extend((block.len() as u32).to_be_bytes());
            out.extend(&block);
        }
        out
    };
    let snappy_claim = vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'a'];
    let bombs = [
        (Compression::Gzip, gzip),
        (Compression::Lz4, lz4),
        (Compression::Zstd, zstd),
        (Compression::Zstd, zstd_claim),
        (Compression::Snappy, snappy),
        (Compression::Snappy, snappy_claim),
    ];
    let before = peak_kib();
    for (compression, bomb) in bombs {
        let records = Records::read(&header(compression), Bytes::from(bomb), LIMIT);
        let refused = matches!(records, Err(RecordsError::Decompress(DecompressError::TooLarge { max: LIMIT })))
            || matches!(records, Err(RecordsError::Decompress(DecompressError::Damaged { .. })));
        assert!(refused, "{compression:?}: {records:?}");
        let peak = peak_kib();
        assert!(peak - before < ALLOWED_KIB, "{compression:?}: {before} KiB became {peak} KiB");
    }

    // Two billion records in no bytes, and two billion headers in one record.
    let claim = BatchHeader { last_offset_delta: i32::MAX - 1, record_count: i32::MAX, ..header(Compression::None) };
    let mut records = Records::read(&claim, Bytes::from_static(b"\x0c\0\0\0\x01\x01\0"), LIMIT).unwrap();
    assert!(records.next().unwrap().is_ok() && records.next().unwrap().is_err() && records.next().is_none());
    let headers = Bytes::from_static(b"\x18\0\0\0\x01\x01\xfe\xff\xff\xff\x0f\0\0");
    assert!(Records::read(&header(Compression::None), headers, LIMIT).unwrap().next().unwrap().is_err());
    let peak = peak_kib();
    assert!(peak - before < ALLOWED_KIB, "claims: {before} KiB became {peak} KiB");
}

fn zeros(out: &mut impl Write) -> io::Result<()> {
    let chunk = vec![0; 1 << 20];
    (0..BOMB >> 20).try_for_each(|_| out.write_all(&chunk))
}

fn header(compression: Compression) -> BatchHeader {
    let bytes = BatchBuilder::new(Compression::None).record(None, None, &[], Timestamp(0)).build().unwrap();
    let header = *StampedBatch::from_stored(bytes).unwrap().header();
    BatchHeader { attributes: Attributes::new(compression), ..header }
}

fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
