//! `supercargo device`: who may speak for which tracker.

use std::fmt::Write as _;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use protocol::key::DeviceId;
use protocol::topic::{Channel, Topic};
use thiserror::Error;

use super::ca::{self, validity};
use super::output::{self, Output};
use super::query::{self, Place, QueryError, plain};
use super::{Exit, complain};
use crate::config::Config;
use crate::control::{Request, Row};
use crate::pki::{
    self, Authority, CA_CERTIFICATE, DEVICE_CERTIFICATE, DEVICE_CONNECTION, DEVICE_KEY,
    DEVICE_SECRET, Named, PkiError,
};
use crate::store::identity::Proof;

/// Register trackers, and decide who may speak for them.
#[derive(Args, Debug)]
pub(super) struct Device {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Register a tracker, and write what it needs to connect
    Add(Provision),
    /// Print every registered tracker
    List(List),
    /// Believe a tracker no longer, and end its connection
    Revoke(Revoke),
    /// Give a tracker a new certificate or secret; the one before stops counting at once
    Rotate(Provision),
}

#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct Revoke {
    /// The tracker's device id
    #[arg(value_name = "ID")]
    device: DeviceId,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
struct Provision {
    /// The tracker's device id
    #[arg(value_name = "ID")]
    device: DeviceId,
    /// It proves itself by a certificate [default, and of rotate the kind it has]
    #[arg(long, conflicts_with = "secret")]
    certificate: bool,
    /// It proves itself by a secret of 256 random bits
    #[arg(long)]
    secret: bool,
    /// Folder to write to; nothing in it is overwritten
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder made by `supercargo ca init` [default: identity.ca of the configuration]
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,
    /// How long a certificate is valid, 1d to 7300d
    #[arg(long, value_name = "DURATION", default_value = "1825d", value_parser = validity)]
    valid: Duration,
    /// Name by which the tracker reaches the gateway [default: the first in the gateway's certificate]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Port by which the tracker reaches the gateway [default: that of mqtt.tls.listen]
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    place: Place,
}

/// Why a device was not changed.
#[derive(Debug, Error)]
enum DeviceError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("device {device} {why}")]
    State { device: DeviceId, why: &'static str },
    #[error("which CA is to sign? name its folder by --ca or identity.ca, or use --secret")]
    NoCa,
    #[error("by which {what} does the tracker reach the gateway? say --{what}; {why}")]
    Unreachable {
        what: &'static str,
        why: &'static str,
    },
}

impl DeviceError {
    const fn exit(&self) -> Exit {
        match self {
            Self::Query(error) => error.exit(),
            Self::Pki(error) => ca::exit(error),
            Self::State { .. } | Self::NoCa | Self::Unreachable { .. } => Exit::Usage,
        }
    }
}

pub(super) fn device(asked: &Device, output: &Output) -> Exit {
    let done = match &asked.command {
        Command::Add(asked) => provision(asked, false, output),
        Command::Rotate(asked) => provision(asked, true, output),
        Command::List(asked) => list(asked, output),
        Command::Revoke(asked) => revoke(asked, output),
    };
    match done {
        Ok(()) => Exit::Good,
        Err(error) => complain(error.exit(), &error),
    }
}

fn list(asked: &List, output: &Output) -> Result<(), DeviceError> {
    let request = Request::Devices { only: None };
    query::ask(&asked.place, &request, |row| output.row(&row, line))?;
    Ok(())
}

fn revoke(asked: &Revoke, output: &Output) -> Result<(), DeviceError> {
    if known(&asked.place, &asked.device)?.is_none() {
        return Err(state(&asked.device, "is not registered"));
    }
    let request = Request::DeviceRevoke {
        device: asked.device.to_string(),
    };
    query::ask(&asked.place, &request, |row| output.row(&row, line))?;
    Ok(())
}

/// Write what the tracker needs, then register it: durably, before the command answers.
fn provision(asked: &Provision, rotate: bool, output: &Output) -> Result<(), DeviceError> {
    let before = known(&asked.place, &asked.device)?;
    let kind = before.as_ref().map(|known| known.kind.as_str());
    match (&before, rotate) {
        (None, true) => return Err(state(&asked.device, "is not registered; add it")),
        (Some(known), true) if known.revoked => {
            return Err(state(&asked.device, "was revoked; add it again"));
        }
        (Some(known), false) if !known.revoked => {
            return Err(state(&asked.device, "is registered already; rotate it"));
        }
        _ => {}
    }
    let secret = asked.secret || (rotate && !asked.certificate && kind == Some("secret"));
    let config = query::configuration(&asked.place)?;
    let (proof, files) = credential(asked, &config, secret)?;
    let paths = pki::write_new(&asked.out, &files)?;
    let request = Request::DeviceRegister {
        device: asked.device.to_string(),
        proof,
        rotate,
    };
    let answered = query::ask(&asked.place, &request, |mut row| {
        row.put("written", asked.out.display().to_string());
        output.row(&row, line)
    });
    if let Err(error) = answered {
        pki::remove(&paths);
        return Err(error.into());
    }
    output::say(&format!(
        "next: bring the files in {} to the tracker, then delete them here",
        asked.out.display()
    ));
    Ok(())
}

