//! What goes down to a device: settings as desired state, and the time by request and reply.
//!
//! Both are sent with `QoS` 0. Settings are repeated (on subscribing, on change, and at an interval) until the
//! device has reported them; an old time is worse than none, so a reply is never queued.

use protocol::downlink::{TimeReply, TimeRequest};
use protocol::key::DeviceId;
use protocol::units::{Milliseconds, UtcMs};

use super::refusal::{Fault, RefusalReason};

/// Knows which settings a device should have and does not have yet.
pub trait DesiredSettings: Send + Sync {
    /// The encoded settings to send to `device`, or `None` when nothing is wanted of it or it has answered
    /// what is. It is asked again at every occasion to send and must not block.
    ///
    /// # Errors
    /// When they cannot be read. The connection goes on, because readings matter more; this is counted.
    fn unreported(&self, device: &DeviceId) -> Result<Option<Vec<u8>>, DesiredError>;
}

/// The settings wanted of a device cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wanted settings not read, none are sent: {cause}")]
pub struct DesiredError {
    /// Why.
    pub cause: String,
}

impl<F> DesiredSettings for F
where
    F: Fn(&DeviceId) -> Result<Option<Vec<u8>>, DesiredError> + Send + Sync,
{
    fn unreported(&self, device: &DeviceId) -> Result<Option<Vec<u8>>, DesiredError> {
        self(device)
    }
}

/// The encoded answer to an encoded time request, at `utc`.
pub(crate) fn time_reply(
    request: &[u8],
    utc: UtcMs,
    uncertainty: Milliseconds,
) -> Result<Vec<u8>, Fault> {
    let refused = |detail: String| Fault::new(RefusalReason::TimeRequest, detail);
    let request = TimeRequest::decode(request).map_err(|error| refused(error.to_string()))?;
    let reply = TimeReply {
        nonce: request.nonce,
        utc,
        uncertainty,
    };
    let mut payload = vec![0; TimeReply::MAX_BYTES];
    let length = reply
        .encode(&mut payload)
        .map_err(|error| refused(error.to_string()))?;
    payload.truncate(length);
    Ok(payload)
}
