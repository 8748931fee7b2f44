//! Records between being made and being confirmed.

/// Most records in one batch: bounds what one lost message costs to send again, and keeps six
/// batches in flight below the routine queue's capacity.
pub const BATCH_RECORDS_MAX: usize = 32;

/// Records the routine queue holds: at one reading a minute, four hours without a gateway.
pub const ROUTINE_RECORDS: usize = 256;

/// Records the alarm queue holds: alarms are aggregated, so this is several bad days.
pub const ALARM_RECORDS: usize = 32;
