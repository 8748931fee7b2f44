//! The MQTT endpoint: MQTT 5 and 3.1.1 for devices, without a broker behind it.
//!
//! ```text
//! listener -> TLS (mqtt.tls) -> handshake (size, time, identity, takeover, stored session) -> connection
//!   bytes -> frame -> packet -> session -> Publication { due } -> ingest
//!   PUBACK <- in order <- session <- packet id <- receipt released by the store
//! ```
//!
//! `session.rs` is pure: packets and released packet ids go in, publications and reply bytes come out.
//! `connection.rs` drives one session over one stream; `endpoint.rs` owns the listener.
//! `bridge.rs` subscribes to brokers that others have. What is outside comes in through [`Ports`](port::Ports).

pub mod bridge;
pub mod downlink;
pub mod endpoint;
pub mod guard;
pub mod identity;
pub mod limit;
pub mod persistence;
pub mod port;
pub mod refusal;

mod address;
mod budget;
mod connection;
mod doorkeeper;
mod frame;
mod handshake;
mod packet;
mod parting;
mod registry;
mod reply;
mod session;
mod shelf;
mod tls;

#[cfg(test)]
mod tests;
