//! The verdict: readings in, milestones and exceptions out. Pure: no clock, no I/O.
