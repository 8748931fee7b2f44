//! Load: devices that publish batches with a window of unacknowledged ones, and send again what was
//! not acknowledged when the connection broke. Everything is entered in the ledger.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use gateway::clock::monotonic;

use crate::device::{Device, Payload};
use crate::ledger::Ledger;
use crate::mqtt::{Client, Incoming, Login, Version};
use crate::peer::PATIENCE;

/// Pause before connecting again: long enough not to burn a core while a gateway is down.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// How a load is driven.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where the gateway listens; it comes back there after a kill.
    pub address: SocketAddr,
    /// Seed of all content.
    pub seed: u64,
    /// Devices, one connection each; every second one speaks MQTT 3.1.1.
    pub devices: u32,
    /// Most publications without PUBACK per connection.
    pub window: usize,
    /// Records in one publication.
    pub batch_records: u32,
    /// Publications that a device sends in all; without one it goes on until told to finish.
    pub batches: Option<u32>,
    /// Most publications a second per device.
    pub batches_per_s: Option<f64>,
}

/// What the devices share with whoever watches.
#[derive(Debug, Default)]
struct Shared {
    finish: AtomicBool,
    abandon: AtomicBool,
    acknowledged: AtomicU64,
    connects: AtomicU64,
    resent: AtomicU64,
    /// Whether what is sent now must not be acknowledged.
    forbidden: AtomicBool,
    acknowledged_forbidden: AtomicU64,
    waiting: AtomicU64,
}

/// A publication that waits for its PUBACK.
struct Waiting {
    packet_id: u16,
    payload: Payload,
    /// Whether it was sent, or sent again, while nothing might be acknowledged.
    forbidden: bool,
}

/// A load that is running.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<u32>>>,
}

/// What a load did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Records sent by each device, by index.
    pub records: Vec<u32>,
    /// Publications acknowledged.
    pub acknowledged: u64,
    /// Connections made.
    pub connects: u64,
    /// Publications sent again.
    pub resent: u64,
}

impl Load {
    /// Start all devices, each in a thread of its own. Without a ledger nothing is entered: then only
    /// speed is measured.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(plan: Plan, ledger: Option<&Arc<Ledger>>) -> Result<Self> {
        Self::start_from(0, plan, ledger)
    }

    /// The same with the devices from number `first` on, so that one store sees one load after another.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start_from(first: u32, plan: Plan, ledger: Option<&Arc<Ledger>>) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for index in first..first + plan.devices {
            let (shared, ledger) = (shared.clone(), ledger.cloned());
            let sender = Sender::new(plan, index, shared, ledger)?;
            let named = thread::Builder::new().name(format!("load-{index}"));
            threads.push(named.spawn(move || sender.run())?);
        }
        Ok(Self { shared, threads })
    }

    /// Publications acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// What is sent or sent again from now on must not be acknowledged, until [`Load::allow`]; what is under
    /// way may be.
    pub fn forbid(&self) {
        self.shared.forbidden.store(true, Ordering::Relaxed);
    }

    /// Whatever waits may be acknowledged again.
    pub fn allow(&self) {
        self.shared.forbidden.store(false, Ordering::Relaxed);
    }

    /// Publications acknowledged that must not have been.
    #[must_use]
    pub fn acknowledged_forbidden(&self) -> u64 {
        self.shared.acknowledged_forbidden.load(Ordering::Relaxed)
    }

    /// Publications that wait for their PUBACK.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Whether a device has given up, which is always an error.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Send nothing new, wait until everything sent is acknowledged, and say goodbye.
    ///
    /// # Errors
    /// When a device could not connect or was refused.
    pub fn finish(self) -> Result<Summary> {
        self.shared.finish.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Give up: no device connects again, nothing is waited for.
    pub fn abandon(self) {
        self.shared.abandon.store(true, Ordering::Relaxed);
    }

    /// Wait until every device has sent its batches and had them acknowledged.
    ///
    /// # Errors
    /// When a device could not connect or was refused.
    pub fn join(self) -> Result<Summary> {
        let mut records = Vec::new();
        for thread in self.threads {
            let sent = thread.join().map_err(|_| anyhow!("a device panicked"))?;
            records.push(sent?);
        }
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Summary {
            records,
            acknowledged: number(&self.shared.acknowledged),
            connects: number(&self.shared.connects),
            resent: number(&self.shared.resent),
        })
    }
}

/// One device and its connection.
struct Sender {
    plan: Plan,
    version: Version,
    device: Device,
    topic: String,
    shared: Arc<Shared>,
    ledger: Option<Arc<Ledger>>,
    unacknowledged: VecDeque<Waiting>,
    next_packet_id: u16,
    batches_sent: u32,
    records_sent: u32,
    started: Instant,
}

