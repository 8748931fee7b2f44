//! `quarantine`: what was refused, for people to list, take away and drop.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use protocol::key::DeviceId;
use protocol::topic::PREFIX;
use protocol::units::UtcMs;
use serde::{Deserialize, Serialize};

use super::Emit;
use super::audit::Acting;
use super::desk::{Desk, DeskError, fact};
use super::row::Row;
use super::sample::text;
use crate::store::quarantine::{self, Dropped, Fill, Octets, Overflow, Refused};
use crate::store::{Batch, StoreError};

/// Most payloads dropped in one batch: it holds the store's lock, and receipts wait for that.
const DROP_BATCH_MAX_ROWS: usize = 256;

/// Which payloads are meant; all while nothing is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// The one of this number.
    pub id: Option<u64>,
    /// Those of this device.
    pub device: Option<String>,
}

/// What remains of payloads that are dropped.
#[derive(Default)]
struct Sum {
    payloads: u64,
    bytes: u64,
    reasons: BTreeMap<String, u64>,
}

/// A [`Which`] that can be compared.
struct Wanted {
    id: Option<u64>,
    device: Option<DeviceId>,
}

impl Wanted {
    fn parse(which: &Which) -> Result<Self, DeskError> {
        let device = which.device.as_deref().map(str::parse).transpose()?;
        Ok(Self {
            id: which.id,
            device,
        })
    }

    fn from(&self) -> u64 {
        self.id.unwrap_or_default()
    }

    fn holds(&self, number: u64, device: &str) -> bool {
        let of = |wanted: &DeviceId| wanted.as_str() == device;
        self.id.is_none_or(|id| id == number) && self.device.as_ref().is_none_or(of)
    }

    /// Whether nothing behind `number` can be meant.
    fn ends_at(&self, number: u64) -> bool {
        self.id.is_some_and(|id| id <= number)
    }
}

impl Desk {
    /// One row for each payload kept whole, then one for each device of which more came than there was
    /// room for; with `payloads`, those that are kept, in hex, and no others.
    pub(super) fn list_quarantine(
        &self,
        which: &Which,
        payloads: bool,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        let wanted = Wanted::parse(which)?;
        let mut rows = 0;
        let mut gone = false;
        quarantine::each_numbered(&self.store, wanted.from(), |number, refused| {
            if wanted.holds(number, &refused.device) {
                rows += 1;
                let mut row = whole(number, &refused);
                if payloads {
                    put_payloads(&mut row, &refused.payloads);
                }
                gone = emit(row).is_break();
            }
            Ok(stop_if(gone || wanted.ends_at(number)))
        })?;
        if payloads || gone || wanted.id.is_some() {
            return Ok(rows);
        }
        quarantine::each_overflow(&self.store, |device, overflow| {
            if wanted.holds(0, device.as_str()) {
                rows += 1;
                gone = emit(digest(&device, &overflow)).is_break();
            }
            Ok(stop_if(gone))
        })?;
        Ok(rows)
    }

    /// The payloads that are kept whole. That they are handed out is written down before.
    pub(super) fn export_quarantine(
        &self,
        which: &Which,
        acting: &mut Acting,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        Wanted::parse(which)?;
        {
            let _turn = self.turn();
            let mut batch = Batch::default();
            acting.note(&self.store, &mut batch, "handed out")?;
            self.store.apply(batch)?;
            self.store.barrier()?;
        }
        self.list_quarantine(which, true, emit)
    }

    /// Drop payloads; how many, with their bytes and reasons, stays in the audit.
    pub(super) fn drop_quarantine(
        &self,
        which: &Which,
        acting: &mut Acting,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        let wanted = Wanted::parse(which)?;
        let _turn = self.turn();
        let mut sum = Sum::default();
        let mut number = None;
        // What comes meanwhile stays: nobody has seen it.
        let until = Fill::load(&self.store)?.next_number();
        loop {
            let found = self.droppable(&wanted, until)?;
            if found.is_empty() {
                break;
            }
            number = Some(self.drop_some(&found, &mut sum, acting)?);
        }
        if sum.payloads > 0 {
            self.store.barrier()?;
        }
        let mut row = fact("quarantine_dropped", sum.payloads);
        row.put("bytes", sum.bytes);
        row.put_some("audit", number);
        for (reason, count) in sum.reasons {
            row.put(format!("of_{reason}"), count);
        }
        // Nothing follows, so it does not matter whether anybody still listens.
        let _ = emit(row);
        Ok(1)
    }

    /// The next payloads that are meant, oldest first.
    fn droppable(&self, wanted: &Wanted, until: u64) -> Result<Vec<(u64, Refused)>, StoreError> {
        let mut found = Vec::new();
        quarantine::each_numbered(&self.store, wanted.from(), |number, refused| {
            if number < until && wanted.holds(number, &refused.device) {
                found.push((number, refused));
            }
            Ok(stop_if(
                found.len() == DROP_BATCH_MAX_ROWS || number >= until || wanted.ends_at(number),
            ))
        })?;
        Ok(found)
    }

