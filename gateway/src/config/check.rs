//! Checks of values against each other and against the machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rules::plan::{Plan, PlanFault};

use super::broker;
use super::fault::{Fault, Place, Problem};
use super::schema::Section;
use super::sink::{MqttTarget, SinkKind, Table};
use super::source::{Source, text_of};
use super::{
    Control, Draft, Gateway, Http, Identity, IdentityMode, Mqtt, MqttTls, Rules, STORE_FOLDER,
    Store, StoreEngine, TlsFile,
};

/// Largest plan file: 50,000 shipments of 2 KiB are 100 MB; the largest lists are generated.
pub const PLAN_MAX_BYTES: u64 = 128 << 20;

/// Bytes of disk that one stored reading takes, journal, history and the log's own copies together:
/// 15 payload bytes in a batch of 64, each 21 bytes on disk. Measured by the example `ingest_rate`
/// ("journal and history", 512,000 records on the engine in use); ADR 0003 states the same figure.
pub(super) const STORED_BYTES_PER_RECORD: u64 = 315;

/// Longest path of a Unix socket, in bytes: the smallest `sun_path` in use (macOS) less its final zero.
const SOCKET_PATH_MAX_BYTES: usize = 103;

/// Check what must fit together.
pub(super) fn together(draft: &Draft, source: &mut Source) {
    if let (Some(mqtt), Some(tls)) = (&draft.mqtt, &draft.mqtt_tls) {
        if let Some(http) = &draft.http {
            listeners(mqtt, tls, http, source);
        }
        if let Some(identity) = &draft.identity {
            believed(identity, mqtt, tls, source);
        }
    }
    if let Some(tls) = &draft.mqtt_tls {
        tls_files(tls, source);
    }
    if let Some(store) = &draft.store {
        budget(store, source);
    }
    if let Some(gateway) = &draft.gateway {
        socket_path(gateway, source);
    }
    sinks(draft, source);
    broker::together(draft, source);
}

/// Check what needs the machine: folders, secrets, the plan.
pub(super) fn machine(draft: &Draft, source: &mut Source) {
    let mut note = |section, index, name, why: Result<(), String>| {
        if let Err(why) = why {
            unusable(source, (section, index, name), why);
        }
    };
    if let Some(gateway) = &draft.gateway {
        note(&Gateway::SECTION, 0, "data", writable(gateway.data.path()));
        if let Some(store) = &draft.store {
            let made = same_engine(gateway, store.engine);
            note(&Store::SECTION, 0, "engine", made);
        }
    }
    for (index, broker) in draft.brokers() {
        let at = &broker::Table::SECTION;
        note(at, index, "password_file", broker.password().map(drop));
        note(at, index, "ca", broker.tls().map(drop));
    }
    for (index, sink) in draft.sinks() {
        match &sink.kind {
            SinkKind::File(path) => {
                let folder = path.parent().unwrap_or(Path::new("."));
                note(&Table::SECTION, index, "path", writable(folder));
            }
            SinkKind::Mqtt(target) => {
                let secret = target.login.as_ref().map(|(_, file)| file.secret());
                let why = secret
                    .transpose()
                    .map(drop)
                    .map_err(|e| format!("cannot be read: {e}"));
                note(&Table::SECTION, index, "password_file", why);
            }
        }
    }
    // A file that is not named at all is found without the machine.
    if let Some(tls) = draft.mqtt_tls.as_ref().filter(|tls| tls.is_complete())
        && let Err(error) = tls.server()
    {
        let name = error.which().key();
        note(&MqttTls::SECTION, 0, name, Err(chain(&error)));
    }
    if let Some(path) = draft.rules.as_ref().and_then(|rules| rules.plan.as_ref()) {
        plan(path, source);
    }
}

/// The text of a plan file.
///
/// # Errors
/// When it cannot be read, is no text or is longer than [`PLAN_MAX_BYTES`].
pub fn plan_text(path: &Path) -> std::io::Result<String> {
    text_of(path, PLAN_MAX_BYTES)
}

