use std::path::Path;
use std::thread;
use std::time::Duration;

use super::*;
use crate::store::Patience;
use crate::store::memory::Memory;

/// Bound of a call: what does not hang is in memory.
const CALL_MAX: Duration = Duration::from_secs(5);

fn config(data: &Path) -> Config {
    let text = format!(
        "[gateway]\ndata = {data:?}\n[mqtt]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n"
    );
    Config::parse(Path::new("test"), &text, &[]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_the_store_that_never_returns_is_a_failure_of_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Memory::default();
    let patience = Patience::new(CALL_MAX, |_| {}).unwrap();
    let engine = Box::new(disk.clone());
    let store = Store::with_patience(engine, folder.path(), &patience).unwrap();
    let config = config(folder.path());
    let mut gateway = Gateway::start(store.clone(), config, Clock::wall())
        .await
        .unwrap();
    disk.hang_syncs();
    // It never ends; the test's process takes it along.
    thread::spawn(move || store.barrier());
    let failure = gateway.failure().await;
    let Failure::Store(StoreError::Stalled { stall }) = &failure else {
        panic!("{failure}");
    };
    assert_eq!(stall.operation, "sync");
    assert!(!failure.is_configuration());
    assert!(
        gateway.store().barrier().is_err(),
        "nothing is acknowledged"
    );
}
