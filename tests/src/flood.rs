//! A flood of publications from many connections on one thread: how fast does the other side take them?
//!
//! Everything that is sent is encoded before the clock starts, as MQTT 3.1.1, which every peer speaks;
//! so the same bytes go to each of them and the sending costs little. A connection keeps its window of
//! unacknowledged publications full. The time of each PUBACK is kept.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gateway::clock::monotonic;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::device::Device;
use crate::mqtt::{Login, Version, connect_packet, publish_packet};

/// Longest wait for a connection or for the next PUBACK: no healthy peer makes anybody wait that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections that are being made at the same time: below the backlog of any listener.
const CONNECTING_MAX: usize = 64;

/// Bytes read at once: a thousand PUBACKs.
const READ_BYTES: usize = 4096;

/// Length of a PUBACK of MQTT 3.1.1.
const PUBACK_BYTES: usize = 4;

/// What is sent and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Seed of all content.
    pub seed: u64,
    /// Connections, one device each.
    pub connections: u32,
    /// Most publications without PUBACK per connection.
    pub window: usize,
    /// Records in one publication.
    pub records: u32,
    /// Publications of each connection, at most.
    pub publications: u32,
    /// No publication is begun after this time.
    pub time_max: Duration,
    /// Publications a second, all connections together; as many as possible without it.
    pub per_s: Option<f64>,
}

/// The publications of every connection, encoded.
#[derive(Debug)]
pub struct Flood {
    plan: Plan,
    sources: Vec<Source>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Publications acknowledged.
    pub acknowledged: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// From the first publication to the last PUBACK.
    pub took: Duration,
    /// From sending to PUBACK, in microseconds, sorted.
    pub latencies_us: Vec<u32>,
}

impl Outcome {
    /// Publications a second.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate needs no more than 52 bits"
    )]
    pub fn per_s(&self) -> f64 {
        self.acknowledged as f64 / self.took.as_secs_f64()
    }

    /// The latency that `share` (0 to 1) of the publications did not exceed, in microseconds.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index below the length"
    )]
    pub fn percentile_us(&self, share: f64) -> u32 {
        let last = self.latencies_us.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        self.latencies_us.get(index).copied().unwrap_or_default()
    }
}

/// The connections of a flood, open and idle.
#[derive(Debug)]
pub struct Open {
    plan: Plan,
    streams: Vec<(TcpStream, Source)>,
}

impl Flood {
    /// Encode what `plan` says.
    ///
    /// # Errors
    /// When the records do not fit in one batch.
    pub fn encode(plan: Plan) -> Result<Self> {
        let sources = (0..plan.connections).map(|index| Source::encode(&plan, index));
        Ok(Self {
            plan,
            sources: sources.collect::<Result<_>>()?,
        })
    }

    /// Connect every device.
    ///
    /// # Errors
    /// When one is not accepted.
    pub async fn connect(self, address: SocketAddr) -> Result<Open> {
        let mut streams = Vec::with_capacity(self.sources.len());
        let mut sources = self.sources.into_iter().peekable();
        let mut connecting = JoinSet::new();
        while sources.peek().is_some() || !connecting.is_empty() {
            if connecting.len() < CONNECTING_MAX
                && let Some(source) = sources.next()
            {
                connecting.spawn(async move {
                    let stream = timeout(PATIENCE, connect(address, &source.client_id)).await;
                    anyhow::Ok((stream.context("no CONNACK in time")??, source))
                });
            } else if let Some(connected) = connecting.join_next().await {
                streams.push(connected??);
            }
        }
        Ok(Open {
            plan: self.plan,
            streams,
        })
    }
}

impl Open {
    /// Send everything, wait for every PUBACK, and say goodbye.
    ///
    /// # Errors
    /// When a connection breaks or the other side stops answering.
    pub async fn run(self) -> Result<Outcome> {
        let start = monotonic();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut running = JoinSet::new();
        for (index, (stream, source)) in self.streams.into_iter().enumerate() {
            let pace = Pace::new(&self.plan, start, index);
            let sender = Sender {
                stream,
                source,
                pace,
                window: self.plan.window,
                sent: 0,
                waiting: VecDeque::with_capacity(self.plan.window),
                latencies_us: Vec::new(),
                acknowledged: Arc::clone(&acknowledged),
            };
            running.spawn(sender.run());
        }
        let mut outcome = Outcome::default();
        while let Some(ended) = running.join_next().await {
            let (payload_bytes, latencies_us) = ended??;
            outcome.payload_bytes += payload_bytes;
            outcome.latencies_us.extend(latencies_us);
        }
        outcome.took = start.elapsed();
        outcome.acknowledged = acknowledged.load(Ordering::Relaxed);
        outcome.latencies_us.sort_unstable();
        Ok(outcome)
    }
}

