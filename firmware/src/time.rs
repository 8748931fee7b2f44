//! Ties uptime to universal time.
//!
//! Three sources: the satellite receiver (with a valid fix), a clock chip, and the gateway when it is
//! asked. What is adopted becomes an anchor record; between anchors the gateway interpolates. A better
//! source replaces a worse one at once, else an anchor an hour bounds the drift and gives the pairs an
//! hour apart that interpolation wants.

use protocol::downlink::{TimeReply, TimeRequest};
use protocol::record::{Anchor, TimeSource};
use protocol::units::{Milliseconds, UptimeMs, UtcMs};

use crate::gnss::fix;
use crate::sense::plan::later;

/// Time between anchors of equal worth, in milliseconds: the shortest distance over which a rate may be
/// extrapolated, and 1.8 s of drift for the worst oscillator (500 ppm).
pub const ANCHOR_INTERVAL_MS: u64 = 3_600_000;

/// How much later than the interval a worse source is asked, in milliseconds: the better one may only be
/// in a tunnel.
pub const FALLBACK_AFTER_MS: u64 = ANCHOR_INTERVAL_MS + 600_000;

/// Time between requests while they stay unanswered, in milliseconds.
pub const REQUEST_AGAIN_MS: u64 = 300_000;

/// Largest error of a time from the receiver, in milliseconds: its sentences arrive within the second
/// after the moment they describe.
pub const GNSS_UNCERTAINTY_MS: i64 = 1_000;

/// Largest error of a clock chip just read, in milliseconds: it counts whole seconds, and it drifts a
/// second or two a day since it was set.
pub const CLOCK_CHIP_UNCERTAINTY_MS: i64 = 60_000;

/// Largest error of an answer that is still used, in milliseconds: a longer way round is no clock.
pub const ANSWER_UNCERTAINTY_MAX_MS: u64 = 60_000;

/// Decides which times become anchors.
#[derive(Clone, Debug)]
pub struct Timekeeper {
    build_time: UtcMs,
    anchor: Option<Anchor>,
    /// The request under way, and when it was sent.
    asked: Option<TimeRequest>,
}

impl Timekeeper {
    /// Nothing is known yet; times are judged by the firmware's build time.
    #[must_use]
    pub const fn new(build_time: UtcMs) -> Self {
        Self {
            build_time,
            anchor: None,
            asked: None,
        }
    }

    /// The last anchor.
    #[must_use]
    pub const fn anchor(&self) -> Option<Anchor> {
        self.anchor
    }

    /// What the receiver told; an anchor comes out when it is worth one.
    pub fn offer_gnss(&mut self, time: &fix::Time) -> Option<Anchor> {
        self.offer(Anchor {
            uptime: time.received,
            utc: time.utc,
            source: TimeSource::Gnss,
            uncertainty: Milliseconds::saturating(GNSS_UNCERTAINTY_MS),
            rollover_corrected: time.rollover_corrected,
        })
    }

    /// What the clock chip shows; an anchor comes out when it is plausible and worth one.
    pub fn offer_clock_chip(&mut self, utc: UtcMs, now: UptimeMs) -> Option<Anchor> {
        self.plausible(utc)?;
        self.offer(Anchor {
            uptime: now,
            utc,
            source: TimeSource::ClockChip,
            uncertainty: Milliseconds::saturating(CLOCK_CHIP_UNCERTAINTY_MS),
            rollover_corrected: false,
        })
    }

    /// The gateway's answer; an anchor comes out when it answers the request under way, soon enough.
    /// It is dated half way between question and answer, and half of that way is its error.
    pub fn answer(&mut self, reply: &TimeReply, now: UptimeMs) -> Option<Anchor> {
        let asked = self.asked.filter(|asked| asked.nonce == reply.nonce)?;
        self.asked = None;
        self.plausible(reply.utc)?;
        let half = now.get().saturating_sub(asked.uptime.get()) / 2;
        let uncertainty = u64::from(reply.uncertainty.get()).saturating_add(half);
        if uncertainty > ANSWER_UNCERTAINTY_MAX_MS {
            return None;
        }
        self.offer(Anchor {
            uptime: later(asked.uptime, half),
            utc: reply.utc,
            source: TimeSource::Gateway,
            uncertainty: Milliseconds::saturating(uncertainty.cast_signed()),
            rollover_corrected: false,
        })
    }

    /// When the gateway should be asked, if at all.
    #[must_use]
    pub fn ask_at(&self) -> UptimeMs {
        let wanted = match self.anchor {
            None => UptimeMs::saturating(0),
            Some(anchor) if anchor.source == TimeSource::ClockChip => UptimeMs::saturating(0),
            Some(anchor) => later(anchor.uptime, FALLBACK_AFTER_MS),
        };
        let again = |asked: TimeRequest| later(asked.uptime, REQUEST_AGAIN_MS);
        self.asked.map_or(wanted, |asked| wanted.max(again(asked)))
    }

