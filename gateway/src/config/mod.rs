//! The configuration file: typed, checked whole, every fault at once.
//!
//! Each section below is written once; parsing, `supercargo init` and docs/config.md follow it.
//! Secrets stand in files of their own. What needs the machine (folders, the plan file) is looked at
//! by `check.rs`, what a value may be is in `value.rs`.

mod broker;
mod check;
mod engine;
mod fault;
mod manual;
mod path;
mod schema;
mod sink;
mod source;
mod tls;
mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;

pub use broker::{Broker, Vouched};
pub use check::{PLAN_MAX_BYTES, plan_text};
pub use engine::StoreEngine;
pub use fault::{Fault, Faults, Place, Problem};
pub use manual::{manual, sample};
pub use path::{DataFolder, STORE_FOLDER, SecretFile};
pub use sink::{MqttTarget, MqttVersion, Sink, SinkKind};
pub use source::nearest;
pub use tls::{TlsError, TlsFile};
pub use value::{Bytes, Listen, Name, TopicName};

use schema::{Section, section};
use source::Source;
use value::{Setting, choice};

section! {
    /// Who this gateway is and where it keeps its data.
    pub struct Gateway = "gateway" {
        /// Name of this gateway, unique in the company; it stands in every event it reports.
        id: Name = "depot-1";
        /// Zone in which times are shown to people; events carry its offset at the moment they tell of.
        time_zone: Tz = "UTC";
        /// Folder of the store, the control socket and everything else the gateway keeps.
        data: DataFolder = unset;
    }
}

section! {
    /// The MQTT endpoint that trackers connect to.
    pub struct Mqtt = "mqtt" {
        /// Address and port to listen on without TLS; port 0 takes a free one. "off" leaves it to `[mqtt.tls]`.
        listen: Listen = "127.0.0.1:1883";
        /// Most connections at once, one per tracker; one more is closed unread.
        connections_max: u32 = "12000" in "1" to "100000";
        /// Most connections at once from one address (IPv6: /64 network) that is not this machine; one more is
        /// closed unread.
        connections_per_address_max: u32 = "1000" in "1" to "100000";
        /// Most connections a second from one address (IPv6: /64 network) that may fail: no MQTT, a broken handshake, a
        /// wrong secret; after ten seconds' worth at once. Then its new connections wait up to 3 s, further ones are
        /// closed unread. What is connected already, and other addresses, are not touched.
        failure_rate_per_address_max: u32 = "50" in "1" to "100000";
        /// The same for all addresses that have failed lately together.
        failure_rate_max: u32 = "200" in "1" to "100000";
        /// Most bytes a second from one tracker, after four seconds' worth at once; what is beyond waits unread.
        device_rate_max: Bytes = "1MiB" in "1KiB" to "1GiB";
        /// Largest packet taken; a batch of 20 readings has 300 B.
        packet_max: Bytes = "16KiB" in "1KiB" to "60KiB";
        /// Most PUBACKs owed to one connection: the bound on what a client may send ahead.
        receive_max: u16 = "32" in "1" to "1024";
        /// Longest wait for a client to say who it is, and before that for its TLS handshake.
        connect_timeout: Duration = "5s" in "1s" to "60s";
        /// Longest wait for a client to take what is written to it.
        write_timeout: Duration = "10s" in "1s" to "5min";
        /// Longest keep-alive granted; clients that ask for none get this one.
        keep_alive_max: Duration = "1h" in "10s" to "18h";
        /// How long the session of a disconnected client is kept.
        session_expiry_max: Duration = "7d" in "0s" to "365d";
        /// How often settings that a tracker has not yet reported are sent to it again.
        settings_resend: Duration = "60s" in "1s" to "1d";
    }
}

section! {
    /// MQTT over TLS 1.2 and 1.3, besides or instead of `mqtt.listen`. `supercargo ca init` makes the files.
    pub struct MqttTls = "mqtt.tls" {
        /// Address and port to listen on with TLS; port 0 takes a free one. Needs the three files below.
        listen: Option<SocketAddr> = unset;
        /// Certificates of this gateway, PEM: its own first, then any between it and the CA the trackers know.
        certificate: Option<PathBuf> = unset;
        /// File with the private key of the first certificate, PEM, not encrypted.
        key_file: Option<SecretFile> = unset;
        /// Certificates of the CAs that trackers' certificates come from, PEM.
        client_ca: Option<PathBuf> = unset;
        /// Most TLS handshakes under way at once; one more is closed unread.
        handshakes_max: u32 = "256" in "1" to "100000";
    }
}

section! {
    /// Liveness, readiness and metrics over HTTP.
    pub struct Http = "http" {
        /// Address and port to listen on; port 0 takes a free one.
        listen: SocketAddr = "127.0.0.1:8080";
        /// Most connections at once; one more is closed unread.
        connections_max: u32 = "32" in "1" to "1024";
        /// How far the view may be behind the stored readings while /readyz still says ready.
        ready_lag_max: Duration = "10s" in "1s" to "1h";
    }
}

