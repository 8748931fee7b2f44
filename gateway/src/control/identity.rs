//! Registered devices: who they are, how they prove it, and since when they are not believed.

use chrono::{DateTime, SecondsFormat};
use protocol::key::DeviceId;

use super::audit::Acting;
use super::desk::{Desk, DeskError, Emit};
use super::row::Row;
use crate::clock::wall_utc;
use crate::store::device::{self, Field};
use crate::store::identity::{self, Identity, Proof};
use crate::store::{Batch, Store, StoreError};

impl Desk {
    /// Rows of the registered devices; only of `only`, if it is given.
    pub(super) fn identities(
        &self,
        only: Option<&str>,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        let mut rows = 0;
        if let Some(name) = only {
            let device = named(name)?;
            if let Some(identity) = identity::value(&self.store, &device)? {
                let _ = emit(self.identity(&device, &identity)?);
                rows += 1;
            }
            return Ok(rows);
        }
        identity::each(&self.store, |device, identity| {
            rows += 1;
            Ok(emit(self.identity(&device, &identity)?))
        })?;
        Ok(rows)
    }

    /// Register a device that is not, or was revoked; with `rotate`, give one that is another proof. What it
    /// proved itself by before is no longer good, and its connection ends.
    pub(super) fn register(
        &self,
        (name, proof): (&str, &Proof),
        rotate: bool,
        acting: &mut Acting,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        let device = named(name)?;
        self.change(&device, acting, emit, |before| match (before, rotate) {
            (None, true) => Err("is not registered; `device add` registers it"),
            (Some(known), false) if known.revoked_at_ms.is_none() => {
                Err("is registered already; `device rotate` gives it a new credential")
            }
            (Some(known), true) if known.revoked_at_ms.is_some() => {
                Err("was revoked; `device add` registers it again")
            }
            (before, _) => Ok(Identity {
                proof: proof.clone(),
                added_at_ms: before
                    .filter(|_| rotate)
                    .map_or_else(|| wall_utc().get(), |known| known.added_at_ms),
                revoked_at_ms: None,
            }),
        })
    }

    /// Believe a device no longer, and end its connection.
    pub(super) fn revoke(
        &self,
        name: &str,
        acting: &mut Acting,
        emit: &mut Emit<'_>,
    ) -> Result<u64, DeskError> {
        let device = named(name)?;
        self.change(&device, acting, emit, |before| match before {
            None => Err("is not registered"),
            Some(known) => Ok(Identity {
                // The first time counts.
                revoked_at_ms: known.revoked_at_ms.or_else(|| Some(wall_utc().get())),
                ..known
            }),
        })
    }

    /// Change what is known of a device, durably, and let it count at once.
    fn change(
        &self,
        device: &DeviceId,
        acting: &mut Acting,
        emit: &mut Emit<'_>,
        change: impl FnOnce(Option<Identity>) -> Result<Identity, &'static str>,
    ) -> Result<u64, DeskError> {
        let _turn = self.turn();
        let before = identity::value(&self.store, device)?;
        let after = change(before).map_err(|why| DeskError::Registration {
            device: device.to_string(),
            why: why.to_owned(),
        })?;
        let mut batch = Batch::default();
        identity::put(&mut batch, device, &after)?;
        acting.note(&self.store, &mut batch, "done")?;
        self.store.apply(batch)?;
        self.store.barrier()?;
        if let Some(running) = &self.running {
            running.endpoint.expel(device);
        }
        let _ = emit(self.identity(device, &after)?);
        Ok(1)
    }

    fn identity(&self, device: &DeviceId, identity: &Identity) -> Result<Row, StoreError> {
        let expires = match identity.proof {
            Proof::Certificate { expires_at_ms, .. } => Some(expires_at_ms),
            Proof::Secret { .. } => None,
        };
        let connected = self
            .running
            .as_ref()
            .map(|running| running.endpoint.is_connected(device));
        let mut row = Row::new();
        row.put("device", device.as_str());
        row.put("kind", identity.proof.kind());
        row.put("added_at", time(identity.added_at_ms));
        row.put("expires_at", expires.map(time));
        row.put("revoked_at", identity.revoked_at_ms.map(time));
        row.put("last_seen_at", last_seen(&self.store, device)?.map(time));
        row.put("connected", connected);
        Ok(row)
    }
}

/// When the gateway last took something from a device, milliseconds since 1970.
fn last_seen(store: &Store, device: &DeviceId) -> Result<Option<i64>, StoreError> {
    let records = device::pending(store, device)?.map(|pending| pending.received_at.get());
    let presence = device::stated(store, device, Field::Presence)?;
    Ok(records.max(presence.map(|stated| stated.received_at_ms)))
}

