//! What is on a disk that forgets: files and directories as programs see them, and as the medium has them.
//!
//! ```text
//!   write, truncate, create, rename, unlink ──► now ──fsync(file), fsync(directory)──► durable
//!                                                │                                       │
//!                                                └── power goes: `cut` ── Cut chooses ───┘
//!                                                    what of the difference is left
//! ```
//!
//! As strict as POSIX lets a disk be: syncing a file says nothing about its name, syncing a directory nothing about the files in it, and
//! what was not synced survives a cut in pieces of a sector. Changes of one directory survive in their order, as in every file system
//! with a journal; those of two directories in none.
//!
//! What it must not know: FUSE, threads, clocks. Faults that a program is told of (no space, a failed sync) are in [`super::Faults`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use crate::random::Random;

pub const PAGE_BYTES: usize = 4096;
/// Written whole or not at all.
const SECTOR_BYTES: usize = 512;

/// The root directory, as FUSE numbers it.
pub const ROOT: u64 = 1;

/// How much of what was not synced survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Nothing.
    Lost,
    /// All up to some moment; the page that was being written then is torn.
    Prefix,
    /// Each sector, each size and each end of a directory's changes by chance.
    Scattered,
}

impl Cut {
    pub const ALL: [Cut; 3] = [Cut::Lost, Cut::Prefix, Cut::Scattered];
}

/// Why an operation is refused, by the names of errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    Missing,
    Exists,
    NotADirectory,
    IsADirectory,
    NotEmpty,
    NoSpace,
}

/// What programs ask about an inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    pub inode: u64,
    pub is_directory: bool,
    pub size: u64,
    pub pages: u64,
}

type Page = Arc<[u8; PAGE_BYTES]>;
type Names = BTreeMap<OsString, u64>;

pub struct Content {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Counts writes and changes of names: the order that [`Cut::Prefix`] keeps.
    moment: u64,
    pages_max: u64,
    /// Of all files as they are now, whether they have a name or only somebody who has them open.
    pages_used: u64,
    zeros: Page,
}

struct Inode {
    body: Body,
    /// Who holds the number without a name: the kernel.
    lookups: u64,
}

enum Body {
    File(File),
    Directory(Directory),
}

#[derive(Default)]
struct File {
    now: Data,
    durable: Data,
    /// Pages that differ or may, with the moment of their last change.
    dirty: BTreeMap<u64, u64>,
    /// The sizes since the durable one, each with the moment of its change.
    resized: Vec<(u64, u64)>,
}

#[derive(Clone, Default)]
struct Data {
    /// What is not here is zeros.
    pages: BTreeMap<u64, Page>,
    size: u64,
}

#[derive(Default)]
struct Directory {
    now: Names,
    durable: Names,
    /// What has happened to the durable names since, in order; each change whole or not at all.
    changes: Vec<Change>,
}

struct Change {
    moment: u64,
    /// `None`: the name goes.
    names: Vec<(OsString, Option<u64>)>,
}

impl Content {
    /// An empty disk of so many bytes.
    pub fn new(bytes_max: u64) -> Content {
        let root = Inode { body: Body::Directory(Directory::default()), lookups: 0 };
        Content {
            inodes: BTreeMap::from([(ROOT, root)]),
            next_inode: ROOT + 1,
            moment: 0,
            pages_max: bytes_max / PAGE_BYTES as u64,
            pages_used: 0,
            zeros: Arc::new([0; PAGE_BYTES]),
        }
    }

    pub fn pages_max(&self) -> u64 {
        self.pages_max
    }

    pub fn pages_free(&self) -> u64 {
        self.pages_max.saturating_sub(self.pages_used)
    }

    pub fn facts(&self, inode: u64) -> Result<Facts, Refusal> {
        let found = self.inodes.get(&inode).ok_or(Refusal::Missing)?;
        let (is_directory, size, pages) = match &found.body {
            Body::File(file) => (false, file.now.size, file.now.pages.len() as u64),
            Body::Directory(_) => (true, 0, 0),
        };
        Ok(Facts { inode, is_directory, size, pages })
    }

