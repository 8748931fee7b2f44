//! The configuration file: typed, checked whole, every fault at once.
//!
//! Each section below is written once; parsing, `supercargo init` and docs/config.md follow it.
//! Secrets stand in files of their own. What needs the machine (folders, the plan file) is looked at
//! by `check.rs`, what a value may be is in `value.rs`.

mod check;
mod fault;
mod manual;
mod passwords;
mod schema;
mod sink;
mod source;
mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;

pub use fault::{Fault, Faults, Place, Problem};
pub use manual::{manual, sample};
pub use passwords::{Passwords, PasswordsError};
pub use sink::{MqttTarget, MqttVersion, Sink, SinkKind};
pub use value::{Bytes, DataFolder, Name, SecretFile, TopicName};

use schema::{Section, section};
use source::Source;
use value::choice;

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
        /// Address and port to listen on; port 0 takes a free one.
        listen: SocketAddr = "127.0.0.1:1883";
        /// Most connections at once, one per tracker; one more is closed unread.
        connections_max: u32 = "12000" in "1" to "100000";
        /// Largest packet taken; a batch of 20 readings has 300 B.
        packet_max: Bytes = "16KiB" in "1KiB" to "60KiB";
        /// Most PUBACKs owed to one connection: the bound on what a client may send ahead.
        receive_max: u16 = "32" in "1" to "1024";
        /// Longest wait for a client to say who it is.
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
    /// Which clients are believed to be the tracker they name.
    pub enum IdentityMode {
        /// Everyone on this machine, nobody else.
        Loopback = "loopback";
        /// Everyone, from everywhere.
        Open = "open";
        /// Those who know the tracker's password.
        PasswordFile = "password_file";
    }
}

section! {
    /// Who may speak for a tracker.
    pub struct Identity = "identity" {
        /// Which clients are believed: those on this machine, everyone, or those with a password.
        mode: IdentityMode = "loopback";
        /// Passwords of the trackers, one `DEVICE:PASSWORD` a line; needed by mode password_file.
        password_file: Option<SecretFile> = unset;
    }
}

section! {
    /// The store: how much it is given and how much it must hold.
    pub struct Store = "store" {
        /// Memory for cached pages of the store.
        cache: Bytes = "64MiB" in "1MiB" to "64GiB";
        /// Disk space planned for the store; `check` refuses less than the fleet below needs.
        budget: Option<Bytes> = unset in "16MiB" to "1024TiB";
        /// Trackers expected, for the check of the budget.
        fleet: Option<u32> = unset in "1" to "1000000";
        /// Time between two readings of one tracker, for the check of the budget.
        sample_interval: Duration = "60s" in "1s" to "1d";
        /// How long readings stay in full resolution: late ones are judged as if they had been in time.
        horizon: Duration = "30d" in "1h" to "3650d";
    }
}

