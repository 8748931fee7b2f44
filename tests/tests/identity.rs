//! Trackers with a certificate or a secret against the real binary: made by its commands, connected by a
//! foreign client over TLS, revoked and rotated while they are connected.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gateway::clock::monotonic;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode, Packet};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use rumqttc::{TlsConfiguration, Transport};
use serde_json::Value;
use tests::depot::{Depot, fleet_plan};
use tests::kit::{Kit, supercargo};
use tests::peer::{self, PATIENCE, free_address};
use tokio::time::timeout;

/// Longest time from a revocation to the end of the device's connection.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

const DOCUMENTED: &str = include_str!("../data/reading.hex");

/// A depot with TLS whose trackers must be registered, and where it listens.
struct Secured {
    depot: Depot,
    tls: SocketAddr,
    folder: tempfile::TempDir,
}

impl Secured {
    /// Everything is made, nothing runs yet.
    fn create() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        let ca = path.join("ca").display().to_string();
        supercargo(&[
            "ca",
            "init",
            &ca,
            "--name",
            "127.0.0.1",
            "--name",
            "localhost",
        ])?;
        let tls = free_address()?;
        let more = format!(
            "[mqtt.tls]\nlisten = \"{tls}\"\ncertificate = \"ca/server.pem\"\n\
             key_file = \"ca/server-key.pem\"\nclient_ca = \"ca/ca.pem\"\n\
             [identity]\nmode = \"registered\"\nca = \"ca\"\n[log]\nlevel = \"trace\"\n"
        );
        let depot = Depot::create(path, &path.join("data"), &fleet_plan(&[]), &more)?;
        Ok(Self { depot, tls, folder })
    }

    fn kit(&self, verb: &str, device: &str, folder: &str, more: &[&str]) -> Result<Kit> {
        let config = self.depot.config().display().to_string();
        let mut arguments = vec!["--config", &config];
        arguments.extend_from_slice(more);
        Kit::provision(verb, device, &self.folder.path().join(folder), &arguments)
    }

    fn command(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let config = self.depot.config().display().to_string();
        let output = supercargo(&[arguments, &["--json", "--config", &config]].concat())?;
        let text = String::from_utf8(output.stdout)?;
        text.lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    fn options(&self, device: &str, kit: &Kit) -> Result<MqttOptions> {
        let mut options = MqttOptions::new(device, "127.0.0.1", self.tls.port());
        options.set_keep_alive(Duration::from_secs(30));
        let tls = TlsConfiguration::Rustls(kit.tls()?);
        options.set_transport(Transport::tls_with_config(tls));
        if let Ok(secret) = kit.file("secret") {
            options.set_credentials(device, &secret);
        }
        Ok(options)
    }

    fn refusals(&self, reason: &str) -> Result<f64> {
        let name = format!("supercargo_refusals_total{{reason=\"{reason}\"}}");
        self.depot.metric(&name)
    }
}

