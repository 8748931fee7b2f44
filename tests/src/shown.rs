//! A record as an export must show it: every column, said a second time and independently of the gateway.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat};
use protocol::downlink::Settings;
use protocol::reading::{Door, FixQuality, Measured, Missing, Position, Reading};
use protocol::record::{
    Alarm, AlarmKind, Anchor, BootRecord, Loss, LossReason, Record, ResetCause, TimeSource,
};
use protocol::units::{Unit, UtcMs};
use serde_json::Value;

/// Columns of a row that are no part of the record: its name, and what the gateway knows about it.
const NOT_OF_THE_RECORD: [&str; 10] = [
    "device",
    "epoch",
    "boot",
    "seq",
    "received_at",
    "qos",
    "receipt",
    "utc",
    "utc_quality",
    "utc_uncertainty_ms",
];

/// Finest step of any column, as parts of one: positions have 1e-7 degrees.
const PARTS_PER_ONE: f64 = 1e7;

/// Every column of a record and its value, as one comparable text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(String);

#[derive(Default)]
struct Cells(BTreeMap<String, String>);

impl Shown {
    /// As the export shows it.
    ///
    /// # Errors
    /// When the row is no flat object.
    pub fn from_row(row: &Value) -> Result<Self> {
        let mut cells = Cells::default();
        for (column, value) in row.as_object().context("a row is an object")? {
            if NOT_OF_THE_RECORD.contains(&column.as_str()) {
                continue;
            }
            match value {
                Value::String(text) => cells.text(column, text),
                Value::Bool(yes) => cells.text(column, if *yes { "yes" } else { "no" }),
                Value::Number(_) => cells.number(column, value.as_f64().context("a number")?),
                _ => anyhow::bail!("{column} is not flat: {row}"),
            }
        }
        Ok(cells.shown())
    }

    /// As the record that was sent must be shown.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let mut cells = Cells::default();
        cells.raw("uptime_ms", record.uptime(), 1.0);
        match record {
            Record::Reading(reading) => cells.reading(reading),
            Record::Alarm(alarm) => cells.alarm(alarm),
            Record::Boot(boot) => cells.boot(boot),
            Record::Anchor(anchor) => cells.anchor(anchor),
            Record::Settings(record) => cells.settings(&record.settings),
            Record::Loss(loss) => cells.loss(loss),
        }
        cells.shown()
    }
}

impl Cells {
    fn shown(self) -> Shown {
        let cells = self.0.into_iter();
        let cells: Vec<_> = cells
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Shown(cells.join(" "))
    }

    fn text(&mut self, column: &str, value: &str) {
        self.0.insert(column.to_owned(), value.to_owned());
    }

    fn number(&mut self, column: &str, value: f64) {
        let parts = (value * PARTS_PER_ONE).round();
        self.text(column, &format!("{parts:.0}"));
    }

    fn count(&mut self, column: &str, value: impl Into<f64>) {
        self.number(column, value.into());
    }

    /// A value of the wire, of which `scale` are one of the column's.
    fn raw(&mut self, column: &str, value: impl Unit, scale: f64) {
        #[expect(clippy::cast_precision_loss, reason = "values lie far below 2^53")]
        let raw = value.raw() as f64;
        self.number(column, raw / scale);
    }

    fn optional(&mut self, column: &str, value: Option<impl Unit>, scale: f64) {
        if let Some(value) = value {
            self.raw(column, value, scale);
        }
    }

    fn measured(&mut self, name: &str, column: &str, value: Measured<impl Unit>, scale: f64) {
        match value {
            Measured::Value(value) => self.raw(column, value, scale),
            Measured::Missing(why) => self.missing(name, why),
        }
    }

    fn missing(&mut self, name: &str, why: Missing) {
        let why = match why {
            Missing::NotFitted => "not_fitted",
            Missing::NotSampled => "not_sampled",
            Missing::NoFix => "no_fix",
            Missing::SensorFault => "sensor_fault",
            Missing::OutOfRange => "out_of_range",
        };
        self.text(&format!("{name}_missing"), why);
    }

    fn reading(&mut self, reading: &Reading) {
        self.text("kind", "reading");
        match reading.position {
            Measured::Value(position) => self.position(&position),
            Measured::Missing(why) => self.missing("position", why),
        }
        for (probe, value) in (1..).zip(reading.temperatures) {
            let name = format!("temperature_{probe}");
            self.measured(&name, &format!("{name}_c"), value, 100.0);
        }
        self.measured("humidity", "humidity_percent", reading.humidity, 10.0);
        match reading.battery {
            Measured::Value(battery) => {
                self.raw("battery_v", battery.voltage, 1_000.0);
                self.raw("battery_percent", battery.charge, 1.0);
            }
            Measured::Missing(why) => self.missing("battery", why),
        }
        self.measured("tilt", "tilt_deg", reading.tilt, 1.0);
        self.measured("light", "light_lux", reading.light, 1.0);
        match reading.door {
            Measured::Value(Door::Closed) => self.text("door", "closed"),
            Measured::Value(Door::Open) => self.text("door", "open"),
            Measured::Missing(why) => self.missing("door", why),
        }
        self.measured("radio", "radio_dbm", reading.radio, 1.0);
    }

