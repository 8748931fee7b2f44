//! The beginnings of keys that links do not repeat.

use std::collections::{BTreeMap, BTreeSet};

use super::super::damage;

/// Most prefixes tried for a row whose page is lost: more pages than a row could come from in a store of
/// some gigabytes.
const PREFIXES_MAX: usize = 100_000;

/// Most keys of which beginnings are tried for such a row; they take some 60 MB of memory. A row of the history
/// holds up to 128 records.
const KEYS_MAX: usize = 1_000_000;

/// What the keys of each page begin with, as its newest node so far says.
#[derive(Default)]
pub(super) struct Prefixes {
    pub(super) of_pages: BTreeMap<u64, Vec<u8>>,
    all: BTreeSet<Vec<u8>>,
    /// Keys of rows: a page that a split has made, and of which no node is left, has the keys of another one.
    keys: BTreeSet<Vec<u8>>,
}

impl Prefixes {
    pub(super) fn note(&mut self, page: u64, prefix: &[u8]) {
        self.of_pages.insert(page, prefix.to_vec());
        if self.all.len() < PREFIXES_MAX {
            self.all.insert(prefix.to_vec());
        }
    }

    pub(super) fn note_key(&mut self, key: &[u8]) {
        if self.keys.len() < KEYS_MAX {
            self.keys.insert(key.to_vec());
        }
    }

    /// The full key of a row: that under which its checksum is right. The node that knew may be lost.
    pub(super) fn placed(&self, page: u64, short: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let own = self.of_pages.get(&page).map(Vec::as_slice);
        let known = own.into_iter().chain(self.all.iter().map(Vec::as_slice));
        known
            .chain(self.beginnings(short.len()))
            .map(|prefix| [prefix, short].concat())
            .find(|key| damage::unseal(key, sealed.to_vec()).is_ok())
    }

    /// What is left of the known keys without their last `bytes`, mostly each once.
    fn beginnings(&self, bytes: usize) -> impl Iterator<Item = &[u8]> {
        let mut last = None;
        self.keys.iter().filter_map(move |key| {
            let beginning = key.get(..key.len().checked_sub(bytes)?)?;
            (last.replace(beginning) != Some(beginning)).then_some(beginning)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_page_without_a_node_is_placed_by_the_keys_of_other_pages() {
        let mut prefixes = Prefixes::default();
        prefixes.note(1, b"h|");
        for seq in [1, 2, 9] {
            prefixes.note_key(&[&b"h|load-0008/boot-1/"[..], &[seq]].concat());
        }
        prefixes.note_key(b"h|load-0011/boot-3/7");
        let key = b"h|load-0008/boot-1/5";
        let sealed = damage::seal(key, b"records".to_vec());
        let short = &key[b"h|load-000".len()..];
        assert_eq!(prefixes.placed(36, short, &sealed), Some(key.to_vec()));
        let of_nobody = damage::seal(b"h|tracker-7/boot-1/5", b"records".to_vec());
        assert_eq!(prefixes.placed(36, short, &of_nobody), None);
    }

    #[test]
    fn beginnings_come_once_for_neighbours_and_never_for_shorter_keys() {
        let mut prefixes = Prefixes::default();
        for key in [&b"a"[..], b"abc1", b"abc2", b"abd1"] {
            prefixes.note_key(key);
        }
        let beginnings: Vec<_> = prefixes.beginnings(2).collect();
        assert_eq!(beginnings, [b"ab"]);
    }
}