impl Sender {
    fn new(
        plan: Plan,
        index: u32,
        shared: Arc<Shared>,
        ledger: Option<Arc<Ledger>>,
    ) -> Result<Self> {
        let device = Device::new(plan.seed, index)?;
        let even = index.is_multiple_of(2);
        Ok(Self {
            plan,
            version: if even { Version::V5 } else { Version::V311 },
            topic: format!("sc/1/{}/readings", device.id()),
            device,
            shared,
            ledger,
            unacknowledged: VecDeque::new(),
            next_packet_id: 1,
            batches_sent: 0,
            records_sent: 0,
            started: monotonic(),
        })
    }

    /// Connect, publish, connect again, until there is nothing left to send or to wait for.
    fn run(mut self) -> Result<u32> {
        loop {
            let mut client = self.connect()?;
            match self.publish_on(&mut client) {
                Ok(()) => {
                    // The gateway may be killed right here; everything is acknowledged, so no matter.
                    let _ = client.disconnect();
                    return Ok(self.records_sent);
                }
                Err(broken) if broken.is::<std::io::Error>() => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn connect(&self) -> Result<Client> {
        let login = Login {
            client_id: self.device.id().as_str(),
            version: self.version,
            clean: true,
            credentials: None,
        };
        let start = monotonic();
        loop {
            match Client::connect(self.plan.address, &login) {
                Ok(client) => {
                    self.shared.connects.fetch_add(1, Ordering::Relaxed);
                    return Ok(client);
                }
                Err(error) if self.is_hopeless(start) => return Err(error),
                Err(_) => thread::sleep(RECONNECT_PAUSE),
            }
        }
    }

    fn is_hopeless(&self, since: Instant) -> bool {
        self.shared.abandon.load(Ordering::Relaxed) || since.elapsed() > PATIENCE
    }

    fn publish_on(&mut self, client: &mut Client) -> Result<()> {
        let window = self.plan.window.min(usize::from(client.receive_maximum()));
        self.send_again(client)?;
        loop {
            while self.unacknowledged.len() < window && self.is_due() {
                self.send_next(client)?;
            }
            if !self.unacknowledged.is_empty() {
                self.take(client.receive()?)?;
            } else if self.is_over() {
                return Ok(());
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// What a tracker does after a link error: everything unconfirmed, oldest first.
    fn send_again(&mut self, client: &mut Client) -> Result<()> {
        let forbidden = self.shared.forbidden.load(Ordering::Relaxed);
        for waiting in &mut self.unacknowledged {
            waiting.forbidden = forbidden;
        }
        for waiting in &self.unacknowledged {
            self.enter(&waiting.payload)?;
            client.publish(&self.topic, waiting.packet_id, &waiting.payload.bytes)?;
            self.shared.resent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn send_next(&mut self, client: &mut Client) -> Result<()> {
        let payload = self.device.batch(self.plan.batch_records)?;
        let packet_id = self.next_packet_id;
        self.next_packet_id = packet_id.checked_add(1).unwrap_or(1);
        self.batches_sent += 1;
        self.records_sent += self.plan.batch_records;
        // Entered before it leaves: a broken connection says nothing about what arrived.
        self.enter(&payload)?;
        self.unacknowledged.push_back(Waiting {
            packet_id,
            payload,
            forbidden: self.shared.forbidden.load(Ordering::Relaxed),
        });
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = self.unacknowledged.back().context("just pushed")?;
        client.publish(&self.topic, packet_id, &waiting.payload.bytes)?;
        Ok(())
    }

    fn take(&mut self, incoming: Incoming) -> Result<()> {
        let Incoming::PubAck { packet_id, reason } = incoming else {
            return Ok(());
        };
        ensure!(
            reason < 0x80,
            "PUBACK refuses a valid batch with {reason:#04x}"
        );
        let owed = self
            .unacknowledged
            .iter()
            .position(|waiting| waiting.packet_id == packet_id);
        let index = owed.with_context(|| format!("PUBACK {packet_id} for nothing"))?;
        let waiting = self.unacknowledged.remove(index).context("just found")?;
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        if waiting.forbidden && self.shared.forbidden.load(Ordering::Relaxed) {
            let forbidden = &self.shared.acknowledged_forbidden;
            forbidden.fetch_add(1, Ordering::Relaxed);
        }
        for (name, _) in &waiting.payload.records {
            self.ledger
                .as_ref()
                .map_or(Ok(()), |ledger| ledger.acknowledged(name))?;
        }
        self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn enter(&self, payload: &Payload) -> Result<()> {
        let Some(ledger) = &self.ledger else {
            return Ok(());
        };
        let mut records = payload.records.iter();
        records.try_for_each(|(name, record)| ledger.sent(name.clone(), *record))
    }

    /// Whether no new batch will ever be due.
    fn is_over(&self) -> bool {
        let all = self
            .plan
            .batches
            .is_some_and(|all| self.batches_sent >= all);
        all || self.shared.finish.load(Ordering::Relaxed)
    }

    fn is_due(&self) -> bool {
        let paced = self.plan.batches_per_s.is_none_or(|rate| {
            f64::from(self.batches_sent) <= self.started.elapsed().as_secs_f64() * rate
        });
        paced && !self.is_over()
    }
}
