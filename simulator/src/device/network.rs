//! Real TCP under the firmware's link, with a radio that can go.

use std::io;

use embedded_io_async::{Error, ErrorKind, ErrorType, Read, Write};
use firmware::port::Network;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Opens streams to one address while there is reception.
#[derive(Debug)]
pub struct RadioNetwork {
    address: String,
    reception: watch::Receiver<bool>,
}

impl RadioNetwork {
    /// A network that reaches `address` (host:port) while `reception` is true.
    #[must_use]
    pub const fn new(address: String, reception: watch::Receiver<bool>) -> Self {
        Self { address, reception }
    }
}

/// A TCP stream that breaks when reception is lost.
#[derive(Debug)]
pub struct RadioStream {
    stream: TcpStream,
    reception: watch::Receiver<bool>,
}

/// Why a stream broke.
#[derive(Debug)]
pub enum RadioError {
    /// No reception.
    NoReception,
    /// The stream itself.
    Stream(io::Error),
}

impl std::fmt::Display for RadioError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoReception => "no reception",
            Self::Stream(_) => "stream to the gateway broke",
        })
    }
}

impl std::error::Error for RadioError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoReception => None,
            Self::Stream(source) => Some(source),
        }
    }
}

impl Error for RadioError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoReception => ErrorKind::NotConnected,
            Self::Stream(_) => ErrorKind::ConnectionAborted,
        }
    }
}

impl Network for RadioNetwork {
    type Connection = RadioStream;
    type Error = RadioError;

    /// Searches for a network until there is one, as a modem does.
    async fn open(&mut self) -> Result<RadioStream, RadioError> {
        gained(&mut self.reception).await;
        let stream = TcpStream::connect(&self.address).await;
        let stream = stream.map_err(RadioError::Stream)?;
        stream.set_nodelay(true).map_err(RadioError::Stream)?;
        Ok(RadioStream {
            stream,
            reception: self.reception.clone(),
        })
    }
}

/// Waits for reception; for ever when the radio is gone for good.
async fn gained(reception: &mut watch::Receiver<bool>) {
    if reception.wait_for(|there| *there).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits for the loss of reception; a radio that is gone for good is a loss too.
async fn lost(reception: &mut watch::Receiver<bool>) -> RadioError {
    let _ = reception.wait_for(|there| !there).await;
    RadioError::NoReception
}

impl ErrorType for RadioStream {
    type Error = RadioError;
}

impl Read for RadioStream {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RadioError> {
        tokio::select! {
            biased;
            error = lost(&mut self.reception) => Err(error),
            done = self.stream.read(buffer) => done.map_err(RadioError::Stream),
        }
    }
}

impl Write for RadioStream {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, RadioError> {
        tokio::select! {
            biased;
            error = lost(&mut self.reception) => Err(error),
            done = self.stream.write(bytes) => done.map_err(RadioError::Stream),
        }
    }

    async fn flush(&mut self) -> Result<(), RadioError> {
        self.stream.flush().await.map_err(RadioError::Stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_stream_breaks_when_reception_is_lost_and_comes_back_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (radio, reception) = watch::channel(true);
        let address = listener.local_addr().unwrap().to_string();
        let mut network = RadioNetwork::new(address, reception);
        let mut stream = network.open().await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.write_all(b"x").await.unwrap();
        let mut buffer = [0; 4];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 1);
        radio.send_replace(false);
        let broken = stream.read(&mut buffer).await.unwrap_err();
        assert!(matches!(broken, RadioError::NoReception));
        let (opened, ()) = tokio::join!(network.open(), async {
            radio.send_replace(true);
        });
        opened.unwrap();
    }
}