    /// Finds a name, for a kernel that will remember the number until [`Content::forget`].
    pub fn lookup(&mut self, directory: u64, name: &OsStr) -> Result<Facts, Refusal> {
        let inode = *self.directory(directory)?.now.get(name).ok_or(Refusal::Missing)?;
        self.held(inode)
    }

    pub fn forget(&mut self, inode: u64, times: u64) {
        if let Some(found) = self.inodes.get_mut(&inode) {
            found.lookups = found.lookups.saturating_sub(times);
            if found.lookups == 0 && matches!(&found.body, Body::File(_)) && !self.is_named(inode) {
                self.empty(inode);
            }
        }
    }

    pub fn list(&self, directory: u64) -> Result<Vec<(OsString, Facts)>, Refusal> {
        let names = &self.directory(directory)?.now;
        names.iter().map(|(name, &inode)| Ok((name.clone(), self.facts(inode)?))).collect()
    }

    /// A new file, held as by [`Content::lookup`].
    pub fn create(&mut self, directory: u64, name: &OsStr) -> Result<Facts, Refusal> {
        self.add(directory, name, Body::File(File::default()))
    }

    pub fn make_directory(&mut self, directory: u64, name: &OsStr) -> Result<Facts, Refusal> {
        self.add(directory, name, Body::Directory(Directory::default()))
    }

    fn add(&mut self, directory: u64, name: &OsStr, body: Body) -> Result<Facts, Refusal> {
        if self.directory(directory)?.now.contains_key(name) {
            return Err(Refusal::Exists);
        }
        if self.pages_free() == 0 {
            return Err(Refusal::NoSpace);
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode { body, lookups: 0 });
        self.change(directory, vec![(name.to_owned(), Some(inode))])?;
        self.held(inode)
    }

    pub fn unlink(&mut self, directory: u64, name: &OsStr) -> Result<(), Refusal> {
        let inode = *self.directory(directory)?.now.get(name).ok_or(Refusal::Missing)?;
        if self.facts(inode)?.is_directory {
            return Err(Refusal::IsADirectory);
        }
        self.change(directory, vec![(name.to_owned(), None)])?;
        self.forget(inode, 0);
        Ok(())
    }

    pub fn remove_directory(&mut self, directory: u64, name: &OsStr) -> Result<(), Refusal> {
        let inode = *self.directory(directory)?.now.get(name).ok_or(Refusal::Missing)?;
        if !self.directory(inode)?.now.is_empty() {
            return Err(Refusal::NotEmpty);
        }
        self.change(directory, vec![(name.to_owned(), None)])
    }

    /// Within one directory, and over what has the new name: one change.
    pub fn rename(&mut self, directory: u64, from: &OsStr, to: &OsStr) -> Result<(), Refusal> {
        let names = &self.directory(directory)?.now;
        let inode = *names.get(from).ok_or(Refusal::Missing)?;
        let replaced = names.get(to).copied();
        if replaced == Some(inode) {
            return Ok(());
        }
        if let Some(replaced) = replaced
            && let Ok(directory) = self.directory(replaced)
            && !directory.now.is_empty()
        {
            return Err(Refusal::NotEmpty);
        }
        self.change(directory, vec![(from.to_owned(), None), (to.to_owned(), Some(inode))])?;
        replaced.into_iter().for_each(|replaced| self.forget(replaced, 0));
        Ok(())
    }

    fn change(&mut self, directory: u64, names: Vec<(OsString, Option<u64>)>) -> Result<(), Refusal> {
        self.moment += 1;
        let moment = self.moment;
        let directory = self.directory_mut(directory)?;
        apply(&mut directory.now, &names);
        directory.changes.push(Change { moment, names });
        Ok(())
    }