section! {
    /// What is judged, by which plan.
    pub struct Rules = "rules" {
        /// File with shipments, profiles and fences; without one readings are stored and not judged.
        plan: Option<PathBuf> = unset;
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
    &Http::SECTION,
    &Control::SECTION,
    &Identity::SECTION,
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
    /// `[http]`.
    pub http: Http,
    /// `[control]`.
    pub control: Control,
    /// `[identity]`.
    pub identity: Identity,
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
            match source::text_of(path) {
                Ok(text) => source.file(path, &text),
                Err(fault) => source.note(fault),
            }
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

    fn finish(
        mut source: Source,
        overrides: &[String],
        machine: impl FnOnce(&Self, &mut Source),
    ) -> Result<Loaded, Faults> {
        for assignment in overrides {
            source.set(assignment);
        }
        let config = Self::read(&mut source);
        if let Some(config) = &config {
            check::together(config, &mut source);
            machine(config, &mut source);
        }
        let (warnings, faults) = source.into_faults();
        match config {
            Some(config) if faults.is_empty() => Ok(Loaded { config, warnings }),
            _ => Err(Faults(faults)),
        }
    }

    /// Read every section before giving up on any.
    fn read(source: &mut Source) -> Option<Self> {
        let gateway = Gateway::read(source, 0);
        let mqtt = Mqtt::read(source, 0);
        let http = Http::read(source, 0);
        let control = Control::read(source, 0);
        let identity = Identity::read(source, 0);
        let store = Store::read(source, 0);
        let rules = Rules::read(source, 0);
        let temperature = Temperature::read(source, 0);
        let log = Log::read(source, 0);
        let sinks = sink::read_all(source);
        Some(Self {
            gateway: gateway?,
            mqtt: mqtt?,
            http: http?,
            control: control?,
            identity: identity?,
            store: store?,
            rules: rules?,
            temperature: temperature?,
            log: log?,
            sinks: sinks?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str, overrides: &[&str]) -> Vec<String> {
        let overrides: Vec<_> = overrides.iter().map(ToString::to_string).collect();
        let faults = Config::parse(Path::new("depot.toml"), text, &overrides).unwrap_err();
        faults.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_fault_of_a_file_is_named_at_once_with_its_place_and_what_is_allowed() {
        let text = r#"
[gateway]
id = "depot 7"
time_zone = "Europe/Berlni"
[mqtt]
listen = 1883
keep_alive_max = 90
packet_max = "1MiB"
conections_max = 10
[rules]
temprature = { delay = "1h" }
[log]
format = "jsn"
level = 'loud'
[[sink]]
name = "a"
kind = "file"
host = "upstream"
[[sink]]
kind = "mqtt"
prot = 1
"#;
        let expected = [
            r#"depot.toml:3:6: gateway.id = "depot 7": not allowed; allowed: 1 to 64 of A-Z a-z 0-9 _ -"#,
            r#"depot.toml:4:13: gateway.time_zone = "Europe/Berlni": not allowed; allowed: a zone of the IANA time zone database, such as "Europe/Berlin"; did you mean "Europe/Berlin"?"#,
            r#"depot.toml:6:10: mqtt.listen = 1883: not allowed; allowed: an IP address and port, such as "127.0.0.1:1883" or "[::]:1883"; did you mean "127.0.0.1:1883"?"#,
            r#"depot.toml:7:18: mqtt.keep_alive_max = 90: not allowed; allowed: a duration with a unit (ms, s, min, h, d), such as "90s", "10s" to "18h"; did you mean "90s"?"#,
            r#"depot.toml:8:14: mqtt.packet_max = "1MiB": not allowed; allowed: a size with a unit (B, KiB, MiB, GiB, TiB), such as "64KiB", "1KiB" to "60KiB""#,
            "depot.toml:9:1: mqtt.conections_max = 10: unknown key; did you mean mqtt.connections_max?",
            "depot.toml:11:1: rules.temprature: unknown key; did you mean rules.temperature?",
            r#"depot.toml:13:10: log.format = "jsn": not allowed; allowed: one of "text" "json"; did you mean "json"?"#,
            r#"depot.toml:14:9: log.level = 'loud': not allowed; allowed: one of "error" "warn" "info" "debug" "trace""#,
            "depot.toml:15:1: sink[1].path: missing; allowed: a path; relative ones start at the folder of the file that names them",
            r#"depot.toml:18:8: sink[1].host = "upstream": is no key of a sink of kind "file""#,
            "depot.toml:19:1: sink[2].name: missing; allowed: 1 to 64 of A-Z a-z 0-9 _ -",
            "depot.toml:21:1: sink[2].prot = 1: unknown key; did you mean port?",
        ];
        assert_eq!(faults(text, &[]), expected);
    }

    #[test]
    fn every_broken_line_is_named_and_the_rest_is_still_judged() {
        let text = "[mqtt]\nkeep_alive_max = 90s\nlisten = \n[http]\nlisten = 80\n";
        let found = faults(text, &[]);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].starts_with("depot.toml:2:"), "{found:#?}");
        assert!(
            found[0].ends_with(r#"did you mean keep_alive_max = "90s"?"#),
            "{found:#?}"
        );
        assert!(found[1].starts_with("depot.toml:3:"), "{found:#?}");
        assert!(
            found[2].starts_with("depot.toml:5:10: http.listen = 80"),
            "{found:#?}"
        );
    }

    #[test]
    fn an_override_goes_through_the_same_checks() {
        let set = |text: &str| Config::parse(Path::new("c.toml"), "", &[text.to_owned()]);
        let hours = |config: Config| {
            config
                .temperature
                .delay
                .map(|delay| delay.as_secs() / 3_600)
        };
        assert_eq!(
            hours(set("rules.temperature.delay=1000h").unwrap()),
            Some(1_000)
        );
        assert_eq!(
            set("http.connections_max=7").unwrap().http.connections_max,
            7
        );
        assert_eq!(
            faults(
                "",
                &[
                    "rules.temperature.delay=1000",
                    "rules.temperature.dellay=1h"
                ]
            ),
            [
                "--set: rules.temperature.dellay = 1h: unknown key; did you mean rules.temperature.delay?",
                r#"--set: rules.temperature.delay = 1000: not allowed; allowed: a duration with a unit (ms, s, min, h, d), such as "90s", "0s" to "3650d"; did you mean "1000s"?"#,
            ]
        );
    }

    #[test]
    fn a_budget_that_cannot_hold_the_fleet_is_refused_with_the_sum() {
        let text = "[store]\nbudget = \"1GiB\"\nfleet = 10000\n";
        let found = faults(text, &[]);
        assert!(found[0].starts_with("depot.toml:2:10: store.budget = \"1GiB\": is too small"));
        assert!(
            found[0].contains("= 432000000 readings need at least"),
            "{found:?}"
        );
        let enough = text.replace("1GiB", "40GiB");
        assert!(Config::parse(Path::new("c.toml"), &enough, &[]).is_ok());
    }

    #[test]
    fn sinks_that_get_in_each_others_way_are_refused() {
        let file = "[[sink]]\nname = \"a\"\nkind = \"file\"\npath = \"x.jsonl\"\n";
        let mqtt =
            "[[sink]]\nname = \"m\"\nkind = \"mqtt\"\nhost = \"localhost\"\nusername = \"u\"\n";
        let found = faults(&[file, file, mqtt].concat(), &[]);
        let text = found.join("\n");
        assert!(
            text.contains("sink[3].username = \"u\": needs password_file beside it"),
            "{text}"
        );
        let found = faults(
            &[file, file, &mqtt.replace("username = \"u\"\n", "")].concat(),
            &[],
        );
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].contains("sink[2].name = \"a\": is the name of sink[1] too"));
        assert!(found[1].contains("sink[2].path = \"x.jsonl\": is the file of sink[1] too"));
        assert!(found[2].contains("is this gateway's own mqtt.listen"));
    }
}
