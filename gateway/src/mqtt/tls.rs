//! The TLS handshake, bounded in bytes and time, and what the client proved by it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::{Error as TlsError, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::identity::Link;
use super::limit::{Limits, TLS_HANDSHAKE_BYTES_MAX};
use super::refusal::{Fault, RefusalReason};
use crate::pki::certificate::ClientCertificate;

/// A stream with TLS. On the heap: the state of TLS would make every connection's task larger.
pub(crate) type Secured<S> = Box<TlsStream<Bounded<S>>>;

/// Go through the handshake, or say why it came to nothing. TLS itself tells the client, as far as it can.
pub(crate) async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: SocketAddr,
    acceptor: &TlsAcceptor,
    limits: &Limits,
) -> Result<(Secured<S>, Link), Fault> {
    let accepting = acceptor.accept(Bounded::new(stream));
    let accepted = match timeout(limits.connect_timeout, accepting).await {
        Ok(accepted) => accepted.map_err(|error| fault(&error))?,
        Err(_) => {
            let detail = format!("no whole TLS handshake within {:?}", limits.connect_timeout);
            return Err(Fault::new(RefusalReason::ConnectTimeout, detail));
        }
    };
    let mut stream = Box::new(accepted);
    let (bounded, session) = stream.get_mut();
    bounded.lift();
    let link = Link::Tls(shown(session)?);
    tracing::debug!(%peer, ?link, version = ?session.protocol_version(), "mqtt: TLS");
    Ok((stream, link))
}

/// The certificate that the client showed, if it did. TLS has verified it.
fn shown(session: &ServerConnection) -> Result<Option<Box<ClientCertificate>>, Fault> {
    let certificates = session.peer_certificates().unwrap_or_default();
    let Some(first) = certificates.first() else {
        return Ok(None);
    };
    let read = ClientCertificate::read(first)
        .map_err(|error| Fault::new(RefusalReason::ClientCertificate, error.to_string()))?;
    Ok(Some(Box::new(read)))
}

fn fault(error: &io::Error) -> Fault {
    let inner = error.get_ref();
    let tls = inner.and_then(|inner| inner.downcast_ref::<TlsError>());
    let reason = match tls {
        Some(TlsError::InvalidCertificate(_)) => RefusalReason::ClientCertificate,
        _ => RefusalReason::TlsHandshake,
    };
    Fault::new(reason, format!("TLS handshake: {error}"))
}

/// A stream of which only so much is read, until the bound is lifted.
#[derive(Debug)]
pub(crate) struct Bounded<S> {
    stream: S,
    /// Bytes that may still be read; `None` is any number.
    left: Option<usize>,
}

impl<S> Bounded<S> {
    const fn new(stream: S) -> Self {
        let left = Some(TLS_HANDSHAKE_BYTES_MAX);
        Self { stream, left }
    }

    fn lift(&mut self) {
        self.left = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(left) = self.left {
            let read = buffer.filled().len() - before;
            let Some(left) = left.checked_sub(read) else {
                let why = format!("more than {TLS_HANDSHAKE_BYTES_MAX} bytes");
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
            };
            self.left = Some(left);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
