//! Layout of the keys: one tree, one prefix per kind of row.
//!
//! ```text
//! j| commit u64, part u16                journal chunk
//! u| commit u64, part u16                copy of what of it is urgent
//! h| device 0 0 epoch u64 boot u32 seq u32   the records from this one on that share a row, or a tombstone
//! d| device 0 0 epoch u64 boot u32 first u32 a run of seen sequence numbers -> last u32
//! s| device 0 0 slot u32 part u16        fold state and checkpoints (a rebuildable cache)
//! e| shipment 0 0 event                  view
//! o| sink 0 0 seq u64                    outbox pointer
//! x| sink 0 0 event                      last revision the sink confirmed
//! p| number u64, then nothing or part u16    plan revision: head, or a part of its texts
//! q| 00 number u64, or 01 device         quarantine
//! q| 02 key                              a damaged row that was set aside
//! q| 03 key                              the key of a sound row that this version cannot read
//! a| name                                audit
//! c| client                              MQTT session
//! w| device                              desired settings
//! t| device                              temporary settings
//! i| device 0 0 field                    what is known of a device
//! k| device                              who may speak for a device
//! z| 00 shipment, or 01 device 0 0 shipment 0 0 part u16     seal: head, or what it covers of a tracker
//! m| name                                format version, counters, cursors
//! ```
//! Integers are big-endian, so that byte order is number order. Text parts that are followed by
//! something end in `00 00`, and a zero byte within one is written `00 FF`: no text is a prefix of
//! another's rows, and order stays that of the text.

use protocol::key::{Boot, DeviceId, Epoch, RecordKey, Seq};

/// Kind of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Journal,
    Urgent,
    History,
    Seen,
    Fold,
    View,
    Outbox,
    Sent,
    Quarantine,
    Audit,
    Session,
    Desired,
    Device,
    Identity,
    Revision,
    Slowed,
    Seal,
    Meta,
}

impl Kind {
    const fn letter(self) -> u8 {
        match self {
            Self::Journal => b'j',
            Self::Urgent => b'u',
            Self::History => b'h',
            Self::Seen => b'd',
            Self::Fold => b's',
            Self::View => b'e',
            Self::Outbox => b'o',
            Self::Sent => b'x',
            Self::Quarantine => b'q',
            Self::Audit => b'a',
            Self::Session => b'c',
            Self::Desired => b'w',
            Self::Device => b'i',
            Self::Identity => b'k',
            Self::Revision => b'p',
            Self::Slowed => b't',
            Self::Seal => b'z',
            Self::Meta => b'm',
        }
    }
}

/// A key under construction; derefs to its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Vec<u8>);

impl Key {
    /// The prefix of all rows of a kind.
    pub(super) fn of(kind: Kind) -> Self {
        Self(vec![kind.letter(), b'|'])
    }

    /// The prefix of all rows of all kinds.
    pub(super) const fn all() -> Self {
        Self(Vec::new())
    }

    /// A text with something behind it.
    pub(super) fn part(self, text: &str) -> Self {
        let mut key = self.tail(text);
        key.0.extend_from_slice(&[0, 0]);
        key
    }

    /// A text at the end of the key.
    pub(super) fn tail(mut self, text: &str) -> Self {
        for byte in text.bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xFF);
            }
        }
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// The end of a key that was read.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Where a damaged row is kept, under its own key.
    pub(super) fn set_aside(key: &[u8]) -> Self {
        let mut aside = Self::of(Kind::Quarantine).u8(2);
        aside.0.extend_from_slice(key);
        aside
    }

    /// The device's prefix among the rows of a kind.
    pub(super) fn device(kind: Kind, device: &DeviceId) -> Self {
        Self::of(kind).part(device.as_str())
    }

    /// The prefix of one boot of a device.
    pub(super) fn boot(kind: Kind, device: &DeviceId, epoch: Epoch, boot: Boot) -> Self {
        Self::device(kind, device).u64(epoch.0).u32(boot.0)
    }

    /// A record of a device.
    pub(super) fn record(device: &DeviceId, key: RecordKey) -> Self {
        Self::boot(Kind::History, device, key.epoch, key.boot).u32(key.seq.0)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The first key behind everything that starts with this one.
    pub(super) fn after_all(&self) -> Option<Vec<u8>> {
        let mut bytes = self.0.clone();
        while let Some(last) = bytes.pop() {
            if last < u8::MAX {
                bytes.push(last + 1);
                return Some(bytes);
            }
        }
        None
    }
}

