//! TLS in front of the endpoint: who comes through, who does not, and what it may cost before that is known.

use std::time::Duration;

use mqtt_proto::v5::{ConnectReasonCode, DisconnectReasonCode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::endpoint::{Doors, Endpoint};
use super::super::guard::{Guard, Strangers};
use super::super::identity::Authenticate;
use super::super::tls::secure;
use super::*;
use crate::config::Config;
use crate::pki::{Authority, Issued, Named};
use crate::store::Store;
use crate::store::identity::{self, Identity, Proof};

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const PEER: &str = "192.0.2.1:40000";

/// A CA, and an endpoint's configuration by it.
struct Depot {
    authority: Authority,
    acceptor: TlsAcceptor,
    folder: tempfile::TempDir,
}

impl Depot {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, own) = Authority::found(YEAR).unwrap();
        let server = authority.server(&["depot.example".into()], YEAR).unwrap();
        let files: [Named; 2] = [("server.pem", server.certificate), ("key.pem", server.key)];
        for (name, text) in own.iter().chain(&files) {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let set = |key: &str, value: &str| format!("mqtt.tls.{key}={value}");
        let file = |name: &str| folder.path().join(name).display().to_string();
        let sets = [
            set("listen", "127.0.0.1:0"),
            set("certificate", &file("server.pem")),
            set("key_file", &file("key.pem")),
            set("client_ca", &file("ca.pem")),
        ];
        let config = Config::parse(std::path::Path::new("c.toml"), "", &sets).unwrap();
        let acceptor = TlsAcceptor::from(config.mqtt_tls.server().unwrap());
        Self {
            authority,
            acceptor,
            folder,
        }
    }

    fn device(&self, name: &str) -> Issued {
        self.authority.device(&name.parse().unwrap(), YEAR).unwrap()
    }

    /// A client that trusts the depot's CA and shows this certificate.
    fn connector(&self, shown: Option<&Issued>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.folder.path().join("ca.pem")).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match shown {
            None => config.with_no_client_auth(),
            Some(issued) => {
                let chain = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![chain], key).unwrap()
            }
        })
        .into()
    }

    /// Why a client that says these bytes is not let through.
    async fn refuses(&self, bytes: &[u8]) -> Fault {
        let (mut ours, theirs) = tokio::io::duplex(STREAM_BYTES);
        ours.write_all(bytes).await.unwrap();
        let limits = Limits::default();
        let secured = secure(theirs, PEER.parse().unwrap(), &self.acceptor, &limits).await;
        secured.err().unwrap()
    }

    /// Why a client with this certificate is not let through, and what it hears.
    async fn refuses_certificate(&self, shown: &Issued) -> (Fault, String) {
        let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
        let name = ServerName::try_from("depot.example").unwrap();
        let connector = self.connector(Some(shown));
        let hears = async {
            // In TLS 1.3 the client learns only when it reads whether it was let through.
            let mut stream = connector.connect(name, ours).await?;
            stream.read_u8().await
        };
        let (limits, peer) = (Limits::default(), PEER.parse().unwrap());
        let (heard, secured) = tokio::join!(hears, secure(theirs, peer, &self.acceptor, &limits));
        let heard = heard.err().unwrap().to_string();
        (secured.err().unwrap(), heard)
    }
}

/// A store in which these devices are registered.
fn registry(devices: &[(&str, &Proof)]) -> Store {
    let store = memory::store();
    for (device, proof) in devices {
        write(&store, device, proof, None);
    }
    store
}

fn write(store: &Store, device: &str, proof: &Proof, revoked_at_ms: Option<i64>) {
    let identity = Identity {
        proof: (*proof).clone(),
        added_at_ms: 1,
        revoked_at_ms,
    };
    let mut batch = Batch::default();
    identity::put(&mut batch, &device.parse().unwrap(), &identity).unwrap();
    store.apply(batch).unwrap();
}