/// Judge the plan file; its faults are named at their own places.
fn plan(path: &Path, source: &mut Source) {
    let text = match plan_text(path) {
        Ok(text) => text,
        Err(error) => {
            let why = format!("cannot be read: {}: {error}", path.display());
            return unusable(source, (&Rules::SECTION, 0, "plan"), why);
        }
    };
    let faults = Plan::parse(&text).map_or_else(|faults| faults, |plan| plan.warnings);
    for fault in faults {
        source.note(plan_fault(path, fault));
    }
}

fn plan_fault(path: &Path, fault: PlanFault) -> Fault {
    let place = Place::File {
        path: path.to_owned(),
        line: fault.line as usize,
        column: fault.column as usize,
    };
    Fault {
        value: Some(fault.value).filter(|value| !value.is_empty()),
        allowed: fault.allowed,
        meant: fault.did_you_mean.map(|name| format!("{name:?}")),
        warning: fault.warning,
        ..Fault::new(place, &fault.path, Problem::Unusable(fault.problem))
    }
}

fn listeners(mqtt: &Mqtt, tls: &MqttTls, http: &Http, source: &mut Source) {
    let (mqtt, tls) = (mqtt.listen.address(), tls.listen);
    if mqtt.is_none() && tls.is_none() {
        let why = "leaves trackers nowhere to connect: set mqtt.tls.listen".to_owned();
        unusable(source, (&Mqtt::SECTION, 0, "listen"), why);
    }
    let fixed = |address: &SocketAddr| address.port() != 0;
    if tls.filter(fixed).is_some_and(|tls| mqtt == Some(tls)) {
        let why = "is the address of mqtt.listen too".to_owned();
        unusable(source, (&MqttTls::SECTION, 0, "listen"), why);
    }
    for (name, other) in [("mqtt.listen", mqtt), ("mqtt.tls.listen", tls)] {
        if other.filter(fixed) == Some(http.listen) {
            let why = format!("is the address of {name} too");
            unusable(source, (&Http::SECTION, 0, "listen"), why);
        }
    }
}

/// TLS needs all its files, and files need TLS.
fn tls_files(tls: &MqttTls, source: &mut Source) {
    let given = [
        (TlsFile::Certificate, tls.certificate.is_some()),
        (TlsFile::Key, tls.key_file.is_some()),
        (TlsFile::ClientCa, tls.client_ca.is_some()),
    ];
    if tls.listen.is_some() {
        for (which, _) in given.iter().filter(|(_, given)| !given) {
            let why = format!("needs {which}; `supercargo ca init` makes the files");
            unusable(source, (&MqttTls::SECTION, 0, "listen"), why);
        }
    } else if let Some((which, _)) = given.iter().find(|(_, given)| *given) {
        let why = "is not used: mqtt.tls.listen is not set".to_owned();
        warn(source, (&MqttTls::SECTION, 0, which.key()), why);
    }
}

fn believed(identity: &Identity, mqtt: &Mqtt, tls: &MqttTls, source: &mut Source) {
    let doors = [
        ("mqtt.listen", mqtt.listen.address()),
        ("mqtt.tls.listen", tls.listen),
    ];
    let open = doors
        .iter()
        .find(|(_, address)| address.is_some_and(|address| !address.ip().is_loopback()));
    if let (IdentityMode::Open, Some((name, _))) = (identity.mode, open) {
        let why = format!("believes anyone who reaches {name}, which is not a loopback address");
        warn(source, (&Identity::SECTION, 0, "mode"), why);
    }
}

fn sinks(draft: &Draft, source: &mut Source) {
    let mut names = BTreeMap::new();
    let mut files = BTreeMap::new();
    for (index, sink) in draft.sinks() {
        if let Some(first) = names.insert(&sink.name, index) {
            let why = format!("is the name of sink[{}] too", first + 1);
            unusable(source, (&Table::SECTION, index, "name"), why);
        }
        match &sink.kind {
            SinkKind::File(path) => {
                if let Some(first) = files.insert(path, index) {
                    let why = format!("is the file of sink[{}] too", first + 1);
                    unusable(source, (&Table::SECTION, index, "path"), why);
                }
            }
            SinkKind::Mqtt(target) => {
                let ours = draft.mqtt.as_ref().and_then(|mqtt| mqtt.listen.address());
                if ours.is_some_and(|ours| is_at(target, ours)) {
                    let why = "is this gateway's own mqtt.listen".to_owned();
                    unusable(source, (&Table::SECTION, index, "host"), why);
                }
            }
        }
    }
}

