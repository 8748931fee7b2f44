//! What a damaged file of redb still holds, read without redb.
//!
//! ```text
//! file     header page of 4 KiB, then regions of pages of 4 KiB x 2^order
//! header   magic 9  flags u8  0 0  page size u32  region header pages u32  region data pages u32 ...
//!          two slots, at 64 and 192: version u8  has root u8 ... at 8 root page u64, at 104 transaction u64
//! leaf     1 u8  0 u8  pairs u16   ends of the keys, ends of the values: u32 each   keys   values
//! branch   2 u8  0 u8  keys u16  0 u32   children + 1: checksums u128, then pages u64   ends of the keys u32   keys
//! page     index 20 bits  region 20 bits  reserved  order 5 bits
//! ```
//! All little-endian, as in redb's docs/design.md. The tree of tables has one leaf that names the root of our
//! only table, `rows`. A page's checksum (XXH3, 128 bits) is kept beside every pointer to it, so the tree below
//! a root is known to be whole page by page; a row in a page that is not still counts when its own checksum holds.
//!
//! redb copies a page when it changes, and does not clear what it leaves. So old roots are found all over the
//! file, and the one that leads to the furthest cursors is the newest that can still be read. Its sound leaves
//! say all there is in their stretch of keys. Where it has holes, the trees before it fill in; and last every leaf
//! of the file is looked at, whoever points to it. Of these strays only rows are taken that are written once and
//! never change, or only grow (journal, records, plan revisions, audit, quarantine), or cursors, which only rise: an old page may hold an
//! identity from before it was revoked, or a setting from before it was changed.

mod layout;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use twox_hash::XxHash3_128;

use self::layout::{
    BRANCH, LEAF, Pointer, branch_end, children, leaf_end, number, pairs, pointer, roots,
};
use super::wreck::Change;
use super::{Commit, Row, damage};
use crate::config::StoreEngine;

/// The smallest page, and the header's, in bytes.
const PAGE_BYTES: usize = 4096;

/// Most pages of a region when the header does not tell: redb's default of 4 GiB.
const REGION_PAGES: u64 = 1 << 20;

/// Largest page that is read, in bytes: far above a leaf with the largest value.
const PAGE_MAX_BYTES: usize = 1 << 20;

/// Deepest tree that is followed: with two children a page it would hold more than a disk does.
const DEPTH_MAX: u32 = 40;

/// Older trees that fill the holes of the newest.
const OLDER_TREES_MAX: usize = 2;

/// Flag of the header: the primary slot is the second.
const PRIMARY: u8 = 1;
/// Flag of the header: the last writer did not end in good order.
const UNCLEAN: u8 = 2;

const MAGIC: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";
const SLOTS: [usize; 2] = [64, 192];

/// Kinds of rows that never change once they are written, and cursors.
const SPARE_KINDS: [&[u8; 2]; 7] = [b"j|", b"h|", b"p|", b"z|", b"a|", b"q|", b"m|"];

/// How far a tree is: the numbers of its cursors, and its transaction if the header knows it.
type Rank = (u64, u64, u64, u64);

/// Looks at the tree before redb opens it, because redb does not look at pages that it has not to repair, and
/// where it repairs it goes back to an older commit and may overwrite the pages of the newer one. After a
/// start in good order the tree must be whole; after a crash redb may fall back, but not behind what was promised.
pub(super) fn before_opening(folder: &Path, promised: Commit) -> io::Result<()> {
    let mut file = match Paged::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let header = file.bytes(0, PAGE_BYTES).unwrap_or_default();
    if !header.starts_with(MAGIC) {
        return Err(damaged("it does not begin as a database of redb does"));
    }
    let flags = header.get(MAGIC.len()).copied().unwrap_or_default();
    let primary = usize::from(flags & PRIMARY != 0);
    if let Some(whole) = file.slot_is_whole(&header, primary)
        && whole >= promised
    {
        return Ok(());
    }
    let fallen_back = file.slot_is_whole(&header, 1 - primary);
    if flags & UNCLEAN != 0 && fallen_back.is_some_and(|newest| newest >= promised) {
        return Ok(());
    }
    Err(damaged("a page of its tree fails its checksum"))
}

