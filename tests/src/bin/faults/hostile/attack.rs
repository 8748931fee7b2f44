//! Connections that go wrong, each in one of many ways.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gateway::clock::monotonic;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, Runtime};

/// Clients that attack at the same time.
pub(crate) const ATTACKERS: u64 = 4;

/// Where they come from: on this machine, but not the address of its devices.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Longest wait of an attacker for the end of its connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that an attacker who waits for no end keeps open: together more than the gateway lets wait.
const KEPT_OPEN: usize = 64;

/// Pause of an attacker that finds no port of its own free.
const NO_PORT_PAUSE: Duration = Duration::from_millis(10);

/// As much below everything else as there is: what the attackers themselves take of the cores is not what is measured.
const NICENESS: i32 = 19;

/// So many malformed packets, each over a connection of its own whose end is waited for.
pub(crate) fn send(door: &Door, packets: u32, seed: u64, pace: Duration) -> Result<()> {
    let start = monotonic();
    let left = Arc::new(AtomicU32::new(packets));
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|number| {
            let (left, door) = (Arc::clone(&left), door.clone());
            let mut random = Pcg32::seed_from_u64(seed.wrapping_add(number << 32));
            thread::spawn(move || {
                let mut sent = 0;
                let runtime = runtime()?;
                let another = |left: u32| left.checked_sub(1);
                while left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, another)
                    .is_ok()
                {
                    door.attack(&runtime, &mut random, number)?;
                    sent += 1;
                    let due = pace * sent;
                    thread::sleep(due.saturating_sub(start.elapsed()));
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for attacker in attackers {
        attacker.join().ok().context("an attacker's thread")??;
    }
    Ok(())
}

/// A door behind which nobody is: whoever comes is sent away unread. What a flood at it does to others is the price of
/// the attackers and of the system's network, not of the gateway.
pub(crate) fn decoy(like: &Door) -> Result<Door> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || listener.incoming().for_each(drop));
    let tls = like.tls.clone();
    Ok(Door { address, tls })
}

/// A flood that waits for nothing, at the lowest priority, until it is ended.
pub(crate) struct Flood {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    attackers: Vec<thread::JoinHandle<Result<()>>>,
}

impl Flood {
    /// Begin.
    pub(crate) fn begin(door: &Door, seed: u64) -> Self {
        let (over, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let attackers = (0..ATTACKERS).map(|number| {
            let (over, sent, door) = (Arc::clone(&over), Arc::clone(&sent), door.clone());
            let mut random = Pcg32::seed_from_u64(seed.wrapping_add(number << 32));
            thread::spawn(move || {
                // Of this thread only, on Linux.
                ensure!(rustix::process::nice(NICENESS)? == NICENESS);
                let runtime = runtime()?;
                let mut open = VecDeque::new();
                while !over.load(Ordering::SeqCst) {
                    open.push_back(door.strike(&runtime, &mut random, number)?);
                    sent.fetch_add(1, Ordering::SeqCst);
                    if open.len() > KEPT_OPEN {
                        open.pop_front();
                    }
                }
                Ok(())
            })
        });
        let attackers = attackers.collect();
        Self {
            over,
            sent,
            attackers,
        }
    }

    /// End it; how many connections there were.
    pub(crate) fn end(self) -> Result<u64> {
        self.over.store(true, Ordering::SeqCst);
        for attacker in self.attackers {
            attacker.join().ok().context("an attacker's thread")??;
        }
        Ok(self.sent.load(Ordering::SeqCst))
    }
}

/// What connects from an address that was chosen.
fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_io().build()?)
}

/// What is attacked.
#[derive(Clone)]
pub(crate) struct Door {
    /// Where.
    pub(crate) address: SocketAddr,
    /// With TLS, and whom to trust.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Door {
    /// One connection that goes wrong. That the gateway closes in the middle is no failure of the attack; that it does
    /// not answer the door is.
    fn attack(&self, runtime: &Runtime, random: &mut Pcg32, attacker: u64) -> Result<()> {
        let stream = self.knock(runtime)?;
        let Some(tls) = &self.tls else {
            shout(stream, &malformed(random, attacker));
            return Ok(());
        };
        if random.random() {
            let name = ServerName::IpAddress(self.address.ip().into());
            let session = ClientConnection::new(Arc::clone(tls), name)?;
            whisper(stream, session, &malformed(random, attacker));
        } else {
            shout(stream, &malformed_handshake(random, self.hello(tls)?));
        }
        Ok(())
    }

