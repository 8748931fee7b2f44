//! One reading, asserted at every hop: device, MQTT, journal, event, sink.

use anyhow::{Context, Result, ensure};
use firmware::port::{
    ClockChip, ConnectionId, Entropy, Flash, FlashError, FlashOperation, LinkEvent, Message, Page,
    Sample, Sensors,
};
use firmware::tracker::{Config, Input, Tracker};
use protocol::batch::Batch;
use protocol::reading::{Measured, Reading};
use protocol::record::{Record, ResetCause};
use protocol::topic::Channel;
use protocol::units::{CentiCelsius, UptimeMs, UtcMs};
use serde_json::Value;
use tests::depot::{Depot, Shown, fleet_plan};
use tests::ledger::Name;
use tests::mqtt::{Client, Incoming, Login, Version};
use tests::peer::wait_for;

const DEVICE: &str = "hop-1";

/// 12.34 degrees, where 8 are allowed.
const CENTI_CELSIUS: i64 = 1_234;

/// 2026-03-02T06:00:00Z, what the clock chip says at boot.
const BOOT_UTC_MS: i64 = 1_772_431_200_000;

/// 2026-02-01T00:00:00Z.
const BUILD_UTC_MS: i64 = 1_769_904_000_000;

/// Long enough for a batch to fill and for the limit of 5 minutes to pass.
const JOURNEY_MS: i64 = 40 * 60 * 1_000;

/// A board with one warm probe, a clock chip and memory for flash.
#[derive(Default)]
struct Board(std::collections::BTreeMap<Page, Vec<u8>>);

impl Sensors for Board {
    fn sample(&mut self, _: UptimeMs) -> Sample {
        let mut sample = Sample::NOTHING_FITTED;
        sample.temperatures[0] = Measured::Value(CentiCelsius::saturating(CENTI_CELSIUS));
        sample
    }
}

impl Flash for Board {
    fn read(&mut self, page: Page, buffer: &mut [u8]) -> Result<(), FlashError> {
        let written = self.0.get(&page).cloned().unwrap_or_default();
        buffer.fill(0xff);
        for (to, from) in buffer.iter_mut().zip(written) {
            *to = from;
        }
        Ok(())
    }

    fn erase(&mut self, page: Page) -> Result<(), FlashError> {
        self.0.remove(&page);
        Ok(())
    }

    fn write(&mut self, page: Page, bytes: &[u8]) -> Result<(), FlashError> {
        let operation = FlashOperation::Write;
        match self.0.insert(page, bytes.to_vec()) {
            None => Ok(()),
            Some(_) => Err(FlashError { page, operation }),
        }
    }
}

impl Entropy for Board {
    fn random(&mut self) -> u64 {
        0x0123_4567_89ab_cdef
    }
}

impl ClockChip for Board {
    fn utc(&mut self) -> Option<UtcMs> {
        UtcMs::new(BOOT_UTC_MS)
    }
}

/// The tracker and its connection, its messages carried by a client of the test.
struct Journey {
    tracker: Tracker<Board>,
    client: Client,
    first: Option<(Name, Reading)>,
    packet_id: u16,
}

