//! What the endpoint needs from store and configuration, fitted to its ports.

use std::collections::BTreeSet;
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::key::DeviceId;

use crate::config::{self, Config, IdentityMode};
use crate::mqtt::downlink::{DesiredError, DesiredSettings};
use crate::mqtt::endpoint::Doors;
use crate::mqtt::guard::{Guard, Strangers};
use crate::mqtt::identity::Authenticate;
use crate::mqtt::limit::Limits;
use crate::mqtt::persistence::{SessionFuture, SessionRecord, SessionStore, SessionStoreError};
use crate::store::space::Room;
use crate::store::table::{self, Table};
use crate::store::{Batch, Store, StoreError, settings};

/// MQTT sessions in the store.
#[derive(Clone)]
pub(super) struct StoredSessions {
    store: Store,
    /// Whose sessions are stored: what bounds their number.
    known: Arc<Mutex<BTreeSet<String>>>,
    sessions_max: usize,
}

impl StoredSessions {
    /// The sessions of `store`, at most `sessions_max` of them.
    pub(super) fn open(store: Store, sessions_max: usize) -> Result<Self, StoreError> {
        let mut known = BTreeSet::new();
        table::each(&store, Table::Sessions, "", |name, _: SessionRecord| {
            known.insert(name);
            Ok(ControlFlow::Continue(()))
        })?;
        let known = Arc::new(Mutex::new(known));
        Ok(Self {
            store,
            known,
            sessions_max,
        })
    }

    /// Counts the session of `device` in, unless there is no room for one more.
    fn admit(&self, device: &DeviceId) -> Result<(), SessionStoreError> {
        let mut known = self.known();
        if known.len() >= self.sessions_max && !known.contains(device.as_str()) {
            let sessions_max = self.sessions_max;
            return Err(SessionStoreError::Full { sessions_max });
        }
        known.insert(device.to_string());
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A set of names: a panic while it was held left it whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Run a store operation off the connection's task: a barrier may take as long as the disk does.
    fn apart<'a, T: Send + 'static>(
        &self,
        operation: &'static str,
        device: &'a DeviceId,
        work: impl FnOnce(&Store, &str) -> Result<T, StoreError> + Send + 'static,
    ) -> SessionFuture<'a, T> {
        let store = self.store.clone();
        Box::pin(async move {
            let name = device.to_string();
            let done = tokio::task::spawn_blocking(move || work(&store, &name)).await;
            let failed = |cause: String| SessionStoreError::Failed {
                operation,
                device: device.clone(),
                cause,
            };
            match done {
                Ok(done) => done.map_err(|error| failed(error.to_string())),
                Err(error) => Err(failed(error.to_string())),
            }
        })
    }
}

impl SessionStore for StoredSessions {
    fn load<'a>(&'a self, device: &'a DeviceId) -> SessionFuture<'a, Option<SessionRecord>> {
        self.apart("load", device, |store, name| {
            table::value(store, Table::Sessions, name)
        })
    }

    fn save<'a>(&'a self, device: &'a DeviceId, record: SessionRecord) -> SessionFuture<'a, ()> {
        if let Err(full) = self.admit(device) {
            return Box::pin(std::future::ready(Err(full)));
        }
        self.apart("save", device, move |store, name| {
            refuse_without_space(store)?;
            let mut batch = Batch::default();
            table::put(&mut batch, Table::Sessions, name, &record)?;
            store.apply(batch)?;
            store.barrier().map(drop)
        })
    }

    fn remove<'a>(&'a self, device: &'a DeviceId) -> SessionFuture<'a, ()> {
        self.known().remove(device.as_str());
        self.apart("remove", device, |store, name| {
            refuse_without_space(store)?;
            let mut batch = Batch::default();
            table::remove(&mut batch, Table::Sessions, name);
            store.apply(batch)?;
            store.barrier().map(drop)
        })
    }
}

/// A client that comes while nothing can be written is refused, and comes again.
fn refuse_without_space(store: &Store) -> Result<(), StoreError> {
    match store.room() {
        Room::Starved(shortage) => Err(StoreError::NoSpace { shortage }),
        Room::Enough | Room::Full(_) => Ok(()),
    }
}

/// Who is believed, as configured.
pub(super) fn identity(config: &config::Identity, store: Store) -> Arc<dyn Authenticate> {
    Arc::new(guard(config, store))
}

/// The registered devices, and which others may speak.
pub(super) fn guard(config: &config::Identity, store: Store) -> Guard {
    let strangers = match config.mode {
        IdentityMode::Registered => Strangers::Nobody,
        IdentityMode::Loopback => Strangers::Local,
        IdentityMode::Open => Strangers::Everyone,
    };
    Guard::new(store, strangers)
}

/// Where the endpoint listens, as configured.
pub(super) fn doors(config: &Config) -> Result<Doors, config::TlsError> {
    let tls = match config.mqtt_tls.listen {
        None => None,
        Some(address) => Some((address, config.mqtt_tls.server()?)),
    };
    let plain = config.mqtt.listen.address();
    Ok(Doors { plain, tls })
}