fn time(at_ms: i64) -> String {
    let at = DateTime::from_timestamp_millis(at_ms).unwrap_or_default();
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn named(name: &str) -> Result<DeviceId, DeskError> {
    Ok(name.parse()?)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::Mutex;

    use serde_json::Value;

    use super::super::Request;
    use super::*;
    use crate::pki::digest::Digest;
    use crate::store::memory;

    fn desk() -> Desk {
        Desk {
            store: memory::store(),
            zone: chrono_tz::UTC,
            sinks: Vec::new(),
            running: None,
            changing: Mutex::default(),
        }
    }

    fn secret(text: &str) -> Proof {
        let digest = Digest::of(text.as_bytes());
        Proof::Secret { digest }
    }

    /// The one row of an answer, or why there is none.
    fn ask(desk: &Desk, request: &Request) -> Result<Row, String> {
        let mut rows = Vec::new();
        let answered = desk.answer(request, &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        });
        answered.map_err(|error| error.to_string())?;
        assert_eq!(rows.len(), 1);
        Ok(rows.remove(0))
    }

    fn register(text: &str, rotate: bool) -> Request {
        Request::DeviceRegister {
            device: "t-1".to_owned(),
            proof: secret(text),
            rotate,
        }
    }

    fn revoke() -> Request {
        let device = "t-1".to_owned();
        Request::DeviceRevoke { device }
    }

    fn proof(desk: &Desk) -> Proof {
        let device = "t-1".parse().unwrap();
        identity::value(&desk.store, &device)
            .unwrap()
            .unwrap()
            .proof
    }

    #[test]
    fn a_device_is_added_once_rotated_revoked_and_added_again() {
        let desk = desk();
        let refused = |request: &Request, why: &str| {
            let error = ask(&desk, request).unwrap_err();
            assert!(error.contains("t-1") && error.contains(why), "{error}");
        };
        refused(&register("a", true), "is not registered");
        refused(&revoke(), "is not registered");
        let added = ask(&desk, &register("a", false)).unwrap();
        let columns: Vec<&str> = added.iter().map(|(name, _)| name).collect();
        let expected = "device kind added_at expires_at revoked_at last_seen_at connected";
        assert_eq!(columns.join(" "), expected);
        assert_eq!(added.value("revoked_at"), Some(&Value::Null));
        refused(&register("b", false), "is registered already");
        assert_eq!(proof(&desk), secret("a"));
        let rotated = ask(&desk, &register("b", true)).unwrap();
        assert_eq!(rotated.value("added_at"), added.value("added_at"));
        assert_eq!(proof(&desk), secret("b"));
        let revoked = ask(&desk, &revoke()).unwrap();
        assert!(revoked.value("revoked_at").unwrap().is_string());
        assert_eq!(
            ask(&desk, &revoke()).unwrap(),
            revoked,
            "again changes nothing"
        );
        refused(&register("c", true), "was revoked");
        let again = ask(&desk, &register("c", false)).unwrap();
        assert_eq!(again.value("revoked_at"), Some(&Value::Null));
        let listed = ask(&desk, &Request::Devices { only: None }).unwrap();
        assert_eq!(listed, again);
    }

    #[test]
    fn a_name_that_is_no_device_id_is_refused() {
        let request = Request::DeviceRevoke {
            device: "a/b".to_owned(),
        };
        let error = ask(&desk(), &request).unwrap_err();
        assert!(
            error.contains("device id has a character outside"),
            "{error}"
        );
    }

    #[test]
    fn last_seen_is_the_newest_of_what_was_taken() {
        let desk = desk();
        let device: DeviceId = "t-1".parse().unwrap();
        assert_eq!(last_seen(&desk.store, &device).unwrap(), None);
        let stated = device::Stated {
            received_at_ms: 5_000,
            payload: device::Octets(Vec::new()),
        };
        let mut batch = Batch::default();
        device::state(&mut batch, &device, Field::Presence, &stated).unwrap();
        desk.store.apply(batch).unwrap();
        assert_eq!(last_seen(&desk.store, &device).unwrap(), Some(5_000));
        ask(&desk, &register("a", false)).unwrap();
        let row = ask(
            &desk,
            &Request::Devices {
                only: Some("t-1".into()),
            },
        )
        .unwrap();
        assert_eq!(
            row.value("last_seen_at"),
            Some(&"1970-01-01T00:00:05Z".into())
        );
    }
}
