//! What every [`Vfs`] does. Each case wants an empty directory.

use std::sync::Arc;

use crate::{BLOCK_BYTES, DiskError, DiskErrorKind, FileUse, Vfs, VfsFile};

type Case = (&'static str, fn(&dyn Vfs));

/// The cases by name.
pub const CASES: &[Case] = &[
    ("a file reads back what was written, and short at its end", reads_back),
    ("pieces are written one after the other", writes_pieces),
    ("a durable write reads back, aligned or not", writes_durably),
    ("a direct write reads back, aligned or not", writes_directly),
    ("direct writes and those through the page cache make one file", writes_both_ways),
    ("sizes grow with zeros and shrink for good", sizes),
    ("preallocation reads as zeros and keeps what is there", preallocates),
    ("names are made, listed, moved and removed", names),
    ("creating an existing file empties it", create_empties),
    ("what is missing is reported as missing", missing),
    ("two handles see the same file", handles),
];

/// Runs every case on a fresh directory from `make`.
pub fn run<V: Vfs>(mut make: impl FnMut() -> V) {
    for (name, case) in CASES {
        println!("vfs contract: {name}");
        case(&make());
    }
}

fn read(vfs: &dyn Vfs, path: &str) -> Vec<u8> {
    let file = vfs.open(path, FileUse::Buffered).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}

fn reads_back(vfs: &dyn Vfs) {
    let file = vfs.create("f", FileUse::Buffered).unwrap();
    file.write_at(0, &[b"hello world"]).unwrap();
    let mut into = [9; 8];
    assert_eq!(file.read_at(6, &mut into).unwrap(), 5);
    assert_eq!(&into, b"world\x09\x09\x09");
    assert_eq!(file.read_at(11, &mut into).unwrap(), 0);
    assert_eq!(file.read_at(1 << 40, &mut into).unwrap(), 0);
    file.sync_data().unwrap();
    vfs.sync_dir("").unwrap();
    assert!(vfs.free_space().unwrap() > 0);
}

fn writes_pieces(vfs: &dyn Vfs) {
    let file = vfs.create("f", FileUse::Buffered).unwrap();
    // More pieces than one system call takes.
    let pieces: Vec<Vec<u8>> = (0..3000).map(|i: u32| i.to_be_bytes().to_vec()).collect();
    let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    file.write_at(3, &slices).unwrap();
    file.write_at(3, &[]).unwrap();
    file.write_at(3 + 12_000, &[b"", b"x", b""]).unwrap();
    let found = read(vfs, "f");
    assert_eq!(found[..3], [0; 3]);
    assert_eq!(found[3..12_003], pieces.concat());
    assert_eq!(found[12_003..], *b"x");
}

fn writes_durably(vfs: &dyn Vfs) {
    writes_blocks(vfs, |file, position, pieces| file.write_durable(position, pieces));
}

fn writes_directly(vfs: &dyn Vfs) {
    writes_blocks(vfs, |file, position, pieces| file.write_direct(position, pieces));
}

fn writes_blocks(vfs: &dyn Vfs, write: impl Fn(&dyn VfsFile, u64, &[&[u8]]) -> Result<(), DiskError>) {
    let file = vfs.create("f", FileUse::Journal).unwrap();
    file.preallocate(8 * BLOCK_BYTES as u64).unwrap();
    let mut memory = vec![5_u8; 4 * BLOCK_BYTES];
    let start = memory.as_ptr().align_offset(BLOCK_BYTES);
    memory[start + 2 * BLOCK_BYTES..].fill(6);
    let (two, one) = memory[start..start + 3 * BLOCK_BYTES].split_at(2 * BLOCK_BYTES);
    write(file.as_ref(), BLOCK_BYTES as u64, &[two]).unwrap();
    write(file.as_ref(), 4 * BLOCK_BYTES as u64, &[one, &[], two]).unwrap();
    write(file.as_ref(), 0, &[b"odd", &[], b" and ends"]).unwrap();
    let mut expected = vec![0; 8 * BLOCK_BYTES];
    expected[BLOCK_BYTES..3 * BLOCK_BYTES].fill(5);
    expected[4 * BLOCK_BYTES..5 * BLOCK_BYTES].fill(6);
    expected[5 * BLOCK_BYTES..7 * BLOCK_BYTES].fill(5);
    expected[..12].copy_from_slice(b"odd and ends");
    assert!(read(vfs, "f") == expected);
    // Reads through the handle that writes past the page cache, at odd places.
    let mut into = [0; 7];
    assert_eq!(file.read_at(BLOCK_BYTES as u64 - 3, &mut into).unwrap(), 7);
    assert_eq!(into, [0, 0, 0, 5, 5, 5, 5]);
}

fn writes_both_ways(vfs: &dyn Vfs) {
    let file = vfs.create("f", FileUse::Journal).unwrap();
    let mut memory = vec![1_u8; 3 * BLOCK_BYTES];
    let start = memory.as_ptr().align_offset(BLOCK_BYTES);
    memory[start + BLOCK_BYTES..].fill(2);
    let (one, two) = memory[start..start + 2 * BLOCK_BYTES].split_at(BLOCK_BYTES);
    // Over a page that is in the cache and not yet on the disk; then beyond the end of the file.
    file.write_at(BLOCK_BYTES as u64 - 2, b"abcd".chunks(1).collect::<Vec<_>>().as_slice()).unwrap();
    file.write_direct(BLOCK_BYTES as u64, &[one]).unwrap();
    file.write_direct(2 * BLOCK_BYTES as u64, &[two, one]).unwrap();
    // Through the cache again, in the middle and behind the end.
    file.write_at(2 * BLOCK_BYTES as u64 - 1, &[b"x"]).unwrap();
    file.write_at(4 * BLOCK_BYTES as u64, &[b"end"]).unwrap();
    file.sync_data().unwrap();
    let mut expected = vec![0; BLOCK_BYTES - 2];
    expected.extend_from_slice(b"ab");
    expected.extend_from_slice(&[one, two, one].concat());
    expected.extend_from_slice(b"end");
    expected[2 * BLOCK_BYTES - 1] = b'x';
    assert!(read(vfs, "f") == expected);
}

fn sizes(vfs: &dyn Vfs) {
    let file = vfs.create("f", FileUse::Buffered).unwrap();
    file.write_at(0, &[b"abcdef"]).unwrap();
    file.set_size(3).unwrap();
    file.set_size(5).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read(vfs, "f"), b"abc\0\0");
}

