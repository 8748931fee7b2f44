//! Payload to journal: decode, admit, commit.
//!
//! The pipeline makes one bounded channel of [`crate::receipt::Publication`]s, gives its sending end to the
//! sessions, and its receiving end to [`commit::Committer::spawn`].

pub mod admit;
pub mod census;
pub mod commit;
mod complaint;
pub mod decode;
pub mod doubt;
pub mod ledger;
mod lost;
pub mod missing;
mod runs;
mod statement;
#[cfg(test)]
mod tests;
mod unfolded;