    pub fn read(&self, inode: u64, position: u64, length: usize) -> Result<Vec<u8>, Refusal> {
        let data = &self.file(inode)?.now;
        let end = data.size.min(position.saturating_add(length as u64));
        let mut bytes = Vec::with_capacity(end.saturating_sub(position) as usize);
        let mut at = position;
        while at < end {
            let (page, within, length) = piece(at, end);
            match data.pages.get(&page) {
                Some(page) => bytes.extend_from_slice(&page[within..within + length]),
                None => bytes.resize(bytes.len() + length, 0),
            }
            at += length as u64;
        }
        Ok(bytes)
    }

    pub fn write(&mut self, inode: u64, position: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let end = position + bytes.len() as u64;
        self.allocate(inode, position, end)?;
        self.moment += 1;
        let moment = self.moment;
        let file = self.file_mut(inode)?;
        let mut at = position;
        while at < end {
            let (page, within, length) = piece(at, end);
            let from = (at - position) as usize;
            if let Some(page) = file.now.pages.get_mut(&page) {
                Arc::make_mut(page)[within..within + length].copy_from_slice(&bytes[from..from + length]);
            }
            file.dirty.insert(page, moment);
            at += length as u64;
        }
        file.grow(end, moment);
        Ok(())
    }

    /// Space for a range, and the size unless it is to be kept; what is there stays.
    pub fn reserve(&mut self, inode: u64, position: u64, length: u64, keep_size: bool) -> Result<(), Refusal> {
        let end = position + length;
        self.allocate(inode, position, end)?;
        self.moment += 1;
        let moment = self.moment;
        let file = self.file_mut(inode)?;
        if !keep_size {
            file.grow(end, moment);
        }
        Ok(())
    }

    /// Zeros in place of a range, whose whole pages are given back.
    pub fn punch(&mut self, inode: u64, position: u64, length: u64) -> Result<(), Refusal> {
        self.moment += 1;
        let moment = self.moment;
        let file = self.file_mut(inode)?;
        let before = file.now.pages.len();
        let end = position.saturating_add(length);
        let touched: Vec<u64> = file
            .now
            .pages
            .range(position / PAGE_BYTES as u64..end.div_ceil(PAGE_BYTES as u64))
            .map(|(&page, _)| page)
            .collect();
        for number in touched {
            let start = number * PAGE_BYTES as u64;
            let from = position.max(start) - start;
            let to = (end - start).min(PAGE_BYTES as u64);
            if to - from == PAGE_BYTES as u64 {
                file.now.pages.remove(&number);
            } else if let Some(page) = file.now.pages.get_mut(&number) {
                Arc::make_mut(page)[from as usize..to as usize].fill(0);
            }
            file.dirty.insert(number, moment);
        }
        let freed = before - file.now.pages.len();
        self.pages_used -= freed as u64;
        Ok(())
    }

    pub fn resize(&mut self, inode: u64, size: u64) -> Result<(), Refusal> {
        let old = self.file(inode)?.now.size;
        if size < old {
            self.punch(inode, size, old - size)?;
        }
        self.moment += 1;
        let moment = self.moment;
        let file = self.file_mut(inode)?;
        file.now.size = size;
        file.resized.push((moment, size));
        Ok(())
    }

    /// Makes a file's bytes and size durable, not its name.
    pub fn sync_file(&mut self, inode: u64) -> Result<(), Refusal> {
        let file = self.file_mut(inode)?;
        for &page in file.dirty.keys() {
            file.durable.take(page, &file.now);
        }
        file.durable.size = file.now.size;
        file.dirty.clear();
        file.resized.clear();
        Ok(())
    }

    /// What Linux does after a failed sync: the pages count as clean and are written by no later sync.
    pub fn lose_sync(&mut self, inode: u64) {
        if let Ok(file) = self.file_mut(inode) {
            file.dirty.clear();
            file.resized.clear();
        }
    }

