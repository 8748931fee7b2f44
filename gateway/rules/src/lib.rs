//! The verdict: readings in, milestones and exceptions out. Pure: no clock, no I/O.
//!
//! # How a gateway calls it
//!
//! ```text
//! let context = Context::new(plan, options);
//!
//! // Per tracker: `Tracker` holds timeline, state and facts; it is a cache of the tracker's records.
//! match tracker.offer(&context, key, &record) {           // each newly stored record, in key order
//!     Offered::Folded => {}                               // it was the newest: done
//!     Offered::Redated(dirty) | Offered::Late(dirty) => { // an anchor, or a late record
//!         marks.retain(|mark| !dirty.spoils(tracker.timeline(), &mark.reach));
//!         tracker.rewind(&context, marks.last());         // or None: from the start
//!         for (key, record) in records_behind(marks.last()) { tracker.fold(&context, key, record) }
//!     }
//! }
//!
//! // Per shipment one of whose trackers changed (`context.shipments_of(&device)`):
//! let facts = its_trackers.flat_map(|tracker| tracker.facts(&context));
//! let Verdict { view, .. } = verdict(&context, shipment_id, &facts);
//! let revisions = notify::diff(&told, &view, late);
//!
//! // By timer, outside the verdict:
//! let silent = watch::silences(context.plan(), shipment, &heard, now);   // heard: tracker.heard()
//! let revisions = watch::revise(&told, &silent, &heard);
//! let revisions = watch::clock::revise_clocks(...);                      // clocks: ClockWatch per tracker
//! ```
//!
//! [`verdict::verdict_of`] gives the view in one call from all records; it is the same by law: whatever
//! the order in which records came, the same records give the same events. Contested keys are left out
//! by the caller.
#![forbid(unsafe_code)]

pub mod code;
pub mod condition;
pub mod context;
pub mod doubt;
pub mod event;
pub mod fact;
pub mod identity;
mod milestone;
pub mod notify;
pub mod place;
pub mod plan;
pub mod quantity;
#[cfg(test)]
mod rig;
mod serial;
pub mod timeline;
pub mod tracker;
pub mod verdict;
pub mod watch;

pub use context::{Context, Options};
pub use tracker::{Offered, Reach, Tracker};
pub use verdict::{Verdict, verdict, verdict_of};
