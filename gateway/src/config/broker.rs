//! `[[ingest.broker]]`: brokers that the depot already has, one table each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::check::{unusable, warn};
use super::path::SecretFile;
use super::schema::section;
use super::sink::{MqttVersion, SinkKind};
use super::source::Source;
use super::value::{Literal, Name, Setting, choice, text};
use super::{Draft, IdentityMode};

choice! {
    /// For which trackers a broker is believed.
    pub enum Vouched {
        /// Those that are not registered here.
        Unregistered = "unregistered";
        /// All but revoked ones.
        All = "all";
    }
}

section! {
    /// A broker that the depot already has, to which trackers publish: the gateway subscribes to their topics there.
    /// It acknowledges to the broker what is on disk; that the tracker was told before is the broker's word, so such
    /// readings carry `receipt` = broker. Settings and time are not sent by a broker.
    pub(super) struct Table = "ingest.broker" repeated {
        /// Name of the broker, unique; `status`, metrics and what is known of its session are kept under it.
        name: Name = unset;
        /// Broker's host name or address.
        host: String = unset;
        /// Broker's TCP port; 1883 if not set, with `ca` 8883.
        port: Option<u16> = unset in "1" to "65535";
        /// Certificates of the CA that the broker's certificate comes from, PEM; with it the connection is by TLS.
        ca: Option<PathBuf> = unset;
        /// Version of MQTT; 5 if not set. In 3.1.1 the broker alone says how much it sends ahead.
        version: Option<MqttVersion> = unset;
        /// Client id, unique at the broker and always the same, because the broker keeps the session under it;
        /// supercargo-GATEWAY-ingest-NAME if not set.
        client_id: Option<Name> = unset;
        /// User name at the broker.
        username: Option<String> = unset;
        /// File with the password at the broker; needed with a user name.
        password_file: Option<SecretFile> = unset;
        /// What stands before `sc/1/` in the topics there, such as "yard/"; nothing if not set.
        prefix: Option<TopicPrefix> = unset;
        /// Most messages taken and not yet on disk; 100 if not set. In MQTT 5 the broker is told and sends no more.
        inflight_max: Option<u16> = unset in "1" to "1024";
        /// How long the broker is asked to keep the session while the gateway is away; 7d if not set. MQTT 5 only.
        session_expiry: Option<Duration> = unset in "1min" to "365d";
        /// Trackers that the broker may speak for: those that are not registered here ("unregistered", if not set), or
        /// registered ones too ("all"). What a broker says of a tracker is proved by nothing.
        devices: Option<Vouched> = unset;
    }
}

/// What stands before our topics at a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicPrefix(String);

impl Setting for TopicPrefix {
    const FORM: &'static str =
        "a text of 1 to 128 bytes that ends in / and has no + # or control characters";

    fn read(literal: &Literal) -> Option<Self> {
        let text = text(literal)?;
        let fits = (1..=PREFIX_MAX_BYTES).contains(&text.len()) && text.ends_with('/');
        let plain = !text.contains(['+', '#']) && !text.chars().any(char::is_control);
        (fits && plain).then(|| Self(text.to_owned()))
    }
}

/// Longest prefix, in bytes: with our own topic it stays far below what brokers take.
const PREFIX_MAX_BYTES: usize = 128;

/// Port of MQTT without and with TLS, as registered.
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// Messages in flight unless told otherwise: at 20 readings each a group commit of 2,000.
const INFLIGHT_MAX: u16 = 100;

/// How long a session is kept unless told otherwise: a gateway that waits for a part over a weekend.
const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What a filter of a shared subscription begins with.
const SHARED: &str = "$share/";

/// A broker, and as whom to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its name, unique.
    pub name: Name,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// CA of its certificate; with it the connection is by TLS.
    pub ca: Option<PathBuf>,
    /// Version of MQTT.
    pub version: MqttVersion,
    /// Client id; `None`: to be made from the names of gateway and broker.
    pub client_id: Option<Name>,
    /// User name and the file of its password.
    pub login: Option<(String, SecretFile)>,
    /// What stands before our topics.
    pub prefix: String,
    /// Most messages taken and not yet on disk.
    pub inflight_max: u16,
    /// How long the session is kept there.
    pub session_expiry: Duration,
    /// For which trackers it is believed.
    pub devices: Vouched,
}

impl Broker {
    /// The client id, as it is used.
    #[must_use]
    pub fn client_id(&self, gateway: &Name) -> String {
        let own = || format!("supercargo-{gateway}-ingest-{}", self.name);
        self.client_id
            .as_ref()
            .map_or_else(own, ToString::to_string)
    }

    /// User name and password, if any are used.
    ///
    /// # Errors
    /// Why the password cannot be read.
    pub fn password(&self) -> Result<Option<(String, String)>, String> {
        let Some((user, file)) = &self.login else {
            return Ok(None);
        };
        let secret = file.secret().map_err(|error| {
            let path = file.path().display();
            format!("cannot be read: {path}: {error}")
        })?;
        Ok(Some((user.clone(), secret)))
    }

    /// How the broker is believed to be itself, if by TLS.
    ///
    /// # Errors
    /// Why the CA's certificates cannot be used.
    pub fn tls(&self) -> Result<Option<Arc<ClientConfig>>, String> {
        self.ca.as_deref().map(trusting).transpose()
    }