/// What one connection sends: whole packets, one behind the other.
#[derive(Debug)]
struct Source {
    client_id: String,
    packets: Vec<u8>,
    /// End of each packet, and the length of its payload.
    ends: Vec<(usize, usize)>,
}

impl Source {
    fn encode(plan: &Plan, index: u32) -> Result<Self> {
        let mut device = Device::new(plan.seed, index)?;
        let topic = format!("sc/1/{}/readings", device.id());
        let mut source = Self {
            client_id: device.id().to_string(),
            packets: Vec::new(),
            ends: Vec::with_capacity(plan.publications as usize),
        };
        for number in 0..plan.publications {
            let payload = device.batch(plan.records)?;
            let packet = publish_packet(Version::V311, &topic, packet_id(number), &payload.bytes);
            source.packets.extend(packet);
            source
                .ends
                .push((source.packets.len(), payload.bytes.len()));
        }
        source.packets.shrink_to_fit();
        Ok(source)
    }

    /// The bytes of `count` packets from number `first` on.
    fn packets(&self, first: usize, count: usize) -> &[u8] {
        let end = |packets: usize| packets.checked_sub(1).map_or(0, |last| self.ends[last].0);
        &self.packets[end(first)..end(first + count)]
    }
}

/// Packet ids go round; no window is as large as their number.
fn packet_id(number: u32) -> u16 {
    let id = number % u32::from(u16::MAX) + 1;
    u16::try_from(id).unwrap_or(u16::MAX)
}

/// When publications are due.
struct Pace {
    start: Instant,
    time_max: Duration,
    /// Time between two publications of one connection.
    interval: Option<Duration>,
    /// Of the first one: connections are spread over the interval.
    offset: Duration,
}

impl Pace {
    fn new(plan: &Plan, start: Instant, index: usize) -> Self {
        let interval = plan
            .per_s
            .map(|per_s| Duration::from_secs_f64(f64::from(plan.connections) / per_s));
        let share = u32::try_from(index).map_or(0.0, f64::from) / f64::from(plan.connections);
        Self {
            start,
            time_max: plan.time_max,
            interval,
            offset: interval.map_or(Duration::ZERO, |interval| interval.mul_f64(share)),
        }
    }

    /// When publication `number` is due; `None` when time is over.
    fn due(&self, number: usize) -> Option<Instant> {
        let after = match self.interval {
            None => self.start.elapsed(),
            Some(interval) => {
                self.offset + interval.mul_f64(u32::try_from(number).map_or(0.0, f64::from))
            }
        };
        (after < self.time_max).then(|| self.start + after)
    }

    /// How many publications from `number` on are due by now, at most `room`.
    fn due_now(&self, number: usize, room: usize) -> usize {
        if self.interval.is_none() {
            return if self.due(number).is_some() { room } else { 0 };
        }
        let now = monotonic();
        let due = |number: &usize| self.due(*number).is_some_and(|due| due <= now);
        (number..number + room).take_while(due).count()
    }
}

/// One connection at work.
struct Sender {
    stream: TcpStream,
    source: Source,
    pace: Pace,
    window: usize,
    sent: usize,
    /// Packet id and time of sending of what is not acknowledged, oldest first.
    waiting: VecDeque<(u16, Instant)>,
    latencies_us: Vec<u32>,
    acknowledged: Arc<AtomicU64>,
}

