//! The verdict: readings in, milestones and exceptions out. Pure: no clock, no I/O.
//!
//! # How a gateway calls it
//!
//! ```text
//! // Per tracker: `Tracker` holds its timeline, state and facts; it is a cache of its records.
//! for (key, record) in newly_stored {
//!     match tracker.offer(&context, key, &record) {
//!         Offered::Folded => {}                       // it was the newest: done
//!         Offered::Refold => refold.insert(device),   // late, or it dates earlier readings anew
//!     }
//! }
//! for device in refold {
//!     tracker = Tracker::refold(&context, &device, all_records_of(device));   // in key order
//! }
//! // Per shipment one of whose trackers changed:
//! let view = verdict(&context, shipment, facts_of_its_trackers);
//! let revisions = diff(&previous_view, &view, &last_revisions, late);
//! ```
//!
//! `verdict_of` does all of that in one call from all records; the view is the same by law: whatever
//! the order in which records came, the same records give the same events.
#![forbid(unsafe_code)]

pub mod code;
pub mod event;
pub mod identity;
pub mod notify;
pub mod place;
pub mod plan;
mod serial;
pub mod watch;