    /// Whether what is said to it stays on this machine.
    fn is_local(&self) -> bool {
        let address: Option<IpAddr> = self.host.parse().ok();
        self.host == "localhost" || address.is_some_and(|address| address.is_loopback())
    }
}

/// TLS that trusts the CAs of a file, and nobody else.
fn trusting(ca: &Path) -> Result<Arc<ClientConfig>, String> {
    let fault = |why: String| format!("cannot be used: {}: {why}", ca.display());
    let certificates =
        CertificateDer::pem_file_iter(ca).map_err(|error| fault(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("holds no certificate in PEM".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(error.to_string()))?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// Check brokers against each other and the rest.
pub(super) fn together(draft: &Draft, source: &mut Source) {
    let Some(gateway) = &draft.gateway else {
        return;
    };
    let mut names = BTreeMap::new();
    let mut sessions = sink_sessions(draft, gateway);
    for (index, broker) in draft.brokers() {
        let at = |name| (&Table::SECTION, index, name);
        if let Some(first) = names.insert(&broker.name, index) {
            let why = format!("is the name of ingest.broker[{}] too", first + 1);
            unusable(source, at("name"), why);
        }
        let session = (
            broker.host.clone(),
            broker.port,
            broker.client_id(&gateway.id),
        );
        let own = format!("ingest.broker[{}]", index + 1);
        if let Some(first) = sessions.insert(session, own) {
            let why = format!(
                "is the client id of {first} at that broker too: they would end each other's connections"
            );
            unusable(source, at("client_id"), why);
        }
        let ours = draft.mqtt.as_ref().and_then(|mqtt| mqtt.listen.address());
        if ours.is_some_and(|ours| broker.is_local() && broker.port == ours.port()) {
            unusable(
                source,
                at("host"),
                "is this gateway's own mqtt.listen".to_owned(),
            );
        }
        if broker.login.is_some() && broker.ca.is_none() && !broker.is_local() {
            let why = "is sent over the network without TLS; set ca".to_owned();
            warn(source, at("password_file"), why);
        }
        let mode = draft.identity.as_ref().map(|identity| identity.mode);
        if mode == Some(IdentityMode::Registered) && broker.devices == Vouched::Unregistered {
            let why = "lets in only trackers that are not registered, which identity.mode = \"registered\" keeps \
                       from connecting themselves"
                .to_owned();
            warn(source, at("devices"), why);
        }
    }
}

/// Host, port and client id that sinks use, and which sink.
fn sink_sessions(
    draft: &Draft,
    gateway: &super::Gateway,
) -> BTreeMap<(String, u16, String), String> {
    let session = |(index, sink): (usize, &super::Sink)| match &sink.kind {
        SinkKind::Mqtt(target) => {
            let own = || format!("supercargo-{}-{}", gateway.id, sink.name);
            let id = target.client_id.as_ref();
            let id = id.map_or_else(own, ToString::to_string);
            Some((
                (target.host.clone(), target.port, id),
                format!("sink[{}]", index + 1),
            ))
        }
        SinkKind::File(_) => None,
    };
    draft.sinks().filter_map(session).collect()
}

/// Read every `[[ingest.broker]]`; one with a fault is `None`.
pub(super) fn read_all(source: &mut Source) -> Vec<Option<Broker>> {
    let count = source.count(Table::SECTION.table);
    (0..count).map(|index| read(source, index)).collect()
}

fn read(source: &mut Source, index: usize) -> Option<Broker> {
    let table = Table::read(source, index)?;
    let prefix = prefix(source, index, table.prefix);
    let login = login(source, index, table.username, table.password_file);
    let usual_port = if table.ca.is_some() { TLS_PORT } else { PORT };
    Some(Broker {
        name: table.name,
        host: table.host,
        port: table.port.unwrap_or(usual_port),
        ca: table.ca,
        version: table.version.unwrap_or(MqttVersion::V5),
        client_id: table.client_id,
        login: login?,
        prefix: prefix?,
        inflight_max: table.inflight_max.unwrap_or(INFLIGHT_MAX),
        session_expiry: table.session_expiry.unwrap_or(SESSION_EXPIRY),
        devices: table.devices.unwrap_or(Vouched::Unregistered),
    })
}

fn prefix(source: &mut Source, index: usize, given: Option<TopicPrefix>) -> Option<String> {
    let text = given.map_or_else(String::new, |prefix| prefix.0);
    if text.starts_with(SHARED) {
        let why = "is a shared subscription: the broker gives each message to one of its members, so the order \
                   of a tracker's messages is lost, and what was given to another member never comes here";
        unusable(source, (&Table::SECTION, index, "prefix"), why.to_owned());
        return None;
    }
    if text.starts_with('$') {
        let why = "begins with $, where brokers keep topics of their own".to_owned();
        unusable(source, (&Table::SECTION, index, "prefix"), why);
        return None;
    }
    Some(text)
}

fn login(
    source: &mut Source,
    index: usize,
    user: Option<String>,
    file: Option<SecretFile>,
) -> Option<Option<(String, SecretFile)>> {
    let (given, lacking) = match (user, file) {
        (None, None) => return Some(None),
        (Some(user), Some(file)) => return Some(Some((user, file))),
        (Some(_), None) => ("username", "password_file"),
        (None, Some(_)) => ("password_file", "username"),
    };
    let why = format!("needs {lacking} beside it");
    unusable(source, (&Table::SECTION, index, given), why);
    None
}
