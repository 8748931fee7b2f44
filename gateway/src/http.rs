//! Liveness, readiness, metrics.
//!
//! `/livez` is good while the process is worth keeping, `/readyz` while it can do its work, `/metrics` in the
//! Prometheus text format 0.0.4. Connections are few and short: one more than allowed is closed unread,
//! and none lives longer than [`CONNECTION_MAX`], so slow clients cannot keep the others out.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep_until};

/// Longest life of a connection: a scrape takes milliseconds, scrapers reconnect.
pub const CONNECTION_MAX: Duration = Duration::from_secs(30);

/// Pause after the listener failed to accept (out of descriptors): long enough for one to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Content type of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; starts at 0 with the process or the store.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// One value of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name; values of one name follow each other.
    pub name: &'static str,
    /// What it tells, in one sentence.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Names and values of its labels.
    pub labels: Vec<(&'static str, String)>,
    /// Its value.
    pub value: f64,
}

/// What the endpoint reports on.
pub trait Vitals: Send + Sync + 'static {
    /// Whether the process is good for anything: a store that does not answer ends it, or should.
    ///
    /// # Errors
    /// Why not.
    fn alive(&self) -> Result<(), String>;

    /// Whether the gateway can do its work: the fold is not further behind than allowed, the store is not
    /// full and answers in time. A store that fails needs no word here: it ends the process.
    ///
    /// # Errors
    /// Every reason why not.
    fn ready(&self) -> Result<(), Vec<String>>;

    /// What a gateway that is ready has still to do before its view is that of everything stored.
    fn pending(&self) -> Option<String>;

    /// All metrics; values of one name follow each other.
    fn metrics(&self) -> Vec<Metric>;
}

/// Serve until `stop`.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    connections_max: u32,
    vitals: Arc<dyn Vitals>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(vitals);
    let slots = usize::try_from(connections_max).unwrap_or(Semaphore::MAX_PERMITS);
    let listener = Bounded {
        listener,
        slots: Arc::new(Semaphore::new(slots)),
    };
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            // A sender that is gone means stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .await
}

