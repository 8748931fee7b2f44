//! That the store was damaged is told as every event is: by a row of the view, to every sink.

use protocol::key::DeviceId;
use protocol::units::UtcMs;
use rules::event::Salvaged;
use rules::watch::salvage::{GATEWAY_SUBJECT, salvaged};

use super::Fold;
use super::posted::Posted;
use crate::store::salvage::Report;
use crate::store::{Batch, StoreError, view};

/// Who observes what concerns the gateway itself.
const OBSERVER: &str = "gateway";

impl Fold {
    /// Tell the salvages that were not told yet.
    pub(super) fn tell_salvages(&mut self) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for report in std::mem::take(&mut self.salvages) {
            #[expect(clippy::expect_used, reason = "a constant that is a device id")]
            let gateway: DeviceId = OBSERVER.parse().expect("letters only");
            let revision = salvaged(&gateway, UtcMs::saturating(report.at_ms), detail(report));
            let id = revision.event.id.as_str();
            let told: Option<Posted> = view::value(&self.store, GATEWAY_SUBJECT, id)?;
            if told.is_none() {
                self.post(&mut batch, GATEWAY_SUBJECT, vec![revision])?;
            }
        }
        self.publish(batch)
    }
}

fn detail(report: Report) -> Salvaged {
    Salvaged {
        rows: report.rows.values().sum(),
        damaged: report.damaged,
        newest_commit: report.newest_commit,
        promised_commit: report.promised_commit,
        fault: report.fault,
        set_aside_as: report.set_aside_as,
    }
}
