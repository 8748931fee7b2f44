//! How the protocol's values are written: in events times as milliseconds and keys as text, in the state of
//! a tracker both as bare numbers.

/// `UtcMs` as an integer of milliseconds since 1970.
pub(crate) mod utc {
    use protocol::units::UtcMs;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &UtcMs, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_i64(time.get())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<UtcMs, D::Error> {
        parse(i64::deserialize(d)?)
    }

    pub(super) fn parse<E: serde::de::Error>(raw: i64) -> Result<UtcMs, E> {
        UtcMs::new(raw).ok_or_else(|| E::custom(format!("{raw} ms is outside years 0001 to 9999")))
    }
}

/// `Option<UtcMs>` likewise.
pub(crate) mod utc_option {
    use protocol::units::UtcMs;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Option<UtcMs>, s: S) -> Result<S::Ok, S::Error> {
        time.map(UtcMs::get).serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<UtcMs>, D::Error> {
        Option::<i64>::deserialize(d)?
            .map(super::utc::parse)
            .transpose()
    }
}

/// A device id as text.
pub(crate) mod device {
    use protocol::key::DeviceId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(device: &DeviceId, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(device.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<DeviceId, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A record key as `<epoch, 16 hex digits>/<boot>/<seq>`, the way it is displayed.
pub(crate) mod key {
    use protocol::key::RecordKey;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(key: &RecordKey, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(key)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<RecordKey, D::Error> {
        let text = String::deserialize(d)?;
        parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no record key")))
    }

    fn parse(text: &str) -> Option<RecordKey> {
        let mut parts = text.split('/');
        let epoch = u64::from_str_radix(parts.next()?, 16).ok()?;
        let boot = parts.next()?.parse().ok()?;
        let seq = parts.next()?.parse().ok()?;
        parts
            .next()
            .is_none()
            .then(|| RecordKey::new(epoch, boot, seq))
    }
}

/// A record key as its three numbers, where nobody reads it.
pub(crate) mod numbers {
    use protocol::key::RecordKey;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(key: &RecordKey, s: S) -> Result<S::Ok, S::Error> {
        (key.epoch.0, key.boot.0, key.seq.0).serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<RecordKey, D::Error> {
        let (epoch, boot, seq) = Deserialize::deserialize(d)?;
        Ok(RecordKey::new(epoch, boot, seq))
    }
}
