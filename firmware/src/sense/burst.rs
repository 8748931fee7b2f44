//! What an accelerometer hands over.

use protocol::units::MilliG;

/// A burst from the accelerometer's FIFO, around a trigger.
#[derive(Clone, Copy, Debug)]
pub struct Burst<'a> {
    /// Samples per second.
    pub rate_hz: u32,
    /// How many of `samples` lie before the trigger; their mean is gravity and offset.
    pub pre_trigger: usize,
    /// Acceleration per axis.
    pub samples: &'a [[MilliG; 3]],
}
