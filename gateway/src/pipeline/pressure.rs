//! The look at the space that is left, beside everything else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Failure;
use crate::control::{Ceilings, Desk, Lookout};

/// Wall time between two looks: a disk that fills in minutes is noticed, and an idle look costs a
/// system call.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Look until `stopping`.
pub(super) async fn watch(
    desk: Arc<Desk>,
    ceilings: Ceilings,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let mut lookout = Lookout::new(ceilings);
    loop {
        let desk = Arc::clone(&desk);
        let look = tokio::task::spawn_blocking(move || {
            let looked = desk.look_at_space(&mut lookout);
            looked.map(|()| lookout)
        });
        let ended = |_| Failure::Ended {
            part: "look at the space",
        };
        lookout = look.await.map_err(ended)??;
        tokio::select! {
            () = tokio::time::sleep(LOOK_PERIOD) => {}
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}
