//! Recorded output of a satellite receiver, played through the firmware's GNSS port.

use std::time::Duration;

use firmware::gnss::field::{Date, TimeOfDay};
use firmware::gnss::nmea::{Parser, Sentence};
use firmware::port::LinkEvent;
use firmware::tracker::{Counters, Input, Tracker};
use protocol::downlink::Settings;
use protocol::key::DeviceId;
use protocol::units::{Seconds, UptimeMs, UtcMs};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::EventClock;
use crate::device::bare::BareBoard;
use crate::device::modem::{Wire, modem};
use crate::device::network::RadioNetwork;
use crate::device::{DEPOT_SETTINGS_VERSION, config, provision};

/// A jump of the recorded time beyond this is a cut in the recording, not a wait, in milliseconds.
const CUT_MS: i64 = 3_600_000;

/// A receiver that does not know the time yet still reports once a second.
const TIMELESS_EPOCH_MS: i64 = 1_000;

const DAY_MS: i64 = 86_400_000;

/// What a receiver said, line by line, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    lines: Vec<Line>,
    first_date: Option<UtcMs>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    at: UptimeMs,
    bytes: Vec<u8>,
}

/// How a recording is played.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Who the tracker is.
    pub device: DeviceId,
    /// Where the gateway listens, host:port.
    pub address: String,
    /// Times as fast as recorded, at least once.
    pub pace: u32,
    /// When the firmware was built.
    pub build_time: UtcMs,
    /// Sampling interval, moving or not.
    pub sample: Seconds,
    /// How long to wait, on the wall, for the last confirmation.
    pub patience: Duration,
}

/// What came of playing a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// Where the records went.
    pub counters: Counters,
    /// Whether the gateway was ever reached.
    pub connected: bool,
}

impl Recording {
    /// Cut a recording into lines and find out when each was said. Nothing is left out: noise and
    /// broken lines are played too.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut pacer = Pacer::default();
        let mut line = |bytes: &[u8]| Line {
            at: UptimeMs::saturating(pacer.listen(bytes)),
            bytes: bytes.to_vec(),
        };
        Self {
            lines: bytes
                .split_inclusive(|byte| *byte == b'\n')
                .map(&mut line)
                .collect(),
            first_date: pacer.first_date,
        }
    }

    /// Midnight of the first date that is told.
    #[must_use]
    pub const fn first_date(&self) -> Option<UtcMs> {
        self.first_date
    }

    /// From the first to the last line.
    #[must_use]
    pub fn length(&self) -> Duration {
        let last = self.lines.last().map_or(0, |line| line.at.get());
        Duration::from_millis(last)
    }
}

/// Follows the time that sentences tell.
#[derive(Debug, Default)]
struct Pacer {
    parser: Parser,
    now_ms: i64,
    told: Option<TimeOfDay>,
    first_date: Option<UtcMs>,
}

impl Pacer {
    /// Take a line; returns when it was said.
    fn listen(&mut self, bytes: &[u8]) -> i64 {
        for byte in bytes {
            match self.parser.push(*byte) {
                Some(Sentence::Fix(fix)) => self.tell(fix.time, None, false),
                Some(Sentence::Minimum(minimum)) => self.tell(minimum.time, minimum.date, true),
                Some(Sentence::Clock { time, date }) => self.tell(time, date, false),
                _ => {}
            }
        }
        self.now_ms
    }

    fn tell(&mut self, time: Option<TimeOfDay>, date: Option<Date>, once_an_epoch: bool) {
        let told = date.map(|date| UtcMs::saturating(date.utc_ms()));
        self.first_date = self.first_date.or(told);
        match (time, self.told) {
            (Some(time), Some(before)) => {
                let passed_ms = (time.ms() - before.ms()).rem_euclid(DAY_MS);
                self.now_ms += if passed_ms <= CUT_MS { passed_ms } else { 0 };
            }
            (None, _) if once_an_epoch => self.now_ms += TIMELESS_EPOCH_MS,
            _ => {}
        }
        self.told = time.or(self.told);
    }
}

/// Play a recording through a tracker that publishes to a gateway, and wait until it has published
/// everything or patience ends.
pub async fn play(recording: &Recording, replay: Replay) -> Played {
    // The sender stays alive to the end, so reception is never lost.
    let (_reception, there) = watch::channel(true);
    let network = RadioNetwork::new(replay.address.clone(), there);
    let (wire, modem) = modem(
        replay.device.clone(),
        network,
        replay.build_time.get().cast_unsigned(),
    );
    let player = Player::new(replay, wire);
    tokio::select! {
        never = modem.run() => never,
        played = player.run(recording) => played,
    }
}

