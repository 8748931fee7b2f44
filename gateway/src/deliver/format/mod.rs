//! How events are written for receivers.

pub mod cloudevent;
