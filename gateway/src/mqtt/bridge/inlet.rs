//! Which messages of a broker come in: those on our topics, small enough to be stored, of trackers that the
//! broker may speak for.

use protocol::key::DeviceId;
use protocol::topic::{Channel, PREFIX, Topic};

use super::link::Message;
use crate::account::Reason;
use crate::config::Vouched;
use crate::mqtt::guard::Guard;
use crate::mqtt::refusal::quote;
use crate::store::StoreError;

/// Largest payload that is stored, in bytes: the largest that `mqtt.packet_max` allows at the endpoint.
pub(super) const PAYLOAD_MAX_BYTES: usize = 60 * 1024;

/// Channels that are subscribed to. A time request would have to be answered through the broker.
const CHANNELS: [Channel; 4] = [
    Channel::Readings,
    Channel::Alarms,
    Channel::Status,
    Channel::Ack,
];

/// A message that is not taken. It is acknowledged all the same, or it would come for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// For the counter.
    pub reason: Reason,
    /// Whose, as far as known.
    pub device: Option<DeviceId>,
    /// On which topic; cut to a bounded length.
    pub topic: String,
    /// What exactly.
    pub detail: String,
}

/// The subscriptions, behind `prefix`.
pub(super) fn filters(prefix: &str) -> Vec<String> {
    let filter = |channel: &Channel| format!("{prefix}{PREFIX}+/{}", channel.as_str());
    CHANNELS.iter().map(filter).collect()
}

/// The topic of a message that comes in.
///
/// # Errors
/// When the store cannot say whether the device is registered; then nothing is acknowledged.
pub(super) fn judge(
    prefix: &str,
    guard: &Guard,
    vouched: Vouched,
    message: &Message,
) -> Result<Result<Topic, Box<Refused>>, StoreError> {
    let topic = match topic(prefix, message) {
        Ok(topic) => topic,
        Err(refused) => return Ok(Err(refused)),
    };
    Ok(match guard.doubt_broker(&topic.device, vouched)? {
        None => Ok(topic),
        Some(why) => Err(Box::new(Refused {
            device: Some(topic.device),
            ..refused(Reason::BrokerDevice, message, why)
        })),
    })
}

fn topic(prefix: &str, message: &Message) -> Result<Topic, Box<Refused>> {
    let foreign = |detail: &str| Box::new(refused(Reason::BrokerTopic, message, detail));
    let own = message.topic.strip_prefix(prefix);
    let own = own.ok_or_else(|| foreign("the topic does not begin with the prefix"))?;
    let topic = Topic::parse(own).map_err(|error| foreign(&error.to_string()))?;
    if !CHANNELS.contains(&topic.channel) {
        return Err(foreign("nothing on this topic is taken from a broker"));
    }
    if message.payload.len() > PAYLOAD_MAX_BYTES {
        let bytes = message.payload.len();
        let detail =
            format!("the payload has {bytes} bytes, at most {PAYLOAD_MAX_BYTES} are taken");
        return Err(Box::new(Refused {
            device: Some(topic.device),
            ..refused(Reason::BrokerPayload, message, &detail)
        }));
    }
    Ok(topic)
}

fn refused(reason: Reason, message: &Message, detail: &str) -> Refused {
    Refused {
        reason,
        device: None,
        topic: quote(&message.topic),
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::guard::Strangers;
    use crate::pki::digest::Digest;
    use crate::store::identity::{self, Identity, Proof};
    use crate::store::{Batch, memory};

    fn message(topic: &str, bytes: usize) -> Message {
        Message {
            topic: topic.to_owned(),
            payload: vec![0; bytes],
            packet_id: Some(1),
        }
    }

    /// A guard that knows two devices, one of them revoked.
    fn guard() -> Guard {
        let store = memory::store();
        let mut batch = Batch::default();
        for (name, revoked_at_ms) in [("known", None), ("revoked", Some(2))] {
            let identity = Identity {
                proof: Proof::Secret {
                    digest: Digest::of(b"secret"),
                },
                added_at_ms: 1,
                revoked_at_ms,
            };
            identity::put(&mut batch, &name.parse().unwrap(), &identity).unwrap();
        }
        store.apply(batch).unwrap();
        Guard::new(store, Strangers::Nobody)
    }

    fn reason(prefix: &str, vouched: Vouched, message: &Message) -> Option<Reason> {
        let judged = judge(prefix, &guard(), vouched, message).unwrap();
        judged.err().map(|refused| refused.reason)
    }

    #[test]
    fn only_what_trackers_say_on_our_topics_behind_the_prefix_comes_in() {
        let of = |prefix, topic| reason(prefix, Vouched::Unregistered, &message(topic, 3));
        assert_eq!(of("", "sc/1/t-1/readings"), None);
        assert_eq!(of("yard/", "yard/sc/1/t-1/alarms"), None);
        let foreign = Some(Reason::BrokerTopic);
        assert_eq!(of("yard/", "sc/1/t-1/readings"), foreign);
        assert_eq!(of("", "sc/1/t 1/readings"), foreign);
        assert_eq!(of("", "sc/1/t-1/settings"), foreign);
        assert_eq!(of("", "sc/1/t-1/time_request"), foreign);
        let large = message("sc/1/t-1/readings", PAYLOAD_MAX_BYTES + 1);
        let judged = reason("", Vouched::Unregistered, &large);
        assert_eq!(judged, Some(Reason::BrokerPayload));
    }

    #[test]
    fn a_broker_speaks_for_registered_devices_only_if_told_so_and_never_for_revoked_ones() {
        let of = |vouched, device| {
            let topic = format!("sc/1/{device}/readings");
            reason("", vouched, &message(&topic, 3)).is_none()
        };
        let admitted = |vouched| ["stranger", "known", "revoked"].map(|device| of(vouched, device));
        assert_eq!(admitted(Vouched::Unregistered), [true, false, false]);
        assert_eq!(admitted(Vouched::All), [true, true, false]);
    }

    #[test]
    fn every_channel_of_a_device_but_the_time_request_is_subscribed_to() {
        let filters = filters("yard/");
        assert_eq!(filters.len(), 4);
        for channel in Channel::ALL.into_iter().filter(|channel| channel.is_up()) {
            let topic = format!("yard/sc/1/+/{}", channel.as_str());
            let wanted = channel != Channel::TimeRequest;
            assert_eq!(filters.contains(&topic), wanted, "{topic}");
        }
    }
}
