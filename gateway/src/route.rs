//! Which event goes to whom.