/// The endpoint's bounds, as configured.
pub(super) fn limits(config: &Config) -> Limits {
    let default = Limits::default();
    let handshakes_max = config.mqtt_tls.handshakes_max;
    let config = &config.mqtt;
    let packet_bytes = u32::try_from(config.packet_max.0).unwrap_or(u32::MAX);
    let rate_bytes = u32::try_from(config.device_rate_max.0).unwrap_or(u32::MAX);
    let keep_alive = u16::try_from(config.keep_alive_max.as_secs()).unwrap_or(u16::MAX);
    let rate = |per_s| NonZeroU32::new(per_s).unwrap_or(NonZeroU32::MIN);
    Limits {
        failures_per_address_per_s: rate(config.failure_rate_per_address_max),
        failures_per_s: rate(config.failure_rate_max),
        connections_max: usize::try_from(config.connections_max).unwrap_or(usize::MAX),
        connections_per_address_max: usize::try_from(config.connections_per_address_max)
            .unwrap_or(usize::MAX),
        device_bytes_per_s: NonZeroU32::new(rate_bytes).unwrap_or(default.device_bytes_per_s),
        packet_bytes_max: NonZeroU32::new(packet_bytes).unwrap_or(default.packet_bytes_max),
        connect_timeout: config.connect_timeout,
        handshakes_max: usize::try_from(handshakes_max).unwrap_or(usize::MAX),
        receive_maximum: NonZeroU16::new(config.receive_max).unwrap_or(default.receive_maximum),
        keep_alive_seconds_max: NonZeroU16::new(keep_alive)
            .unwrap_or(default.keep_alive_seconds_max),
        write_timeout: config.write_timeout,
        session_expiry_seconds_max: whole_seconds(config.session_expiry_max),
        settings_resend: config.settings_resend,
        ..default
    }
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// The settings a device should have and has not answered, from the store.
pub(super) fn desired_settings(store: Store) -> Arc<dyn DesiredSettings> {
    Arc::new(move |device: &DeviceId| {
        unreported(&store, device).map_err(|error| DesiredError {
            cause: error.to_string(),
        })
    })
}

fn unreported(store: &Store, device: &DeviceId) -> Result<Option<Vec<u8>>, StoreError> {
    // Of most devices nothing is wanted; they cost one look.
    if settings::asked_version(store, device)?.is_none() {
        return Ok(None);
    }
    let known = settings::Known::load(store, device)?;
    known
        .unreported()
        .map(|asked| settings::payload(device, &asked))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::persistence::Subscriptions;
    use crate::store::memory;
    use protocol::downlink::Settings;
    use protocol::units::UtcMs;

    #[tokio::test]
    async fn a_session_outlives_the_gateway_and_can_be_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let device: DeviceId = "t-1".parse().unwrap();
        let record = SessionRecord {
            subscriptions: Subscriptions {
                settings: true,
                time: false,
            },
            expiry_seconds: 60,
            left_at_ms: Some(5),
        };
        {
            let store = Store::open(folder.path()).unwrap();
            let sessions = StoredSessions::open(store, 1).unwrap();
            sessions.save(&device, record).await.unwrap();
        }
        let store = Store::open(folder.path()).unwrap();
        let sessions = StoredSessions::open(store, 1).unwrap();
        let other: DeviceId = "t-2".parse().unwrap();
        let full = sessions.save(&other, record).await.unwrap_err();
        assert_eq!(full, SessionStoreError::Full { sessions_max: 1 });
        assert_eq!(sessions.load(&device).await.unwrap(), Some(record));
        sessions.remove(&device).await.unwrap();
        assert_eq!(sessions.load(&device).await.unwrap(), None);
    }

    fn device() -> DeviceId {
        "t-1".parse().unwrap()
    }

    #[test]
    fn wanted_settings_are_sent_as_they_are_until_they_are_answered() {
        let store = memory::store();
        let desired = desired_settings(store.clone());
        assert_eq!(desired.unreported(&device()), Ok(None));
        let wanted = Settings {
            version: 7,
            ..Settings::DEFAULT
        };
        let mut batch = Batch::default();
        let set = settings::Wanted {
            settings: wanted,
            set_at: UtcMs::saturating(1),
        };
        settings::want(&mut batch, &device(), &set, 7).unwrap();
        store.apply(batch).unwrap();
        let payload = desired.unreported(&device()).unwrap().unwrap();
        assert_eq!(Settings::decode(&payload), Ok(wanted));
        let mut batch = Batch::default();
        let answer = settings::Answer {
            version: 7,
            received_at: UtcMs::saturating(2),
            outcome: Ok(()),
        };
        settings::note_answer(&mut batch, &device(), &answer).unwrap();
        store.apply(batch).unwrap();
        assert_eq!(desired.unreported(&device()), Ok(None));
    }

    #[test]
    fn settings_that_cannot_be_read_are_an_error_that_names_their_row() {
        let store = memory::store();
        let mut batch = Batch::default();
        table::put(&mut batch, Table::Desired, "t-1", &"no settings").unwrap();
        store.apply(batch).unwrap();
        let desired = desired_settings(store);
        let error = desired.unreported(&device()).unwrap_err().to_string();
        assert!(error.contains("desired settings"), "{error}");
        assert!(error.contains("t-1"), "{error}");
        assert_eq!(desired.unreported(&"t-2".parse().unwrap()), Ok(None));
    }
}
