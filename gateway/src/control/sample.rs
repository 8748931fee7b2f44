//! A stored record as a flat row: values in common units, absences with their reasons.

use chrono::{DateTime, SecondsFormat};
use protocol::downlink::Settings;
use protocol::key::{DeviceId, RecordKey};
use protocol::reading::{Door, FixQuality, Measured, Missing, Position, Reading};
use protocol::record::{
    Alarm, AlarmKind, Anchor, BootRecord, Loss, LossReason, Record, ResetCause, TimeSource,
};
use protocol::units::UtcMs;
use rules::timeline::Timeline;
use serde::Serialize;
use serde_json::Value;

use super::row::Row;
use crate::receipt::Reception;
use crate::store::history::{Kept, Known};

/// Every name that a row can have, in the order of a table.
pub const COLUMNS: &[&str] = &[
    "device",
    "epoch",
    "boot",
    "seq",
    "kind",
    "utc",
    "utc_quality",
    "utc_uncertainty_ms",
    "uptime_ms",
    "received_at",
    "qos",
    "receipt",
    "lat",
    "lon",
    "accuracy_m",
    "speed_m_s",
    "course_deg",
    "course_missing",
    "fix",
    "satellites",
    "fix_age_s",
    "position_missing",
    "temperature_1_c",
    "temperature_1_missing",
    "temperature_2_c",
    "temperature_2_missing",
    "temperature_3_c",
    "temperature_3_missing",
    "temperature_4_c",
    "temperature_4_missing",
    "humidity_percent",
    "humidity_missing",
    "battery_v",
    "battery_percent",
    "battery_missing",
    "tilt_deg",
    "tilt_missing",
    "light_lux",
    "light_missing",
    "door",
    "door_missing",
    "radio_dbm",
    "radio_missing",
    "alarm",
    "alarm_probe",
    "alarm_limit",
    "alarm_since_uptime_ms",
    "alarm_extreme",
    "alarm_count",
    "shock_x_g",
    "shock_y_g",
    "shock_z_g",
    "shock_duration_ms",
    "shock_delta_v_m_s",
    "firmware",
    "build_time",
    "reset_cause",
    "previous_last_seq",
    "anchor_utc",
    "anchor_source",
    "anchor_uncertainty_ms",
    "anchor_rollover_corrected",
    "settings_version",
    "sample_moving_s",
    "sample_resting_s",
    "sample_near_limit_s",
    "publish_interval_s",
    "batch_readings",
    "temperature_above_c",
    "temperature_below_c",
    "temperature_margin_c",
    "shock_peak_g",
    "shock_delta_v_limit_m_s",
    "shock_duration_limit_ms",
    "battery_low_percent",
    "light_above_lux",
    "tilt_above_deg",
    "lost_first_boot",
    "lost_first_seq",
    "lost_last_seq",
    "lost_count",
    "lost_reason",
];

/// The row of what is kept under a key.
pub(super) fn row(device: &DeviceId, key: RecordKey, kept: &Kept, timeline: &Timeline) -> Row {
    let mut row = Row::new();
    row.put("device", device.as_str());
    row.put("epoch", format!("{:016x}", key.epoch.0));
    row.put("boot", key.boot.0);
    row.put("seq", key.seq.0);
    match kept {
        Kept::Contested => row.put("kind", "contested"),
        Kept::Known(known) => fill(&mut row, key, known, timeline),
    }
    row
}

fn fill(row: &mut Row, key: RecordKey, known: &Known, timeline: &Timeline) {
    let Ok(numbered) = known.content.decode() else {
        return row.put("kind", "damaged");
    };
    let record = &numbered.record;
    row.put("kind", kind(record));
    if let Some(stamp) = timeline.stamp(key, record.uptime()) {
        let dated = stamp.dated;
        row.put("utc", text(dated.at));
        row.put("utc_quality", word(dated.quality));
        row.put("utc_uncertainty_ms", dated.uncertainty_ms);
    }
    row.put("uptime_ms", record.uptime().get());
    row.put("received_at", text(known.received_at));
    let came = Reception::of_byte(known.qos);
    row.put("qos", came.qos());
    row.put("receipt", came.receipt());
    match record {
        Record::Reading(reading) => put_reading(row, reading),
        Record::Alarm(alarm) => put_alarm(row, alarm),
        Record::Boot(boot) => put_boot(row, boot),
        Record::Anchor(anchor) => put_anchor(row, anchor),
        Record::Settings(record) => put_settings(row, &record.settings),
        Record::Loss(loss) => put_loss(row, loss),
    }
}

