//! How redb lays out a page; nothing here believes what it reads.

pub(super) const LEAF: u8 = 1;
pub(super) const BRANCH: u8 = 2;

/// Name of our table.
const TABLE: &[u8] = b"rows";

/// A pointer to a page, and the checksum that the page must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pointer {
    pub(super) page: u64,
    pub(super) checksum: u128,
}

/// The roots of our table that a leaf of the tree of tables names.
pub(super) fn roots(leaf: &[u8]) -> Vec<Pointer> {
    // Kind of table u8, rows u64, has root u8, root: page u64, checksum u128.
    let root = |definition: &[u8]| {
        let [3, .., 1] = definition.get(..10)? else {
            return None;
        };
        pointer(definition.get(10..34)?)
    };
    let named = pairs(leaf).filter(|(name, _)| *name == TABLE);
    named
        .filter_map(|(_, definition)| root(definition))
        .collect()
}

/// Page number and checksum behind it.
pub(super) fn pointer(bytes: &[u8]) -> Option<Pointer> {
    let (page, checksum) = bytes.split_first_chunk::<8>()?;
    Some(Pointer {
        page: u64::from_le_bytes(*page),
        checksum: u128::from_le_bytes(*checksum.first_chunk::<16>()?),
    })
}

pub(super) fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(4)?)?.first_chunk::<4>()?;
    Some(u64::from(u32::from_le_bytes(*bytes)))
}

fn count(page: &[u8]) -> Option<usize> {
    let bytes = page.get(2..4)?.first_chunk::<2>()?;
    Some(usize::from(u16::from_le_bytes(*bytes)))
}

fn offset(page: &[u8], at: usize) -> Option<usize> {
    usize::try_from(number(page, at)?).ok()
}

/// Where the last value of a leaf ends.
pub(super) fn leaf_end(page: &[u8]) -> Option<usize> {
    let pairs = count(page).filter(|pairs| *pairs > 0)?;
    offset(page, 4 + 4 * (2 * pairs - 1))
}

/// Where the last key of a branch ends.
pub(super) fn branch_end(page: &[u8]) -> Option<usize> {
    let keys = count(page).filter(|keys| *keys > 0)?;
    offset(page, 8 + 24 * (keys + 1) + 4 * (keys - 1))
}

/// The pairs of a leaf, as far as its table of offsets can be followed.
pub(super) fn pairs(page: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = count(page).unwrap_or_default();
    let first_key = 4 + 8 * pairs;
    let key_end = move |n: usize| offset(page, 4 + 4 * n);
    let value_end = move |n: usize| offset(page, 4 + 4 * (pairs + n));
    let is_leaf = page.first() == Some(&LEAF);
    let pairs = if is_leaf { pairs } else { 0 };
    (0..pairs).filter_map(move |n| {
        let (key_from, value_from) = match n.checked_sub(1) {
            None => (first_key, key_end(pairs - 1)?),
            Some(before) => (key_end(before)?, value_end(before)?),
        };
        let key = page.get(key_from..key_end(n)?)?;
        let value = page.get(value_from..value_end(n)?)?;
        Some((key, value))
    })
}

/// The children of a branch, each with the last key that may be below it; none for the last.
pub(super) fn children(page: &[u8]) -> Vec<(Pointer, Option<Vec<u8>>)> {
    if page.first() != Some(&BRANCH) {
        return Vec::new();
    }
    let keys = count(page).unwrap_or_default();
    let pages = 8 + 16 * (keys + 1);
    let ends = pages + 8 * (keys + 1);
    let child = |n: usize| {
        let checksum = page.get(8 + 16 * n..)?.first_chunk::<16>()?;
        let number = page.get(pages + 8 * n..)?.first_chunk::<8>()?;
        let from = match n.checked_sub(1) {
            None => Some(ends + 4 * keys),
            Some(before) => offset(page, ends + 4 * before),
        };
        let until = (n < keys)
            .then(|| page.get(from?..offset(page, ends + 4 * n)?))
            .flatten();
        let pointer = Pointer {
            page: u64::from_le_bytes(*number),
            checksum: u128::from_le_bytes(*checksum),
        };
        Some((pointer, until.map(<[u8]>::to_vec)))
    };
    (0..=keys).filter_map(child).collect()
}