    fn drop_some(
        &self,
        found: &[(u64, Refused)],
        sum: &mut Sum,
        acting: &mut Acting,
    ) -> Result<u64, StoreError> {
        let bytes: usize = found.iter().map(|(_, of)| of.payload_bytes()).sum();
        let before = quarantine::dropped(&self.store)?;
        let dropped = Dropped {
            rows: before.rows + found.len() as u64,
            bytes: before.bytes + bytes as u64,
        };
        sum.payloads += found.len() as u64;
        sum.bytes += bytes as u64;
        for (_, refused) in found {
            *sum.reasons.entry(refused.reason.clone()).or_default() += 1;
        }
        let mut batch = Batch::default();
        let numbers = found.iter().map(|(number, _)| *number);
        quarantine::remove(&mut batch, numbers, dropped)?;
        let number = acting.note(&self.store, &mut batch, sum.told())?;
        self.store.apply(batch)?;
        Ok(number)
    }
}

impl Sum {
    fn told(&self) -> String {
        let reasons = self.reasons.iter();
        let reasons: Vec<_> = reasons
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        let Self {
            payloads, bytes, ..
        } = self;
        format!(
            "dropped {payloads} payloads, {bytes} bytes: {}",
            reasons.join(", ")
        )
    }
}

fn stop_if(stop: bool) -> ControlFlow<()> {
    if stop {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

fn whole(number: u64, refused: &Refused) -> Row {
    let mut row = Row::new();
    row.put("id", number);
    row.put("device", refused.device.as_str());
    if !refused.channel.is_empty() {
        let (device, channel) = (&refused.device, &refused.channel);
        row.put("topic", format!("{PREFIX}{device}/{channel}"));
    }
    row.put("reason", refused.reason.as_str());
    row.put(
        "received_at",
        text(UtcMs::saturating(refused.received_at_ms)),
    );
    row.put("payloads", refused.payloads.len());
    row.put("bytes", refused.payload_bytes());
    row.put("sha256", hex(&refused.sha256()));
    row.put("detail", refused.detail.as_str());
    row
}

/// What came from a device while there was no room: no id, because there is nothing to take away.
fn digest(device: &DeviceId, overflow: &Overflow) -> Row {
    let mut row = Row::new();
    row.put("device", device.as_str());
    row.put("reason", overflow.last_reason.as_str());
    let received_at = UtcMs::saturating(overflow.last_received_at_ms);
    row.put("received_at", text(received_at));
    row.put("payloads", overflow.count);
    row.put("bytes", overflow.bytes);
    row.put("sha256", hex(&overflow.last_sha256));
    row.put("last_bytes", overflow.last_bytes);
    row.put(
        "detail",
        "not kept: the quarantine was full, or the payload too long",
    );
    row
}

/// Rows are flat: the second content of a contested key has a name of its own.
fn put_payloads(row: &mut Row, payloads: &[Octets]) {
    for (name, payload) in ["payload_hex", "payload_2_hex"].into_iter().zip(payloads) {
        row.put(name, hex(payload));
    }
}

fn hex(bytes: &Octets) -> String {
    bytes.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit;
    use crate::store::quarantine::{KEPT_MAX_ROWS, Room};
    use crate::store::{Store, memory};

    fn desk(store: &Store) -> Desk {
        Desk {
            store: store.clone(),
            zone: chrono_tz::Tz::UTC,
            sinks: Vec::new(),
            running: None,
            changing: std::sync::Mutex::default(),
        }
    }

    fn refused(device: &str, reason: &str, payloads: &[&[u8]]) -> Refused {
        let contested = reason == "contested";
        Refused {
            device: device.to_owned(),
            channel: if contested { "" } else { "readings" }.to_owned(),
            received_at_ms: 1_773_480_413_000,
            reason: reason.to_owned(),
            detail: "batch at byte 0".to_owned(),
            payloads: payloads.iter().map(|one| Octets(one.to_vec())).collect(),
        }
    }

    /// Keeps it as the committer does; `fill` is the committer's own.
    fn keep(store: &Store, fill: &mut Fill, refused: &Refused) -> Room {
        let device = refused.device.parse().unwrap();
        let mut overflow = quarantine::overflow(store, &device)
            .unwrap()
            .unwrap_or_default();
        let mut batch = Batch::default();
        fill.refresh(store).unwrap();
        let room = fill.keep(&mut batch, &device, refused, &mut overflow);
        store.apply(batch).unwrap();
        room.unwrap()
    }

    fn store() -> (Store, Fill) {
        let store = memory::store();
        let mut fill = Fill::load(&store).unwrap();
        for one in [
            refused("t-1", "undecodable", &[b"\xff"]),
            refused("t-2", "contested", &[b"one", b"two"]),
            refused("t-1", "wire_version", &[b"\x85\x09"]),
        ] {
            assert_eq!(keep(&store, &mut fill, &one), Room::Kept);
        }
        (store, fill)
    }

    fn answer(desk: &Desk, request: &super::super::Request) -> Vec<Row> {
        let mut rows = Vec::new();
        let told = desk.answer(request, &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        });
        assert_eq!(told.unwrap(), rows.len() as u64);
        rows
    }

    fn list(desk: &Desk, which: Which) -> Vec<String> {
        let rows = answer(desk, &super::super::Request::ListQuarantine { which });
        rows.iter().map(ToString::to_string).collect()
    }

    fn drop_of(desk: &Desk, which: Which) -> String {
        let rows = answer(desk, &super::super::Request::DropQuarantine { which });
        rows[0].to_string()
    }

    fn of(id: Option<u64>, device: Option<&str>) -> Which {
        let device = device.map(ToOwned::to_owned);
        Which { id, device }
    }

    #[test]
    fn a_list_says_whose_why_when_and_how_much_and_can_be_narrowed() {
        let desk = desk(&store().0);
        let rows = list(&desk, Which::default());
        assert_eq!(rows.len(), 3, "{rows:#?}");
        let sha256 = "a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89";
        let expected = format!(
            r#"{{"id":0,"device":"t-1","topic":"sc/1/t-1/readings","reason":"undecodable","received_at":"2026-03-14T09:26:53.000Z","payloads":1,"bytes":1,"sha256":"{sha256}","detail":"batch at byte 0"}}"#
        );
        assert_eq!(rows[0], expected);
        assert_eq!(list(&desk, of(None, Some("t-1"))).len(), 2);
        assert_eq!(list(&desk, of(Some(1), None)), rows[1..2]);
        assert!(list(&desk, of(Some(1), Some("t-1"))).is_empty());
        let wrong = of(None, Some("no/device"));
        let refused = desk.list_quarantine(&wrong, false, &mut |_| ControlFlow::Continue(()));
        assert!(refused.is_err_and(|error| error.is_usage()));
    }

    #[test]
    fn an_export_holds_the_payloads_in_hex_both_of_a_contested_key() {
        let desk = desk(&store().0);
        let which = Which::default();
        let rows = answer(&desk, &super::super::Request::ExportQuarantine { which });
        let payload = |row: &Row, name| {
            row.value(name)
                .map(|value| value.as_str().unwrap().to_owned())
        };
        assert_eq!(payload(&rows[0], "payload_hex").unwrap(), "ff");
        assert_eq!(payload(&rows[0], "payload_2_hex"), None);
        assert_eq!(payload(&rows[1], "payload_hex").unwrap(), "6f6e65");
        assert_eq!(payload(&rows[1], "payload_2_hex").unwrap(), "74776f");
    }

    #[test]
    fn what_is_dropped_is_gone_durable_and_counted_in_an_audit_row() {
        let (store, _) = store();
        let desk = desk(&store);
        let told = drop_of(&desk, of(None, Some("t-1")));
        let named = r#""of_undecodable":1,"of_wire_version":1}"#;
        assert!(told.starts_with(r#"{"name":"quarantine_dropped","value":2,"bytes":3,"audit":"#));
        assert!(told.ends_with(named), "{told}");
        assert_eq!(list(&desk, Which::default()).len(), 1);
        let fill = Fill::load(&store).unwrap();
        assert_eq!((fill.rows(), fill.bytes()), (1, 6));
        let mut acts = Vec::new();
        audit::each(&store, |_, act| {
            acts.push(act);
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        assert_eq!(acts.len(), 1);
        let told = "dropped 2 payloads, 3 bytes: 1 undecodable, 1 wire_version";
        assert_eq!(acts[0].result, told);
        assert_eq!(acts[0].device.as_deref(), Some("t-1"));
        let nothing = drop_of(&desk, of(Some(0), None));
        assert_eq!(
            nothing,
            r#"{"name":"quarantine_dropped","value":0,"bytes":0}"#
        );
        drop_of(&desk, Which::default());
        assert!(list(&desk, Which::default()).is_empty());
    }

    #[test]
    fn a_full_quarantine_that_is_dropped_has_room_again_for_a_committer_that_runs() {
        let (store, mut fill) = store();
        let desk = desk(&store);
        let one = refused("t-3", "undecodable", &[b"\xfe"]);
        for _ in 3..KEPT_MAX_ROWS {
            assert_eq!(keep(&store, &mut fill, &one), Room::Kept);
        }
        assert_eq!(keep(&store, &mut fill, &one), Room::Full);
        let digests = list(&desk, of(None, Some("t-3")));
        let last = digests.last().unwrap();
        assert!(
            last.starts_with(r#"{"device":"t-3","reason":"undecodable","#),
            "{last}"
        );
        assert!(last.contains(r#""payloads":1,"bytes":1,"#), "{last}");
        let told = drop_of(&desk, of(None, Some("t-3")));
        assert!(told.contains(r#""value":9997,"#), "{told}");
        assert_eq!(keep(&store, &mut fill, &one), Room::Kept);
        let rows = list(&desk, Which::default());
        assert_eq!(rows.len(), 5, "3, the new one, and the digest: {rows:#?}");
        let fill = Fill::load(&store).unwrap();
        assert_eq!((fill.rows(), fill.overflow()), (4, 1));
    }
}
