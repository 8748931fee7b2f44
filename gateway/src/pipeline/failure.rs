//! Why a gateway could not start or go on, and whose fault it is.

use std::net::SocketAddr;
use std::path::PathBuf;

use rules::plan::PlanFault;

use crate::config::TlsError;
use crate::store::StoreError;

/// What the gateway cannot go on without.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The plan file could not be read.
    #[error("read plan {}", path.display())]
    PlanFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The plan has faults; `supercargo check` lists them with the rest of the configuration.
    #[error("plan {}: {}", path.display(), joined(faults))]
    Plan {
        /// Which.
        path: PathBuf,
        /// All of them.
        faults: Vec<PlanFault>,
    },
    /// TLS cannot be offered with the files given.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A sink's secret cannot be read.
    #[error("sink {sink}: read {}", path.display())]
    SinkSecret {
        /// Name of the sink.
        sink: String,
        /// File of the secret.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What a broker is spoken to with cannot be read.
    #[error("ingest.broker {broker}: {why}")]
    Broker {
        /// Name of the broker.
        broker: String,
        /// What is wrong with which file.
        why: String,
    },
    /// An address cannot be listened on.
    #[error("{service} cannot listen on {address}")]
    Listen {
        /// `mqtt` or `http`.
        service: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The operating system refused something else.
    #[error("{operation}")]
    System {
        /// What was tried.
        operation: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The store failed. Nothing more is acknowledged; the next start recovers.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part of the gateway ended that must not.
    #[error("{part} ended unexpectedly; this is a defect, please report it with the log")]
    Ended {
        /// Which part.
        part: &'static str,
    },
}

impl Failure {
    /// The operating system refused `operation`.
    pub(super) fn system(operation: impl Into<String>, source: std::io::Error) -> Self {
        Self::System {
            operation: operation.into(),
            source,
        }
    }

    /// Whether the configuration is to blame; else it is the machine.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::PlanFile { .. }
            | Self::Plan { .. }
            | Self::Tls(_)
            | Self::SinkSecret { .. }
            | Self::Broker { .. } => true,
            Self::Listen { .. } | Self::System { .. } | Self::Store(_) | Self::Ended { .. } => {
                false
            }
        }
    }
}

fn joined(faults: &[PlanFault]) -> String {
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
