//! A cable between a TCP client and its target that can fail: it swallows what clients say, or cuts every connection and refuses new ones.
//!
//! Each connection has two threads, one for each direction; all of them end with their connection, and
//! the listener ends with the cable.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;

/// What is read at once, in bytes: more than any packet of the tests.
const CHUNK_BYTES: usize = 16 * 1024;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Carries both directions.
    Open,
    /// Throws away what clients say; what they said before is still answered.
    Deaf,
    /// Has cut all connections and cuts each new one.
    Cut,
    /// Gone.
    Over,
}

/// Bytes that clients sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Carried on to the target.
    pub carried: u64,
    /// Thrown away.
    pub swallowed: u64,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    sent: Sent,
    /// Both ends of every connection, so that they can be cut.
    streams: Vec<TcpStream>,
}

/// A cable to one target.
#[derive(Debug)]
pub struct Cable {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Cable {
    /// Carry connections to `target`, which need not be there yet.
    ///
    /// # Errors
    /// When there is no port to listen at.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Open,
            sent: Sent::default(),
            streams: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        thread::Builder::new()
            .name("cable".to_owned())
            .spawn(move || listen(&listener, target, &shared))?;
        Ok(Self { address, state })
    }

    /// Throw away all that clients say from now on.
    pub fn deafen(&self) {
        lock(&self.state).mood = Mood::Deaf;
    }

    /// Cut every connection, and each that comes.
    pub fn cut(&self) {
        self.end(Mood::Cut);
    }

    /// Carry again; connections that were cut stay cut.
    pub fn mend(&self) {
        lock(&self.state).mood = Mood::Open;
    }

    /// What clients sent so far.
    #[must_use]
    pub fn sent(&self) -> Sent {
        lock(&self.state).sent
    }

    fn end(&self, mood: Mood) {
        let mut state = lock(&self.state);
        state.mood = mood;
        for stream in state.streams.drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.end(Mood::Over);
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(listener: &TcpListener, target: SocketAddr, state: &Arc<Mutex<State>>) {
    for client in listener.incoming().flatten() {
        match lock(state).mood {
            Mood::Over => return,
            Mood::Cut => continue,
            Mood::Open | Mood::Deaf => {}
        }
        // A target that is not there looks to the client like a connection cut at once.
        let _ = carry(&client, target, state);
    }
}

fn carry(client: &TcpStream, target: SocketAddr, state: &Arc<Mutex<State>>) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let mut guarded = lock(state);
    if !matches!(guarded.mood, Mood::Open | Mood::Deaf) {
        return Ok(());
    }
    guarded.streams.push(client.try_clone()?);
    guarded.streams.push(server.try_clone()?);
    drop(guarded);
    for (from, to, counted) in [
        (client.try_clone()?, server.try_clone()?, true),
        (server, client.try_clone()?, false),
    ] {
        let state = Arc::clone(state);
        thread::spawn(move || pump(from, to, counted, &state));
    }
    Ok(())
}

/// Carry one direction until either side ends.
fn pump(mut from: TcpStream, mut to: TcpStream, of_client: bool, state: &Mutex<State>) {
    let mut chunk = [0; CHUNK_BYTES];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        let carried = is_carried(&mut lock(state), of_client, read as u64);
        if carried && to.write_all(&chunk[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Whether the bytes go on; those of clients are counted.
const fn is_carried(state: &mut State, of_client: bool, bytes: u64) -> bool {
    match (state.mood, of_client) {
        (Mood::Open | Mood::Deaf, false) => true,
        (Mood::Open, true) => {
            state.sent.carried += bytes;
            true
        }
        (Mood::Deaf | Mood::Cut | Mood::Over, true) => {
            state.sent.swallowed += bytes;
            false
        }
        (Mood::Cut | Mood::Over, false) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every byte by itself.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || io::copy(&mut stream.try_clone()?, &mut stream));
            }
        });
        address
    }

    #[test]
    fn a_cable_carries_swallows_cuts_and_carries_again() {
        let cable = Cable::start(echo()).unwrap();
        let mut byte = [0];
        let mut client = TcpStream::connect(cable.address).unwrap();
        client.write_all(b"a").unwrap();
        client.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"a");

        cable.deafen();
        client.write_all(b"b").unwrap();
        while cable.sent().swallowed == 0 {
            thread::yield_now();
        }
        cable.cut();
        assert!(
            client.read_exact(&mut byte).is_err(),
            "cut without an answer"
        );
        let mut refused = TcpStream::connect(cable.address).unwrap();
        assert!(refused.read_exact(&mut byte).is_err());

        cable.mend();
        let mut client = TcpStream::connect(cable.address).unwrap();
        client.write_all(b"c").unwrap();
        client.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"c");
        let sent = Sent {
            carried: 2,
            swallowed: 1,
        };
        assert_eq!(cable.sent(), sent);
    }
}
