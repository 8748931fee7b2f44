//! Journal to view: the rules applied in key order.

pub mod posted;
