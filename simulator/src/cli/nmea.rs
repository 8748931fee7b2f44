//! `supercargo-sim nmea`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use protocol::key::DeviceId;
use protocol::units::{Seconds, UtcMs};
use serde::Serialize;
use simulator::device::BUILD_TIME;
use simulator::recording::{Played, Recording, Replay, play};

use super::{CommandError, Outcome, Output, value};

/// Play recorded output of satellite receivers through the firmware's GNSS port.
///
/// Each file is one tracker, named after the file. Noise and broken lines are played as they are. The
/// firmware takes dates long before its build time for a receiver's error, so its build time is the
/// recording's first date unless --build-time says otherwise.
#[derive(Debug, Args)]
pub(super) struct NmeaArgs {
    /// Recordings, NMEA 0183 as a receiver said it.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the gateway listens for MQTT.
    #[arg(long, value_name = "HOST:PORT")]
    addr: String,
    /// Device id, for a single file; without it the file's name without its ending.
    #[arg(long, value_name = "ID")]
    device: Option<DeviceId>,
    /// `recorded`, or so many times faster.
    #[arg(long, default_value = "recorded", value_name = "PACE", value_parser = value::pace)]
    pace: u32,
    /// When the firmware was built: a date, or a time with offset.
    #[arg(long, value_name = "TIME", value_parser = value::moment)]
    build_time: Option<UtcMs>,
    /// Seconds between two samples.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(5..=3_600))]
    sample: u32,
    /// How long to wait for the last confirmation, on the wall.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = value::duration)]
    patience: Duration,
}

pub(super) async fn run(args: NmeaArgs, output: Output) -> Result<Outcome, CommandError> {
    if args.device.is_some() && args.files.len() > 1 {
        let both = anyhow!(
            "--device names one tracker, but there are {} files",
            args.files.len()
        );
        return Err(CommandError::usage(both));
    }
    let mut outcome = Outcome::Clean;
    for file in &args.files {
        let row = play_file(&args, file).await?;
        output.row(&row, &row.text())?;
        outcome = match (outcome, row.connected, row.pending) {
            (_, false, _) => Outcome::Environment,
            (Outcome::Clean, true, 0) => Outcome::Clean,
            (Outcome::Clean, true, _) => Outcome::Finding,
            (before, true, _) => before,
        };
    }
    Ok(outcome)
}

async fn play_file(args: &NmeaArgs, file: &Path) -> Result<PlayedRow, CommandError> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let recording = Recording::new(&bytes.map_err(CommandError::environment)?);
    let device = match &args.device {
        Some(device) => device.clone(),
        None => named_after(file).map_err(CommandError::usage)?,
    };
    let build_time = args.build_time.or_else(|| recording.first_date());
    let build_time = build_time.unwrap_or_else(|| {
        tracing::warn!(file = %file.display(), "no date in the recording, the firmware's own build time is used");
        BUILD_TIME
    });
    let replay = Replay {
        device: device.clone(),
        address: args.addr.clone(),
        pace: args.pace,
        build_time,
        sample: Seconds::saturating(i64::from(args.sample)),
        patience: args.patience,
    };
    let played = play(&recording, replay).await;
    Ok(PlayedRow::new(&device, file, &recording, played))
}

/// The file's name without its ending; characters that a device id may not have become `_`.
fn named_after(file: &Path) -> anyhow::Result<DeviceId> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name: String = stem
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    name.parse()
        .with_context(|| format!("no device id from {}; use --device", file.display()))
}

#[derive(Debug, Serialize)]
struct PlayedRow {
    row: &'static str,
    device: String,
    file: String,
    recorded_s: f64,
    connected: bool,
    sampled: u64,
    confirmed: u64,
    lost_on_device: u64,
    pending: u64,
}

impl PlayedRow {
    fn new(device: &DeviceId, file: &Path, recording: &Recording, played: Played) -> Self {
        let readings = played.counters.readings;
        Self {
            row: "played",
            device: device.to_string(),
            file: file.display().to_string(),
            recorded_s: recording.length().as_secs_f64(),
            connected: played.connected,
            sampled: readings.made,
            confirmed: readings.confirmed,
            lost_on_device: readings.lost,
            pending: readings.pending,
        }
    }

    fn text(&self) -> String {
        let reached = if self.connected {
            ""
        } else {
            " (gateway never reached)"
        };
        format!(
            "{}: {} s of {}, {} readings: {} confirmed, {} lost on device, {} pending{reached}",
            self.device,
            self.recorded_s,
            self.file,
            self.sampled,
            self.confirmed,
            self.lost_on_device,
            self.pending
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_after_its_file() {
        let device = named_after(Path::new("/logs/gp-320fw 2019.log")).unwrap();
        assert_eq!(device.as_str(), "gp-320fw_2019");
        assert!(named_after(Path::new("/")).is_err());
    }
}