/// Whether an upstream broker is the one at `address`.
fn is_at(target: &MqttTarget, address: SocketAddr) -> bool {
    let here = target.host == "localhost" || target.host == address.ip().to_string();
    here && target.port == address.port()
}

fn budget(store: &Store, source: &mut Source) {
    let Some(budget) = store.budget else {
        return;
    };
    if budget <= store.watermark {
        let mebibytes = store.watermark.0.div_ceil(1 << 20);
        let why = format!(
            "leaves nothing above store.watermark = \"{mebibytes}MiB\": the store would always be full"
        );
        return unusable(source, (&Store::SECTION, 0, "budget"), why);
    }
    let Some(fleet) = store.fleet else {
        return;
    };
    let interval_ms = store.sample_interval.as_millis().max(1);
    let records = u128::from(fleet) * (store.horizon.as_millis() / interval_ms);
    let stored = records * u128::from(STORED_BYTES_PER_RECORD);
    let needed = stored + u128::from(store.watermark.0);
    if u128::from(budget.0) < needed {
        let mebibytes = needed.div_ceil(1 << 20);
        let why = format!(
            "is too small: {fleet} trackers x one reading per {} s x {} h = {records} readings \
             need at least \"{mebibytes}MiB\", store.watermark included",
            store.sample_interval.as_secs_f64(),
            store.horizon.as_secs() / 3_600,
        );
        unusable(source, (&Store::SECTION, 0, "budget"), why);
    }
}

/// Whether the store that is there, if one is, was made by the engine asked for.
fn same_engine(gateway: &Gateway, asked: StoreEngine) -> Result<(), String> {
    let folder = gateway.data.path().join(STORE_FOLDER);
    match StoreEngine::found_in(&folder) {
        Some(found) if found != asked => Err(format!(
            "is not the engine that made {}: that was {:?}; set it, or move the folder away and start empty",
            folder.display(),
            found.as_str(),
        )),
        _ => Ok(()),
    }
}

fn socket_path(gateway: &Gateway, source: &mut Source) {
    let path = Control::socket_in(gateway.data.path());
    let length = path.as_os_str().len();
    if cfg!(unix) && length > SOCKET_PATH_MAX_BYTES {
        let why = format!(
            "is too long: the control socket's path would have {length} bytes, \
             at most {SOCKET_PATH_MAX_BYTES} are possible"
        );
        unusable(source, (&Gateway::SECTION, 0, "data"), why);
    }
}

impl Control {
    /// Where the control socket of a data folder is.
    #[must_use]
    pub fn socket_in(data: &Path) -> PathBuf {
        data.join("control.sock")
    }
}

/// Whether something can be made in `folder`, or in the nearest folder above it that exists.
fn writable(folder: &Path) -> Result<(), String> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let existing = folder.ancestors().find(|path| path.exists());
    let existing = existing.filter(|path| !path.as_os_str().is_empty());
    let existing = existing.unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Err(format!(
            "cannot be made: {} is no folder",
            existing.display()
        ));
    }
    may_write(existing).map_err(|why| format!("cannot be written: {}: {why}", existing.display()))
}

#[cfg(unix)]
fn may_write(folder: &Path) -> Result<(), String> {
    use rustix::fs::{Access, access};
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| error.to_string())
}

#[cfg(not(unix))]
fn may_write(folder: &Path) -> Result<(), String> {
    match std::fs::metadata(folder) {
        Ok(about) if about.permissions().readonly() => Err("it is read-only".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn unusable(source: &mut Source, at: (&Section, usize, &'static str), why: String) {
    let fault = source.fault(at.0, at.1, at.2, Problem::Unusable(why));
    source.note(fault);
}

pub(super) fn warn(source: &mut Source, at: (&Section, usize, &'static str), why: String) {
    let mut fault = source.fault(at.0, at.1, at.2, Problem::Unusable(why));
    fault.warning = true;
    source.note(fault);
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