    fn position(&mut self, position: &Position) {
        self.raw("lat", position.latitude, 1e7);
        self.raw("lon", position.longitude, 1e7);
        self.raw("accuracy_m", position.accuracy, 10.0);
        self.raw("speed_m_s", position.speed, 10.0);
        self.measured("course", "course_deg", position.course, 1.0);
        let fix = match position.quality {
            FixQuality::Gnss2d => "2d",
            FixQuality::Gnss3d => "3d",
            FixQuality::Differential => "differential",
            FixQuality::Rtk => "rtk",
            FixQuality::DeadReckoning => "dead_reckoning",
        };
        self.text("fix", fix);
        self.count("satellites", position.satellites);
        self.raw("fix_age_s", position.age, 1.0);
    }

    fn alarm(&mut self, alarm: &Alarm) {
        self.text("kind", "alarm");
        let (name, probe, scale) = match alarm.kind {
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
        };
        self.text("alarm", name);
        if let Some(probe) = probe {
            self.count("alarm_probe", u16::from(probe) + 1);
        }
        self.count("alarm_limit", f64::from(alarm.limit) / scale);
        self.count("alarm_extreme", f64::from(alarm.extreme) / scale);
        self.raw("alarm_since_uptime_ms", alarm.since, 1.0);
        self.count("alarm_count", alarm.count);
        if let Some(shock) = &alarm.shock {
            for (axis, peak) in ["x", "y", "z"].into_iter().zip(shock.peak) {
                self.raw(&format!("shock_{axis}_g"), peak, 1_000.0);
            }
            self.optional("shock_duration_ms", shock.duration, 1.0);
            self.optional("shock_delta_v_m_s", shock.delta_v, 1_000.0);
        }
    }

    fn boot(&mut self, boot: &BootRecord) {
        self.text("kind", "boot");
        let [major, minor, patch] = boot.version;
        self.text("firmware", &format!("{major}.{minor}.{patch}"));
        self.moment("build_time", boot.build_time);
        let cause = match boot.cause {
            ResetCause::Unknown => "unknown",
            ResetCause::PowerOn => "power_on",
            ResetCause::BrownOut => "brown_out",
            ResetCause::Watchdog => "watchdog",
            ResetCause::Software => "software",
            ResetCause::Panic => "panic",
            ResetCause::Pin => "pin",
        };
        self.text("reset_cause", cause);
        if let Some(last) = boot.previous_last {
            self.count("previous_last_seq", last.0);
        }
    }

    fn anchor(&mut self, anchor: &Anchor) {
        self.text("kind", "anchor");
        self.moment("anchor_utc", anchor.utc);
        let source = match anchor.source {
            TimeSource::Gnss => "gnss",
            TimeSource::ClockChip => "clock_chip",
            TimeSource::Gateway => "gateway",
        };
        self.text("anchor_source", source);
        self.raw("anchor_uncertainty_ms", anchor.uncertainty, 1.0);
        let corrected = if anchor.rollover_corrected {
            "yes"
        } else {
            "no"
        };
        self.text("anchor_rollover_corrected", corrected);
    }

    fn moment(&mut self, column: &str, at: UtcMs) {
        let moment = DateTime::from_timestamp_millis(at.get()).unwrap_or_default();
        self.text(column, &moment.to_rfc3339_opts(SecondsFormat::Millis, true));
    }

    fn settings(&mut self, settings: &Settings) {
        self.text("kind", "settings");
        self.count("settings_version", settings.version);
        self.raw("sample_moving_s", settings.sample_moving, 1.0);
        self.raw("sample_resting_s", settings.sample_resting, 1.0);
        self.raw("sample_near_limit_s", settings.sample_near_limit, 1.0);
        self.raw("publish_interval_s", settings.publish_interval, 1.0);
        self.count("batch_readings", settings.batch_readings);
        self.optional("temperature_above_c", settings.temperature_above, 100.0);
        self.optional("temperature_below_c", settings.temperature_below, 100.0);
        self.raw("temperature_margin_c", settings.temperature_margin, 100.0);
        self.raw("shock_peak_g", settings.shock_peak, 1_000.0);
        self.raw("shock_delta_v_limit_m_s", settings.shock_delta_v, 1_000.0);
        self.raw("shock_duration_limit_ms", settings.shock_duration, 1.0);
        self.raw("battery_low_percent", settings.battery_low, 1.0);
        self.optional("light_above_lux", settings.light_above, 1.0);
        self.optional("tilt_above_deg", settings.tilt_above, 1.0);
    }

    fn loss(&mut self, loss: &Loss) {
        self.text("kind", "loss");
        self.count("lost_first_boot", loss.first.boot.0);
        self.count("lost_first_seq", loss.first.seq.0);
        self.count("lost_last_seq", loss.last.seq.0);
        self.count("lost_count", loss.count);
        let reason = match loss.reason {
            LossReason::RoutineFull => "routine_full",
            LossReason::AlarmsFull => "alarms_full",
            LossReason::Corrupt => "corrupt",
            LossReason::PowerCut => "power_cut",
        };
        self.text("lost_reason", reason);
    }
}
