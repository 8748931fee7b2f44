//! What a device has numbered and the gateway does not have, and why.
//!
//! A number is missing when it lies in a gap between seen runs of its boot, or behind the last seen one
//! up to the last number that the next boot states. The device's loss records explain some; what is at or
//! behind the oldest key it still holds is pending; the rest is unexplained. A loss record explains only
//! numbers that are still missing, and no more of them than it counts.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::ops::ControlFlow;

use protocol::key::{DeviceId, Seq};

use crate::store::device::{self, Lost, Pending};
use crate::store::seen::{self, BootId, Run};
use crate::store::{PAGE_MAX_ROWS, Store, StoreError};

/// Numbers missing of a device, by explanation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Gone, as the device says.
    pub lost: u64,
    /// Still queued on the device.
    pub pending: u64,
    /// Neither: a defect of the device, or a loss it has not reported yet.
    pub unexplained: u64,
}

/// Behind the last number there can be.
const NO_NUMBER: u64 = u32::MAX as u64 + 1;

/// Counts what is missing of a device.
///
/// # Errors
/// When the store cannot be read.
pub fn missing(store: &Store, device: &DeviceId) -> Result<Missing, StoreError> {
    let losses = losses(store, device)?;
    let pending = device::pending(store, device)?;
    let mut total = Missing::default();
    for boot in boots(store, device, &losses)? {
        let here = losses
            .iter()
            .filter(|lost| (lost.first.epoch, lost.first.boot) == (boot.epoch, boot.boot));
        let here: Vec<_> = here.collect();
        let end = here.iter().map(|lost| lost.last).max();
        let end = end.max(device::end(store, &boot)?);
        let mut gaps = gaps(store, &boot, end)?;
        total.lost += take(&mut gaps, here);
        explain(&gaps, &boot, pending, &mut total);
    }
    Ok(total)
}

