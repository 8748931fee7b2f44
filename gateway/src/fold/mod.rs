//! Journal to view: the rules applied in key order.
