//! What sled would throw away when it opens its log, kept until it is known that nothing promised was in it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::super::sled::SEGMENT_BYTES;
use super::{CAP, SEGMENT_HEADER_BYTES, find, message, read_around};

/// Name of the file that keeps what sled is about to throw away.
pub(super) const TORN: &str = "torn";

/// Looks at the log before sled opens it, because sled loses what it does not understand: a segment with
/// a damaged header counts as never written, and everything behind a damaged message as a torn end, and is
/// overwritten. A damaged header is refused. Sound messages behind a damaged one are kept in a file beside
/// the log: only when something promised turns out to be missing were they more than a torn end.
pub(in crate::store) fn before_opening(folder: &Path) -> io::Result<()> {
    let mut log = match File::open(folder.join("db")) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let behind = snapshot_lsn(folder)?;
    let mut segments = segments(&mut log)?;
    segments.retain(|segment| segment.lsn + SEGMENT_BYTES as u64 > behind);
    let torn = segments.iter().position(|segment| {
        let bytes = read_around(&mut log, segment.base, segment.bytes);
        sound_bytes(&bytes) < bytes.len()
    });
    let Some(torn) = torn else {
        return Ok(());
    };
    let mut found = Vec::new();
    for segment in &segments[torn..] {
        let mut bytes = read_around(&mut log, segment.base, segment.bytes);
        let sound = if segment.base == segments[torn].base {
            sound_bytes(&bytes)
        } else {
            0
        };
        bytes[..sound].fill(0);
        find(&bytes, segment.base, &mut found);
    }
    if found.is_empty() {
        return Ok(());
    }
    let mut kept = File::create(folder.join(TORN))?;
    for segment in &segments[torn..] {
        kept.seek(SeekFrom::Start(segment.base))?;
        kept.write_all(&read_around(&mut log, segment.base, segment.bytes))?;
    }
    kept.sync_all()
}

/// Nothing that was promised is missing: what was kept was a torn end.
pub(in crate::store) fn after_opening(folder: &Path) {
    // Most often there is none; one that stays is overwritten by the next.
    let _ = std::fs::remove_file(folder.join(TORN));
}

struct Segment {
    lsn: u64,
    base: u64,
    bytes: usize,
}

/// The segments that were written, in their order.
fn segments(log: &mut File) -> io::Result<Vec<Segment>> {
    let bytes = log.metadata()?.len();
    let mut segments = Vec::new();
    for base in (0..bytes).step_by(SEGMENT_BYTES) {
        let mut header = [0; SEGMENT_HEADER_BYTES];
        if bytes - base < header.len() as u64 {
            break;
        }
        log.seek(SeekFrom::Start(base))?;
        log.read_exact(&mut header)?;
        let (checksum, rest) = header.split_at(4);
        if header == [0; SEGMENT_HEADER_BYTES] {
            continue;
        }
        if checksum != (crc32fast::hash(rest) ^ u32::MAX).to_le_bytes() {
            let fault = format!("the header of the segment at byte {base} fails its checksum");
            return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
        }
        let lsn = rest
            .first_chunk::<8>()
            .map_or(0, |lsn| u64::from_le_bytes(*lsn));
        segments.push(Segment {
            lsn: lsn ^ (u64::MAX >> 1),
            base,
            bytes: usize::try_from(bytes - base)
                .map_or(SEGMENT_BYTES, |left| left.min(SEGMENT_BYTES)),
        });
    }
    segments.sort_by_key(|segment| segment.lsn);
    Ok(segments)
}

/// Up to where sled's newest snapshot knows the log; it is in the snapshot's name.
fn snapshot_lsn(folder: &Path) -> io::Result<u64> {
    let mut newest = 0;
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let lsn = name.to_str().and_then(|name| name.strip_prefix("snap."));
        let lsn = lsn.and_then(|lsn| u64::from_str_radix(lsn, 16).ok());
        newest = newest.max(lsn.unwrap_or_default());
    }
    Ok(newest)
}

/// How far the messages of a segment follow each other without damage; all of it when it was sealed.
fn sound_bytes(segment: &[u8]) -> usize {
    let mut at = SEGMENT_HEADER_BYTES;
    while let Some((head, message)) = segment.get(at..).and_then(message) {
        at += head + message.bytes;
        if message.kind == CAP {
            return segment.len();
        }
    }
    at
}
