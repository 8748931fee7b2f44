//! The firmware's link on real TCP, and the two bounded channels between it and a tracker.

use firmware::link::{Buffers, Link, LinkConfig};
use firmware::port::{Entropy, Exchange, LinkEvent, Message, Network, WINDOW_MESSAGES};
use protocol::key::DeviceId;
use protocol::units::Milliseconds;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use tokio::sync::mpsc;

/// Capacity of both channels: the exchange's contract (two windows).
const EXCHANGE_MESSAGES: usize = 2 * WINDOW_MESSAGES;

/// Longest wait between attempts to connect: event time runs a thousand times faster than the wall
/// in a demo, where a real device's minute would be most of a day.
const BACK_OFF_MAX_MS: i64 = 2_000;

/// A tracker's end of the channels.
#[derive(Debug)]
pub struct Wire {
    outgoing: mpsc::Sender<Message>,
    incoming: mpsc::Receiver<LinkEvent>,
}

/// The link's end of the channels, and what it needs to run.
#[derive(Debug)]
pub struct Modem<N> {
    config: LinkConfig,
    network: N,
    exchange: Channels,
    entropy: Dice,
}

#[derive(Debug)]
struct Channels {
    outgoing: mpsc::Receiver<Message>,
    incoming: mpsc::Sender<LinkEvent>,
}

#[derive(Debug)]
struct Dice(Pcg64);

impl Entropy for Dice {
    fn random(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// A modem for `device` on `network`, and the wire to it.
#[must_use]
pub fn modem<N: Network>(device: DeviceId, network: N, seed: u64) -> (Wire, Modem<N>) {
    let (to_link, from_tracker) = mpsc::channel(EXCHANGE_MESSAGES);
    let (to_tracker, from_link) = mpsc::channel(EXCHANGE_MESSAGES);
    let modem = Modem {
        config: LinkConfig {
            back_off_max: Milliseconds::saturating(BACK_OFF_MAX_MS),
            ..LinkConfig::new(device)
        },
        network,
        exchange: Channels {
            outgoing: from_tracker,
            incoming: to_tracker,
        },
        entropy: Dice(Pcg64::seed_from_u64(seed)),
    };
    let wire = Wire {
        outgoing: to_link,
        incoming: from_link,
    };
    (wire, modem)
}

impl<N: Network> Modem<N> {
    /// Stay connected; never ends.
    pub async fn run(mut self) -> ! {
        let mut buffers = Box::new(Buffers::new());
        let mut link = Link::new(self.config, &mut buffers, self.entropy);
        link.run(&mut self.network, &mut self.exchange).await
    }
}

impl Wire {
    /// Hand a message to the link. It fits: a tracker never has more than a window open.
    pub fn send(&self, message: Message) {
        if let Err(error) = self.outgoing.try_send(message) {
            // The link's watchdog does not see it, but the tracker sends it again after a reconnect.
            tracing::error!(%error, "a message did not fit between tracker and link");
        }
    }

    /// The next thing the link says; pends for ever when there is no link.
    pub async fn recv(&mut self) -> LinkEvent {
        match self.incoming.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

impl Exchange for Channels {
    async fn outgoing(&mut self) -> Message {
        match self.outgoing.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    async fn incoming(&mut self, event: LinkEvent) {
        // A tracker that is gone has switched the device off; the link goes with it.
        let _ = self.incoming.send(event).await;
    }
}
