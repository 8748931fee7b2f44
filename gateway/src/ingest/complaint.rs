//! What the committer says in the log about what devices send, bounded per device and reason.

use std::time::Instant;

use protocol::key::{DeviceId, RecordKey};
use protocol::status::SettingsAck;
use protocol::topic::Topic;

use super::decode::Refusal;
use super::doubt::Case;
use crate::account::throttle::Throttle;
use crate::clock::monotonic;

/// What stands for the reason of a key with two contents.
const CONTESTED: &str = "contested";

/// What stands for the reason of an answer to settings.
const SETTINGS: &str = "settings";

/// Writes log lines, few enough that one broken tracker does not hide the others.
#[derive(Debug, Default)]
pub(super) struct Complaints(Throttle<(DeviceId, &'static str)>);

impl Complaints {
    /// A payload was refused.
    pub(super) fn refused(&mut self, topic: &Topic, refusal: &Refusal) {
        let reason = refusal.reason.as_str();
        if let Some(withheld) = self.ask(&topic.device, reason) {
            tracing::warn!(
                device = topic.device.as_str(),
                channel = topic.channel.as_str(),
                reason,
                withheld,
                "payload refused: {}",
                refusal.detail
            );
        }
    }

    /// A key came with two contents.
    pub(super) fn contested(&mut self, device: &DeviceId, key: RecordKey) {
        if let Some(withheld) = self.ask(device, CONTESTED) {
            tracing::warn!(device = device.as_str(), %key, withheld, "two contents under one key");
        }
    }

    /// A device answered settings.
    pub(super) fn answered(&mut self, device: &DeviceId, ack: &SettingsAck) {
        let Some(withheld) = self.ask(device, SETTINGS) else {
            return;
        };
        let (device, version) = (device.as_str(), ack.version);
        match ack.outcome {
            Ok(()) => tracing::info!(device, version, withheld, "settings accepted"),
            Err(why) => tracing::warn!(device, version, withheld, "settings refused: {why}"),
        }
    }

    /// A record is stored that says something which is not believed.
    pub(super) fn doubted(&mut self, device: &DeviceId, case: &Case) {
        let reason = case.doubt.as_str();
        if let Some(withheld) = self.ask(device, reason) {
            tracing::warn!(
                device = device.as_str(),
                key = %case.key,
                reason,
                withheld,
                "stored and not believed: {}",
                case.detail
            );
        }
    }

    /// Tells what was withheld about devices that have stopped since.
    pub(super) fn settle(&mut self) {
        self.settle_at(monotonic());
    }

    fn settle_at(&mut self, now: Instant) {
        for (whose, withheld) in self.0.ended(now) {
            match whose {
                Some((device, reason)) => {
                    tracing::warn!(device = device.as_str(), reason, withheld, "lines withheld");
                }
                None => tracing::warn!(withheld, "lines withheld about further devices"),
            }
        }
    }

    fn ask(&mut self, device: &DeviceId, reason: &'static str) -> Option<u64> {
        self.0.ask(&(device.clone(), reason), monotonic())
    }
}