    /// When the clock chip should be read again.
    #[must_use]
    pub fn wants_clock_chip(&self, now: UptimeMs) -> bool {
        self.anchor
            .is_none_or(|anchor| later(anchor.uptime, FALLBACK_AFTER_MS) <= now)
    }

    /// A new request; answers to earlier ones are no longer taken.
    pub const fn ask(&mut self, nonce: u64, now: UptimeMs) -> TimeRequest {
        let request = TimeRequest { nonce, uptime: now };
        self.asked = Some(request);
        request
    }

    /// The link is gone and any answer with it.
    pub const fn forget_request(&mut self) {
        self.asked = None;
    }

    fn offer(&mut self, anchor: Anchor) -> Option<Anchor> {
        let worth = self.anchor.is_none_or(|known| {
            let due = later(known.uptime, ANCHOR_INTERVAL_MS);
            rank(anchor.source) > rank(known.source) || anchor.uptime >= due
        });
        if !worth {
            return None;
        }
        self.anchor = Some(anchor);
        Some(anchor)
    }

    /// Times outside the window of the firmware's life are nonsense; only receivers have rollovers.
    fn plausible(&self, utc: UtcMs) -> Option<UtcMs> {
        match fix::unrolled(utc.get(), self.build_time)? {
            (utc, false) => Some(utc),
            (_, true) => None,
        }
    }
}

const fn rank(source: TimeSource) -> u8 {
    match source {
        TimeSource::ClockChip => 0,
        TimeSource::Gateway => 1,
        TimeSource::Gnss => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: i64 = 1_773_446_400_000;

    fn at(ms: i64) -> UptimeMs {
        UptimeMs::saturating(ms)
    }

    fn utc(ms: i64) -> UtcMs {
        UtcMs::saturating(BUILD + ms)
    }

    fn keeper() -> Timekeeper {
        Timekeeper::new(utc(0))
    }

    fn gnss(ms: i64) -> fix::Time {
        fix::Time {
            received: at(ms),
            utc: utc(ms),
            rollover_corrected: false,
        }
    }

    #[test]
    fn a_better_source_replaces_a_worse_one_and_an_equal_one_waits_an_hour() {
        let mut keeper = keeper();
        assert!(keeper.offer_clock_chip(utc(0), at(0)).is_some());
        assert!(keeper.offer_gnss(&gnss(1_000)).is_some());
        assert!(keeper.offer_gnss(&gnss(3_600_999)).is_none());
        assert!(keeper.offer_gnss(&gnss(3_601_000)).is_some());
        assert!(
            keeper
                .offer_clock_chip(utc(3_602_000), at(3_602_000))
                .is_none()
        );
    }

    #[test]
    fn an_answer_is_dated_half_way_and_carries_half_the_way_as_error() {
        let mut keeper = keeper();
        let request = keeper.ask(7, at(10_000));
        let reply = TimeReply {
            nonce: request.nonce,
            utc: utc(50_000),
            uncertainty: Milliseconds::saturating(20),
        };
        let anchor = keeper.answer(&reply, at(10_400)).unwrap();
        assert_eq!((anchor.uptime, anchor.utc), (at(10_200), utc(50_000)));
        assert_eq!(anchor.uncertainty.get(), 220);
        assert_eq!(keeper.answer(&reply, at(10_500)), None, "answered once");
    }

    #[test]
    fn a_foreign_late_or_absurd_answer_is_no_anchor() {
        let reply = |nonce, ms| TimeReply {
            nonce,
            utc: utc(ms),
            uncertainty: Milliseconds::saturating(0),
        };
        let mut keeper = keeper();
        keeper.ask(7, at(0));
        assert_eq!(keeper.answer(&reply(8, 0), at(1)), None);
        assert_eq!(keeper.answer(&reply(7, 0), at(120_002)), None);
        keeper.ask(9, at(130_000));
        assert_eq!(
            keeper.answer(&reply(9, -400 * 86_400_000), at(130_001)),
            None
        );
        assert_eq!(keeper.anchor(), None);
    }

    #[test]
    fn the_gateway_is_asked_at_once_then_every_five_minutes_and_not_while_the_receiver_tells() {
        let mut keeper = keeper();
        assert_eq!(keeper.ask_at(), at(0));
        keeper.ask(7, at(5_000));
        assert_eq!(keeper.ask_at(), at(305_000));
        keeper.offer_gnss(&gnss(6_000));
        assert_eq!(keeper.ask_at(), at(6_000 + 4_200_000));
        keeper.forget_request();
        assert_eq!(keeper.ask_at(), at(6_000 + 4_200_000));
    }
}
