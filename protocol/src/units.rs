//! Quantities with their scale in the type: no bare integer leaves this file.
//!
//! Every unit is an integer newtype. `new` checks the range that makes physical or wire sense, so a
//! value that exists is a value that may be sent; `raw` gives the integer that goes on the wire.

/// What all units share: an integer with a range.
pub trait Unit: Copy + Eq + Ord + core::fmt::Debug {
    /// Smallest raw value.
    const MIN: i64;
    /// Largest raw value.
    const MAX: i64;
    /// The integer as it goes on the wire.
    fn raw(self) -> i64;
    /// The unit for `raw`, or `None` outside [`Self::MIN`]`..=`[`Self::MAX`].
    fn from_raw(raw: i64) -> Option<Self>;
}

macro_rules! units {
    ($($(#[$doc:meta])* $name:ident($repr:ty) $min:literal ..= $max:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($repr);

        impl $name {
            /// The unit for `raw`, or `None` outside its range.
            #[must_use]
            pub const fn new(raw: $repr) -> Option<Self> {
                let wide = raw as i128;
                if wide >= $min && wide <= $max { Some(Self(raw)) } else { None }
            }

            /// The nearest value of the range.
            #[must_use]
            pub const fn saturating(raw: i64) -> Self {
                let low: i64 = $min;
                let high: i64 = $max;
                let clamped = if raw < low { low } else if raw > high { high } else { raw };
                Self(clamped as $repr)
            }

            /// The raw integer, in the scale the type is documented with.
            #[must_use]
            pub const fn get(self) -> $repr {
                self.0
            }
        }

        impl Unit for $name {
            const MIN: i64 = $min;
            const MAX: i64 = $max;

            fn raw(self) -> i64 {
                self.0 as i64
            }

            fn from_raw(raw: i64) -> Option<Self> {
                Self::new(<$repr>::try_from(raw).ok()?)
            }
        }
    )*};
}

units! {
    /// Latitude in 1e-7 degrees, north positive.
    Latitude(i32) -900_000_000 ..= 900_000_000;
    /// Longitude in 1e-7 degrees, east positive.
    Longitude(i32) -1_800_000_000 ..= 1_800_000_000;
    /// A distance in decimetres; accuracies are the radius that holds 95 % of fixes.
    Decimetres(u32) 0 ..= 10_000_000;
    /// Speed over ground in decimetres per second.
    DecimetresPerSecond(u16) 0 ..= 20_000;
    /// Course over ground in whole degrees, clockwise from true north.
    CourseDegrees(u16) 0 ..= 359;
    /// Temperature in hundredths of a degree Celsius.
    CentiCelsius(i16) -27_315 ..= 32_767;
    /// Relative humidity in tenths of a percent.
    DeciPercent(u16) 0 ..= 1_000;
    /// Battery voltage in millivolts.
    Millivolts(u16) 0 ..= 65_535;
    /// A share in whole percent.
    Percent(u8) 0 ..= 100;
    /// Acceleration in thousandths of standard gravity.
    MilliG(i32) -1_000_000 ..= 1_000_000;
    /// Velocity change in millimetres per second.
    MillimetresPerSecond(u32) 0 ..= 1_000_000;
    /// Angle from the upright position in whole degrees.
    TiltDegrees(u8) 0 ..= 180;
    /// Illuminance in lux.
    Lux(u32) 0 ..= 200_000;
    /// Received radio power in dBm.
    Dbm(i16) -200 ..= 50;
    /// A duration in milliseconds.
    Milliseconds(u32) 0 ..= 4_294_967_295;
    /// A duration in seconds.
    Seconds(u32) 0 ..= 4_294_967_295;
    /// Time since the device booted, in milliseconds; monotonic within one boot.
    UptimeMs(u64) 0 ..= 9_223_372_036_854_775_807;
    /// Universal time in milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
    UtcMs(i64) -62_135_596_800_000 ..= 253_402_300_799_999;
}

impl Latitude {
    /// Degrees north.
    #[must_use]
    pub fn degrees(self) -> f64 {
        f64::from(self.0) * 1e-7
    }
}

impl Longitude {
    /// Degrees east.
    #[must_use]
    pub fn degrees(self) -> f64 {
        f64::from(self.0) * 1e-7
    }
}

impl CentiCelsius {
    /// Degrees Celsius.
    #[must_use]
    pub fn celsius(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl Decimetres {
    /// Metres.
    #[must_use]
    pub fn metres(self) -> f64 {
        f64::from(self.0) / 10.0
    }
}

impl DecimetresPerSecond {
    /// Metres per second.
    #[must_use]
    pub fn metres_per_second(self) -> f64 {
        f64::from(self.0) / 10.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_outside_the_range_is_refused_and_saturates() {
        assert_eq!(Latitude::new(900_000_001), None);
        assert_eq!(Latitude::saturating(900_000_001), Latitude(900_000_000));
        assert_eq!(CentiCelsius::from_raw(-27_316), None);
        assert_eq!(
            CentiCelsius::from_raw(-27_315).map(Unit::raw),
            Some(-27_315)
        );
        assert_eq!(Percent::from_raw(256), None, "must not wrap");
    }
}
