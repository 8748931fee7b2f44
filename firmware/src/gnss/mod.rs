//! From bytes of a satellite receiver to a fix.

pub mod field;
pub mod fix;
pub mod nmea;
