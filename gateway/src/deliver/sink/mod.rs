//! Where events go. A sink is handed notices and says which of them the receiver really has.
//!
//! Sinks never see the store: the engine reads the outbox, hands rows over and removes the confirmed
//! ones. A sink keeps no queue of its own, so that nothing can be lost inside it.

pub mod file;
pub mod mqtt;

use thiserror::Error;

/// One revision of one event, formatted, on its way to a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Notification id, `<event_id>-<rev>`: what a receiver deduplicates by.
    pub id: String,
    /// Code in the dictionary, such as `EX_TEMPERATURE`.
    pub code: &'static str,
    /// A structured CloudEvent: one JSON object without line breaks.
    pub body: Vec<u8>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Indices into the batch that the receiver has confirmed.
    pub confirmed: Vec<usize>,
    /// Why the others are not confirmed.
    pub failure: Option<SinkError>,
}

/// What a sink can fail with. All of it is the sink's sickness: rows stay in the outbox.
#[derive(Debug, Error)]
pub enum SinkError {
    /// A file could not be opened, written or synced.
    #[error("{operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The broker could not be reached, or the connection broke.
    #[error("connection to broker {broker}: {reason}")]
    Connection {
        /// `host:port`.
        broker: String,
        /// As the client library says it.
        reason: String,
    },
    /// The broker said no to one notice.
    #[error("broker {broker} refused notice {id}: {reason}")]
    Refused {
        /// `host:port`.
        broker: String,
        /// Which notice.
        id: String,
        /// The broker's reason code.
        reason: String,
    },
    /// The broker took notices and confirmed none for a long time.
    #[error("broker {broker} confirmed nothing for {seconds} s")]
    NoProgress {
        /// `host:port`.
        broker: String,
        /// How long.
        seconds: u64,
    },
}

/// Any sink.
#[derive(Debug)]
pub enum Sink {
    /// JSON Lines in a file.
    File(file::FileSink),
    /// An upstream MQTT broker.
    Mqtt(Box<mqtt::MqttSink>),
}

impl Sink {
    /// Hand a batch over and wait until the receiver has confirmed what it will.
    pub async fn deliver(&mut self, batch: &[Notice]) -> Delivered {
        match self {
            Self::File(sink) => sink.deliver(batch),
            Self::Mqtt(sink) => sink.deliver(batch).await,
        }
    }

    /// Keep the connection alive while there is nothing to deliver. Never returns; drop it to go on.
    pub async fn idle(&mut self) {
        match self {
            Self::File(_) => std::future::pending().await,
            Self::Mqtt(sink) => sink.idle().await,
        }
    }
}