fn payload() -> Vec<u8> {
    let digits = DOCUMENTED.trim();
    let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// Publish a reading and wait for its PUBACK; the connection stays.
async fn publish(options: MqttOptions) -> Result<(AsyncClient, EventLoop)> {
    let topic = format!("sc/1/{}/readings", options.client_id());
    let (client, mut events) = AsyncClient::new(options, 4);
    client
        .publish(topic, QoS::AtLeastOnce, false, payload())
        .await?;
    let acknowledged = async {
        loop {
            if let Event::Incoming(Packet::PubAck(_)) = events.poll().await? {
                return Ok::<_, ConnectionError>(());
            }
        }
    };
    timeout(PATIENCE, acknowledged).await??;
    Ok((client, events))
}

/// Why a client is not let in.
async fn refused(options: MqttOptions) -> Result<ConnectionError> {
    let (_client, mut events) = AsyncClient::new(options, 1);
    match timeout(PATIENCE, events.poll()).await? {
        Ok(event) => bail!("let in: {event:?}"),
        Err(error) => Ok(error),
    }
}

fn code(error: &ConnectionError) -> Option<ConnectReturnCode> {
    match error {
        ConnectionError::ConnectionRefused(code) => Some(*code),
        _ => None,
    }
}

/// The connection is refused, and with this code.
async fn refused_as(options: MqttOptions, expected: ConnectReturnCode) {
    let error = refused(options).await.unwrap();
    assert_eq!(code(&error), Some(expected), "{error:?}");
}

/// Wait for the goodbye.
async fn goodbye(events: &mut EventLoop) -> Result<DisconnectReasonCode> {
    loop {
        match timeout(PATIENCE, events.poll()).await? {
            Err(ConnectionError::MqttState(StateError::ServerDisconnect {
                reason_code, ..
            })) => return Ok(reason_code),
            Ok(_) => {}
            Err(error) => return Err(error).context("ended without a goodbye"),
        }
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The one tracker is connected, and its reading is stored.
fn check_listed(secured: &Secured) -> Result<()> {
    assert_eq!(secured.depot.export("readings")?.len(), 1);
    let rows = secured.command(&["device", "list"])?;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    assert_eq!(row["device"], "t-1");
    assert_eq!(row["kind"], "certificate");
    assert_eq!(row["connected"], true);
    assert_eq!(row["revoked_at"], Value::Null);
    let dated = row["last_seen_at"].is_string() && row["expires_at"].is_string();
    assert!(dated, "{row}");
    Ok(())
}

#[tokio::test]
async fn a_tracker_with_a_certificate_is_added_connects_is_rotated_and_revoked() {
    let mut secured = Secured::create().unwrap();
    // Before a gateway has ever run.
    let kit = secured.kit("add", "t-1", "t-1", &[]).unwrap();
    for file in ["ca.pem", "certificate.pem", "key.pem", "device.toml"] {
        assert_eq!(mode(&secured.folder.path().join("t-1").join(file)), 0o600);
    }
    let told = kit.file("device.toml").unwrap();
    let port = format!("port = {}\n", secured.tls.port());
    for line in [
        "client_id = \"t-1\"",
        "host = \"127.0.0.1\"",
        &port,
        "sc/1/t-1/alarms",
    ] {
        assert!(told.contains(line), "{told}");
    }
    secured.depot.start().unwrap();
    let options = || secured.options("t-1", &kit).unwrap();
    let (_client, mut events) = publish(options()).await.unwrap();
    check_listed(&secured).unwrap();

    let started = monotonic();
    let newer = secured.kit("rotate", "t-1", "t-1b", &[]).unwrap();
    let code_heard = goodbye(&mut events).await.unwrap();
    assert_eq!(code_heard, DisconnectReasonCode::NotAuthorized);
    assert!(
        started.elapsed() < REVOKED_WITHIN,
        "{:?}",
        started.elapsed()
    );
    refused_as(options(), ConnectReturnCode::BadUserNamePassword).await;

    let options = || secured.options("t-1", &newer).unwrap();
    let (_client, mut events) = publish(options()).await.unwrap();
    let started = monotonic();
    secured.command(&["device", "revoke", "t-1"]).unwrap();
    goodbye(&mut events).await.unwrap();
    assert!(
        started.elapsed() < REVOKED_WITHIN,
        "{:?}",
        started.elapsed()
    );
    refused_as(options(), ConnectReturnCode::NotAuthorized).await;
    assert!(secured.refusals("revoked").unwrap() >= 3.0);

    // A restart changes nothing of it.
    secured.depot.stop().unwrap();
    secured.depot.start().unwrap();
    let options = secured.options("t-1", &newer).unwrap();
    refused_as(options, ConnectReturnCode::NotAuthorized).await;
}

#[tokio::test]
async fn who_is_not_the_tracker_is_refused_with_a_code_and_a_counter() {
    let mut secured = Secured::create().unwrap();
    let foreign = Secured::create().unwrap();
    secured.depot.start().unwrap();
    let mine = secured.kit("add", "t-1", "t-1", &[]).unwrap();
    secured.kit("add", "t-2", "t-2", &[]).unwrap();

    // Another tracker's certificate.
    refused_as(
        secured.options("t-2", &mine).unwrap(),
        ConnectReturnCode::NotAuthorized,
    )
    .await;
    assert_eq!(secured.refusals("certificate_name").unwrap(), 1.0);

    // A certificate of another CA, that trusts ours.
    foreign.kit("add", "t-1", "t-1", &[]).unwrap();
    let folder = foreign.folder.path().join("t-1");
    fs::copy(
        secured.folder.path().join("ca/ca.pem"),
        folder.join("ca.pem"),
    )
    .unwrap();
    let other = foreign.kit("rotate", "t-1", "t-1b", &[]).unwrap();
    fs::copy(
        folder.join("ca.pem"),
        foreign.folder.path().join("t-1b/ca.pem"),
    )
    .unwrap();
    let error = refused(secured.options("t-1", &other).unwrap())
        .await
        .unwrap();
    assert_eq!(code(&error), None, "{error:?}");
    assert_eq!(secured.refusals("client_certificate").unwrap(), 1.0);

    // Nobody at all.
    let mut options = MqttOptions::new("t-1", "127.0.0.1", secured.depot.mqtt.port());
    options.set_keep_alive(Duration::from_secs(30));
    refused_as(options, ConnectReturnCode::BadUserNamePassword).await;
    assert_eq!(secured.refusals("credentials").unwrap(), 1.0);

    // The tracker itself is not troubled by any of it.
    publish(secured.options("t-1", &mine).unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_secret_works_by_tls_is_never_logged_and_nothing_is_overwritten() {
    let mut secured = Secured::create().unwrap();
    secured.depot.start().unwrap();
    let kit = secured.kit("add", "t-1", "t-1", &["--secret"]).unwrap();
    let secret = kit.file("secret").unwrap();
    assert_eq!(secret.len(), 64);
    publish(secured.options("t-1", &kit).unwrap())
        .await
        .unwrap();
    let guess = secured.kit("add", "t-2", "t-2", &["--secret"]).unwrap();
    refused_as(
        secured.options("t-1", &guess).unwrap(),
        ConnectReturnCode::BadUserNamePassword,
    )
    .await;

    let again = secured
        .kit("add", "t-1", "other", &["--secret"])
        .unwrap_err()
        .to_string();
    assert!(again.contains("is registered already"), "{again}");
    let there = secured
        .kit("rotate", "t-1", "t-1", &[])
        .unwrap_err()
        .to_string();
    assert!(
        there.contains("is there already and is not overwritten"),
        "{there}"
    );
    assert_eq!(kit.file("secret").unwrap(), secret);
    // What was refused changed nothing.
    publish(secured.options("t-1", &kit).unwrap())
        .await
        .unwrap();

    secured.depot.stop().unwrap();
    let log = secured.depot.log().unwrap();
    assert!(
        log.contains("mqtt: TLS"),
        "the log is at its most talkative"
    );
    for said in [&secret, &guess.file("secret").unwrap()] {
        assert!(!log.contains(said.as_str()));
    }
}

/// An address of this machine that is not loopback, if it has one.
fn outside_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: connecting a UDP socket only chooses the way out.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[tokio::test]
async fn a_secret_over_the_network_without_tls_is_refused() {
    let Some(outside) = outside_address() else {
        return peer::skipped(
            "needs a network address besides loopback, add one with: ip addr add",
        );
    };
    let mut secured = Secured::create().unwrap();
    let config = fs::read_to_string(secured.depot.config()).unwrap();
    let port = secured.depot.mqtt.port();
    let own = format!("[mqtt]\nlisten = \"127.0.0.1:{port}\"");
    assert!(config.contains(&own), "{config}");
    let config = config.replace(&own, &format!("[mqtt]\nlisten = \"0.0.0.0:{port}\""));
    fs::write(secured.depot.config(), config).unwrap();
    let kit = secured.kit("add", "t-1", "t-1", &["--secret"]).unwrap();
    secured.depot.start().unwrap();
    let plain = |host: &str| {
        let mut options = MqttOptions::new("t-1", host, port);
        options.set_credentials("t-1", kit.file("secret").unwrap());
        options
    };
    let error = refused(plain(&outside.to_string())).await.unwrap();
    assert_eq!(
        code(&error),
        Some(ConnectReturnCode::NotAuthorized),
        "{error:?}"
    );
    assert_eq!(secured.refusals("plaintext_secret").unwrap(), 1.0);
    publish(plain("127.0.0.1")).await.unwrap();
}