fn damaged(fault: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

/// Visits what the file in `folder` still holds.
pub(super) fn replay(
    folder: &Path,
    visit: &mut dyn FnMut(Change) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = Paged::open(folder)?;
    if file.newest_root().is_none() {
        visit(Change::Unplaced)?;
    }
    let mut trees: Vec<(Rank, Pointer)> = Vec::new();
    let transactions = file.transactions();
    file.each_leaf(|file, at, leaf| {
        for root in roots(&leaf) {
            if let Some(rank) = file.rank(root, transactions.get(&at).copied()) {
                trees.push((rank, root));
            }
        }
        Ok(())
    })?;
    trees.sort_unstable();
    trees.dedup_by_key(|(_, root)| *root);
    let newest = trees.pop();
    let older = trees.len().saturating_sub(OLDER_TREES_MAX);
    for (_, root) in trees.split_off(older) {
        file.walk(root, Way::default(), visit)?;
    }
    if let Some((_, root)) = newest {
        let whole = Way {
            stretch: Some((Vec::new(), Vec::new())),
            depth: 0,
            newest: true,
        };
        file.walk(root, whole, visit)?;
    }
    file.each_leaf(|_, _, leaf| {
        let rows = pairs(&leaf).filter_map(|(key, sealed)| spare(key, sealed));
        rows.into_iter()
            .try_for_each(|row| visit(Change::Spare(row)))
    })
}

/// A row of a leaf that nobody may point to, if it can be taken.
fn spare(key: &[u8], sealed: &[u8]) -> Option<Row> {
    let kind = key.first_chunk::<2>()?;
    let taken = SPARE_KINDS.contains(&kind);
    let row = (key.to_vec(), sealed.to_vec());
    (taken && damage::unseal(&row.0, row.1.clone()).is_ok()).then_some(row)
}

/// How a page was come by.
#[derive(Default)]
struct Way {
    /// The stretch of keys that it stands for, an empty end being the end of all; `None` when that is not known,
    /// or when its rows may not be all there is.
    stretch: Option<(Vec<u8>, Vec<u8>)>,
    depth: u32,
    /// Whether it belongs to the newest tree: in an older one a page that is not sound is another's by now.
    newest: bool,
}

/// The file, and where its pages are.
struct Paged {
    file: File,
    bytes: u64,
    region_header_pages: u64,
    region_pages: u64,
}

impl Paged {
    fn open(folder: &Path) -> io::Result<Self> {
        let file = File::open(folder.join(StoreEngine::Redb.file()))?;
        let bytes = file.metadata()?.len();
        let mut paged = Self {
            file,
            bytes,
            region_header_pages: 0,
            region_pages: REGION_PAGES,
        };
        let header = paged.bytes(0, 24).unwrap_or_default();
        if let (Some(heads), Some(pages)) = (number(&header, 16), number(&header, 20))
            && heads <= 1
            && (1..=REGION_PAGES).contains(&pages)
        {
            (paged.region_header_pages, paged.region_pages) = (heads, pages);
        }
        Ok(paged)
    }

    /// Bytes of the file; `None` where it does not have them.
    fn bytes(&mut self, at: u64, length: usize) -> Option<Vec<u8>> {
        if at.checked_add(length as u64)? > self.bytes {
            return None;
        }
        let mut bytes = vec![0; length];
        self.file.seek(SeekFrom::Start(at)).ok()?;
        self.file.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Where a page is, and its length.
    fn place(&self, page: u64) -> Option<(u64, usize)> {
        let order = u32::try_from(page >> 59).ok()?;
        let index = page & (0x000F_FFFF_u64.checked_shr(order)?);
        let region = (page >> 20) & 0x000F_FFFF;
        let length = PAGE_BYTES
            .checked_shl(order)
            .filter(|length| *length <= PAGE_MAX_BYTES)?;
        let region_pages = self.region_header_pages + self.region_pages;
        let before = 1 + region * region_pages + self.region_header_pages;
        Some((before * PAGE_BYTES as u64 + index * length as u64, length))
    }

    /// A page, and whether it is as its pointer says.
    fn page(&mut self, pointer: Pointer) -> Option<(Vec<u8>, bool)> {
        let (at, length) = self.place(pointer.page)?;
        let bytes = self.bytes(at, length)?;
        let used = match *bytes.first()? {
            LEAF => leaf_end(&bytes),
            BRANCH => branch_end(&bytes),
            _ => None,
        };
        let used = used.and_then(|used| bytes.get(..used));
        let sound = used.is_some_and(|used| XxHash3_128::oneshot(used) == pointer.checksum);
        Some((bytes, sound))
    }

    /// The transactions whose roots the header's slots name, by where their pages are.
    fn transactions(&mut self) -> BTreeMap<u64, u64> {
        let header = self.bytes(0, PAGE_BYTES).unwrap_or_default();
        let slot = |slot: usize| {
            let root = pointer(header.get(slot + 8..slot + 32)?)?;
            let transaction = header.get(slot + 104..slot + 112)?.first_chunk::<8>()?;
            let (at, _) = self.place(root.page)?;
            Some((at, u64::from_le_bytes(*transaction)))
        };
        SLOTS.into_iter().filter_map(slot).collect()
    }

    /// The root that the header names, if all pages on the way and itself are as they were written.
    fn newest_root(&mut self) -> Option<Pointer> {
        let header = self.bytes(0, PAGE_BYTES)?;
        if !header.starts_with(MAGIC) {
            return None;
        }
        let primary = usize::from(header.get(MAGIC.len())? & PRIMARY != 0);
        let slot = SLOTS.get(primary).copied()?;
        let (leaf, sound) = self.page(pointer(header.get(slot + 8..slot + 32)?)?)?;
        let root = roots(&leaf).pop().filter(|_| sound)?;
        let (_, sound) = self.page(root)?;
        sound.then_some(root)
    }

    /// Whether every page of a slot's tree of rows is as it was written; then its newest commit.
    fn slot_is_whole(&mut self, header: &[u8], slot: usize) -> Option<Commit> {
        let slot = SLOTS.get(slot).copied()?;
        if header.get(slot + 1)? == &0 {
            return Some(Commit(0));
        }
        let tables = pointer(header.get(slot + 8..slot + 32)?)?;
        let (leaf, sound) = self.page(tables)?;
        if !sound {
            return None;
        }
        let Some(root) = roots(&leaf).pop() else {
            return Some(Commit(0));
        };
        self.is_whole(root, 0)?;
        let newest = self.cursor(root, b"m|commit").unwrap_or_default();
        Some(Commit(newest))
    }

    fn is_whole(&mut self, root: Pointer, depth: u32) -> Option<()> {
        let (page, sound) = self.page(root)?;
        if !sound || depth > DEPTH_MAX {
            return None;
        }
        for (child, _) in children(&page) {
            self.is_whole(child, depth + 1)?;
        }
        Some(())
    }

    /// How far the tree of this root is; `None` when its root is no longer there.
    fn rank(&mut self, root: Pointer, transaction: Option<u64>) -> Option<Rank> {
        let (_, sound) = self.page(root)?;
        let mut reached = |name: &[u8]| self.cursor(root, name).unwrap_or_default();
        let (commit, folded, sequence) = (
            reached(b"m|commit"),
            reached(b"m|folded"),
            reached(b"m|sequence"),
        );
        let transaction = transaction.unwrap_or_default();
        sound.then_some((commit, folded, sequence, transaction))
    }

    /// A number of our own in the tree below `root`.
    fn cursor(&mut self, root: Pointer, key: &[u8]) -> Option<u64> {
        let mut at = root;
        for _ in 0..DEPTH_MAX {
            let (page, _) = self.page(at)?;
            if page.first() == Some(&LEAF) {
                let (_, sealed) = pairs(&page).find(|(found, _)| *found == key)?;
                let value = damage::unseal(key, sealed.to_vec()).ok()?;
                return ciborium::from_reader(value.as_slice()).ok();
            }
            // A branch's key is the last that its child may have; the last child has none.
            let within =
                |until: &Option<Vec<u8>>| until.as_deref().is_none_or(|until| key <= until);
            at = children(&page)
                .into_iter()
                .find_map(|(child, until)| within(&until).then_some(child))?;
        }
        None
    }

    /// Visits the rows below a pointer.
    fn walk(
        &mut self,
        at: Pointer,
        way: Way,
        visit: &mut dyn FnMut(Change) -> io::Result<()>,
    ) -> io::Result<()> {
        let found = self.page(at).filter(|_| way.depth <= DEPTH_MAX);
        let (page, sound) = found.unwrap_or_default();
        if !sound {
            if !way.newest {
                return Ok(());
            }
            visit(Change::Unplaced)?;
        }
        if page.first() == Some(&BRANCH) {
            return self.walk_branch(&page, sound, way, visit);
        }
        let rows = pairs(&page).map(|(key, sealed)| (key.to_vec(), sealed.to_vec()));
        match way.stretch {
            Some((lo, hi)) if sound => visit(Change::Page {
                lo,
                hi,
                rows: rows.collect(),
            }),
            _ => rows.into_iter().try_for_each(|row| visit(Change::Set(row))),
        }
    }

    fn walk_branch(
        &mut self,
        page: &[u8],
        sound: bool,
        way: Way,
        visit: &mut dyn FnMut(Change) -> io::Result<()>,
    ) -> io::Result<()> {
        let stretch = way.stretch.filter(|_| sound);
        let mut from = stretch.as_ref().map(|(lo, _)| lo.clone());
        for (child, until) in children(page) {
            let end = stretch.as_ref().map(|(_, hi)| match &until {
                Some(until) => super::successor(until),
                None => hi.clone(),
            });
            let of_child = Way {
                stretch: from.take().zip(end.clone()),
                depth: way.depth + 1,
                newest: way.newest,
            };
            from = end;
            // In a damaged branch a pointer is believed when what it points to has its checksum.
            let believed = sound || self.page(child).is_some_and(|(_, sound)| sound);
            if believed {
                self.walk(child, of_child, visit)?;
            }
        }
        Ok(())
    }

    /// Visits whatever looks like a leaf, with its place.
    fn each_leaf(
        &mut self,
        mut visit: impl FnMut(&mut Self, u64, Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        for at in (0..self.bytes).step_by(PAGE_BYTES).skip(1) {
            let Some(head) = self.bytes(at, PAGE_BYTES) else {
                continue;
            };
            let length = (head.first() == Some(&LEAF))
                .then(|| leaf_end(&head))
                .flatten();
            let Some(length) = length.filter(|length| *length <= PAGE_MAX_BYTES) else {
                continue;
            };
            // Where a page is cut short, what is left of it.
            let left = usize::try_from(self.bytes - at).unwrap_or(usize::MAX);
            if let Some(leaf) = self.bytes(at, length.max(PAGE_BYTES).min(left)) {
                visit(self, at, leaf)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
