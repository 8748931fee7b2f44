//! A device that does everything right.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gateway::clock::monotonic;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tests::device::Device;
use tests::mqtt::{Client, Incoming, Login, Version};

use crate::attack::Door;

/// One newcomer for so many publications.
const PUBLICATIONS_PER_NEWCOMER: usize = 8;

/// Longest wait for the gateway.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long it took, in microseconds.
#[derive(Default)]
pub(crate) struct Times {
    /// From publication to PUBACK.
    pub(crate) published_us: Vec<u64>,
    /// From the first packet of TCP to CONNACK, of another device that comes.
    pub(crate) connected_us: Vec<u64>,
}

impl Times {
    /// What was measured later.
    pub(crate) fn add(&mut self, later: Self) {
        self.published_us.extend(later.published_us);
        self.connected_us.extend(later.connected_us);
    }

    /// So many in a hundred publications did not take longer.
    pub(crate) fn published(&mut self, percent: usize) -> u64 {
        percentile(&mut self.published_us, percent)
    }

    /// So many in a hundred newcomers did not take longer.
    pub(crate) fn connected(&mut self, percent: usize) -> u64 {
        percentile(&mut self.connected_us, percent)
    }
}

fn percentile(took: &mut [u64], percent: usize) -> u64 {
    took.sort_unstable();
    let place = took.len().saturating_sub(1) * percent / 100;
    took.get(place).copied().unwrap_or_default()
}

/// What it speaks through.
trait Duplex: Read + Write + Send {}

impl<S: Read + Write + Send> Duplex for S {}

/// One publication after the other, and now and then another device that comes and goes.
pub(crate) struct Healthy {
    door: Door,
    client: Client<Box<dyn Duplex>>,
    device: Device,
    packet_id: u16,
}

impl Healthy {
    pub(crate) fn connect(door: &Door, seed: u64) -> Result<Self> {
        let device = Device::new(seed, 0)?;
        Ok(Self {
            door: door.clone(),
            client: come(door, device.id().as_str())?,
            device,
            packet_id: 0,
        })
    }

    /// Be a device for so long.
    pub(crate) fn work(&mut self, time: Duration) -> Result<Times> {
        let mut times = Times::default();
        let start = monotonic();
        while start.elapsed() < time {
            for _ in 0..PUBLICATIONS_PER_NEWCOMER {
                self.publish(&mut times)?;
            }
            let start = monotonic();
            let newcomer = come(&self.door, "newcomer")?;
            times
                .connected_us
                .push(u64::try_from(start.elapsed().as_micros())?);
            newcomer.disconnect()?;
        }
        Ok(times)
    }

    pub(crate) fn publish(&mut self, times: &mut Times) -> Result<()> {
        let payload = self.device.batch(1)?;
        let topic = format!("sc/1/{}/readings", self.device.id());
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        let start = monotonic();
        self.client
            .publish(&topic, self.packet_id, &payload.bytes)?;
        let heard = self.client.receive()?;
        times
            .published_us
            .push(u64::try_from(start.elapsed().as_micros())?);
        let (packet_id, reason) = (self.packet_id, 0);
        ensure!(heard == Incoming::PubAck { packet_id, reason }, "{heard:?}");
        Ok(())
    }
}

/// Connect as `device`.
fn come(door: &Door, device: &str) -> Result<Client<Box<dyn Duplex>>> {
    let stream = TcpStream::connect_timeout(&door.address, PATIENCE);
    let stream = stream.context("refused at the door")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let stream: Box<dyn Duplex> = match &door.tls {
        None => Box::new(stream),
        Some(tls) => {
            let name = ServerName::IpAddress(door.address.ip().into());
            let session = ClientConnection::new(Arc::clone(tls), name)?;
            Box::new(StreamOwned::new(session, stream))
        }
    };
    let login = Login {
        client_id: device,
        version: Version::V5,
        clean: true,
        credentials: None,
    };
    Client::over(stream, &login)
}