impl Sender {
    /// Until everything is acknowledged; gives payload bytes and latencies.
    async fn run(mut self) -> Result<(u64, Vec<u32>)> {
        self.latencies_us.reserve(self.source.ends.len());
        let mut read = Reader::default();
        loop {
            self.send_due().await?;
            let next = self.next_due();
            if self.waiting.is_empty() && next.is_none() {
                break;
            }
            let wait = next.filter(|_| self.waiting.len() < self.window);
            tokio::select! {
                got = timeout(PATIENCE, read.fill(&mut self.stream)) => {
                    got.context("no PUBACK in time")??;
                    self.take(&mut read)?;
                }
                () = sleep_until(wait.unwrap_or_else(monotonic).into()), if wait.is_some() => {}
            }
        }
        self.stream.write_all(&[0xe0, 0]).await?;
        let sent = &self.source.ends[..self.sent];
        let payload_bytes = sent.iter().map(|(_, bytes)| *bytes as u64).sum();
        Ok((payload_bytes, self.latencies_us))
    }

    fn next_due(&self) -> Option<Instant> {
        let more = self.sent < self.source.ends.len();
        more.then(|| self.pace.due(self.sent)).flatten()
    }

    async fn send_due(&mut self) -> io::Result<()> {
        let left = self.source.ends.len() - self.sent;
        let room = self.window.saturating_sub(self.waiting.len()).min(left);
        let count = self.pace.due_now(self.sent, room);
        if count == 0 {
            return Ok(());
        }
        let now = monotonic();
        for number in self.sent..self.sent + count {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            self.waiting.push_back((packet_id(number), now));
        }
        let packets = self.source.packets(self.sent, count);
        self.stream.write_all(packets).await?;
        self.sent += count;
        Ok(())
    }

    fn take(&mut self, read: &mut Reader) -> Result<()> {
        let now = monotonic();
        while let Some(id) = read.puback()? {
            // In order with most peers, so this looks at the first only.
            let owed = self.waiting.iter().position(|(owed, _)| *owed == id);
            let index = owed.with_context(|| format!("PUBACK {id} for nothing"))?;
            if let Some((_, sent)) = self.waiting.remove(index) {
                let took = now.duration_since(sent).as_micros();
                self.latencies_us
                    .push(u32::try_from(took).unwrap_or(u32::MAX));
            }
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What has been read and not yet looked at.
#[derive(Default)]
struct Reader {
    bytes: Vec<u8>,
}

impl Reader {
    async fn fill(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let kept = self.bytes.len();
        self.bytes.reserve(READ_BYTES);
        let read = stream.read_buf(&mut self.bytes).await?;
        if read == 0 || self.bytes.len() == kept {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// The packet id of the next PUBACK, when it is there whole.
    fn puback(&mut self) -> Result<Option<u16>> {
        let Some(packet) = self.bytes.first_chunk::<PUBACK_BYTES>() else {
            return Ok(None);
        };
        let [header, length, high, low] = *packet;
        ensure!(
            header == 0x40 && length == 2,
            "expected PUBACK, got packet {header:#04x} of {length} bytes"
        );
        self.bytes.drain(..PUBACK_BYTES);
        Ok(Some(u16::from_be_bytes([high, low])))
    }
}

async fn connect(address: SocketAddr, client_id: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let login = Login {
        client_id,
        version: Version::V311,
        clean: true,
        credentials: None,
    };
    stream.write_all(&connect_packet(&login)).await?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    ensure!(
        connack == [0x20, 2, 0, 0],
        "{client_id} is refused: {connack:02x?}"
    );
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        seed: 5,
        connections: 3,
        window: 2,
        records: 1,
        publications: 4,
        time_max: Duration::from_secs(60),
        per_s: None,
    };

    #[test]
    fn packets_of_a_source_lie_one_behind_the_other() {
        let source = Source::encode(&PLAN, 1).unwrap();
        let parts: Vec<u8> = (0..4).flat_map(|n| source.packets(n, 1)).copied().collect();
        assert_eq!(parts, source.packets);
        assert_eq!(source.packets(1, 2).first(), Some(&0x32));
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let outcome = Outcome {
            latencies_us: (0..=100).collect(),
            ..Outcome::default()
        };
        assert_eq!(outcome.percentile_us(0.5), 50);
        assert_eq!(outcome.percentile_us(0.99), 99);
    }

    #[test]
    fn a_paced_flood_sends_what_is_due_and_nothing_after_its_time() {
        let start = monotonic();
        let plan = Plan {
            per_s: Some(3.0),
            ..PLAN
        };
        let pace = Pace::new(&plan, start, 0);
        assert_eq!(pace.due(2), Some(start + Duration::from_secs(2)));
        assert_eq!(pace.due(60), None);
    }
}
