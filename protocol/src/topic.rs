//! Topics, in one place: `sc/1/<device>/<channel>`.

use core::fmt;

use crate::key::{DEVICE_ID_MAX_BYTES, DeviceId};

/// What all topics of this wire version start with.
pub const PREFIX: &str = "sc/1/";

/// Longest topic, in bytes.
pub const TOPIC_MAX_BYTES: usize = PREFIX.len() + DEVICE_ID_MAX_BYTES + 1 + "time_request".len();

/// The last level of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Up: routine batches.
    Readings,
    /// Up: batches with alarms.
    Alarms,
    /// Up: birth, goodbye, last will.
    Status,
    /// Up: settings accepted or refused.
    Ack,
    /// Up: what is the time?
    TimeRequest,
    /// Down: settings.
    Settings,
    /// Down: the time.
    Time,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 7] = [
        Self::Readings,
        Self::Alarms,
        Self::Status,
        Self::Ack,
        Self::TimeRequest,
        Self::Settings,
        Self::Time,
    ];

    /// The level as it stands in the topic.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Alarms => "alarms",
            Self::Status => "status",
            Self::Ack => "ack",
            Self::TimeRequest => "time_request",
            Self::Settings => "settings",
            Self::Time => "time",
        }
    }

    /// Whether devices publish here (else the gateway does).
    #[must_use]
    pub const fn is_up(self) -> bool {
        !matches!(self, Self::Settings | Self::Time)
    }
}

/// A topic of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Whose.
    pub device: DeviceId,
    /// What.
    pub channel: Channel,
}

/// Why a topic is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// Does not start with [`PREFIX`].
    Prefix,
    /// The device level is no device id.
    Device,
    /// The last level is unknown.
    Channel,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "topic does not start with sc/1/",
            Self::Device => "topic's device level is no device id (1 to 64 of A-Z a-z 0-9 _ -)",
            Self::Channel => {
                "topic's last level is none of readings alarms status ack time_request settings time"
            }
        })
    }
}

impl core::error::Error for TopicError {}

impl Topic {
    /// The topic of a device's channel.
    #[must_use]
    pub const fn new(device: DeviceId, channel: Channel) -> Self {
        Self { device, channel }
    }

    /// Parse a topic name.
    ///
    /// # Errors
    /// When it is not one of ours, and which level is wrong.
    pub fn parse(name: &str) -> Result<Self, TopicError> {
        let rest = name.strip_prefix(PREFIX).ok_or(TopicError::Prefix)?;
        let (device, level) = rest.split_once('/').ok_or(TopicError::Channel)?;
        let device = device.parse().map_err(|_| TopicError::Device)?;
        let channel = Channel::ALL
            .into_iter()
            .find(|channel| channel.as_str() == level);
        Ok(Self {
            device,
            channel: channel.ok_or(TopicError::Channel)?,
        })
    }

    /// The topic as text, without an allocator.
    #[must_use]
    pub fn name(&self) -> heapless::String<TOPIC_MAX_BYTES> {
        let mut name = heapless::String::new();
        for part in [PREFIX, self.device.as_str(), "/", self.channel.as_str()] {
            // Cannot fail: TOPIC_MAX_BYTES is the sum of the longest parts.
            let _ = name.push_str(part);
        }
        name
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.device, self.channel.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_parses_back() {
        let device: DeviceId = "t-1".parse().unwrap();
        for channel in Channel::ALL {
            let topic = Topic::new(device.clone(), channel);
            assert_eq!(Topic::parse(&topic.name()), Ok(topic));
        }
    }

    #[test]
    fn a_foreign_topic_says_which_level_is_wrong() {
        assert_eq!(
            Topic::parse("sensors/1/a/readings"),
            Err(TopicError::Prefix)
        );
        assert_eq!(Topic::parse("sc/1/a b/readings"), Err(TopicError::Device));
        assert_eq!(Topic::parse("sc/1/a/readings/x"), Err(TopicError::Channel));
        assert_eq!(Topic::parse("sc/1/a"), Err(TopicError::Channel));
    }
}
