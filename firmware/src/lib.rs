//! The tracker.
#![cfg_attr(not(test), no_std)]