    /// Makes a directory's names durable, not what they name.
    pub fn sync_directory(&mut self, inode: u64) -> Result<(), Refusal> {
        let directory = self.directory_mut(inode)?;
        directory.durable = directory.now.clone();
        directory.changes.clear();
        self.sweep();
        Ok(())
    }

    /// The power goes and comes back: what is left is all there is.
    pub fn cut(&mut self, cut: Cut, random: &mut Random) {
        let until = match cut {
            Cut::Prefix => self.moment - random.below(self.unsynced().min(self.moment) + 1),
            Cut::Lost | Cut::Scattered => 0,
        };
        for inode in self.inodes.values_mut() {
            inode.lookups = 0;
            match &mut inode.body {
                Body::File(file) => file.cut(cut, until, random, &self.zeros),
                Body::Directory(directory) => directory.cut(cut, until, random),
            }
        }
        self.sweep();
        let reachable: u64 = self.inodes.values().map(|inode| inode.pages()).sum();
        self.pages_used = reachable;
    }

    /// How far back the oldest change lies that is not durable.
    fn unsynced(&self) -> u64 {
        let oldest = self.inodes.values().filter_map(|inode| match &inode.body {
            Body::File(file) => {
                let resized = file.resized.first().map(|(moment, _)| moment);
                file.dirty.values().chain(resized).min().copied()
            }
            Body::Directory(directory) => directory.changes.first().map(|change| change.moment),
        });
        oldest.min().map_or(0, |oldest| self.moment - oldest + 1)
    }

    fn held(&mut self, inode: u64) -> Result<Facts, Refusal> {
        self.inodes.get_mut(&inode).ok_or(Refusal::Missing)?.lookups += 1;
        self.facts(inode)
    }

    fn allocate(&mut self, inode: u64, position: u64, end: u64) -> Result<(), Refusal> {
        let range = position / PAGE_BYTES as u64..end.div_ceil(PAGE_BYTES as u64);
        let free = self.pages_free();
        let zeros = Arc::clone(&self.zeros);
        let file = self.file_mut(inode)?;
        let missing: Vec<u64> = range.filter(|page| !file.now.pages.contains_key(page)).collect();
        let count = missing.len() as u64;
        if count > free {
            return Err(Refusal::NoSpace);
        }
        file.now.pages.extend(missing.into_iter().map(|page| (page, Arc::clone(&zeros))));
        self.pages_used += count;
        Ok(())
    }

    fn is_named(&self, inode: u64) -> bool {
        self.directories().any(|directory| directory.now.values().any(|&named| named == inode))
    }

    /// The space of a file that nobody can open any more; the medium may still have it under its old name.
    fn empty(&mut self, inode: u64) {
        let Ok(file) = self.file_mut(inode) else { return };
        let freed = file.now.pages.len() as u64;
        file.now = Data::default();
        file.dirty.clear();
        file.resized.clear();
        self.pages_used -= freed;
    }

    /// Forgets what has no name, neither now nor on the medium nor in between, and nobody who holds it.
    fn sweep(&mut self) {
        let mut named: BTreeSet<u64> = BTreeSet::from([ROOT]);
        for directory in self.directories() {
            named.extend(directory.now.values().chain(directory.durable.values()));
            named.extend(
                directory.changes.iter().flat_map(|change| change.names.iter().filter_map(|(_, inode)| *inode)),
            );
        }
        self.inodes.retain(|inode, found| found.lookups > 0 || named.contains(inode));
    }

    fn directories(&self) -> impl Iterator<Item = &Directory> {
        self.inodes.values().filter_map(|inode| match &inode.body {
            Body::Directory(directory) => Some(directory),
            Body::File(_) => None,
        })
    }