async fn livez(State(vitals): State<Arc<dyn Vitals>>) -> impl IntoResponse {
    match vitals.alive() {
        Ok(()) => (StatusCode::OK, "alive\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn readyz(State(vitals): State<Arc<dyn Vitals>>) -> impl IntoResponse {
    match vitals.ready() {
        Ok(()) => {
            let pending = vitals.pending();
            let pending = pending.map(|pending| format!("; {pending}"));
            let text = format!("ready{}\n", pending.unwrap_or_default());
            (StatusCode::OK, text)
        }
        Err(reasons) => {
            let text = format!("not ready: {}\n", reasons.join("; "));
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

async fn metrics(State(vitals): State<Arc<dyn Vitals>>) -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, METRICS_TYPE)];
    // Reads the store, so it must not hold up a thread that serves connections.
    match tokio::task::spawn_blocking(move || exposition(&vitals.metrics())).await {
        Ok(text) => (headers, text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Metrics in the text format; help and type stand before the first value of a name.
fn exposition(metrics: &[Metric]) -> String {
    let mut text = String::new();
    let mut previous = "";
    for metric in metrics {
        let name = metric.name;
        if name != previous {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "# HELP {name} {}\n# TYPE {name} {kind}\n",
                metric.help
            );
        }
        previous = name;
        let _ = writeln!(text, "{name}{} {}", labels(&metric.labels), metric.value);
    }
    text
}

fn labels(labels: &[(&'static str, String)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escape = |text: &str| {
        let text = text.replace('\\', "\\\\");
        text.replace('"', "\\\"").replace('\n', "\\n")
    };
    let labels = labels.iter();
    let labels: Vec<_> = labels
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
        .collect();
    format!("{{{}}}", labels.join(","))
}

/// Accepts as many connections as there are slots, each for a limited time.
struct Bounded {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => match Arc::clone(&self.slots).try_acquire_owned() {
                    Ok(slot) => return (Connection::new(stream, slot), peer),
                    Err(_) => tracing::warn!(%peer, "HTTP connection refused: all are in use"),
                },
                Err(error) => {
                    tracing::warn!("HTTP connection not accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends at its deadline.
struct Connection {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, slot: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            deadline: Box::pin(sleep_until(Instant::now() + CONNECTION_MAX)),
            _slot: slot,
        }
    }

    /// The stream, unless its time is over.
    fn stream(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream(context)?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Patient {
        reasons: Vec<String>,
    }

    impl Vitals for Patient {
        fn alive(&self) -> Result<(), String> {
            match self.reasons.as_slice() {
                [only] if only.starts_with("dead") => Err(only.clone()),
                _ => Ok(()),
            }
        }

        fn ready(&self) -> Result<(), Vec<String>> {
            match self.reasons.as_slice() {
                [] => Ok(()),
                reasons => Err(reasons.to_vec()),
            }
        }

        fn pending(&self) -> Option<String> {
            Some("refold pending: 3 trackers".to_owned())
        }

        fn metrics(&self) -> Vec<Metric> {
            let refused = |reason: &str, value| Metric {
                name: "supercargo_refused_total",
                help: "Payloads refused.",
                kind: Kind::Counter,
                labels: vec![("reason", reason.to_owned())],
                value,
            };
            let lag = Metric {
                name: "supercargo_fold_lag_seconds",
                help: "Age of the oldest record not yet folded.",
                kind: Kind::Gauge,
                labels: Vec::new(),
                value: 0.25,
            };
            vec![refused("undecodable", 3.0), refused("a\"b\\c\n", 0.0), lag]
        }
    }

    /// A server, and the sender that stops it.
    async fn server(reasons: &[&str], connections_max: u32) -> (SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reasons = reasons.iter().map(ToString::to_string).collect();
        let (stop, stopped) = watch::channel(false);
        let vitals = Arc::new(Patient { reasons });
        tokio::spawn(serve(listener, connections_max, vitals, stopped));
        (address, stop)
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_gateway_that_cannot_work_is_alive_and_not_ready_and_says_why() {
        let (address, _stop) = server(&["store is full", "view is 12 s behind"], 4).await;
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("not ready: store is full; view is 12 s behind\n"));
        assert!(ask(address, "/other").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_gateway_that_cannot_go_on_is_not_alive_and_says_why() {
        let (address, _stop) = server(&["dead: the store hangs"], 4).await;
        let answer = ask(address, "/livez").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("dead: the store hangs\n"), "{answer}");
    }

    #[tokio::test]
    async fn metrics_come_in_the_text_format_with_its_content_type() {
        let (address, _stop) = server(&[], 4).await;
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("\r\nready; refold pending: 3 trackers\n"));
        let answer = ask(address, "/metrics").await;
        assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let expected = r#"# HELP supercargo_refused_total Payloads refused.
# TYPE supercargo_refused_total counter
supercargo_refused_total{reason="undecodable"} 3
supercargo_refused_total{reason="a\"b\\c\n"} 0
# HELP supercargo_fold_lag_seconds Age of the oldest record not yet folded.
# TYPE supercargo_fold_lag_seconds gauge
supercargo_fold_lag_seconds 0.25
"#;
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn one_connection_more_than_allowed_is_closed_and_a_free_slot_is_used_again() {
        let (address, _stop) = server(&[], 1).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let request = b"GET /livez HTTP/1.1\r\nHost: gateway\r\n\r\n";
        first.write_all(request).await.unwrap();
        let mut byte = [0];
        first.read_exact(&mut byte).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let ended = second.read(&mut byte).await;
        assert!(
            matches!(ended, Ok(0) | Err(_)),
            "the second must be closed unread"
        );
        drop(first);
        // The slot comes free when the server has seen the end of the first connection.
        loop {
            let mut third = TcpStream::connect(address).await.unwrap();
            let _ = third.write_all(request).await;
            if matches!(third.read(&mut byte).await, Ok(1)) {
                break;
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_ends_at_its_deadline() {
        let (near, far) = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
            (near.unwrap(), far.unwrap().0)
        };
        let slots = Arc::new(Semaphore::new(1));
        let slot = slots.try_acquire_owned().unwrap();
        tokio::time::pause();
        let mut connection = Connection::new(far, slot);
        let ended = connection.read_u8().await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        drop(near);
    }
}