/// Every boot of the device that anything is known of.
fn boots(
    store: &Store,
    device: &DeviceId,
    losses: &[Lost],
) -> Result<BTreeSet<BootId>, StoreError> {
    let mut boots = BTreeSet::new();
    let mut behind = None;
    while let Some(boot) = seen::next_boot(store, device, behind.as_ref())? {
        boots.insert(boot.clone());
        behind = Some(boot);
    }
    boots.extend(losses.iter().map(|lost| BootId {
        device: device.clone(),
        epoch: lost.first.epoch,
        boot: lost.first.boot,
    }));
    device::each_end(store, device, |boot| {
        boots.insert(boot);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(boots)
}

fn losses(store: &Store, device: &DeviceId) -> Result<Vec<Lost>, StoreError> {
    let mut losses = Vec::new();
    device::each_lost(store, device, |lost| {
        losses.push(lost);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(losses)
}

/// The stretches of a boot's numbers, up to `end` where it is known, that were not seen.
fn gaps(store: &Store, boot: &BootId, end: Option<Seq>) -> Result<Vec<Run>, StoreError> {
    let mut gaps = Vec::new();
    let mut next = Some(0_u32);
    while let Some(from) = next {
        let runs = seen::at_or_after(store, boot, Seq(from), PAGE_MAX_ROWS)?;
        for run in &runs {
            if let Some(first) = next {
                push(&mut gaps, first.into(), run.first.0.into());
            }
            next = run.last.0.checked_add(1);
        }
        if runs.len() < PAGE_MAX_ROWS {
            break;
        }
    }
    if let (Some(first), Some(end)) = (next, end) {
        push(&mut gaps, first.into(), u64::from(end.0) + 1);
    }
    Ok(gaps)
}

/// Adds the stretch from `first` to before `behind`, unless it is empty. Both lie within what a number may
/// be.
fn push(gaps: &mut Vec<Run>, first: u64, behind: u64) {
    let last = behind.checked_sub(1).filter(|last| first <= *last);
    if let Some(last) = last
        && let (Ok(first), Ok(last)) = (u32::try_from(first), u32::try_from(last))
    {
        gaps.push(Run {
            first: Seq(first),
            last: Seq(last),
        });
    }
}

/// What no loss record explains is pending, or unexplained.
fn explain(gaps: &[Run], boot: &BootId, pending: Option<Pending>, total: &mut Missing) {
    let from = pending.map_or(NO_NUMBER, |pending| pending_from(boot, pending));
    for gap in gaps {
        let (first, behind) = (u64::from(gap.first.0), u64::from(gap.last.0) + 1);
        let split = from.clamp(first, behind);
        total.unexplained += split - first;
        total.pending += behind - split;
    }
}

/// The first number of a boot that may still be queued; one behind the last number when none can be.
fn pending_from(boot: &BootId, pending: Pending) -> u64 {
    let oldest = pending.oldest;
    if boot.epoch == oldest.epoch {
        match boot.boot.cmp(&oldest.boot) {
            std::cmp::Ordering::Less => NO_NUMBER,
            std::cmp::Ordering::Equal => u64::from(oldest.seq.0),
            std::cmp::Ordering::Greater => 0,
        }
    } else if boot.epoch == pending.epoch {
        // The oldest key is of an earlier life of the counters, so all of this one may be queued.
        0
    } else {
        NO_NUMBER
    }
}

/// Takes out of the gaps what the losses explain, as much as they can explain together. Returns how many.
///
/// Ranges of losses overlap: one may reach from the first alarm that was lost to the last, and routine
/// readings were lost in between. So each number goes to the loss that ends first, of those that reach it:
/// that leaves the others to numbers behind it. (The greedy matching of a convex bipartite graph, after
/// F. Glover, "Maximum matching in a convex bipartite graph", 1967.)
fn take(gaps: &mut Vec<Run>, mut losses: Vec<&Lost>) -> u64 {
    losses.sort_by_key(|lost| lost.first.seq);
    let mut upcoming = losses.into_iter().peekable();
    let mut reaching = BinaryHeap::new();
    let (mut rest, mut taken) = (Vec::new(), 0);
    for gap in gaps.drain(..) {
        let (mut next, behind_gap) = (u64::from(gap.first.0), u64::from(gap.last.0) + 1);
        while next < behind_gap {
            while let Some(lost) = upcoming.next_if(|lost| u64::from(lost.first.seq.0) <= next) {
                reaching.push(Reverse((u64::from(lost.last.0) + 1, u64::from(lost.count))));
            }
            let border = upcoming.peek().map_or(behind_gap, |lost| {
                u64::from(lost.first.seq.0).min(behind_gap)
            });
            let Some(Reverse((behind, left))) = reaching.pop() else {
                push(&mut rest, next, border);
                next = border;
                continue;
            };
            let until = border.min(behind).min(next.saturating_add(left));
            if until > next {
                taken += until - next;
                reaching.push(Reverse((behind, left - (until - next))));
                next = until;
            }
        }
    }
    *gaps = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, memory};
    use protocol::key::{Boot, Epoch, RecordKey};
    use protocol::units::UtcMs;

    /// A store that has seen `runs` of boot 0 and 1 of epoch 1.
    fn store(runs: &[(u32, u32, u32)], fill: impl FnOnce(&mut Batch, &DeviceId)) -> Store {
        let store = memory::store();
        let mut batch = Batch::default();
        for (number, first, last) in runs {
            let run = Run {
                first: Seq(*first),
                last: Seq(*last),
            };
            seen::put(&mut batch, &boot(*number), run);
        }
        fill(&mut batch, &boot(0).device);
        store.apply(batch).unwrap();
        store
    }

    fn boot(number: u32) -> BootId {
        BootId {
            device: "t".parse().unwrap(),
            epoch: Epoch(1),
            boot: Boot(number),
        }
    }

    fn lost(number: u32, first: u32, last: u32, count: u32) -> Lost {
        Lost {
            first: RecordKey::new(1, number, first),
            last: Seq(last),
            count,
        }
    }

    fn pending(number: u32, seq: u32) -> Pending {
        Pending {
            received_at: UtcMs::saturating(0),
            epoch: Epoch(1),
            oldest: RecordKey::new(1, number, seq),
        }
    }

    fn missing_of(store: &Store) -> (u64, u64, u64) {
        let found = missing(store, &boot(0).device).unwrap();
        (found.lost, found.pending, found.unexplained)
    }

    #[test]
    fn a_gap_is_pending_from_the_oldest_pending_key_on_and_unexplained_before_it() {
        let store = store(&[(1, 3, 9), (1, 20, 20)], |batch, device| {
            device::note_pending(batch, device, pending(1, 15)).unwrap();
        });
        // 0 to 2 and 10 to 14 are older than the oldest pending key, 15 to 19 are not.
        assert_eq!(missing_of(&store), (0, 5, 8));
    }

    #[test]
    fn a_loss_explains_only_numbers_that_are_still_missing_and_no_more_than_it_counts() {
        let store = store(&[(0, 0, 3), (0, 6, 6), (0, 10, 12)], |batch, device| {
            // 2 to 9 with 6 lost; 2, 3 and 6 have come all the same, so 4 5 7 8 9 remain.
            device::note_lost(batch, device, lost(0, 2, 9, 6)).unwrap();
        });
        assert_eq!(missing_of(&store), (5, 0, 0));
        let fewer = self::store(&[(0, 0, 3), (0, 10, 12)], |batch, device| {
            device::note_lost(batch, device, lost(0, 2, 9, 4)).unwrap();
        });
        assert_eq!(missing_of(&fewer), (4, 0, 2));
    }

    #[test]
    fn overlapping_losses_do_not_explain_a_number_twice() {
        let store = store(&[(0, 0, 0), (0, 5, 5)], |batch, device| {
            device::note_lost(batch, device, lost(0, 1, 4, 4)).unwrap();
            device::note_lost(batch, device, lost(0, 2, 4, 3)).unwrap();
        });
        assert_eq!(missing_of(&store), (4, 0, 0));
    }

    #[test]
    fn losses_whose_ranges_overlap_explain_as_much_as_they_can_together() {
        // Lost were the alarms 150 and 300 and the readings 20 to 100.
        let runs = [(0, 0, 19), (0, 101, 149), (0, 151, 299), (0, 301, 301)];
        let store = store(&runs, |batch, device| {
            device::note_lost(batch, device, lost(0, 5, 300, 2)).unwrap();
            device::note_lost(batch, device, lost(0, 20, 100, 81)).unwrap();
        });
        assert_eq!(missing_of(&store), (83, 0, 0));
    }

    #[test]
    fn the_end_of_a_boot_and_boots_that_never_came_are_counted() {
        let store = store(&[(1, 0, 2)], |batch, device| {
            device::note_end(batch, &boot(1), Seq(4)).unwrap();
            device::note_end(batch, &boot(0), Seq(9)).unwrap();
            device::note_lost(batch, device, lost(0, 0, 7, 8)).unwrap();
        });
        assert_eq!(missing_of(&store), (8, 0, 4));
    }

    #[test]
    fn a_later_boot_is_pending_as_a_whole() {
        let store = store(&[(0, 0, 2), (1, 4, 4)], |batch, device| {
            device::note_pending(batch, device, pending(0, 3)).unwrap();
        });
        assert_eq!(missing_of(&store), (0, 4, 0));
    }
}
