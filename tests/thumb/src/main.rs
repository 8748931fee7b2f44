//! The allocator-less link: for a Cortex-M4F a program without std and without a global allocator, in
//! which a crate that reaches for either does not link. On the host an empty program.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", feature = "firmware"))]
mod tracker;

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
mod board {
    /// The linker starts here. Calls into the crate, so that its code is really in the program.
    #[expect(
        unsafe_code,
        reason = "the linker finds its entry by this name; nothing else has it"
    )]
    #[unsafe(no_mangle)]
    extern "C" fn _start() -> ! {
        #[cfg(feature = "protocol")]
        {
            let payload = core::hint::black_box(&[0_u8; 8]);
            core::hint::black_box(protocol::batch::Batch::decode(payload).is_ok());
        }
        #[cfg(feature = "firmware")]
        crate::tracker::run();
        loop {
            core::hint::spin_loop();
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {
            core::hint::spin_loop();
        }
    }
}
