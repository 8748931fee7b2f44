//! `[[sink]]`: where events go, one table each.

use std::path::PathBuf;

use super::fault::Problem;
use super::path::SecretFile;
use super::schema::section;
use super::source::Source;
use super::value::{Name, TopicName, choice};

choice! {
    /// Kinds of sink.
    pub(super) enum Kind {
        /// JSON Lines in a file.
        File = "file";
        /// An upstream MQTT broker.
        Mqtt = "mqtt";
    }
}

choice! {
    /// Versions of MQTT.
    pub enum MqttVersion {
        /// MQTT 3.1.1.
        V311 = "3.1.1";
        /// MQTT 5.
        V5 = "5";
    }
}

section! {
    /// Where events go. Each sink has its own queue; a sick one does not hold up the others.
    pub(super) struct Table = "sink" repeated {
        /// Name of the sink, unique; its queue in the store is kept under it.
        name: Name = unset;
        /// JSON Lines in a file, or an upstream MQTT broker.
        kind: Kind = unset;
        /// File to append to; kind file only, and needed there.
        path: Option<PathBuf> = unset;
        /// Broker's host name or address; kind mqtt only, and needed there.
        host: Option<String> = unset;
        /// Broker's TCP port; kind mqtt only, 1883 if not set.
        port: Option<u16> = unset in "1" to "65535";
        /// What topics start with: an event goes to TOPIC/CODE; kind mqtt only, supercargo/events if not set.
        topic: Option<TopicName> = unset;
        /// Version of MQTT; kind mqtt only, 5 if not set.
        version: Option<MqttVersion> = unset;
        /// Client id, unique at the broker; kind mqtt only, supercargo-GATEWAY-SINK if not set.
        client_id: Option<Name> = unset;
        /// User name at the broker; kind mqtt only.
        username: Option<String> = unset;
        /// File with the password at the broker; kind mqtt only, needed with a user name.
        password_file: Option<SecretFile> = unset;
    }
}

/// One sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Its name, unique.
    pub name: Name,
    /// What it is.
    pub kind: SinkKind,
}

/// What a sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// JSON Lines appended to this file.
    File(PathBuf),
    /// An upstream MQTT broker.
    Mqtt(MqttTarget),
}

/// An upstream broker, and as whom to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttTarget {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What topics start with.
    pub topic: String,
    /// Version of MQTT.
    pub version: MqttVersion,
    /// Client id; `None`: to be made from the names of gateway and sink.
    pub client_id: Option<Name>,
    /// User name and the file of its password.
    pub login: Option<(String, SecretFile)>,
}

/// Port of MQTT without TLS, as registered.
const MQTT_PORT: u16 = 1883;

/// What topics start with unless told otherwise.
const TOPIC: &str = "supercargo/events";

/// Keys of each kind; `name` and `kind` belong to both.
const FILE_KEYS: [&str; 1] = ["path"];
const MQTT_KEYS: [&str; 7] = [
    "host",
    "port",
    "topic",
    "version",
    "client_id",
    "username",
    "password_file",
];

/// Read every `[[sink]]`; one with a fault is `None`.
pub(super) fn read_all(source: &mut Source) -> Vec<Option<Sink>> {
    let count = source.count(Table::SECTION.table);
    (0..count).map(|index| read(source, index)).collect()
}

fn read(source: &mut Source, index: usize) -> Option<Sink> {
    let table = Table::read(source, index)?;
    let foreign: &[&'static str] = match table.kind {
        Kind::File => &MQTT_KEYS,
        Kind::Mqtt => &FILE_KEYS,
    };
    let given: Vec<_> = foreign
        .iter()
        .filter(|name| source.is_given(&Table::SECTION, index, name))
        .collect();
    for name in &given {
        let why = format!("is no key of a sink of kind {:?}", table.kind.as_str());
        unusable(source, index, name, why);
    }
    let name = table.name.clone();
    let kind = match table.kind {
        Kind::File => SinkKind::File(needed(source, index, "path", table.path)?),
        Kind::Mqtt => SinkKind::Mqtt(target(source, index, table)?),
    };
    given.is_empty().then_some(Sink { name, kind })
}

fn target(source: &mut Source, index: usize, table: Table) -> Option<MqttTarget> {
    let host = needed(source, index, "host", table.host);
    let login = match (table.username, table.password_file) {
        (None, None) => Some(None),
        (Some(user), Some(file)) => Some(Some((user, file))),
        (user, _) => {
            let (given, lacking) = match user {
                Some(_) => ("username", "password_file"),
                None => ("password_file", "username"),
            };
            unusable(source, index, given, format!("needs {lacking} beside it"));
            None
        }
    };
    Some(MqttTarget {
        host: host?,
        port: table.port.unwrap_or(MQTT_PORT),
        topic: table
            .topic
            .map_or_else(|| TOPIC.to_owned(), |topic| topic.as_str().to_owned()),
        version: table.version.unwrap_or(MqttVersion::V5),
        client_id: table.client_id,
        login: login?,
    })
}

fn needed<T>(source: &mut Source, index: usize, name: &'static str, value: Option<T>) -> Option<T> {
    if value.is_none() {
        let fault = source.fault(&Table::SECTION, index, name, Problem::Missing);
        source.note(fault);
    }
    value
}

fn unusable(source: &mut Source, index: usize, name: &'static str, why: String) {
    let fault = source.fault(&Table::SECTION, index, name, Problem::Unusable(why));
    source.note(fault);
}
