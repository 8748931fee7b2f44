//! Every counter and its reason.
