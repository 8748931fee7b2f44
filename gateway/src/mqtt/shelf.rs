//! Publications that wait for a place in the journal's queue: each session's own, and all of them together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::receipt::Publication;

/// What all shelves hold together.
#[derive(Debug)]
pub(crate) struct Shelves {
    held_bytes: AtomicUsize,
    held_bytes_max: usize,
}

impl Shelves {
    pub(crate) const fn new(held_bytes_max: usize) -> Self {
        Self {
            held_bytes: AtomicUsize::new(0),
            held_bytes_max,
        }
    }
}

/// One session's publications, oldest first.
#[derive(Debug)]
pub(crate) struct Shelf {
    shelves: Arc<Shelves>,
    publications: VecDeque<Publication>,
}

impl Shelf {
    pub(crate) const fn new(shelves: Arc<Shelves>) -> Self {
        Self {
            shelves,
            publications: VecDeque::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.publications.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.publications.is_empty()
    }

    /// Whether all shelves together are full and this one is part of it. One that is empty may take a
    /// publication even then, or a session could wait for room that others never leave.
    pub(crate) fn is_crowded(&self) -> bool {
        !self.is_empty()
            && self.shelves.held_bytes.load(Ordering::Relaxed) >= self.shelves.held_bytes_max
    }

    pub(crate) fn put(&mut self, publication: Publication) {
        let bytes = publication.payload.len();
        self.shelves.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.publications.push_back(publication);
    }

    pub(crate) fn take(&mut self) -> Option<Publication> {
        let publication = self.publications.pop_front()?;
        let bytes = publication.payload.len();
        self.shelves.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(publication)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        while self.take().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use protocol::topic::{Channel, Topic};

    use super::*;
    use crate::receipt::Origin;

    fn publication(bytes: usize) -> Publication {
        let topic = Topic::new("t-1".parse().unwrap(), Channel::Readings);
        Publication {
            topic,
            payload: vec![0; bytes],
            origin: Origin::Endpoint,
            due: None,
        }
    }

    #[test]
    fn full_shelves_stop_those_that_hold_something_until_there_is_room() {
        let shelves = Arc::new(Shelves::new(100));
        let [mut one, mut two] = [(); 2].map(|()| Shelf::new(Arc::clone(&shelves)));
        one.put(publication(60));
        assert!(!one.is_crowded());
        one.put(publication(60));
        assert!(one.is_crowded() && !two.is_crowded());
        two.put(publication(1));
        assert!(two.is_crowded());
        assert_eq!(one.take().map(|first| first.payload.len()), Some(60));
        assert!(!one.is_crowded() && !two.is_crowded());
        drop(one);
        drop(two);
        assert_eq!(shelves.held_bytes.load(Ordering::Relaxed), 0);
    }
}