section! {
    /// The control socket in the data folder, by which commands talk to a running gateway.
    pub struct Control = "control" {
        /// Most connections at once; a following `events` holds one.
        connections_max: u32 = "16" in "1" to "256";
    }
}

choice! {
    /// Which trackers may speak without being registered.
    pub enum IdentityMode {
        /// None.
        Registered = "registered";
        /// Those on this machine.
        Loopback = "loopback";
        /// All, from everywhere.
        Open = "open";
    }
}

section! {
    /// Who may speak for a tracker. One that is registered (`supercargo device add`) always proves itself by its
    /// certificate or secret; a secret is taken by TLS only, except from this machine.
    pub struct Identity = "identity" {
        /// Trackers that may speak without being registered: none, those on this machine, or everyone.
        mode: IdentityMode = "loopback";
        /// Folder made by `supercargo ca init`, by which `supercargo device add` signs; the gateway does not read it.
        ca: Option<PathBuf> = unset;
    }
}

section! {
    /// What keeps the readings, what it must be able to hold, and what is kept free on its disk. `check`
    /// compares the fleet with the disk space planned for it.
    pub struct Store = "store" {
        /// Engine of the store; a folder made by one is not opened by the other.
        engine: StoreEngine = "sled";
        /// Disk space planned for the store; `check` refuses less than the fleet below needs, and a store
        /// that comes near it is full.
        budget: Option<Bytes> = unset in "16MiB" to "1024TiB";
        /// Free space on the disk, or of the budget, below which no reading is taken or acknowledged until there is more.
        watermark: Bytes = "128MiB" in "32MiB" to "1TiB";
        /// Size of a file that is given up when the disk runs out, so that what is stored is still judged and delivered.
        reserve: Bytes = "64MiB" in "32MiB" to "1GiB";
        /// Size of a file that is given up when the gateway starts on a full disk: the store must write to open.
        ballast: Bytes = "64MiB" in "32MiB" to "1GiB";
        /// Longest time that one call to the store may take before the gateway, or a command, ends with code 3: the
        /// default lets a card tidy itself up, and the system try a failing disk twice, 30 s each time.
        call_max: Duration = "60s" in "1s" to "1h";
        /// Trackers expected, for the check of the budget.
        fleet: Option<u32> = unset in "1" to "1000000";
        /// Time between two readings of one tracker, for the check of the budget.
        sample_interval: Duration = "60s" in "1s" to "1d";
        /// Late horizon: how long behind its end a shipment is still judged by what comes late, before it is sealed; so
        /// long every reading must fit the budget.
        horizon: Duration = "30d" in "30d" to "3650d";
    }
}

section! {
    /// What is judged, by which plan.
    pub struct Rules = "rules" {
        /// File with shipments, profiles and fences; without one readings are stored and not judged.
        plan: Option<PathBuf> = unset;
        /// How far a tracker's time may be from the gateway's when its records come; beyond it EX_CLOCK is told.
        clock_tolerance: Duration = "1h" in "1min" to "365d";
    }
}

section! {
    /// Overrides of every temperature rule.
    pub struct Temperature = "rules.temperature" {
        /// Replaces the delay of every temperature rule of every profile.
        delay: Option<Duration> = unset in "0s" to "3650d";
    }
}

choice! {
    /// How much is logged.
    pub enum LogLevel {
        /// What failed.
        Error = "error";
        /// What is likely to fail.
        Warn = "warn";
        /// What an operator wants to know.
        Info = "info";
        /// What a developer wants to know.
        Debug = "debug";
        /// Everything.
        Trace = "trace";
    }
}

choice! {
    /// What a log line looks like.
    pub enum LogFormat {
        /// For people.
        Text = "text";
        /// One JSON object a line.
        Json = "json";
    }
}

section! {
    /// The log, on standard error.
    pub struct Log = "log" {
        /// Least important level that is logged.
        level: LogLevel = "info";
        /// For people, or one JSON object a line.
        format: LogFormat = "text";
    }
}

