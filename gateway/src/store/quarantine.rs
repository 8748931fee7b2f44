//! What was refused, kept for people to look at. Written by the committer.
