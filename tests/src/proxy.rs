//! A proxy between devices and gateway that reads MQTT: it breaks connections, and where it is told to lie
//! it acknowledges what the gateway has not.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;

/// What the proxy acknowledges by itself, the moment it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing: it passes everything on.
    None,
    /// Every publication.
    Everything,
    /// A publication whose payload it has seen before.
    Duplicates,
}

/// Largest packet passed on, in bytes: batches are under 64 KiB.
const PACKET_MAX_BYTES: usize = 256 * 1024;

/// A running proxy. Dropping it breaks every connection.
#[derive(Debug)]
pub struct Proxy {
    /// Where devices connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    gateway: SocketAddr,
    lie: Lie,
    over: AtomicBool,
    seen: Mutex<HashSet<Vec<u8>>>,
    connections: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Listen, and pass on to `gateway`.
    ///
    /// # Errors
    /// When there is no port or no thread.
    pub fn start(gateway: SocketAddr, lie: Lie) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            gateway,
            lie,
            over: AtomicBool::new(false),
            seen: Mutex::default(),
            connections: Mutex::default(),
        });
        let accepting = shared.clone();
        thread::Builder::new().spawn(move || accept(&listener, &accepting))?;
        Ok(Self { address, shared })
    }

    /// Break every connection there is; devices connect again.
    pub fn sever(&self) {
        for stream in held(&self.shared.connections).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.sever();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if shared.over.load(Ordering::Relaxed) {
            return;
        }
        // A gateway that is away is a connection refused: the device tries again.
        let _ = join(stream, shared);
    }
}

/// One thread for each direction; when one ends, so does the other.
fn join(device: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let gateway = TcpStream::connect(shared.gateway)?;
    device.set_nodelay(true)?;
    gateway.set_nodelay(true)?;
    held(&shared.connections).push(device.try_clone()?);
    let connection = Arc::new(Connection {
        told: Mutex::default(),
        device: Mutex::new(device.try_clone()?),
    });
    let (up, down) = (connection.clone(), connection);
    let (gateway_reads, device_reads) = (gateway.try_clone()?, device.try_clone()?);
    let shared = shared.clone();
    thread::Builder::new().spawn(move || {
        let _ = up.to_gateway(device_reads, &gateway, &shared);
        let _ = gateway.shutdown(Shutdown::Both);
    })?;
    thread::Builder::new().spawn(move || {
        let _ = down.to_device(gateway_reads);
        let _ = device.shutdown(Shutdown::Both);
    })?;
    Ok(())
}

/// What both directions of a connection know.
struct Connection {
    /// Packet ids acknowledged by the proxy, whose true PUBACK must not follow.
    told: Mutex<BTreeSet<u16>>,
    device: Mutex<TcpStream>,
}

impl Connection {
    fn to_gateway(
        &self,
        mut from: TcpStream,
        mut to: &TcpStream,
        shared: &Shared,
    ) -> io::Result<()> {
        loop {
            let packet = Packet::read(&mut from)?;
            if let Some((packet_id, rest)) = packet.publication()
                && shared.lies_about(rest)
            {
                held(&self.told).insert(packet_id);
                let [high, low] = packet_id.to_be_bytes();
                held(&self.device).write_all(&[PUBACK, 2, high, low])?;
            }
            to.write_all(&packet.bytes)?;
        }
    }

    fn to_device(&self, mut from: TcpStream) -> io::Result<()> {
        loop {
            let packet = Packet::read(&mut from)?;
            let told = packet
                .puback()
                .is_some_and(|id| held(&self.told).remove(&id));
            if !told {
                held(&self.device).write_all(&packet.bytes)?;
            }
        }
    }
}

impl Shared {
    /// Whether a publication is acknowledged at once. It is remembered first.
    fn lies_about(&self, content: &[u8]) -> bool {
        match self.lie {
            Lie::None => false,
            Lie::Everything => true,
            Lie::Duplicates => !held(&self.seen).insert(content.to_vec()),
        }
    }
}

/// First byte of a PUBACK.
const PUBACK: u8 = 0x40;

/// One MQTT packet.
struct Packet {
    bytes: Vec<u8>,
    /// Where the variable header begins.
    body: usize,
}

impl Packet {
    fn read(from: &mut TcpStream) -> io::Result<Self> {
        let mut bytes = vec![0];
        from.read_exact(&mut bytes)?;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let mut byte = [0];
            from.read_exact(&mut byte)?;
            bytes.push(byte[0]);
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        if length > PACKET_MAX_BYTES {
            return Err(ErrorKind::InvalidData.into());
        }
        let body = bytes.len();
        bytes.resize(body + length, 0);
        from.read_exact(&mut bytes[body..])?;
        Ok(Self { bytes, body })
    }

    /// Packet id of a publication with `QoS` 1, and what follows it.
    fn publication(&self) -> Option<(u16, &[u8])> {
        if self.bytes[0] & 0xf6 != 0x32 {
            return None;
        }
        let (topic_bytes, rest) = self.bytes[self.body..].split_first_chunk::<2>()?;
        let rest = rest.get(usize::from(u16::from_be_bytes(*topic_bytes))..)?;
        let (packet_id, content) = rest.split_first_chunk::<2>()?;
        Some((u16::from_be_bytes(*packet_id), content))
    }

    fn puback(&self) -> Option<u16> {
        let (packet_id, _) = self.bytes[self.body..].split_first_chunk::<2>()?;
        (self.bytes[0] == PUBACK).then(|| u16::from_be_bytes(*packet_id))
    }
}

fn held<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