fn state(device: &DeviceId, why: &'static str) -> DeviceError {
    DeviceError::State {
        device: device.clone(),
        why,
    }
}

/// What is registered.
struct Known {
    kind: String,
    revoked: bool,
}

fn known(place: &Place, device: &DeviceId) -> Result<Option<Known>, QueryError> {
    let mut known = None;
    let request = Request::Devices {
        only: Some(device.to_string()),
    };
    let asked = query::ask(place, &request, |row| {
        known = Some(Known {
            kind: row.value("kind").map(plain).unwrap_or_default(),
            revoked: row.value("revoked_at").is_some_and(|at| !at.is_null()),
        });
        io::Result::Ok(ControlFlow::Continue(()))
    });
    match asked {
        // Nobody is registered where no gateway has run.
        Err(QueryError::NoStore { .. }) => Ok(None),
        asked => asked.map(|_| known),
    }
}

/// A new credential: what the registry keeps of it, and the tracker's files.
fn credential(
    asked: &Provision,
    config: &Config,
    secret: bool,
) -> Result<(Proof, Vec<Named>), DeviceError> {
    let folder = asked.ca.as_deref().or(config.identity.ca.as_deref());
    let reach = reach(asked, config, secret)?;
    let mut files = Vec::new();
    let proof = if secret {
        let (text, digest) = pki::secret()?;
        files.push((DEVICE_SECRET, text));
        Proof::Secret { digest }
    } else {
        let authority = Authority::open(folder.ok_or(DeviceError::NoCa)?)?;
        let issued = authority.device(&asked.device, asked.valid)?;
        let proof = Proof::of(&issued);
        files.push((DEVICE_CERTIFICATE, issued.certificate));
        files.push((DEVICE_KEY, issued.key));
        proof
    };
    if reach.tls {
        let folder = folder.ok_or(DeviceError::NoCa)?;
        let path = folder.join(CA_CERTIFICATE);
        let ca = std::fs::read_to_string(&path);
        let ca = ca.map_err(|source| PkiError::Read { path, source })?;
        files.push((CA_CERTIFICATE, ca));
    }
    files.push((DEVICE_CONNECTION, connection(&asked.device, &reach)));
    Ok((proof, files))
}

/// How a tracker reaches its gateway.
struct Reach {
    host: String,
    port: u16,
    tls: bool,
    secret: bool,
}

/// By TLS; a secret without it when the gateway has none, which works on its own machine only.
fn reach(asked: &Provision, config: &Config, secret: bool) -> Result<Reach, DeviceError> {
    let tls = config.mqtt_tls.listen;
    let plain = config.mqtt.listen.address();
    let ca = asked.ca.is_some() || config.identity.ca.is_some();
    let by_tls = !secret || tls.is_some() || ca;
    let address = if by_tls { tls } else { plain };
    let named = config
        .mqtt_tls
        .certificate
        .as_deref()
        .and_then(pki::first_name);
    let host = asked.host.clone().or(if by_tls {
        named
    } else {
        plain.map(|address| address.ip().to_string())
    });
    let given = address
        .map(|address| address.port())
        .filter(|port| *port != 0);
    Ok(Reach {
        host: host.ok_or(DeviceError::Unreachable {
            what: "host",
            why: "mqtt.tls.certificate is not set or names none",
        })?,
        port: asked.port.or(given).ok_or(DeviceError::Unreachable {
            what: "port",
            why: "mqtt.tls.listen is not set or has port 0",
        })?,
        tls: by_tls,
        secret,
    })
}

/// The text of `device.toml`.
fn connection(device: &DeviceId, reach: &Reach) -> String {
    let mut text = format!(
        "# How this tracker reaches its gateway, by MQTT 5 or 3.1.1. Files are beside this one.\n\
         client_id = \"{device}\"\nhost = {:?}\nport = {}\ntls = {}\n",
        reach.host, reach.port, reach.tls
    );
    // Writing to a string cannot fail.
    if reach.tls {
        let _ = writeln!(text, "ca = \"{CA_CERTIFICATE}\"");
    }
    let _ = if reach.secret {
        writeln!(
            text,
            "username = \"{device}\"\npassword_file = \"{DEVICE_SECRET}\""
        )
    } else {
        writeln!(
            text,
            "certificate = \"{DEVICE_CERTIFICATE}\"\nkey = \"{DEVICE_KEY}\""
        )
    };
    for (name, up) in [("publish", true), ("subscribe", false)] {
        let channels = Channel::ALL.iter().filter(|channel| channel.is_up() == up);
        let topics: Vec<String> = channels
            .map(|channel| format!("{:?}", Topic::new(device.clone(), *channel).name().as_str()))
            .collect();
        let _ = writeln!(text, "{name} = [{}]", topics.join(", "));
    }
    text
}

/// A device for people: its name, its kind, and what is known beyond that.
fn line(row: &Row) -> String {
    let mut text = String::new();
    for (name, value) in row.iter() {
        // Writing to a string cannot fail.
        let _ = match name {
            _ if value.is_null() => Ok(()),
            "device" => write!(text, "{:<20}", plain(value)),
            "kind" => write!(text, "  {:<11}", plain(value)),
            other => write!(text, "  {other}={}", plain(value)),
        };
    }
    text
}