struct Player {
    tracker: Tracker<BareBoard>,
    wire: Wire,
    clock: EventClock,
    now: UptimeMs,
    patience: Duration,
    connected: bool,
}

impl Player {
    fn new(replay: Replay, wire: Wire) -> Self {
        let now = UptimeMs::saturating(0);
        let seed = replay.build_time.get().cast_unsigned();
        let settings = Settings {
            version: DEPOT_SETTINGS_VERSION,
            sample_moving: replay.sample,
            sample_resting: replay.sample,
            ..Settings::DEFAULT
        };
        let config = config(replay.device, replay.build_time);
        let mut tracker = Tracker::new(config, BareBoard::new(seed), now);
        provision(&mut tracker, &settings, now);
        Self {
            tracker,
            wire,
            // Only differences count: the clock is used as uptime.
            clock: EventClock::starting_at(UtcMs::saturating(0), replay.pace),
            now,
            patience: replay.patience,
            connected: false,
        }
    }

    async fn run(mut self, recording: &Recording) -> Played {
        for line in &recording.lines {
            self.reach(line.at).await;
            self.tracker.handle(Input::GnssBytes(&line.bytes), self.now);
        }
        self.publish();
        self.tracker.handle(Input::Flush, self.now);
        // No more samples: what comes now would only repeat the last fix.
        self.tracker.handle(Input::Stop, self.now);
        self.drain().await;
        Played {
            counters: self.tracker.counters(),
            connected: self.connected,
        }
    }

    /// Let time pass until `at`, doing what the tracker wants done before.
    async fn reach(&mut self, at: UptimeMs) {
        while self.now < at {
            let next = self.tracker.next_deadline().clamp(self.now, at);
            self.wait(next).await;
            self.now = next;
            self.publish();
            if next < at && self.tracker.next_deadline() <= next {
                // Nothing more to do at this moment, so time goes on.
                self.now = UptimeMs::saturating(next.get().cast_signed() + 1);
            }
        }
    }

    async fn wait(&mut self, until: UptimeMs) {
        let until = UtcMs::saturating(until.get().cast_signed());
        while self.clock.now() < until {
            let wait = self.clock.wait_until(until);
            tokio::select! {
                event = self.wire.recv() => self.hear(&event),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn drain(&mut self) {
        let deadline = Instant::now() + self.patience;
        while self.tracker.counters().records.pending > 0 {
            self.publish();
            tokio::select! {
                event = self.wire.recv() => self.hear(&event),
                () = tokio::time::sleep_until(deadline) => return,
            }
        }
    }

    fn hear(&mut self, event: &LinkEvent) {
        self.connected |= matches!(event, LinkEvent::Up(_));
        self.tracker.handle(Input::Link(event), self.now);
        self.publish();
    }

    fn publish(&mut self) {
        while let Some(message) = self.tracker.poll(self.now) {
            self.wire.send(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCHS: &str = "# a comment\n\
        $GPRMC,235959.00,A,4808.9978,N,01135.0800,E,000.0,000.0,060419,003.0,E,A*0A\r\n\
        noise\n\
        $GPGGA,000001.50,4808.9978,N,01135.0800,E,1,08,1.0,500.0,M,,M,,*57\r\n";

    fn checked(text: &str) -> String {
        let line = |line: &str| match line.strip_prefix('$').and_then(|l| l.split_once('*')) {
            Some((body, _)) => {
                let sum = body.bytes().fold(0_u8, |sum, byte| sum ^ byte);
                format!("${body}*{sum:02X}\r\n")
            }
            None => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn lines_are_said_when_their_sentences_say_across_midnight() {
        let recording = Recording::new(checked(EPOCHS).as_bytes());
        let times: Vec<u64> = recording.lines.iter().map(|line| line.at.get()).collect();
        assert_eq!(times, [0, 0, 0, 2_500]);
        let date = Date::new(2019, 4, 6).unwrap().utc_ms();
        assert_eq!(recording.first_date().map(UtcMs::get), Some(date));
    }

    #[test]
    fn nothing_of_a_recording_is_left_out() {
        let text = checked(EPOCHS);
        let recording = Recording::new(text.as_bytes());
        let played: Vec<u8> = recording
            .lines
            .iter()
            .flat_map(|line| line.bytes.clone())
            .collect();
        assert_eq!(played, text.as_bytes());
    }

    #[test]
    fn a_receiver_that_does_not_know_the_time_is_played_once_a_second() {
        let epoch = checked("$GPRMC,,V,,,,,,,,,,N*00\n$GPGGA,,,,,,0,,,,,,,,*00\n");
        let recording = Recording::new(epoch.repeat(3).as_bytes());
        assert_eq!(recording.length(), Duration::from_secs(3));
        assert_eq!(recording.first_date(), None);
    }
}