fn preallocates(vfs: &dyn Vfs) {
    let file = vfs.create("f", FileUse::Buffered).unwrap();
    file.write_at(0, &[b"abc"]).unwrap();
    file.preallocate(6).unwrap();
    file.preallocate(2).unwrap();
    assert_eq!(read(vfs, "f"), b"abc\0\0\0");
}

fn names(vfs: &dyn Vfs) {
    vfs.create_dir("d").unwrap();
    vfs.create_dir("d").unwrap();
    for name in ["d/b", "d/a", "d/c"] {
        vfs.create(name, FileUse::Buffered).unwrap().write_at(0, &[name.as_bytes()]).unwrap();
    }
    assert_eq!(vfs.list("d").unwrap(), ["a", "b", "c"]);
    vfs.rename("d/a", "d/b").unwrap();
    assert_eq!(vfs.list("d").unwrap(), ["b", "c"]);
    assert_eq!(read(vfs, "d/b"), b"d/a");
    vfs.rename("d", "e").unwrap();
    vfs.sync_dir("e").unwrap();
    vfs.sync_dir("").unwrap();
    assert_eq!(vfs.list("").unwrap(), ["e"]);
    vfs.remove("e/c").unwrap();
    assert_eq!(vfs.list("e").unwrap(), ["b"]);
    vfs.remove_dir("e").unwrap();
    assert!(vfs.list("").unwrap().is_empty());
}

fn create_empties(vfs: &dyn Vfs) {
    vfs.create("f", FileUse::Buffered).unwrap().write_at(0, &[b"abc"]).unwrap();
    assert_eq!(vfs.create("f", FileUse::Buffered).unwrap().size().unwrap(), 0);
    assert!(read(vfs, "f").is_empty());
}

fn missing(vfs: &dyn Vfs) {
    let kind = |error: crate::DiskError| error.kind;
    assert_eq!(vfs.open("no", FileUse::Buffered).err().map(kind), Some(DiskErrorKind::NotFound));
    assert_eq!(vfs.create("no/f", FileUse::Buffered).err().map(kind), Some(DiskErrorKind::NotFound));
    assert_eq!(vfs.list("no").err().map(kind), Some(DiskErrorKind::NotFound));
    assert_eq!(vfs.remove("no").err().map(kind), Some(DiskErrorKind::NotFound));
    assert_eq!(vfs.rename("no", "yes").err().map(kind), Some(DiskErrorKind::NotFound));
    assert_eq!(vfs.remove_dir("no").err().map(kind), Some(DiskErrorKind::NotFound));
}

fn handles(vfs: &dyn Vfs) {
    let first = vfs.create("f", FileUse::Journal).unwrap();
    let second = vfs.open("f", FileUse::Buffered).unwrap();
    let block = Arc::new(vec![1_u8; 2 * BLOCK_BYTES]);
    let start = block.as_ptr().align_offset(BLOCK_BYTES);
    first.write_durable(0, &[&block[start..start + BLOCK_BYTES]]).unwrap();
    second.write_at(0, &[b"second"]).unwrap();
    let mut into = [0; 8];
    assert_eq!(first.read_at(0, &mut into).unwrap(), 8);
    assert_eq!(&into, b"second\x01\x01");
}