    /// One connection that goes wrong, and whose end is not waited for.
    fn strike(&self, runtime: &Runtime, random: &mut Pcg32, attacker: u64) -> Result<TcpStream> {
        let mut stream = self.knock(runtime)?;
        let bytes = match &self.tls {
            None => malformed(random, attacker),
            Some(tls) => {
                let hello = self.hello(tls)?;
                malformed_handshake(random, hello)
            }
        };
        // The gateway may have closed it already.
        let _ = stream.write_all(&bytes);
        Ok(stream)
    }

    /// How a right TLS handshake begins.
    fn hello(&self, tls: &Arc<ClientConfig>) -> Result<Vec<u8>> {
        let name = ServerName::IpAddress(self.address.ip().into());
        let mut hello = Vec::new();
        ClientConnection::new(Arc::clone(tls), name)?.write_tls(&mut hello)?;
        Ok(hello)
    }

    fn knock(&self, runtime: &Runtime) -> Result<TcpStream> {
        loop {
            let connected = runtime.block_on(async {
                let socket = TcpSocket::new_v4()?;
                socket.bind((SOURCE, 0).into())?;
                socket.connect(self.address).await?.into_std()
            });
            let stream = match connected {
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable
                    ) =>
                {
                    thread::sleep(NO_PORT_PAUSE);
                    continue;
                }
                connected => connected.context("refused at the door")?,
            };
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            return Ok(stream);
        }
    }
}

/// Say it all, and wait for the end.
fn shout(mut stream: TcpStream, bytes: &[u8]) {
    if stream.write_all(bytes).is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// The same, inside of TLS.
fn whisper(stream: TcpStream, session: ClientConnection, bytes: &[u8]) {
    let mut secured = StreamOwned::new(session, stream);
    if secured.write_all(bytes).is_ok() {
        secured.conn.send_close_notify();
        if secured.flush().is_ok() && secured.sock.shutdown(Shutdown::Write).is_ok() {
            let _ = secured.read_to_end(&mut Vec::new());
        }
    }
}

/// A TLS handshake that is wrong in one of many ways; `hello` is a right beginning.
fn malformed_handshake(random: &mut Pcg32, mut hello: Vec<u8>) -> Vec<u8> {
    match random.random_range(0..5) {
        0 => noise(random, 600),
        1 => mutated(random, hello),
        2 => {
            hello.truncate(random.random_range(1..hello.len()));
            hello
        }
        // A record that says it is as long as a record can say.
        3 => [&[0x16, 3, 3, 0xff, 0xff][..], &noise(random, 600)].concat(),
        _ => [hello, noise(random, 600)].concat(),
    }
}

/// Bytes that are wrong in one of many ways, or a packet that is right behind which something wrong comes.
fn malformed(random: &mut Pcg32, attacker: u64) -> Vec<u8> {
    let mut hello = connect(&format!("attacker-{attacker}"));
    match random.random_range(0..8) {
        0 => noise(random, 300),
        1 => mutated(random, hello),
        2 => {
            hello.truncate(random.random_range(1..hello.len()));
            hello
        }
        3 => [&[0x16, 3, 1][..], &noise(random, 200)].concat(),
        4 => [
            &hello[..],
            &[0x30, 0xff, 0xff, 0xff, 0x7f],
            &noise(random, 2_000),
        ]
        .concat(),
        5 => {
            let subscribe = framed(
                0x82,
                &[&[0, 1, 0][..], &text("sc/1/attacker/time"), &[0]].concat(),
            );
            [hello, mutated(random, subscribe)].concat()
        }
        6 => [hello, noise(random, 300)].concat(),
        _ => {
            let topic = text(&format!("sc/1/attacker-{attacker}/readings"));
            let publish = framed(0x32, &[&topic[..], &[0, 1, 0], &noise(random, 60)].concat());
            [hello, mutated(random, publish)].concat()
        }
    }
}

fn noise(random: &mut Pcg32, most: usize) -> Vec<u8> {
    let length = random.random_range(1..=most);
    (0..length).map(|_| random.random()).collect()
}

fn mutated(random: &mut Pcg32, mut packet: Vec<u8>) -> Vec<u8> {
    for _ in 0..random.random_range(1..6) {
        let place = random.random_range(0..packet.len());
        packet[place] = random.random();
    }
    packet
}

/// CONNECT of MQTT 5: a clean start, a keep-alive of a minute, no properties.
fn connect(device: &str) -> Vec<u8> {
    framed(
        0x10,
        &[b"\0\x04MQTT\x05\x02\0\x3c\0", &text(device)[..]].concat(),
    )
}

/// A text of less than 256 bytes behind its length.
fn text(text: &str) -> Vec<u8> {
    [&[0, text.len() as u8], text.as_bytes()].concat()
}

/// A packet of less than 128 bytes of body.
fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, body.len() as u8], body].concat()
}
