//! The allocator-less link: for a Cortex-M4F a program without std and without a global allocator, in
//! which a crate that reaches for either does not link. On the host an empty program.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod board {
    use core::hint::black_box;

    /// The linker starts here. Calls into the crate, so that its code is really in the program.
    #[expect(
        unsafe_code,
        reason = "the linker finds its entry by this name; nothing else has it"
    )]
    #[unsafe(no_mangle)]
    extern "C" fn _start() -> ! {
        #[cfg(feature = "protocol")]
        black_box(protocol::topic::Topic::parse(black_box("sc/1/a/readings")).is_ok());
        #[cfg(feature = "firmware")]
        black_box(firmware::port::Sample::NOTHING_FITTED);
        loop {}
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
}