const fn kind(record: &Record) -> &'static str {
    match record {
        Record::Reading(_) => "reading",
        Record::Alarm(_) => "alarm",
        Record::Boot(_) => "boot",
        Record::Anchor(_) => "anchor",
        Record::Settings(_) => "settings",
        Record::Loss(_) => "loss",
    }
}

fn put_reading(row: &mut Row, reading: &Reading) {
    match reading.position {
        Measured::Value(position) => put_position(row, &position),
        Measured::Missing(why) => row.put("position_missing", reason(why)),
    }
    for (probe, temperature) in (1..).zip(reading.temperatures) {
        match temperature {
            Measured::Value(value) => row.put(format!("temperature_{probe}_c"), value.celsius()),
            Measured::Missing(why) => row.put(format!("temperature_{probe}_missing"), reason(why)),
        }
    }
    let humidity = reading.humidity;
    put(
        row,
        ["humidity_percent", "humidity_missing"],
        humidity,
        |v| tenths(v.get().into()),
    );
    match reading.battery {
        Measured::Value(battery) => {
            row.put("battery_v", thousandths(battery.voltage.get().into()));
            row.put("battery_percent", battery.charge.get());
        }
        Measured::Missing(why) => row.put("battery_missing", reason(why)),
    }
    put(row, ["tilt_deg", "tilt_missing"], reading.tilt, |v| {
        v.get().into()
    });
    put(row, ["light_lux", "light_missing"], reading.light, |v| {
        v.get().into()
    });
    put(
        row,
        ["door", "door_missing"],
        reading.door,
        |door| match door {
            Door::Closed => "closed".into(),
            Door::Open => "open".into(),
        },
    );
    put(row, ["radio_dbm", "radio_missing"], reading.radio, |v| {
        v.get().into()
    });
}

fn put_position(row: &mut Row, position: &Position) {
    row.put("lat", f64::from(position.latitude.get()) / 1e7);
    row.put("lon", f64::from(position.longitude.get()) / 1e7);
    row.put("accuracy_m", position.accuracy.metres());
    row.put("speed_m_s", position.speed.metres_per_second());
    let course = position.course;
    put(row, ["course_deg", "course_missing"], course, |v| {
        v.get().into()
    });
    row.put("fix", fix(position.quality));
    row.put("satellites", position.satellites);
    row.put("fix_age_s", position.age.get());
}

