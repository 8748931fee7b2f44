//! Bytes to frames: one fixed header and the body it promises, refused by size before the body is buffered.

use bytes::BytesMut;

use super::limit::READ_CHUNK_BYTES;
use super::refusal::{Fault, RefusalReason};

/// Most bytes of a remaining length (MQTT 5, 1.5.5; 3.1.1, 2.2.3).
const LENGTH_BYTES_MAX: usize = 4;

/// One packet as it came, not yet looked into.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Packet type and flags.
    pub(crate) first: u8,
    bytes: BytesMut,
    header_bytes: usize,
}

impl Frame {
    /// Everything behind the remaining length.
    pub(crate) fn body(&self) -> &[u8] {
        self.bytes.get(self.header_bytes..).unwrap_or_default()
    }

    /// Size with the fixed header, in bytes.
    pub(crate) fn total_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Received bytes that are not yet a whole frame.
///
/// Holds at most one frame of the allowed size and what one read brought behind it.
#[derive(Debug)]
pub(crate) struct Frames {
    received: BytesMut,
    frame_bytes_max: usize,
}

impl Frames {
    pub(crate) fn new(frame_bytes_max: u32) -> Self {
        let mut frames = Self {
            received: BytesMut::new(),
            frame_bytes_max: 0,
        };
        frames.allow(frame_bytes_max);
        frames
    }

    /// From now on frames may be this large.
    pub(crate) fn allow(&mut self, frame_bytes_max: u32) {
        self.frame_bytes_max = usize::try_from(frame_bytes_max).unwrap_or(usize::MAX);
    }

    /// Room to read into: never more than one chunk, whatever length a header promises.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        self.received.reserve(READ_CHUNK_BYTES);
        &mut self.received
    }

    /// First byte received and not yet taken, if any.
    pub(crate) fn first_byte(&self) -> Option<u8> {
        self.received.first().copied()
    }

    /// The next whole frame, or `None` until more bytes have come.
    ///
    /// # Errors
    /// When the header is malformed, or promises more than allowed: then nothing of it is waited for.
    pub(crate) fn take(&mut self) -> Result<Option<Frame>, Fault> {
        let Some((first, header_bytes, body_bytes)) = self.header()? else {
            return Ok(None);
        };
        let total = header_bytes + body_bytes;
        if total > self.frame_bytes_max {
            return Err(self.too_large(total));
        }
        if self.received.len() < total {
            return Ok(None);
        }
        let bytes = self.received.split_to(total);
        Ok(Some(Frame {
            first,
            bytes,
            header_bytes,
        }))
    }

    /// First byte, bytes of the fixed header, and bytes it promises.
    fn header(&self) -> Result<Option<(u8, usize, usize)>, Fault> {
        let Some((&first, length)) = self.received.split_first() else {
            return Ok(None);
        };
        if first >> 4 == 0 {
            return Err(Fault::malformed("packet type 0 is reserved"));
        }
        let mut body_bytes = 0;
        for (index, byte) in length.iter().take(LENGTH_BYTES_MAX).enumerate() {
            body_bytes |= usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(Some((first, index + 2, body_bytes)));
            }
        }
        if length.len() < LENGTH_BYTES_MAX {
            return Ok(None);
        }
        Err(Fault::malformed("remaining length is longer than 4 bytes"))
    }

    fn too_large(&self, total: usize) -> Fault {
        let detail = format!(
            "packet of {total} bytes, at most {} are allowed",
            self.frame_bytes_max
        );
        Fault::new(RefusalReason::PacketTooLarge, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Frames {
        let mut frames = Frames::new(64);
        frames.room().extend_from_slice(bytes);
        frames
    }

    #[test]
    fn a_frame_is_the_same_however_its_bytes_are_split() {
        let bytes = [0x32, 3, 7, 8, 9, 0xc0, 0];
        for split in 0..=bytes.len() {
            let mut frames = Frames::new(64);
            let mut bodies = Vec::new();
            for part in [&bytes[..split], &bytes[split..]] {
                frames.room().extend_from_slice(part);
                while let Some(frame) = frames.take().unwrap() {
                    bodies.push((frame.first, frame.body().to_vec()));
                }
            }
            assert_eq!(
                bodies,
                [(0x32, vec![7, 8, 9]), (0xc0, vec![])],
                "split at {split}"
            );
        }
    }

    #[test]
    fn an_oversize_frame_is_refused_by_its_header_alone() {
        let fault = frames(&[0x30, 0xff, 0xff, 0xff, 0x7f]).take().unwrap_err();
        assert_eq!(fault.reason, RefusalReason::PacketTooLarge);
        assert_eq!(
            frames(&[0x30, 63]).take().unwrap_err().reason,
            RefusalReason::PacketTooLarge
        );
        assert!(
            frames(&[0x30, 62]).take().unwrap().is_none(),
            "64 bytes in all are allowed"
        );
    }

    #[test]
    fn a_promised_length_allocates_nothing() {
        let mut frames = Frames::new(u32::MAX);
        frames
            .room()
            .extend_from_slice(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
        assert!(frames.take().unwrap().is_none());
        frames.room();
        assert!(frames.received.capacity() <= 4 * READ_CHUNK_BYTES);
    }

    #[test]
    fn a_header_that_can_not_become_one_is_refused_at_once() {
        assert_eq!(
            frames(&[0x00]).take().unwrap_err().reason,
            RefusalReason::Malformed
        );
        let endless = [0x30, 0x80, 0x80, 0x80, 0x80];
        assert_eq!(
            frames(&endless).take().unwrap_err().reason,
            RefusalReason::Malformed
        );
        assert!(frames(&endless[..4]).take().unwrap().is_none());
    }
}
