//! Reading: every row is checked; what fails its checksum is set aside and not seen.

use std::ops::ControlFlow;

use super::error::read_error;
use super::key::Key;
use super::{Order, PAGE_MAX_ROWS, Row, Span, Store, StoreError, damage, successor};

impl Store {
    /// The value of a row; a damaged one is set aside and is none.
    pub(super) fn value(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        loop {
            let Some(found) = self.raw_value(key.bytes())? else {
                return Ok(None);
            };
            match damage::unseal(key.bytes(), found) {
                Ok(value) => return Ok(Some(value)),
                // It may have been written anew meanwhile: it is read again.
                Err(found) => damage::set_aside(self, vec![(key.bytes().to_vec(), found)])?,
            }
        }
    }

    /// The rows of `span` that check; the others are set aside.
    pub(super) fn scan(&self, span: &Span) -> Result<Vec<Row>, StoreError> {
        loop {
            let mut sound = Vec::new();
            let mut damaged = Vec::new();
            for (key, found) in self.raw_scan(span)? {
                match damage::unseal(&key, found) {
                    Ok(value) => sound.push((key, value)),
                    Err(found) => damaged.push((key, found)),
                }
            }
            if damaged.is_empty() {
                return Ok(sound);
            }
            // What is set aside made room in the span: it is read again.
            damage::set_aside(self, damaged)?;
        }
    }

    /// Visits the rows that start with `prefix`, in key order from `from` on (or from the prefix's
    /// start), a page at a time, until `visit` breaks.
    pub(super) fn walk(
        &self,
        prefix: &Key,
        from: Option<Vec<u8>>,
        visit: impl FnMut(&[u8], Vec<u8>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        self.walk_by(prefix, (from, PAGE_MAX_ROWS), visit)
    }

    /// The same in pages of so many rows, for those who seldom want more.
    pub(super) fn walk_by(
        &self,
        prefix: &Key,
        (from, page_rows): (Option<Vec<u8>>, usize),
        mut visit: impl FnMut(&[u8], Vec<u8>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut span = Span {
            from: from.unwrap_or_else(|| prefix.bytes().to_vec()),
            until: prefix.after_all(),
            order: Order::Ascending,
            limit_rows: page_rows,
        };
        loop {
            let rows = self.scan(&span)?;
            let Some((last, _)) = rows.last() else {
                return Ok(());
            };
            span.from = successor(last);
            let full = rows.len() == page_rows;
            for (key, value) in rows {
                let rest = key.strip_prefix(prefix.bytes()).unwrap_or_default();
                if visit(rest, value)?.is_break() {
                    return Ok(());
                }
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// Bytes on disk.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn size_bytes(&self) -> Result<u64, StoreError> {
        self.0
            .engine
            .size_bytes()
            .map_err(|cause| read_error(&*cause))
    }

    /// Bytes of the keys and values that are there now. Reads every row.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn live_bytes(&self) -> Result<u64, StoreError> {
        let live = self.0.engine.live_bytes();
        live.map_err(|cause| read_error(&*cause))
    }

    /// Reads every row, so that what is damaged is found now.
    ///
    /// # Errors
    /// When the engine cannot read.
    pub fn check_rows(&self) -> Result<u64, StoreError> {
        let mut rows = 0;
        self.walk(&Key::all(), None, |_, _| {
            rows += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    /// The bytes of a row as the engine has them, checksum included.
    pub(super) fn raw_value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.0.engine.value(key);
        value.map_err(|cause| read_error(&*self.suspected(cause)))
    }

    /// The rows of `span` as the engine has them, checksums included.
    pub(super) fn raw_scan(&self, span: &Span) -> Result<Vec<Row>, StoreError> {
        let rows = self.0.engine.scan(span);
        rows.map_err(|cause| read_error(&*self.suspected(cause)))
    }
}