    fn directory(&self, inode: u64) -> Result<&Directory, Refusal> {
        match &self.inodes.get(&inode).ok_or(Refusal::Missing)?.body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) => Err(Refusal::NotADirectory),
        }
    }

    fn directory_mut(&mut self, inode: u64) -> Result<&mut Directory, Refusal> {
        match &mut self.inodes.get_mut(&inode).ok_or(Refusal::Missing)?.body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) => Err(Refusal::NotADirectory),
        }
    }

    fn file(&self, inode: u64) -> Result<&File, Refusal> {
        match &self.inodes.get(&inode).ok_or(Refusal::Missing)?.body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => Err(Refusal::IsADirectory),
        }
    }

    fn file_mut(&mut self, inode: u64) -> Result<&mut File, Refusal> {
        match &mut self.inodes.get_mut(&inode).ok_or(Refusal::Missing)?.body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => Err(Refusal::IsADirectory),
        }
    }
}

impl Inode {
    fn pages(&self) -> u64 {
        match &self.body {
            Body::File(file) => file.now.pages.len() as u64,
            Body::Directory(_) => 0,
        }
    }
}

impl File {
    fn grow(&mut self, end: u64, moment: u64) {
        if end > self.now.size {
            self.now.size = end;
            self.resized.push((moment, end));
        }
    }

    fn cut(&mut self, cut: Cut, until: u64, random: &mut Random, zeros: &Page) {
        for (&page, &moment) in &self.dirty {
            match cut {
                Cut::Lost => {}
                Cut::Prefix if moment < until => self.durable.take(page, &self.now),
                Cut::Prefix if moment > until => {}
                Cut::Prefix | Cut::Scattered => self.durable.tear(page, &self.now, random, zeros),
            }
        }
        let kept = match cut {
            Cut::Lost => 0,
            Cut::Prefix => self.resized.partition_point(|(moment, _)| *moment <= until),
            Cut::Scattered => random.below(self.resized.len() as u64 + 1) as usize,
        };
        if let Some((_, size)) = kept.checked_sub(1).and_then(|last| self.resized.get(last)) {
            self.durable.size = *size;
        }
        // What lies behind the end is not there, also when the file grows again.
        let end = self.durable.size;
        self.durable.pages.retain(|&page, _| page * (PAGE_BYTES as u64) < end);
        if let Some((page, within, _)) = (!end.is_multiple_of(PAGE_BYTES as u64)).then(|| piece(end, end + 1))
            && let Some(page) = self.durable.pages.get_mut(&page)
        {
            Arc::make_mut(page)[within..].fill(0);
        }
        self.now = self.durable.clone();
        self.dirty.clear();
        self.resized.clear();
    }
}

impl Data {
    /// Has the page as `other` has it.
    fn take(&mut self, page: u64, other: &Data) {
        match other.pages.get(&page) {
            Some(bytes) => drop(self.pages.insert(page, Arc::clone(bytes))),
            None => drop(self.pages.remove(&page)),
        }
    }

    /// Each sector of the page as it is here or as `other` has it.
    fn tear(&mut self, page: u64, other: &Data, random: &mut Random, zeros: &Page) {
        let theirs = Arc::clone(other.pages.get(&page).unwrap_or(zeros));
        let ours = Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::clone(zeros)));
        for (ours, theirs) in ours.chunks_mut(SECTOR_BYTES).zip(theirs.chunks(SECTOR_BYTES)) {
            if random.chance(1, 2) {
                ours.copy_from_slice(theirs);
            }
        }
    }
}

impl Directory {
    fn cut(&mut self, cut: Cut, until: u64, random: &mut Random) {
        let kept = match cut {
            Cut::Lost => 0,
            Cut::Prefix => self.changes.partition_point(|change| change.moment <= until),
            Cut::Scattered => random.below(self.changes.len() as u64 + 1) as usize,
        };
        for change in &self.changes[..kept] {
            apply(&mut self.durable, &change.names);
        }
        self.now = self.durable.clone();
        self.changes.clear();
    }
}

fn apply(names: &mut Names, change: &[(OsString, Option<u64>)]) {
    for (name, inode) in change {
        match inode {
            Some(inode) => drop(names.insert(name.clone(), *inode)),
            None => drop(names.remove(name)),
        }
    }
}