fn put<T>(
    row: &mut Row,
    [present, absent]: [&'static str; 2],
    measured: Measured<T>,
    value: impl FnOnce(T) -> Value,
) {
    match measured {
        Measured::Value(measured) => row.put(present, value(measured)),
        Measured::Missing(why) => row.put(absent, reason(why)),
    }
}

fn put_alarm(row: &mut Row, alarm: &Alarm) {
    let (name, probe, scale) = alarm_kind(alarm.kind);
    let scaled = |raw: i32| f64::from(raw) / scale;
    row.put("alarm", name);
    row.put_some("alarm_probe", probe.map(|index| u32::from(index) + 1));
    row.put("alarm_limit", scaled(alarm.limit));
    row.put("alarm_since_uptime_ms", alarm.since.get());
    row.put("alarm_extreme", scaled(alarm.extreme));
    row.put("alarm_count", alarm.count);
    if let Some(shock) = &alarm.shock {
        let names = ["shock_x_g", "shock_y_g", "shock_z_g"];
        for (name, peak) in names.into_iter().zip(shock.peak) {
            row.put(name, thousandths(peak.get().into()));
        }
        row.put_some("shock_duration_ms", shock.duration.map(|v| v.get()));
        let delta_v = shock.delta_v.map(|v| thousandths(v.get().into()));
        row.put_some("shock_delta_v_m_s", delta_v);
    }
}

/// Name, probe and raw units per unit shown: degrees Celsius, percent, g, degrees, lux.
const fn alarm_kind(kind: AlarmKind) -> (&'static str, Option<u8>, f64) {
    match kind {
        AlarmKind::TemperatureAbove(probe) => ("temperature_above", Some(probe), 100.0),
        AlarmKind::TemperatureBelow(probe) => ("temperature_below", Some(probe), 100.0),
        AlarmKind::HumidityAbove => ("humidity_above", None, 10.0),
        AlarmKind::HumidityBelow => ("humidity_below", None, 10.0),
        AlarmKind::Shock => ("shock", None, 1_000.0),
        AlarmKind::FreeFall => ("free_fall", None, 1_000.0),
        AlarmKind::Tilt => ("tilt", None, 1.0),
        AlarmKind::Light => ("light", None, 1.0),
        AlarmKind::Door => ("door", None, 1.0),
        AlarmKind::Battery => ("battery", None, 1.0),
        AlarmKind::SensorFault => ("sensor_fault", None, 1.0),
    }
}

fn put_boot(row: &mut Row, boot: &BootRecord) {
    let [major, minor, patch] = boot.version;
    row.put("firmware", format!("{major}.{minor}.{patch}"));
    row.put("build_time", text(boot.build_time));
    row.put("reset_cause", cause(boot.cause));
    row.put_some("previous_last_seq", boot.previous_last.map(|seq| seq.0));
}

fn put_anchor(row: &mut Row, anchor: &Anchor) {
    row.put("anchor_utc", text(anchor.utc));
    row.put(
        "anchor_source",
        match anchor.source {
            TimeSource::Gnss => "gnss",
            TimeSource::ClockChip => "clock_chip",
            TimeSource::Gateway => "gateway",
        },
    );
    row.put("anchor_uncertainty_ms", anchor.uncertainty.get());
    row.put("anchor_rollover_corrected", anchor.rollover_corrected);
}

fn put_settings(row: &mut Row, settings: &Settings) {
    row.put("settings_version", settings.version);
    row.put("sample_moving_s", settings.sample_moving.get());
    row.put("sample_resting_s", settings.sample_resting.get());
    row.put("sample_near_limit_s", settings.sample_near_limit.get());
    row.put("publish_interval_s", settings.publish_interval.get());
    row.put("batch_readings", settings.batch_readings);
    row.put_some(
        "temperature_above_c",
        settings.temperature_above.map(|v| v.celsius()),
    );
    row.put_some(
        "temperature_below_c",
        settings.temperature_below.map(|v| v.celsius()),
    );
    row.put(
        "temperature_margin_c",
        settings.temperature_margin.celsius(),
    );
    row.put(
        "shock_peak_g",
        thousandths(settings.shock_peak.get().into()),
    );
    row.put(
        "shock_delta_v_limit_m_s",
        thousandths(settings.shock_delta_v.get().into()),
    );
    row.put("shock_duration_limit_ms", settings.shock_duration.get());
    row.put("battery_low_percent", settings.battery_low.get());
    row.put_some("light_above_lux", settings.light_above.map(|v| v.get()));
    row.put_some("tilt_above_deg", settings.tilt_above.map(|v| v.get()));
}

fn put_loss(row: &mut Row, loss: &Loss) {
    row.put("lost_first_boot", loss.first.boot.0);
    row.put("lost_first_seq", loss.first.seq.0);
    row.put("lost_last_seq", loss.last.seq.0);
    row.put("lost_count", loss.count);
    row.put(
        "lost_reason",
        match loss.reason {
            LossReason::RoutineFull => "routine_full",
            LossReason::AlarmsFull => "alarms_full",
            LossReason::Corrupt => "corrupt",
            LossReason::PowerCut => "power_cut",
        },
    );
}

/// The name that a plain variant has in JSON.
pub(super) fn word(variant: impl Serialize) -> Value {
    // Serialising a variant without content cannot fail.
    serde_json::to_value(variant).unwrap_or_default()
}

const fn reason(missing: Missing) -> &'static str {
    match missing {
        Missing::NotFitted => "not_fitted",
        Missing::NotSampled => "not_sampled",
        Missing::NoFix => "no_fix",
        Missing::SensorFault => "sensor_fault",
        Missing::OutOfRange => "out_of_range",
    }
}

const fn fix(quality: FixQuality) -> &'static str {
    match quality {
        FixQuality::Gnss2d => "2d",
        FixQuality::Gnss3d => "3d",
        FixQuality::Differential => "differential",
        FixQuality::Rtk => "rtk",
        FixQuality::DeadReckoning => "dead_reckoning",
    }
}

const fn cause(cause: ResetCause) -> &'static str {
    match cause {
        ResetCause::Unknown => "unknown",
        ResetCause::PowerOn => "power_on",
        ResetCause::BrownOut => "brown_out",
        ResetCause::Watchdog => "watchdog",
        ResetCause::Software => "software",
        ResetCause::Panic => "panic",
        ResetCause::Pin => "pin",
    }
}

fn tenths(raw: f64) -> Value {
    (raw / 10.0).into()
}

fn thousandths(raw: f64) -> Value {
    (raw / 1_000.0).into()
}

/// RFC 3339 in universal time, with milliseconds.
pub(super) fn text(utc: UtcMs) -> String {
    // UtcMs spans years 1 to 9999, all of which chrono can represent.
    DateTime::from_timestamp_millis(utc.get())
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
        .unwrap_or_default()
}
