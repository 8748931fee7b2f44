//! The tracker on a board that has nothing: enough for the linker to see all of its code.

use core::hint::black_box;

use firmware::port::{
    ClockChip, Entropy, Flash, FlashError, FlashOperation, Page, Sample, Sensors,
};
use firmware::tracker::{Config, Input, Tracker};
use protocol::record::ResetCause;
use protocol::units::{UptimeMs, UtcMs};

struct Nothing;

impl Sensors for Nothing {
    fn sample(&mut self, _: UptimeMs) -> Sample {
        Sample::NOTHING_FITTED
    }
}

impl Flash for Nothing {
    fn read(&mut self, page: Page, _: &mut [u8]) -> Result<(), FlashError> {
        let operation = FlashOperation::Read;
        Err(FlashError { page, operation })
    }

    fn erase(&mut self, page: Page) -> Result<(), FlashError> {
        let operation = FlashOperation::Erase;
        Err(FlashError { page, operation })
    }

    fn write(&mut self, page: Page, _: &[u8]) -> Result<(), FlashError> {
        let operation = FlashOperation::Write;
        Err(FlashError { page, operation })
    }
}

impl Entropy for Nothing {
    fn random(&mut self) -> u64 {
        black_box(0)
    }
}

impl ClockChip for Nothing {
    fn utc(&mut self) -> Option<UtcMs> {
        None
    }
}

/// Give the tracker one input and one chance to speak.
pub(crate) fn run() {
    let Ok(device) = black_box("thumb").parse() else {
        return;
    };
    let config = Config {
        device,
        hardware: heapless::String::new(),
        version: [0, 1, 0],
        build_time: UtcMs::saturating(0),
        cause: ResetCause::PowerOn,
        gnss_fitted: true,
    };
    let now = UptimeMs::saturating(black_box(0));
    let mut tracker = Tracker::new(config, Nothing, now);
    tracker.handle(Input::GnssBytes(black_box(b"$GPZDA")), now);
    black_box(tracker.poll(now).is_some());
}
