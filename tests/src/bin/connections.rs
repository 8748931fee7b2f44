//! What a connected device costs the gateway, by TCP, by TLS, and by TLS with a certificate of its own.
#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use gateway::clock::monotonic;
use gateway::pki::Authority;
use protocol::key::DeviceId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tests::depot::{Depot, fleet_plan};
use tests::kit::supercargo;
use tests::peer::free_address;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

#[derive(Debug, Parser)]
struct Arguments {
    /// Connections, one device each.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Rows as JSON Lines instead of text.
    #[arg(long)]
    json: bool,
}

/// Clients that connect at the same time.
const AT_ONCE: usize = 32;

/// Validity of what is made for the bench.
const DAYS: Duration = Duration::from_secs(10 * 86_400);

/// What a device speaks through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Tcp,
    Tls,
    Certificate,
}

impl By {
    const ALL: [Self; 3] = [Self::Tcp, Self::Tls, Self::Certificate];

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Certificate => "tls_certificate",
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for by in By::ALL {
        measure(by, &arguments).await?;
    }
    Ok(())
}

/// Connect all to a fresh gateway, and look how it has grown.
async fn measure(by: By, arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ca = folder.path().join("ca");
    supercargo(&[
        "ca",
        "init",
        &ca.display().to_string(),
        "--name",
        "127.0.0.1",
    ])?;
    let tls = free_address()?;
    let more = format!(
        "[mqtt.tls]\nlisten = \"{tls}\"\ncertificate = \"ca/server.pem\"\n\
         key_file = \"ca/server-key.pem\"\nclient_ca = \"ca/ca.pem\"\n"
    );
    let data = folder.path().join("data");
    let mut depot = Depot::create(folder.path(), &data, &fleet_plan(&[]), &more)?;
    depot.start()?;
    let gateway = depot.pid().context("the gateway does not run")?;
    let clients = Arc::new(Clients {
        by,
        address: if by == By::Tcp { depot.mqtt } else { tls },
        authority: Authority::open(&ca)?,
    });
    let (rss_before, cpu_before) = (rss_kib(gateway)?, cpu_s(gateway)?);
    let start = monotonic();
    let open = connect_all(&clients, arguments.connections).await?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(depot.metric("supercargo_connected_devices")? as usize == open.len());
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let each = |amount: f64| amount / open.len() as f64;
    let grown_kib = rss_kib(gateway)? - rss_before;
    let row = json!({
        "name": by.name(),
        "connections": open.len(),
        "rss_kib_per_connection": each(grown_kib),
        "cpu_ms_per_connect": each((cpu_s(gateway)? - cpu_before) * 1e3),
        "connects_per_s": 1.0 / each(seconds),
    });
    if arguments.json {
        println!("{row}");
    } else {
        let figure = |name: &str| row[name].as_f64().unwrap_or_default();
        println!(
            "{:<16} {} connections, {:.1} KiB each, {:.2} ms of CPU to connect, {:.0} connects/s",
            by.name(),
            open.len(),
            figure("rss_kib_per_connection"),
            figure("cpu_ms_per_connect"),
            figure("connects_per_s"),
        );
    }
    Ok(())
}

/// An open connection.
type Open = Box<dyn Held>;

/// What is kept so that the connection stays.
trait Held: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Held for S {}

struct Clients {
    by: By,
    address: SocketAddr,
    authority: Authority,
}

async fn connect_all(clients: &Arc<Clients>, count: usize) -> Result<Vec<Open>> {
    let mut open = Vec::with_capacity(count);
    let mut connecting = JoinSet::new();
    for index in 0..count {
        if connecting.len() == AT_ONCE {
            open.push(connecting.join_next().await.context("none")???);
        }
        let clients = Arc::clone(clients);
        connecting.spawn(async move { clients.connect(&format!("device-{index:06}")).await });
    }
    while let Some(connected) = connecting.join_next().await {
        open.push(connected??);
    }
    Ok(open)
}

impl Clients {
    async fn connect(&self, device: &str) -> Result<Open> {
        let stream = TcpStream::connect(self.address).await?;
        let mut stream: Open = match self.by {
            By::Tcp => Box::new(stream),
            By::Tls | By::Certificate => {
                let name = ServerName::IpAddress(self.address.ip().into());
                let connector = TlsConnector::from(Arc::new(self.tls(device)?));
                Box::new(connector.connect(name, stream).await?)
            }
        };
        stream.write_all(&hello(device)?).await?;
        let mut head = [0; 2];
        stream.read_exact(&mut head).await?;
        let mut answer = vec![0; usize::from(head[1])];
        stream.read_exact(&mut answer).await?;
        ensure!(head[0] == 0x20 && answer[1] == 0, "CONNACK {answer:?}");
        Ok(stream)
    }

    fn tls(&self, device: &str) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(
            self.authority.certificate().as_bytes(),
        )?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        if self.by == By::Tls {
            return Ok(config.with_no_client_auth());
        }
        let device: DeviceId = device.parse()?;
        let issued = self.authority.device(&device, DAYS)?;
        let chain = CertificateDer::from_pem_slice(issued.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?;
        Ok(config.with_client_auth_cert(vec![chain], key)?)
    }
}

/// CONNECT of MQTT 5: a clean start, a keep-alive of an hour, no properties.
fn hello(device: &str) -> Result<Vec<u8>> {
    let mut body = b"\0\x04MQTT\x05\x02\x0e\x10\0".to_vec();
    body.extend_from_slice(&u16::try_from(device.len())?.to_be_bytes());
    body.extend_from_slice(device.as_bytes());
    let mut packet = vec![0x10, u8::try_from(body.len())?];
    packet.extend_from_slice(&body);
    Ok(packet)
}

fn rss_kib(process: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("VmRSS")?.parse()?)
}

/// User and system time, in seconds; the kernel counts in hundredths.
fn cpu_s(process: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, rest) = text.rsplit_once(')').context("stat")?;
    let ticks: Vec<f64> = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}