/// The smallest key above `key`.
pub(super) fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

/// The text at the start of `bytes` up to its `00 00`, and what follows.
pub(super) fn split_part(bytes: &[u8]) -> Option<(String, &[u8])> {
    let mut text = Vec::new();
    let mut rest = bytes;
    loop {
        match rest {
            [0, 0, behind @ ..] => return Some((String::from_utf8(text).ok()?, behind)),
            [0, 0xFF, behind @ ..] => {
                text.push(0);
                rest = behind;
            }
            [byte, behind @ ..] => {
                text.push(*byte);
                rest = behind;
            }
            [] => return None,
        }
    }
}

/// The text that ends a key.
pub(super) fn tail_text(bytes: &[u8]) -> Option<String> {
    let mut closed = bytes.to_vec();
    closed.extend_from_slice(&[0, 0]);
    let (text, rest) = split_part(&closed)?;
    rest.is_empty().then_some(text)
}

/// Epoch, boot and a sequence number, as they end a key.
pub(super) fn split_record(bytes: &[u8]) -> Option<RecordKey> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let (epoch, rest) = bytes.split_first_chunk::<8>()?;
    let (boot, rest) = rest.split_first_chunk::<4>()?;
    let seq = rest.first_chunk::<4>()?;
    Some(RecordKey {
        epoch: Epoch(u64::from_be_bytes(*epoch)),
        boot: Boot(u32::from_be_bytes(*boot)),
        seq: Seq(u32::from_be_bytes(*seq)),
    })
}

/// Boot and sequence number, as they end a key of an epoch.
pub(super) fn split_in_epoch(epoch: Epoch, bytes: &[u8]) -> Option<RecordKey> {
    let bytes: &[u8; 8] = bytes.try_into().ok()?;
    let (boot, rest) = bytes.split_first_chunk::<4>()?;
    let seq = rest.first_chunk::<4>()?;
    Some(RecordKey {
        epoch,
        boot: Boot(u32::from_be_bytes(*boot)),
        seq: Seq(u32::from_be_bytes(*seq)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_keys_sort_as_their_bytes_and_come_back() {
        let device: DeviceId = "t-1".parse().unwrap();
        let keys = [
            RecordKey::new(1, 2, 300),
            RecordKey::new(1, 3, 0),
            RecordKey::new(0x0100, 0, 0),
            RecordKey::new(u64::MAX, u32::MAX, u32::MAX),
        ];
        let rows: Vec<Key> = keys.iter().map(|key| Key::record(&device, *key)).collect();
        assert!(rows.is_sorted());
        for (key, row) in keys.iter().zip(&rows) {
            let prefix = Key::device(Kind::History, &device);
            let rest = row.bytes().strip_prefix(prefix.bytes()).unwrap();
            assert_eq!(split_record(rest), Some(*key));
        }
    }

    #[test]
    fn no_text_part_is_a_prefix_of_another() {
        for (one, other) in [("a", "ab"), ("a", "a\0"), ("", "\0"), ("a\0", "a\0\0b")] {
            let one = Key::of(Kind::View).part(one);
            let other = Key::of(Kind::View).part(other).tail("x");
            assert!(!other.bytes().starts_with(one.bytes()), "{one:?} {other:?}");
        }
    }

    #[test]
    fn text_parts_come_back() {
        for text in ["", "SHP-1|2", "a\0b", "\0\0", "Röhre"] {
            let key = Key::of(Kind::View).part(text).tail("rest");
            let (back, rest) = split_part(&key.bytes()[2..]).unwrap();
            assert_eq!((back.as_str(), rest), (text, &b"rest"[..]));
            let tail = Key::of(Kind::Meta).tail(text);
            assert_eq!(tail_text(&tail.bytes()[2..]).as_deref(), Some(text));
        }
    }

    #[test]
    fn the_key_behind_a_prefix_excludes_all_of_it() {
        let prefix = Key::of(Kind::Journal).u16(0xFFFF);
        let after = prefix.after_all().unwrap();
        assert_eq!(after, vec![b'j', b'}']);
    }
}
