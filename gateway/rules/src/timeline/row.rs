//! How stamps and timelines are written: as bare numbers, since there are many of them.

use protocol::key::{Boot, Epoch};
use protocol::units::UtcMs;
use serde::{Deserialize, Serialize};

use super::{BootClock, Dated, Point, Stamp, Timeline};
use crate::event::TimeQuality;

/// Epoch, boot, uptime, moment, quality, uncertainty.
pub(super) type StampRow = (u64, u32, i64, i64, TimeQuality, i64);

impl From<Stamp> for StampRow {
    fn from(stamp: Stamp) -> Self {
        let Dated {
            at,
            quality,
            uncertainty_ms,
        } = stamp.dated;
        let (epoch, boot) = (stamp.epoch.0, stamp.boot.0);
        (
            epoch,
            boot,
            stamp.uptime_ms,
            at.get(),
            quality,
            uncertainty_ms,
        )
    }
}

impl From<StampRow> for Stamp {
    fn from((epoch, boot, uptime_ms, at, quality, uncertainty_ms): StampRow) -> Self {
        Self {
            epoch: Epoch(epoch),
            boot: Boot(boot),
            uptime_ms,
            dated: Dated {
                at: UtcMs::saturating(at),
                quality,
                uncertainty_ms,
            },
        }
    }
}

/// What a timeline was told; what follows from that is worked out anew.
#[derive(Serialize, Deserialize)]
pub(super) struct TimelineRow(Vec<BootRow>);

/// Epoch, boot, first and last uptime, build time, anchors as uptime, uncertainty, moment.
type BootRow = (u64, u32, i64, i64, Option<i64>, Vec<(i64, i64, i64)>);

impl From<Timeline> for TimelineRow {
    fn from(timeline: Timeline) -> Self {
        let boots = timeline.boots.into_iter();
        let rows = boots.map(|((epoch, boot), clock)| {
            let claimed = clock.claimed.iter();
            let anchors =
                claimed.map(|point| (point.uptime_ms, point.uncertainty_ms, point.utc_ms));
            let anchors = anchors.collect();
            let (first_ms, last_ms) = (clock.first_ms, clock.last_ms);
            (epoch.0, boot.0, first_ms, last_ms, clock.build_ms, anchors)
        });
        Self(rows.collect())
    }
}

impl From<TimelineRow> for Timeline {
    fn from(TimelineRow(rows): TimelineRow) -> Self {
        let boots = rows.into_iter().map(|row| {
            let (epoch, boot, first_ms, last_ms, build_ms, anchors) = row;
            let point = |(uptime_ms, uncertainty_ms, utc_ms)| Point {
                uptime_ms,
                uncertainty_ms,
                utc_ms,
            };
            let clock = BootClock {
                last_ms,
                build_ms,
                claimed: anchors.into_iter().map(point).collect(),
                ..BootClock::starting(first_ms)
            };
            ((Epoch(epoch), Boot(boot)), clock)
        });
        let mut timeline = Self {
            boots: boots.collect(),
            ..Self::default()
        };
        timeline.rebase();
        timeline
    }
}
