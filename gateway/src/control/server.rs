//! The gateway's end of the control socket.

use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::desk::{Desk, DeskError, Emit};
use super::row::Row;
use super::{REQUEST_MAX_BYTES, REQUEST_TIMEOUT, ROW_TIMEOUT, ROWS_AHEAD_MAX, Request};
use crate::config::Control;
use crate::store::audit::Who;

/// Pause after the listener failed to accept (out of descriptors): long enough for one to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket ready to be served; it is removed when dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

/// Make the control socket of a data folder. The store's lock is held by now, so a socket that is
/// there already was left behind by a gateway that was killed.
///
/// # Errors
/// When the socket cannot be made or protected.
pub fn bind(data: &Path) -> io::Result<Server> {
    let path = Control::socket_in(data);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // Who connects between these two lines is turned away by user id.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Server { listener, path })
}

impl Drop for Server {
    fn drop(&mut self) {
        // Left behind, it would only make the next command try a gateway that is gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Server {
    /// Serve until `stop`; connections above `connections_max` are closed unread.
    pub async fn serve(
        self,
        desk: Arc<Desk>,
        connections_max: u32,
        mut stop: watch::Receiver<bool>,
    ) {
        let slots = usize::try_from(connections_max).unwrap_or(Semaphore::MAX_PERMITS);
        let slots = Arc::new(Semaphore::new(slots));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                tracing::warn!(
                    connections_max,
                    "control connection refused: all are in use"
                );
                continue;
            };
            let connection = Connection {
                desk: Arc::clone(&desk),
                stop: stop.clone(),
            };
            tokio::spawn(async move {
                if let Err(error) = connection.run(stream).await {
                    tracing::debug!("control connection ended: {error}");
                }
                drop(slot);
            });
        }
    }
}

/// One command's connection.
struct Connection {
    desk: Arc<Desk>,
    stop: watch::Receiver<bool>,
}

impl Connection {
    async fn run(self, stream: UnixStream) -> io::Result<()> {
        let peer = stream.peer_cred()?.uid();
        if peer != rustix::process::geteuid().as_raw() && peer != 0 {
            tracing::warn!(user = peer, "control connection of another user refused");
            return Ok(());
        }
        let who = Who::at_socket(peer);
        let (reader, writer) = stream.into_split();
        let mut stop = self.stop.clone();
        tokio::select! {
            ended = self.converse(who, BufReader::new(reader), writer) => ended,
            // The command sees an end without an end line and says so.
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        }
    }

    async fn converse(
        &self,
        who: Who,
        mut reader: Reader,
        mut writer: OwnedWriteHalf,
    ) -> io::Result<()> {
        let last = match read_request(&mut reader).await? {
            Ok(Request::Events { after, follow }) if follow => {
                self.follow(after, &mut reader, &mut writer).await?
            }
            Ok(request) => {
                let answer =
                    move |desk: &Desk, emit: &mut Emit<'_>| desk.answer_to(&who, &request, emit);
                match self.rows(&mut writer, answer).await? {
                    Ok(rows) => json!(["end", rows]),
                    Err(error) if error.is_usage() => json!(["refused", error.to_string()]),
                    Err(error) => json!(["error", error.to_string()]),
                }
            }
            Err(why) => json!(["error", why]),
        };
        write_line(&mut writer, &last.to_string()).await
    }

    /// Tell what changes until the command goes; returns the last line.
    async fn follow(
        &self,
        mut after: u64,
        reader: &mut Reader,
        writer: &mut OwnedWriteHalf,
    ) -> io::Result<Value> {
        let Some(running) = &self.desk.running else {
            return Ok(json!(["error", "no gateway runs, nothing will change"]));
        };
        let mut posted = running.posted.clone();
        let mut rows = 0;
        loop {
            posted.mark_unchanged();
            match self
                .rows(writer, move |desk, emit| desk.events(after, emit))
                .await?
            {
                Ok(told) => (after, rows) = (told.after, rows + told.rows),
                Err(error) => return Ok(json!(["error", error.to_string()])),
            }
            tokio::select! {
                changed = posted.changed() => if changed.is_err() {
                    return Ok(json!(["end", rows]));
                },
                // Nothing more is expected from a command: it went, or it breaks the rules.
                _ = reader.fill_buf() => return Ok(json!(["end", rows])),
            }
        }
    }

    /// Run `answer` beside the runtime and write its rows as they come.
    async fn rows<T: Send + 'static>(
        &self,
        writer: &mut OwnedWriteHalf,
        answer: impl FnOnce(&Desk, &mut Emit<'_>) -> Result<T, DeskError> + Send + 'static,
    ) -> io::Result<Result<T, DeskError>> {
        let (sender, mut lines) = mpsc::channel::<String>(ROWS_AHEAD_MAX);
        let desk = Arc::clone(&self.desk);
        let work = tokio::task::spawn_blocking(move || {
            let mut send = |row: Row| match sender.blocking_send(row.to_string()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            answer(&desk, &mut send)
        });
        while let Some(line) = lines.recv().await {
            write_line(writer, &line).await?;
        }
        work.await.map_err(io::Error::other)
    }
}

type Reader = BufReader<OwnedReadHalf>;

/// The request, or what is wrong with it.
async fn read_request(reader: &mut Reader) -> io::Result<Result<Request, String>> {
    let mut line = String::new();
    let mut bounded = reader.take(REQUEST_MAX_BYTES);
    timeout(REQUEST_TIMEOUT, bounded.read_line(&mut line)).await??;
    if !line.ends_with('\n') {
        let why = format!("request is no line of at most {REQUEST_MAX_BYTES} bytes");
        return Ok(Err(why));
    }
    let request = serde_json::from_str(&line);
    Ok(request.map_err(|error| format!("request not understood: {error}")))
}

async fn write_line(writer: &mut OwnedWriteHalf, line: &str) -> io::Result<()> {
    let line = format!("{line}\n");
    timeout(ROW_TIMEOUT, writer.write_all(line.as_bytes())).await?
}