fn guarded(store: &Store) -> Rig {
    let mut rig = Rig::new();
    let shared = Arc::get_mut(&mut rig.shared).unwrap();
    let guard = Guard::new(store.clone(), Strangers::Nobody);
    shared.ports.identity = Arc::new(guard) as Arc<dyn Authenticate>;
    rig
}

/// Connect through TLS and MQTT as `device`, from afar; the answer and the stream.
async fn connect(
    depot: &Depot,
    rig: &Rig,
    device: &str,
    shown: Option<&Issued>,
    secret: Option<&str>,
) -> (v5::Connack, Client<Box<dyn Duplex>>) {
    let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
    let (shared, stopping) = (Arc::clone(&rig.shared), rig.stop.subscribe());
    let acceptor = depot.acceptor.clone();
    tokio::spawn(async move {
        let peer = PEER.parse().unwrap();
        let secured = secure(theirs, peer, &acceptor, &shared.limits).await;
        let (stream, link) = secured.unwrap();
        let trial = trial(&shared, peer);
        serve(stream, peer, &link, &shared, stopping, trial).await;
    });
    let name = ServerName::try_from("depot.example").unwrap();
    let stream = depot.connector(shown).connect(name, ours).await.unwrap();
    let mut client = Client {
        stream: Box::new(stream) as Box<dyn Duplex>,
        frames: Frames::new(u32::MAX),
    };
    let mut packet = connect_5(device);
    packet.username = secret.map(|_| device.into());
    packet.password = secret.map(|secret| secret.as_bytes().to_vec().into());
    client.say_5(packet).await;
    let v5::Packet::Connack(ack) = client.hear_5().await else {
        panic!("no CONNACK")
    };
    (ack, client)
}

#[tokio::test(start_paused = true)]
async fn a_device_with_its_certificate_publishes_on_its_own_topics_only() {
    let depot = Depot::new();
    let mine = depot.device("t-1");
    let mut rig = guarded(&registry(&[("t-1", &Proof::of(&mine))]));
    let (ack, mut client) = connect(&depot, &rig, "t-1", Some(&mine), None).await;
    assert_eq!(ack.reason_code, ConnectReasonCode::Success);
    client.say_5(publish_5("sc/1/t-1/readings", 1)).await;
    release(rig.due().await);
    assert_eq!(client.hear_5().await, puback_5(1));
    client.say_5(publish_5("sc/1/t-2/readings", 2)).await;
    assert_eq!(client.goodbye().await, DisconnectReasonCode::NotAuthorized);
    assert_eq!(rig.refusal().reason, RefusalReason::ForeignTopic);
}

#[tokio::test(start_paused = true)]
async fn a_device_with_a_secret_comes_by_tls_without_a_certificate_and_keeps_to_its_topics() {
    let depot = Depot::new();
    let (secret, digest) = crate::pki::secret().unwrap();
    let proof = Proof::Secret { digest };
    let rig = guarded(&registry(&[("t-1", &proof)]));
    let (ack, mut client) = connect(&depot, &rig, "t-1", None, Some(&secret)).await;
    assert_eq!(ack.reason_code, ConnectReasonCode::Success);
    client.say_5(publish_5("sc/1/t-2/readings", 2)).await;
    assert_eq!(client.goodbye().await, DisconnectReasonCode::NotAuthorized);
    let (ack, _) = connect(&depot, &rig, "t-1", None, Some("guess")).await;
    assert_eq!(ack.reason_code, ConnectReasonCode::BadUserNameOrPassword);
    let reasons = [RefusalReason::ForeignTopic, RefusalReason::Credentials];
    assert_eq!(rig.reasons(), reasons);
}