/// The piece of `at..end` that lies in one page: the page, where in it, how long.
fn piece(at: u64, end: u64) -> (u64, usize, usize) {
    let page = at / PAGE_BYTES as u64;
    let within = (at % PAGE_BYTES as u64) as usize;
    (page, within, (PAGE_BYTES - within).min((end - at) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    fn with_file(text: &[u8]) -> (Content, u64) {
        let mut content = Content::new(MEBIBYTE);
        let file = content.create(ROOT, name("a")).unwrap().inode;
        content.write(file, 0, text).unwrap();
        content.sync_file(file).unwrap();
        content.sync_directory(ROOT).unwrap();
        (content, file)
    }

    fn names(content: &Content) -> Vec<String> {
        content.list(ROOT).unwrap().into_iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_was_synced_survives_every_cut() {
        for cut in Cut::ALL {
            for seed in 0..50 {
                let (mut content, file) = with_file(b"durable");
                content.cut(cut, &mut Random::new(seed));
                assert_eq!(content.read(file, 0, 100).unwrap(), b"durable", "{cut:?}");
                assert_eq!(names(&content), ["a"]);
            }
        }
    }

    #[test]
    fn what_was_not_synced_is_lost() {
        let (mut content, file) = with_file(b"durable");
        content.write(file, 0, b"changed and longer").unwrap();
        content.create(ROOT, name("b")).unwrap();
        assert_eq!(content.read(file, 0, 100).unwrap(), b"changed and longer");
        content.cut(Cut::Lost, &mut Random::new(1));
        assert_eq!(content.read(file, 0, 100).unwrap(), b"durable");
        assert_eq!(names(&content), ["a"]);
    }

    #[test]
    fn a_synced_file_without_a_synced_name_is_lost_and_the_other_way_round_empty() {
        let mut content = Content::new(MEBIBYTE);
        let file = content.create(ROOT, name("a")).unwrap().inode;
        content.write(file, 0, b"text").unwrap();
        content.sync_file(file).unwrap();
        content.cut(Cut::Lost, &mut Random::new(1));
        assert!(names(&content).is_empty());
        let file = content.create(ROOT, name("a")).unwrap().inode;
        content.write(file, 0, b"text").unwrap();
        content.sync_directory(ROOT).unwrap();
        content.cut(Cut::Lost, &mut Random::new(1));
        assert_eq!(content.read(file, 0, 100).unwrap(), b"");
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_the_next_one() {
        let (mut content, file) = with_file(b"durable");
        content.write(file, 0, b"changed").unwrap();
        content.lose_sync(file);
        content.sync_file(file).unwrap();
        assert_eq!(content.read(file, 0, 100).unwrap(), b"changed", "until the power goes");
        content.cut(Cut::Lost, &mut Random::new(1));
        assert_eq!(content.read(file, 0, 100).unwrap(), b"durable");
    }

    #[test]
    fn a_scattered_cut_keeps_and_loses_sectors() {
        let (mut kept, mut lost) = (false, false);
        for seed in 0..20 {
            let (mut content, file) = with_file(&[1; PAGE_BYTES]);
            content.write(file, 0, &[2; PAGE_BYTES]).unwrap();
            content.cut(Cut::Scattered, &mut Random::new(seed));
            for sector in content.read(file, 0, PAGE_BYTES).unwrap().chunks(SECTOR_BYTES) {
                assert!(sector.iter().all(|&byte| byte == sector[0]), "a sector is whole");
                kept |= sector[0] == 2;
                lost |= sector[0] == 1;
            }
        }
        assert!(kept && lost);
    }

    #[test]
    fn a_prefix_cut_keeps_writes_in_their_order() {
        let mut lengths = BTreeSet::new();
        for seed in 0..200 {
            let (mut content, file) = with_file(b"");
            for page in 0..10 {
                content.write(file, page * PAGE_BYTES as u64, &[page as u8 + 1; PAGE_BYTES]).unwrap();
            }
            content.cut(Cut::Prefix, &mut Random::new(seed));
            let size = content.facts(file).unwrap().size;
            let bytes = content.read(file, 0, 10 * PAGE_BYTES).unwrap();
            let whole = bytes.chunks(PAGE_BYTES).take_while(|page| page[0] > 0 && page.iter().all(|&b| b == page[0]));
            let whole = whole.count();
            // Behind the torn page there is nothing.
            let rest = bytes.get((whole + 1) * PAGE_BYTES..).unwrap_or_default();
            assert!(rest.iter().all(|&byte| byte == 0), "size {size}");
            lengths.insert(whole);
        }
        assert!(lengths.len() > 5, "{lengths:?}");
    }

    #[test]
    fn a_rename_survives_whole_or_not_at_all() {
        let mut seen = BTreeSet::new();
        for seed in 0..50 {
            let (mut content, _) = with_file(b"old");
            let new = content.create(ROOT, name("new")).unwrap().inode;
            content.write(new, 0, b"new").unwrap();
            content.sync_file(new).unwrap();
            content.rename(ROOT, name("new"), name("a")).unwrap();
            content.cut(Cut::Scattered, &mut Random::new(seed));
            let inode = content.lookup(ROOT, name("a")).unwrap().inode;
            let text = String::from_utf8(content.read(inode, 0, 10).unwrap()).unwrap();
            seen.insert((names(&content).len(), text));
        }
        let legal = [(1, "new".to_owned()), (1, "old".to_owned()), (2, "old".to_owned())];
        assert_eq!(seen, BTreeSet::from(legal));
    }

    #[test]
    fn a_full_disk_refuses_new_pages_and_takes_them_after_a_deletion() {
        let mut content = Content::new(4 * PAGE_BYTES as u64);
        let file = content.create(ROOT, name("a")).unwrap().inode;
        content.reserve(file, 0, 3 * PAGE_BYTES as u64, true).unwrap();
        assert_eq!((content.facts(file).unwrap().size, content.pages_free()), (0, 1));
        assert_eq!(content.write(file, 0, &[1; 5 * PAGE_BYTES]), Err(Refusal::NoSpace));
        content.write(file, 0, &[1; 4 * PAGE_BYTES]).unwrap();
        assert_eq!(content.create(ROOT, name("b")), Err(Refusal::NoSpace));
        content.resize(file, PAGE_BYTES as u64 + 1).unwrap();
        assert_eq!(content.pages_free(), 2);
        content.unlink(ROOT, name("a")).unwrap();
        assert_eq!(content.pages_free(), 2, "it is still open");
        content.forget(file, 1);
        assert_eq!(content.pages_free(), 4);
    }

    #[test]
    fn a_shortened_file_reads_zeros_where_it_grows_again() {
        let (mut content, file) = with_file(&[7; 100]);
        content.resize(file, 10).unwrap();
        content.resize(file, 100).unwrap();
        let bytes = content.read(file, 0, 200).unwrap();
        assert_eq!((bytes.len(), bytes[9], bytes[10]), (100, 7, 0));
    }

    #[test]
    fn what_was_deleted_and_not_synced_comes_back() {
        let (mut content, file) = with_file(b"durable");
        content.unlink(ROOT, name("a")).unwrap();
        content.forget(file, 1);
        content.cut(Cut::Lost, &mut Random::new(1));
        let again = content.lookup(ROOT, name("a")).unwrap().inode;
        assert_eq!(content.read(again, 0, 100).unwrap(), b"durable");
        content.unlink(ROOT, name("a")).unwrap();
        content.sync_directory(ROOT).unwrap();
        content.forget(again, 1);
        content.cut(Cut::Lost, &mut Random::new(1));
        assert!(names(&content).is_empty());
    }
}
