//! Where there are no Unix sockets there is no control socket: the gateway runs, commands need it down.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::desk::Desk;

/// Cannot exist.
#[derive(Debug)]
pub struct Server(Infallible);

/// Says that there is no control socket.
///
/// # Errors
/// Always.
pub fn bind(_data: &Path) -> io::Result<Server> {
    let why = "the control socket is not supported on this system: commands work while the gateway is down";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

impl Server {
    /// Never called: there is no server.
    pub async fn serve(self, _: Arc<Desk>, _: u32, _: watch::Receiver<bool>) {
        match self.0 {}
    }
}