#[tokio::test(start_paused = true)]
async fn another_devices_certificate_and_an_unregistered_one_are_refused_with_their_code() {
    let depot = Depot::new();
    let (mine, other) = (depot.device("t-1"), depot.device("t-2"));
    let rig = guarded(&registry(&[("t-1", &Proof::of(&mine))]));
    let (ack, _) = connect(&depot, &rig, "t-1", Some(&other), None).await;
    assert_eq!(ack.reason_code, ConnectReasonCode::NotAuthorized);
    let (ack, _) = connect(&depot, &rig, "t-2", Some(&other), None).await;
    assert_eq!(ack.reason_code, ConnectReasonCode::BadUserNameOrPassword);
    let newer = depot.device("t-1");
    let (ack, _) = connect(&depot, &rig, "t-1", Some(&newer), None).await;
    assert_eq!(ack.reason_code, ConnectReasonCode::BadUserNameOrPassword);
    let reasons = [
        RefusalReason::CertificateName,
        RefusalReason::Credentials,
        RefusalReason::Credentials,
    ];
    assert_eq!(rig.reasons(), reasons);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_another_ca_or_an_expired_one_ends_the_handshake() {
    let depot = Depot::new();
    let foreign = Depot::new().device("t-1");
    let (fault, heard) = depot.refuses_certificate(&foreign).await;
    assert_eq!(fault.reason, RefusalReason::ClientCertificate, "{fault:?}");
    assert!(heard.contains("alert"), "{heard}");
    let yesterday = depot
        .authority
        .device(&"t-1".parse().unwrap(), Duration::ZERO);
    let (fault, heard) = depot.refuses_certificate(&yesterday.unwrap()).await;
    assert_eq!(fault.reason, RefusalReason::ClientCertificate, "{fault:?}");
    assert!(heard.contains("CertificateExpired"), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn a_revocation_ends_the_connection_at_once_and_the_device_stays_out() {
    let depot = Depot::new();
    let mine = depot.device("t-1");
    let store = registry(&[("t-1", &Proof::of(&mine))]);
    let rig = guarded(&store);
    let (_, mut client) = connect(&depot, &rig, "t-1", Some(&mine), None).await;
    write(&store, "t-1", &Proof::of(&mine), Some(2));
    let before = tokio::time::Instant::now();
    rig.shared.registry.expel(&"t-1".parse().unwrap());
    assert_eq!(client.goodbye().await, DisconnectReasonCode::NotAuthorized);
    assert!(before.elapsed() < Duration::from_secs(5));
    let (ack, _) = connect(&depot, &rig, "t-1", Some(&mine), None).await;
    assert_eq!(ack.reason_code, ConnectReasonCode::NotAuthorized);
    assert_eq!(rig.reasons(), [RefusalReason::Revoked; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_takes_nothing_is_ended_by_a_revocation_all_the_same() {
    let rig = Rig::new();
    let mut client = rig.open_with(64);
    client.say_311(v3::Connect::new("t-1".into(), 60)).await;
    // More answers than the stream takes: the connection waits in a write.
    for _ in 0..64 {
        client.say(&[0xc0, 0]).await;
    }
    let before = tokio::time::Instant::now();
    rig.shared.registry.expel(&"t-1".parse().unwrap());
    while rig.shared.registry.count() > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(rig.refusal().reason, RefusalReason::Revoked);
}

#[tokio::test(start_paused = true)]
async fn who_was_revoked_between_proof_and_lease_is_refused() {
    let mut rig = Rig::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let shared = Arc::get_mut(&mut rig.shared).unwrap();
    shared.ports.identity = Arc::new(move |_: &Claim<'_>| {
        use super::super::identity::Distrust;
        match counting.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(()),
            _ => Err(Distrust::new(RefusalReason::Revoked, "meanwhile")),
        }
    });
    let mut client = rig.open();
    client.say_5(connect_5("t-1")).await;
    let v5::Packet::Connack(ack) = client.hear_5().await else {
        panic!("no CONNACK")
    };
    assert_eq!(ack.reason_code, ConnectReasonCode::NotAuthorized);
    client.closed().await;
    assert_eq!(rig.shared.registry.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_handshake_is_cut_after_the_connect_timeout() {
    let depot = Depot::new();
    for said in [&[][..], &[0x16, 3, 1, 0x40]] {
        let before = tokio::time::Instant::now();
        let fault = depot.refuses(said).await;
        assert_eq!(fault.reason, RefusalReason::ConnectTimeout);
        assert_eq!(before.elapsed().as_secs(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_of_more_than_16_kib_and_what_is_no_tls_are_refused() {
    let depot = Depot::new();
    // A greeting that announces 65,535 bytes, in records of 8 KiB.
    let mut endless = Vec::new();
    for _ in 0..3 {
        endless.extend_from_slice(&[0x16, 3, 1, 0x20, 0]);
        let start = endless.len();
        endless.extend_from_slice(&[0; 0x2000]);
        if start == 5 {
            endless[start..start + 4].copy_from_slice(&[1, 0, 0xff, 0xff]);
        }
    }
    let fault = depot.refuses(&endless).await;
    assert_eq!(fault.reason, RefusalReason::TlsHandshake);
    assert!(fault.detail.contains("more than 16384 bytes"), "{fault:?}");
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 32],
        &[0xff; 32],
        b"\x10\x0c\0\x04MQTT",
    ] {
        let fault = depot.refuses(garbage).await;
        assert_eq!(fault.reason, RefusalReason::TlsHandshake, "{fault:?}");
    }
}

#[tokio::test]
async fn a_flood_of_half_open_handshakes_keeps_to_its_bound_and_devices_go_on() {
    let depot = Depot::new();
    let limits = Limits {
        handshakes_max: 2,
        ..Limits::default()
    };
    let address = "127.0.0.1:0".parse().unwrap();
    let config = Arc::clone(depot.acceptor.config());
    let doors = Doors {
        plain: Some(address),
        tls: Some((address, config)),
    };
    let endpoint = Endpoint::bind(doors, limits).await.unwrap();
    let [plain, tls] = [endpoint.plain_addr(), endpoint.tls_addr()].map(|at| at.unwrap().unwrap());
    let (ports, parts) = ports(1);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(endpoint.run(ports, async {
        let _ = stopped.await;
    }));
    let mut healthy = Client {
        stream: TcpStream::connect(plain).await.unwrap(),
        frames: Frames::new(u32::MAX),
    };
    healthy.say_5(connect_5("t-1")).await;
    assert!(matches!(healthy.hear_5().await, v5::Packet::Connack(_)));

    let mut flood = Vec::new();
    for _ in 0..2 {
        flood.push(TcpStream::connect(tls).await.unwrap());
    }
    for _ in 0..8 {
        let mut refused = TcpStream::connect(tls).await.unwrap();
        let end = refused.read_u8().await.unwrap_err();
        assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
    }
    healthy.is_silent().await;
    let full = |refusal: &Refusal| refusal.reason == RefusalReason::HandshakesFull;
    let refusals = parts.refusals.lock().unwrap().clone();
    assert!(
        refusals.len() == 8 && refusals.iter().all(full),
        "{refusals:?}"
    );
    stop.send(()).unwrap();
    running.await.unwrap();
}

/// Formats as the log does, at the most talkative level, into a buffer.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_never_logged_right_or_wrong() {
    let log = Log::default();
    let writer = log.clone();
    let logging = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(logging);
    let depot = Depot::new();
    let (secret, digest) = crate::pki::secret().unwrap();
    let proof = Proof::Secret { digest };
    let rig = guarded(&registry(&[("t-1", &proof)]));
    for said in [secret.as_str(), "a-wrong-guess"] {
        connect(&depot, &rig, "t-1", None, Some(said)).await;
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("mqtt: TLS"), "{text}");
    assert!(
        !text.contains(&secret) && !text.contains("a-wrong-guess"),
        "{text}"
    );
}
