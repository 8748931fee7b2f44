//! An alarm within an entry, behind kind, seq and uptime.

use crate::record::{Alarm, AlarmKind, Shock};
use crate::units::{MilliG, Unit, UptimeMs};
use crate::wire::{Fault, Full, Reader, WireError, Writer, error};

/// Elements of an alarm.
pub(crate) const ALARM_ELEMENTS: usize = 7;

/// Elements of a shock.
const SHOCK_ELEMENTS: usize = 5;

/// Alarm kinds in the order of their wire codes; the probe is an element of its own.
const ALARM_KINDS: [AlarmKind; 11] = [
    AlarmKind::TemperatureAbove(0),
    AlarmKind::TemperatureBelow(0),
    AlarmKind::HumidityAbove,
    AlarmKind::HumidityBelow,
    AlarmKind::Shock,
    AlarmKind::FreeFall,
    AlarmKind::Tilt,
    AlarmKind::Light,
    AlarmKind::Door,
    AlarmKind::Battery,
    AlarmKind::SensorFault,
];

/// Writes an alarm.
pub(crate) fn write_alarm(writer: &mut Writer<'_>, alarm: &Alarm) -> Result<(), Full> {
    let (code, probe) = alarm_code(alarm.kind);
    writer.int(code)?;
    writer.int(probe)?;
    writer.int(alarm.limit)?;
    writer.unit(alarm.since)?;
    writer.int(alarm.extreme)?;
    writer.int(alarm.count)?;
    let Some(shock) = &alarm.shock else {
        return writer.array(0);
    };
    writer.array(SHOCK_ELEMENTS)?;
    shock
        .peak
        .into_iter()
        .try_for_each(|peak| writer.unit(peak))?;
    writer.optional(shock.duration.map(Unit::raw))?;
    writer.optional(shock.delta_v.map(Unit::raw))
}

/// Reads what [`write_alarm`] wrote.
pub(crate) fn read_alarm(reader: &mut Reader<'_>, uptime: UptimeMs) -> Result<Alarm, WireError> {
    Ok(Alarm {
        uptime,
        kind: read_alarm_kind(reader)?,
        limit: reader.i32("limit")?,
        since: reader.unit("since")?,
        extreme: reader.i32("extreme")?,
        count: reader.u32("count")?,
        shock: read_shock(reader)?,
    })
}

/// Code and probe of an alarm kind; 0 where there is no probe.
const fn alarm_code(kind: AlarmKind) -> (u8, u8) {
    match kind {
        AlarmKind::TemperatureAbove(probe) => (0, probe),
        AlarmKind::TemperatureBelow(probe) => (1, probe),
        AlarmKind::HumidityAbove => (2, 0),
        AlarmKind::HumidityBelow => (3, 0),
        AlarmKind::Shock => (4, 0),
        AlarmKind::FreeFall => (5, 0),
        AlarmKind::Tilt => (6, 0),
        AlarmKind::Light => (7, 0),
        AlarmKind::Door => (8, 0),
        AlarmKind::Battery => (9, 0),
        AlarmKind::SensorFault => (10, 0),
    }
}

fn read_alarm_kind(reader: &mut Reader<'_>) -> Result<AlarmKind, WireError> {
    let kind = reader.choice("alarm kind", &ALARM_KINDS)?;
    let probe_max = match kind {
        AlarmKind::TemperatureAbove(_) | AlarmKind::TemperatureBelow(_) => u8::MAX,
        _ => 0,
    };
    let probe = reader.narrow("probe", 0, i64::from(probe_max))?;
    Ok(match kind {
        AlarmKind::TemperatureAbove(_) => AlarmKind::TemperatureAbove(probe),
        AlarmKind::TemperatureBelow(_) => AlarmKind::TemperatureBelow(probe),
        other => other,
    })
}

fn read_shock(reader: &mut Reader<'_>) -> Result<Option<Shock>, WireError> {
    let at = reader.position();
    match reader.array("shock", 0, SHOCK_ELEMENTS)? {
        0 => Ok(None),
        SHOCK_ELEMENTS => {
            let peak: [MilliG; 3] = [
                reader.unit("peak x")?,
                reader.unit("peak y")?,
                reader.unit("peak z")?,
            ];
            let duration = reader.optional("duration", |reader| reader.unit("duration"))?;
            let delta_v = reader.optional("delta-v", |reader| reader.unit("delta-v"))?;
            Ok(Some(Shock {
                peak,
                duration,
                delta_v,
            }))
        }
        got => {
            let (got, max) = (got as u64, SHOCK_ELEMENTS as u64);
            Err(error("shock", at, Fault::Count { got, min: max, max }))
        }
    }
}