/// Every section, in the order of the manual.
const SECTIONS: &[&Section] = &[
    &Gateway::SECTION,
    &Mqtt::SECTION,
    &MqttTls::SECTION,
    &Http::SECTION,
    &Control::SECTION,
    &Identity::SECTION,
    &broker::Table::SECTION,
    &Store::SECTION,
    &Rules::SECTION,
    &Temperature::SECTION,
    &Log::SECTION,
    &sink::Table::SECTION,
];

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[gateway]`.
    pub gateway: Gateway,
    /// `[mqtt]`.
    pub mqtt: Mqtt,
    /// `[mqtt.tls]`.
    pub mqtt_tls: MqttTls,
    /// `[http]`.
    pub http: Http,
    /// `[control]`.
    pub control: Control,
    /// `[identity]`.
    pub identity: Identity,
    /// Every `[[ingest.broker]]`.
    pub brokers: Vec<Broker>,
    /// `[store]`.
    pub store: Store,
    /// `[rules]`.
    pub rules: Rules,
    /// `[rules.temperature]`.
    pub temperature: Temperature,
    /// `[log]`.
    pub log: Log,
    /// Every `[[sink]]`.
    pub sinks: Vec<Sink>,
}

/// A configuration that can be used, and what a person should still know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Faults that do not keep it from being used.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// Read `file` (none: defaults only), override keys by `KEY=VALUE`, and check everything,
    /// folders and the plan file on this machine included.
    ///
    /// # Errors
    /// Every fault found.
    pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<Loaded, Faults> {
        let mut source = Source::new(SECTIONS);
        if let Some(path) = file {
            source.open(path);
        }
        Self::finish(source, overrides, check::machine)
    }

    /// Read the text of a file and override keys, without looking at the machine.
    ///
    /// # Errors
    /// Every fault found.
    pub fn parse(path: &Path, text: &str, overrides: &[String]) -> Result<Self, Faults> {
        let mut source = Source::new(SECTIONS);
        source.file(path, text);
        Self::finish(source, overrides, |_, _| ()).map(|loaded| loaded.config)
    }

    /// Read a file without looking at the machine: for commands that only need to know where the
    /// gateway's data is.
    ///
    /// # Errors
    /// Every fault found.
    pub fn read_only(path: &Path) -> Result<Self, Faults> {
        let mut source = Source::new(SECTIONS);
        source.open(path);
        Self::finish(source, &[], |_, _| ()).map(|loaded| loaded.config)
    }

    fn finish(
        mut source: Source,
        overrides: &[String],
        machine: impl FnOnce(&Draft, &mut Source),
    ) -> Result<Loaded, Faults> {
        for assignment in overrides {
            source.set(assignment);
        }
        let draft = Draft::read(&mut source);
        check::together(&draft, &mut source);
        machine(&draft, &mut source);
        let (warnings, faults) = source.into_faults();
        match draft.whole() {
            Some(config) if faults.is_empty() => Ok(Loaded { config, warnings }),
            _ => Err(Faults(faults)),
        }
    }
}

/// What could be read: a section with a fault is missing, and the others are judged all the same.
struct Draft {
    gateway: Option<Gateway>,
    mqtt: Option<Mqtt>,
    mqtt_tls: Option<MqttTls>,
    http: Option<Http>,
    control: Option<Control>,
    identity: Option<Identity>,
    brokers: Vec<Option<Broker>>,
    store: Option<Store>,
    rules: Option<Rules>,
    temperature: Option<Temperature>,
    log: Option<Log>,
    sinks: Vec<Option<Sink>>,
}

impl Draft {
    /// Read every section before giving up on any.
    fn read(source: &mut Source) -> Self {
        Self {
            gateway: Gateway::read(source, 0),
            mqtt: Mqtt::read(source, 0),
            mqtt_tls: MqttTls::read(source, 0),
            http: Http::read(source, 0),
            control: Control::read(source, 0),
            identity: Identity::read(source, 0),
            brokers: broker::read_all(source),
            store: Store::read(source, 0),
            rules: Rules::read(source, 0),
            temperature: Temperature::read(source, 0),
            log: Log::read(source, 0),
            sinks: sink::read_all(source),
        }
    }

    fn whole(self) -> Option<Config> {
        Some(Config {
            gateway: self.gateway?,
            mqtt: self.mqtt?,
            mqtt_tls: self.mqtt_tls?,
            http: self.http?,
            control: self.control?,
            identity: self.identity?,
            brokers: self.brokers.into_iter().collect::<Option<_>>()?,
            store: self.store?,
            rules: self.rules?,
            temperature: self.temperature?,
            log: self.log?,
            sinks: self.sinks.into_iter().collect::<Option<_>>()?,
        })
    }

    /// The brokers that could be read, with their places in the file.
    fn brokers(&self) -> impl Iterator<Item = (usize, &Broker)> {
        let brokers = self.brokers.iter().enumerate();
        brokers.filter_map(|(index, broker)| Some((index, broker.as_ref()?)))
    }

    /// The sinks that could be read, with their places in the file.
    fn sinks(&self) -> impl Iterator<Item = (usize, &Sink)> {
        let sinks = self.sinks.iter().enumerate();
        sinks.filter_map(|(index, sink)| Some((index, sink.as_ref()?)))
    }
}

/// A duration with its unit, in the form that the configuration's keys have.
///
/// # Errors
/// What is allowed, when `text` is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let allowed = || format!("allowed: {}", Duration::FORM);
    Duration::read(&value::Literal::Text(text.to_owned())).ok_or_else(allowed)
}

#[cfg(test)]
mod tests;
