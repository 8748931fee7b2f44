//! Every decoder on arbitrary bytes. From the folder `protocol`, with `cargo install cargo-fuzz`:
//!
//! ```text
//! cargo +nightly fuzz run decode -- -max_total_time=60 -max_len=2048
//! ```
//!
//! What it finds is kept in `fuzz/artifacts`, what it learned in `fuzz/corpus`; neither is committed.
//! `tests/decode.rs` runs the same body on damaged payloads without any of this.
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check::check(bytes);
});