#[test]
fn one_reading_is_the_same_at_every_hop() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let plan = fleet_plan(&[DEVICE.to_owned()]);
    let mut depot = Depot::create(folder.path(), &data, &plan, "").unwrap();
    depot.start().unwrap();

    // Device and MQTT: sampled by the tracker, published, acknowledged.
    let (name, reading) = drive(&depot).unwrap();
    let celsius = reading.temperatures[0].value().map(CentiCelsius::celsius);
    assert_eq!(celsius, Some(12.34));

    // Journal: stored under its key, with its content.
    let stored = depot.records().unwrap();
    assert_eq!(
        stored.get(&name),
        Some(&Shown::of(&Record::Reading(reading)))
    );

    // Event: the reading is where the excursion began.
    let event = wait_for("the excursion", || excursion(depot.export("events")?)).unwrap();
    let began = format!("{} {}", name.device, name.key);
    let evidence = event["evidence"].as_str().unwrap();
    assert!(evidence.contains(&began), "{evidence} without {began}");
    assert_eq!(event["shipment"], format!("S-{DEVICE}"));
    let occurred = "2026-03-02T07:00:0";
    assert!(
        event["occurred_at"].as_str().unwrap().starts_with(occurred),
        "{event}"
    );
    assert_eq!(event["max_c"], 12.34);

    // Sink: the same event, the same evidence.
    let delivered = depot.drained().unwrap();
    let same = |told: &&Value| {
        let data = &told["data"];
        data["event_id"] == event["event_id"] && data["rev"] == event["rev"]
    };
    let told = delivered.iter().find(same).unwrap();
    assert_eq!(told["subject"], event["shipment"]);
    let cited = told["data"]["evidence"].to_string();
    assert!(cited.contains(&name.key.to_string()), "{cited}");
    assert!(depot.stop().unwrap().success());
}

fn excursion(rows: Vec<Value>) -> Result<Option<Value>> {
    Ok(rows.into_iter().find(|row| row["code"] == "EX_TEMPERATURE"))
}

/// Let the tracker live through its journey; its first reading.
fn drive(depot: &Depot) -> Result<(Name, Reading)> {
    let login = Login {
        client_id: DEVICE,
        version: Version::V5,
        clean: true,
        credentials: None,
    };
    let start = UptimeMs::saturating(0);
    let mut journey = Journey {
        tracker: Tracker::new(config()?, Board::default(), start),
        client: Client::connect(depot.mqtt, &login)?,
        first: None,
        packet_id: 0,
    };
    let up = LinkEvent::Up(ConnectionId(1));
    journey.tracker.handle(Input::Link(&up), start);
    let mut now = start;
    while i64::try_from(now.get())? < JOURNEY_MS {
        journey.speak(now)?;
        now = journey.tracker.next_deadline().max(now);
    }
    journey.tracker.handle(Input::Flush, now);
    journey.speak(now)?;
    journey.client.disconnect()?;
    journey.first.context("the tracker published no reading")
}

impl Journey {
    /// Carry every message that is due, and its confirmation.
    fn speak(&mut self, now: UptimeMs) -> Result<()> {
        while let Some(message) = self.tracker.poll(now) {
            self.note(&message)?;
            self.packet_id += 1;
            let topic = format!("sc/1/{DEVICE}/{}", message.channel.as_str());
            self.client
                .publish(&topic, self.packet_id, &message.payload)?;
            self.confirm()?;
            let confirmed = LinkEvent::Confirmed(message.token);
            self.tracker.handle(Input::Link(&confirmed), now);
        }
        Ok(())
    }

    fn note(&mut self, message: &Message) -> Result<()> {
        if !matches!(message.channel, Channel::Readings | Channel::Alarms) {
            return Ok(());
        }
        let batch = Batch::decode(&message.payload).context("the tracker's batch")?;
        for entry in batch.iter() {
            if let (None, Record::Reading(reading)) = (&self.first, entry.numbered.record) {
                let key = batch.header().key(entry.numbered.seq);
                let device = DEVICE.parse()?;
                self.first = Some((Name { device, key }, reading));
            }
        }
        Ok(())
    }

    /// Wait for the PUBACK; time and settings may come before it.
    fn confirm(&mut self) -> Result<()> {
        loop {
            if let Incoming::PubAck { packet_id, reason } = self.client.receive()? {
                ensure!(
                    packet_id == self.packet_id && reason < 0x80,
                    "reason {reason:#04x}"
                );
                return Ok(());
            }
        }
    }
}

fn config() -> Result<Config> {
    Ok(Config {
        device: DEVICE.parse()?,
        hardware: heapless::String::new(),
        version: [0, 1, 0],
        build_time: UtcMs::new(BUILD_UTC_MS).context("build time")?,
        cause: ResetCause::PowerOn,
        gnss_fitted: false,
    })
}
