//! Which connection speaks for a device: one at a time, the newest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::key::DeviceId;
use tokio::sync::{Notify, watch};

/// The live connections by device.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    live: Mutex<HashMap<DeviceId, Live>>,
}

#[derive(Debug)]
struct Live {
    signals: Arc<Signals>,
    /// Closes when the lease is dropped.
    ended: watch::Receiver<()>,
}

#[derive(Debug, Default)]
struct Signals {
    replaced: Notify,
    /// Whether the replacement starts clean, which ends the session.
    by_clean_start: AtomicBool,
    /// Whether there is no replacement: the device may no longer speak.
    expelled: AtomicBool,
    settings: Notify,
}

/// The right to speak for a device. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    registry: Arc<Registry>,
    device: DeviceId,
    signals: Arc<Signals>,
    _ended: watch::Sender<()>,
}

impl Registry {
    /// Wait until the connection before has ended, then speak for `device`.
    ///
    /// The wait is as long as that connection needs to leave its session in order; the caller bounds it.
    pub(crate) async fn claim(self: &Arc<Self>, device: &DeviceId, clean_start: bool) -> Lease {
        loop {
            let mut ended = match self.try_claim(device, clean_start) {
                Ok(lease) => return lease,
                Err(ended) => ended,
            };
            // An error says that the lease is gone, which is what is waited for.
            let _ = ended.changed().await;
        }
    }

    /// Tell the connection of `device` that its settings have changed. Whether there is one.
    pub(crate) fn settings_changed(&self, device: &DeviceId) -> bool {
        let live = self.lock();
        let live = live.get(device);
        if let Some(live) = live {
            live.signals.settings.notify_one();
        }
        live.is_some()
    }

    /// End the connection of `device`, if there is one: what it proved itself by is no longer good.
    pub(crate) fn expel(&self, device: &DeviceId) {
        if let Some(live) = self.lock().get(device) {
            live.signals.expelled.store(true, Ordering::Relaxed);
            live.signals.replaced.notify_one();
        }
    }

    /// Whether `device` has a connection, or a will whose delay runs.
    pub(crate) fn holds(&self, device: &DeviceId) -> bool {
        self.lock().contains_key(device)
    }

    /// How many devices have a connection, or a will whose delay runs.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn try_claim(
        self: &Arc<Self>,
        device: &DeviceId,
        clean_start: bool,
    ) -> Result<Lease, watch::Receiver<()>> {
        let mut live = self.lock();
        if let Some(before) = live.get(device) {
            before
                .signals
                .by_clean_start
                .store(clean_start, Ordering::Relaxed);
            before.signals.replaced.notify_one();
            return Err(before.ended.clone());
        }
        let signals = Arc::new(Signals::default());
        let (sender, ended) = watch::channel(());
        live.insert(
            device.clone(),
            Live {
                signals: Arc::clone(&signals),
                ended,
            },
        );
        Ok(Lease {
            registry: Arc::clone(self),
            device: device.clone(),
            signals,
            _ended: sender,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Whose.
    pub(crate) const fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Done when a newer connection wants to speak for the device, or none may any more; stays so.
    pub(crate) async fn replaced(&self) {
        self.signals.replaced.notified().await;
        self.signals.replaced.notify_one();
    }

    /// Whether the device may no longer speak.
    pub(crate) fn expelled(&self) -> bool {
        self.signals.expelled.load(Ordering::Relaxed)
    }

    /// Whether the newer connection ends the session.
    pub(crate) fn replaced_by_clean_start(&self) -> bool {
        self.signals.by_clean_start.load(Ordering::Relaxed)
    }

    /// Done when the device's settings have changed since the last time.
    pub(crate) async fn settings_changed(&self) {
        self.signals.settings.notified().await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_speaks_only_after_the_old_one_has_ended() {
        let registry = Arc::new(Registry::default());
        let device: DeviceId = "t-1".parse().unwrap();
        let old = registry.claim(&device, false).await;
        let mut new = Box::pin(registry.claim(&device, true));
        tokio::select! {
            biased;
            _ = &mut new => panic!("two connections speak for one device"),
            () = old.replaced() => {}
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => panic!("not told"),
        }
        old.replaced().await;
        assert!(old.replaced_by_clean_start());
        drop(old);
        let new = new.await;
        assert_eq!((new.device(), registry.count()), (&device, 1));
        drop(new);
        assert_eq!(registry.count(), 0);
    }
}
