//! How much is tried: enough for every change, and more when somebody asks for it.

/// How many times more `cargo xtask test --full` repeats a fault.
const FULL_FACTOR: u32 = 10;

/// How often to repeat a fault that is usually repeated `usual` times.
#[must_use]
pub fn repeats(usual: u32) -> u32 {
    let full = std::env::var_os("SUPERCARGO_FULL").is_some();
    if full { usual * FULL_FACTOR } else { usual }
}
