//! The tracker: samples, detects, queues, batches, publishes.
//!
//! No std, no allocator, no unsafe; the hardware is behind the small traits of [`port`]. The heart
//! is [`tracker::Tracker`], a state machine that is told what happened ([`tracker::Input`]) and
//! asked what to publish; it never waits and never sees a socket. [`link`] carries its messages.
#![cfg_attr(not(test), no_std)]

pub mod config;
pub mod gnss;
pub mod link;
pub mod outbox;
pub mod port;
pub mod queue;
pub mod sense;
pub mod settings;
pub mod slot;
pub mod time;
pub mod tracker;
