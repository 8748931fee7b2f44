//! A command's end of the control socket.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a running gateway did not answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The socket could not be used.
    #[error("control socket {path}")]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The gateway said no.
    #[error("the gateway answered: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The request was at fault; the rows before say what is wrong with it.
    #[error("{reason}")]
    Usage {
        /// In all.
        reason: String,
    },
    /// The connection ended in the middle of the answer.
    #[error("the gateway closed the connection after {rows} rows, before the end of its answer")]
    Cut {
        /// Rows received.
        rows: u64,
    },
    /// What came is not the protocol.
    #[error("the gateway sent a line that is no answer: {line}")]
    Line {
        /// The beginning of the line.
        line: String,
    },
    /// The command could not write what came.
    #[error("write row")]
    Output(#[source] io::Error),
}

#[cfg(unix)]
pub use unix::Client;

#[cfg(not(unix))]
pub use elsewhere::Client;

#[cfg(unix)]
mod unix {
    use std::io::{self, BufRead, BufReader, Write};
    use std::ops::ControlFlow;
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use super::ClientError;
    use crate::config::Control;
    use crate::control::{Request, Row};

    /// Longest part of an unexpected line that is repeated, in characters.
    const QUOTE_MAX_CHARS: usize = 80;

    /// A connection to a running gateway.
    #[derive(Debug)]
    pub struct Client {
        stream: UnixStream,
        path: PathBuf,
    }

    impl Client {
        /// Connect to the gateway that runs on a data folder; `None` when none does.
        ///
        /// # Errors
        /// When there is one and it cannot be reached, for lack of rights for instance.
        pub fn connect(data: &Path) -> Result<Option<Self>, ClientError> {
            let path = Control::socket_in(data);
            match UnixStream::connect(&path) {
                Ok(stream) => Ok(Some(Self { stream, path })),
                Err(error) => match error.kind() {
                    io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::NotADirectory => Ok(None),
                    _ => Err(ClientError::Socket {
                        path,
                        source: error,
                    }),
                },
            }
        }

        /// Ask, and take every row of the answer; how many there were.
        ///
        /// # Errors
        /// When the gateway refuses, goes away, or `take` fails.
        pub fn ask(
            self,
            request: &Request,
            mut take: impl FnMut(Row) -> io::Result<ControlFlow<()>>,
        ) -> Result<u64, ClientError> {
            let failed = |source| ClientError::Socket {
                path: self.path.clone(),
                source,
            };
            let mut line = serde_json::to_string(request).map_err(|e| failed(e.into()))?;
            line.push('\n');
            (&self.stream).write_all(line.as_bytes()).map_err(failed)?;
            let mut rows = 0;
            for line in BufReader::new(&self.stream).lines() {
                match answer(&line.map_err(failed)?)? {
                    Answer::End => return Ok(rows),
                    Answer::Row(row) => {
                        rows += 1;
                        if take(row).map_err(ClientError::Output)?.is_break() {
                            return Ok(rows);
                        }
                    }
                }
            }
            Err(ClientError::Cut { rows })
        }
    }

    enum Answer {
        Row(Row),
        End,
    }

    fn answer(line: &str) -> Result<Answer, ClientError> {
        let unknown = || ClientError::Line {
            line: line.chars().take(QUOTE_MAX_CHARS).collect(),
        };
        if line.starts_with('{') {
            return serde_json::from_str(line)
                .map(Answer::Row)
                .map_err(|_| unknown());
        }
        let (word, value): (String, Value) = serde_json::from_str(line).map_err(|_| unknown())?;
        match (word.as_str(), value) {
            ("end", _) => Ok(Answer::End),
            ("error", Value::String(reason)) => Err(ClientError::Refused { reason }),
            ("refused", Value::String(reason)) => Err(ClientError::Usage { reason }),
            _ => Err(unknown()),
        }
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use std::convert::Infallible;
    use std::io;
    use std::ops::ControlFlow;
    use std::path::Path;

    use super::ClientError;
    use crate::control::{Request, Row};

    /// There is no control socket on this system.
    #[derive(Debug)]
    pub struct Client(Infallible);

    impl Client {
        /// Never finds a running gateway; the store's lock tells whether one runs.
        ///
        /// # Errors
        /// Never.
        pub fn connect(_data: &Path) -> Result<Option<Self>, ClientError> {
            Ok(None)
        }

        /// Never called: there is no client.
        ///
        /// # Errors
        /// Never.
        pub fn ask(
            self,
            _request: &Request,
            _take: impl FnMut(Row) -> io::Result<ControlFlow<()>>,
        ) -> Result<u64, ClientError> {
            match self.0 {}
        }
    }
}
