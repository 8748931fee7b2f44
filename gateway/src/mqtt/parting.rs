//! How a connection ends: the client is told why, the session is left in order, the will is spoken.

use std::net::SocketAddr;

use mqtt_proto::v5::DisconnectReasonCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::clock::wall_utc;

use super::connection::{Connection, Ending, stop};
use super::handshake::{Rejected, Testament, durably};
use super::limit::{LINGER_BYTES_MAX, LINGER_TIMEOUT, READ_CHUNK_BYTES, WILL_TIMEOUT};
use super::packet::Disconnect;
use super::port::Shared;
use super::refusal::{Fault, RefusalReason};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Say why, leave the session in order, and speak the will.
    pub(super) async fn part(mut self, ending: Ending) {
        // Nothing more is taken from a device that may no longer speak, its will included.
        let expelled = self.lease.expelled();
        let wills = !expelled
            && !matches!(
                &ending,
                Ending::Left(Disconnect { normal: true, .. }) | Ending::Stopped
            );
        let replaced = matches!(ending, Ending::Replaced);
        let refused = matches!(ending, Ending::Refused(_));
        let (device, budget) = (self.lease.device(), self.budget);
        self.shared.budgets.remember(device, budget, Instant::now());
        self.clear_shelf();
        self.say_goodbye(ending);
        let out = &mut self.session.replies.out;
        let _ = timeout(LINGER_TIMEOUT, self.stream.write_all_buf(out)).await;
        if refused {
            tokio::select! {
                () = self.lease.replaced(), if !expelled => {}
                () = linger(&mut self.stream) => {}
            }
        } else {
            let _ = timeout(LINGER_TIMEOUT, self.stream.shutdown()).await;
        }
        if let Err(fault) = self.leave(replaced).await {
            self.note(fault);
        }
        if let Some(will) = self.will.take().filter(|_| wills) {
            self.speak(will).await;
        }
    }

    /// What the journal's queue has no room for now is gone: with a PUBACK owed it is sent again, without one
    /// it is counted.
    fn clear_shelf(&mut self) {
        self.hand_over();
        while let Some(publication) = self.session.hand_over() {
            if publication.due.is_none() {
                let detail =
                    "QoS 0 of a connection that ended while the way to the journal was full";
                let fault = Fault::new(RefusalReason::QosZeroDropped, detail);
                self.note(fault.about(&publication.topic.name()));
            }
        }
    }

    fn say_goodbye(&mut self, ending: Ending) {
        let device = self.lease.device();
        match ending {
            Ending::Left(_) => tracing::debug!(%device, "mqtt: left"),
            Ending::Lost(why) => tracing::debug!(%device, "mqtt: lost: {why}"),
            Ending::Stopped => self.session.replies.goodbye(
                DisconnectReasonCode::ServerShuttingDown,
                "the gateway stops",
            ),
            Ending::Replaced => self.session.replies.goodbye(
                DisconnectReasonCode::SessionTakenOver,
                "a newer connection has taken over",
            ),
            Ending::Refused(fault) => {
                self.session
                    .replies
                    .goodbye(fault.reason.disconnect_code(), &fault.detail);
                self.note(fault);
            }
        }
    }

    /// From now on the session's expiry counts, or it is over. A session taken over goes on.
    async fn leave(&self, replaced: bool) -> Result<(), Fault> {
        let sessions = &self.shared.ports.sessions;
        let device = self.lease.device();
        if self.expiry_seconds > 0 && !replaced {
            let record = self.record(Some(wall_utc().get()));
            return durably(self.shared, sessions.save(device, record)).await;
        }
        if self.expiry_seconds == 0 && self.stored {
            return durably(self.shared, sessions.remove(device)).await;
        }
        Ok(())
    }

    /// Publish the will when its delay is over or the session ends, but not when the session is resumed before. A
    /// stop of the gateway says nothing about the device.
    async fn speak(mut self, will: Testament) {
        // The stream is closed for good while the will waits.
        drop(self.stream);
        if !will.delay.is_zero() {
            tokio::select! {
                biased;
                () = self.lease.replaced() => {
                    if !self.lease.replaced_by_clean_start() {
                        return;
                    }
                }
                () = stop(&mut self.stopping) => return,
                () = tokio::time::sleep(will.delay) => {}
            }
        }
        let sent = timeout(
            WILL_TIMEOUT,
            self.shared.ports.ingest.send(will.publication),
        )
        .await;
        if !matches!(sent, Ok(Ok(()))) {
            let fault = Fault::new(RefusalReason::WillDropped, "no room towards the journal");
            fault.report(
                Some(self.lease.device()),
                self.peer,
                &self.shared.ports.on_refusal,
            );
        }
    }
}

/// Say no to a client before it has a session.
pub(crate) async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    mut rejected: Rejected,
    peer: SocketAddr,
    shared: &Shared,
) {
    rejected
        .fault
        .report(rejected.device.as_ref(), peer, &shared.ports.on_refusal);
    let _ = timeout(LINGER_TIMEOUT, stream.write_all_buf(&mut rejected.reply)).await;
    linger(&mut stream).await;
}

/// Close our side, then read on for a moment: a reset would take the reason away from the client.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let drain = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        // On the heap: the connection's task should not be larger all its life for its last moment.
        let mut rest = vec![0; READ_CHUNK_BYTES];
        let mut drained = 0;
        while drained < LINGER_BYTES_MAX {
            match stream.read(&mut rest).await {
                Ok(0) | Err(_) => return,
                Ok(count) => drained += count,
            }
        }
    };
    let _ = timeout(LINGER_TIMEOUT, drain).await;
}
