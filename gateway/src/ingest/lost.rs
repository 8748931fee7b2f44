//! Keys whose records were set aside as damaged: which of them were contested.

use std::collections::HashSet;
use std::ops::ControlFlow;

use protocol::key::Seq;

use crate::store::seen::BootId;
use crate::store::{Store, StoreError, quarantine};

/// Reason under which the quarantine keeps the contents of a contested key.
pub(super) const CONTESTED: &str = "contested";

/// Contested keys, as the quarantine has them: read when a record is missed whose key was seen, which only damage
/// brings about. As many as payloads fit into the quarantine, at most.
#[derive(Debug, Default)]
pub(super) struct Lost {
    contested: HashSet<(String, String)>,
    /// Damaged rows of the store when they were read.
    read_at: Option<u64>,
}

impl Lost {
    /// Whether the key was contested, as far as the quarantine still knows.
    pub(super) fn was_contested(
        &mut self,
        store: &Store,
        boot: &BootId,
        seq: Seq,
    ) -> Result<bool, StoreError> {
        let set_aside = store.rows_set_aside();
        if self.read_at != Some(set_aside) {
            self.contested = contested(store)?;
            self.read_at = Some(set_aside);
        }
        let named = (boot.device.to_string(), boot.record(seq).to_string());
        Ok(self.contested.contains(&named))
    }
}

fn contested(store: &Store) -> Result<HashSet<(String, String)>, StoreError> {
    let mut contested = HashSet::new();
    quarantine::each(store, |refused| {
        if refused.reason == CONTESTED {
            contested.insert((refused.device, refused.detail));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(contested)
}
